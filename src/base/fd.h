/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd.h: ownership of descriptors and memory, visible at the declaration, and the few I/O helpers
 * that every process here needs. All functions return 0 (or a count) or -errno and never log.
 */
#ifndef BRIG_BASE_FD_H
#define BRIG_BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

/* Closes *fd if it is >= 0, sets it to -1 and keeps errno. close() is never retried: on Linux the
 * descriptor is gone even when EINTR is returned, and a retry may close somebody else's. */
void fd_close(int *fd);
/* Hands ownership to the caller: *fd becomes -1. */
static inline int fd_steal(int *fd)
{
	int f = *fd;
	*fd = -1;
	return f;
}
static inline void mem_free(void *p)
{
	free(*(void **)p);
}
#define AUTO_FD __attribute__((cleanup(fd_close))) int
#define AUTO_FREE __attribute__((cleanup(mem_free)))

/* Reads until `n` bytes or end of file; returns the count read (< n means end of file). */
ssize_t fd_read_full(int fd, void *buf, size_t n);
int fd_write_full(int fd, const void *buf, size_t n);
int fd_set_nonblock(int fd, int on);
int fd_set_cloexec(int fd, int on);
/* Of a TCP connection: a host that vanished without a word is noticed after some two minutes of
 * silence. Of other sockets: nothing. */
void fd_keepalive(int fd);
/* Closes every descriptor >= from. Needs close_range (Linux 5.9); falls back to /proc/self/fd. */
int fd_close_from(int from);
/* Moves fd out of the way of low numbers: a duplicate >= min with CLOEXEC, the old one closed. */
int fd_move_up(int fd, int min);

/*
 * One message with descriptors over a unix socket. fd_recv stores at most *nfds descriptors (all
 * CLOEXEC), sets *nfds to the number received; more than fit, or a truncated message, is -EMSGSIZE
 * and nothing is kept open. fd_recv returns bytes, 0 at end of file.
 */
#define FD_MSG_MAX 160 /* the kernel takes 253; the layers of an image, its volumes and a few */
int fd_send(int sock, const void *buf, size_t n, const int *fds, unsigned nfds);
ssize_t fd_recv(int sock, void *buf, size_t n, int *fds, unsigned *nfds, int flags);

/* Reads a whole small file (proc, cgroup, configuration) into buf and terminates it; trailing
 * newlines are dropped. Returns the length or -errno; -EFBIG when it does not fit. dirfd as openat. */
ssize_t fd_slurp_at(int dirfd, const char *path, char *buf, size_t cap);
/* Writes a control file in one write(); 0 or -errno. */
int fd_spew_at(int dirfd, const char *path, const char *text);

#endif
