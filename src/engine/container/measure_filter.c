/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure_filter.c: the programs that the kernel has installed, read back.
 *
 * The kernel keeps each filter as it was given (CONFIG_CHECKPOINT_RESTORE) and hands it to a tracer with
 * CAP_SYS_ADMIN in the first user namespace that has no filter itself. So a digest in a receipt is not what
 * somebody meant to install: it is that of bytes which came out of the kernel, compared with the programs
 * of this build, whose digests were computed when it was made.
 */
#include "engine/container/measure.h"

#include <errno.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "engine/container/seccomp.h"

#ifndef PTRACE_SEIZE
#define PTRACE_SEIZE 0x4206
#endif
#ifndef PTRACE_INTERRUPT
#define PTRACE_INTERRUPT 0x4207
#endif
#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c /* Linux 4.4 */
#endif

static int compare(int pid, unsigned wanted, struct measure_diff *d)
{
	struct sock_filter got[BPF_MAXINSNS];
	unsigned seen = 0, n = (unsigned)__builtin_popcount(wanted);
	for (unsigned i = 0; i < n; i++) {
		long len = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)(uintptr_t)i, got);
		if (len < 0)
			return -errno;
		int which = seccomp_which(got, (unsigned)len);
		if (which < 0 || seen & 1u << which) {
			snprintf(d->item, sizeof(d->item), "seccomp_filter");
			snprintf(d->text, sizeof(d->text),
				 "filter %u, of %ld instructions, is none of this build's", i, len);
			return 1;
		}
		seen |= 1u << which;
	}
	if (seen == wanted && !FAILPOINT_IS("mutate.seccomp_filter"))
		return 0;
	snprintf(d->item, sizeof(d->item), "seccomp_filter");
	unsigned missing = wanted & ~seen ? wanted & ~seen : wanted;
	snprintf(d->text, sizeof(d->text), "the %s filter is not installed",
		 seccomp_name(__builtin_ctz(missing)));
	return 1;
}

int measure_filters(int pid, unsigned wanted, struct measure_diff *d)
{
	int status = 0;
	/* Without PTRACE_O_EXITKILL: it lives on whatever becomes of us. */
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
		return -errno;
	/* The caller's alarm ends us if it does not stop (paused); that detaches it. */
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFSTOPPED(status))
		return -ESRCH;
	int r = compare(pid, wanted, d);
	/* A signal that arrived first is delivered all the same. */
	int sig = status >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status);
	ptrace(PTRACE_DETACH, pid, NULL, (void *)(uintptr_t)sig);
	return r;
}
