/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.h: system calls that glibc wraps and musl 1.2.3 (Debian 12) does not, with glibc's meaning and
 * errno. What is linked against both calls these.
 */
#ifndef BRIG_BASE_CALLS_H
#define BRIG_BASE_CALLS_H

#include <linux/fs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static inline int call_renameat2(int from, const char *name, int to, const char *other, unsigned flags)
{
	return (int)syscall(SYS_renameat2, from, name, to, other, flags);
}

/* At the file's own position. */
static inline ssize_t call_writev2(int fd, const struct iovec *iov, int n, int flags)
{
	return syscall(SYS_pwritev2, fd, iov, n, -1L, -1L, flags);
}

/* Every descriptor from `first` on is closed by the next exec (Linux 5.11). */
static inline int call_cloexec_from(unsigned first)
{
	return (int)syscall(SYS_close_range, first, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

#endif
