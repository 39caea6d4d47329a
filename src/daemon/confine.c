/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs once, before brigd, or brig-api, reads a byte of anybody, in the order of confine.h. Nothing
 * is given back later: after confine_syscalls() the process can neither change its user nor start a
 * program. An attacker who owns brigd has the sockets that it holds, the image store to read, and
 * jaild's few verbs; one who owns brig-api has the door to brigd and the folder of its database.
 */
#include "daemon/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

/* Two for each client of 4096 requests, three for each of 4093 sandboxes, and the rest. */
#define FILES_MIN 32768u

/*
 * Must: leave only standard streams and the sockets that the command line named.
 * Must not: close what the caller still needs, or trust that the parent cleaned up.
 */
int confine_fds(const int *keep, unsigned n, struct brig_err *err)
{
	int from = 3;
	/* Close the gaps between the kept ones, in ascending order; few, so a scan for the next. */
	for (;;) {
		int next = -1;
		for (unsigned i = 0; i < n; i++)
			if (keep[i] >= from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if (next > from &&
		    syscall(SYS_close_range, (unsigned)from, (unsigned)next - 1, 0u) < 0) {
			/* Linux < 5.9 */
			for (int fd = from; fd < next; fd++)
				close(fd);
		}
		int r = fd_set_cloexec(next, 1);
		if (r < 0)
			return brig_fail(err, BRIG_E_INVALID, -r, "descriptor %d", next);
		from = next + 1;
	}
	int r = fd_close_from(from);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "close inherited descriptors") : 0;
}

/*
 * Must: no core file (it would hold tenants' output and environment), room for the descriptors of
 * thousands of sandboxes and clients, files that only their owner can read.
 * Must not: fail because the hard limit of descriptors is low and cannot be raised.
 */
int confine_limits(struct brig_err *err)
{
	struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 }, files;
	umask(077);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "set the core limit");
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 0;
	/* Still root, if brig is: the limit of whoever started it need not be ours. */
	const struct rlimit more = { .rlim_cur = FILES_MIN, .rlim_max = FILES_MIN };
	if (files.rlim_max < FILES_MIN && setrlimit(RLIMIT_NOFILE, &more) == 0)
		return 0;
	if (files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return 0;
}

/*
 * Must: on a root host end as `id` (ids.h) with no group and no capability, for good;
 * everywhere: no_new_privs, and not open to ptrace or /proc access of processes of the same user.
 * Must not: keep root in any of the real, effective or saved ids.
 */
int confine_user(unsigned id, struct brig_err *err)
{
	if (geteuid() == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(id, id, id) < 0 ||
		    setresuid(id, id, id) < 0)
			return brig_fail(err, BRIG_E_DENIED, errno, "become user %u", id);
		if (setresuid(0, 0, 0) == 0)
			return brig_fail(err, BRIG_E_INTERNAL, 0, "root could be regained");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "give up privileges");
	return 0;
}

/*
 * Must: allow what the program's profile lists and nothing else.
 * Must not: run before the last call that the list lacks (user change, limits, opening the loop).
 */
int confine_syscalls(const struct sock_filter *filter, size_t n, struct brig_err *err)
{
	const struct sock_fprog prog = {
		.len = (unsigned short)n,
		/* The kernel only reads it; the uapi type lacks the const. */
		.filter = (struct sock_filter *)(uintptr_t)filter,
	};
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &prog) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "install the system-call filter");
	return 0;
}
