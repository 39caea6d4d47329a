/* SPDX-License-Identifier: Apache-2.0 */
/* confine.c: how the child of the stage sheds what it has; the contract is in stage.h. */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/caps.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "engine/container/seccomp.h"
#include "engine/container/stage.h"
#include "engine/gvisor/keeper.h"

/* CAP_LAST_CAP of the kernel headers may be older than the running kernel: asking beyond the end
 * answers EINVAL, which ends the loop. 63 is the width of the kernel's set. */
#define CAP_BITS 63

int confine_join(const struct stage_clone *c, const struct stage_fds *f, struct stage_step *st)
{
	/* v2: clone3 has placed us already. */
	for (unsigned i = 0; c->cgroup_version == 1 && i < f->n_join; i++)
		if (write(f->join[i], "0", 1) != 1)
			return stage_fail(st, -errno, "join cgroup %u", i);
	/* After joining, so that the own group is the root of what is seen. */
	if (unshare(CLONE_NEWCGROUP) < 0)
		return stage_fail(st, -errno, "unshare the cgroup namespace");
	if (f->timens >= 0 && setns(f->timens, 0x80 /* CLONE_NEWTIME */) < 0)
		return stage_fail(st, -errno, "enter the time namespace");
	if (f->netns >= 0 && setns(f->netns, CLONE_NEWNET) < 0)
		return stage_fail(st, -errno, "enter the network namespace");
	return 0;
}

/* Lowers a limit to v, or leaves it where it is tighter already. */
static int lower_limit(int what, rlim_t v, struct stage_step *st)
{
	struct rlimit l;
	if (getrlimit(what, &l) < 0)
		return stage_fail(st, -errno, "read resource limit %d", what);
	if (l.rlim_max > v)
		l.rlim_max = v;
	l.rlim_cur = l.rlim_max;
	return setrlimit(what, &l) < 0 ? stage_fail(st, -errno, "set resource limit %d", what) : 0;
}

int confine_hostname(const struct jail_spec *p, struct stage_step *st)
{
	return sethostname(p->hostname, strlen(p->hostname)) < 0
		       ? stage_fail(st, -errno, "set the host name")
		       : 0;
}

int confine_files(uint32_t nofile, struct stage_step *st)
{
	struct rlimit files = { nofile, nofile };
	return setrlimit(RLIMIT_NOFILE, &files) < 0
		       ? stage_fail(st, -errno, "set the limit of open descriptors to %u", nofile)
		       : 0;
}

int confine_user(const struct stage_clone *c, const struct stage_fds *f, struct stage_step *st)
{
	int r;
	static const struct {
		int what;
		rlim_t most;
	} lower[] = {
		/* Core files would land in the writable layer and hold other people's secrets. */
		{ RLIMIT_CORE, 0 },
		/* POSIX queues and pending signals are kernel memory of a user, not of a cgroup. */
		{ RLIMIT_MSGQUEUE, 0 },
		{ RLIMIT_SIGPENDING, 4096 },
		{ RLIMIT_MEMLOCK, 8u << 20 },
		/* A loop at real-time priority would starve the host's CPUs. */
		{ RLIMIT_RTPRIO, 0 },
		{ RLIMIT_NICE, 0 },
	};
	for (unsigned i = 0; i < sizeof(lower) / sizeof(lower[0]); i++)
		if ((r = lower_limit(lower[i].what, lower[i].most, st)) < 0)
			return r;
	if (setns(f->userns, CLONE_NEWUSER) < 0)
		return stage_fail(st, -errno, "enter the user namespace");
	if (c->flags & STAGE_F_RANGE && setgroups(0, NULL) < 0)
		return stage_fail(st, -errno, "drop supplementary groups");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return stage_fail(st, -errno, "become uid 0 of the user namespace");
	/* The change of ids cleared it. Another process inside may look into the agent only if it has
	 * all of the agent's capabilities, and the agent keeps one (SETPCAP) that no command gets. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return stage_fail(st, -errno, "set dumpable");

	/* Also cleared by it. jaild is the parent (CLONE_PARENT): no sandbox outlives it but those that are
	 * found again by the next one. These end by the end of their channel, if nobody holds that any more;
	 * until they have said READY, by that of their socket. */
	if (prctl(PR_SET_PDEATHSIG, c->flags & STAGE_F_OUTLIVE ? 0 : SIGKILL, 0, 0, 0) < 0)
		return stage_fail(st, -errno, "set the parent death signal");

	uint64_t keep = c->flags & STAGE_F_GVISOR ? BRIG_CAPS_RUNSC : BRIG_CAPS_AGENT;
	for (int cap = 0; cap <= CAP_BITS; cap++)
		if (!(keep >> cap & 1) && !FAILPOINT_IS("weaken.capabilities") && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				break;
			return stage_fail(st, -errno, "drop capability %d", cap);
		}
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	for (int i = 0; i < 2; i++)
		d[i].permitted = d[i].effective = (uint32_t)(keep >> (32 * i));
	if (syscall(SYS_capset, &h, d) < 0)
		return stage_fail(st, -errno, "limit the capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return stage_fail(st, -errno, "set no_new_privs");
	return 0;
}

int confine_runsc(int deny_suid, struct stage_step *st)
{
	/* The mounts of the outer user namespace stay locked in this copy; runsc adds its own. */
	if (unshare(CLONE_NEWNS) < 0)
		return stage_fail(st, -errno, "unshare the mount namespace for runsc");
	int r = FAILPOINT_IS("weaken.seccomp") ? 0 : seccomp_install_gvisor(deny_suid != 0);
	return r < 0 ? stage_fail(st, r, "install the system call filter of runsc") : 0;
}

int confine_syscalls(int deny_suid, struct stage_step *st)
{
	int r = FAILPOINT_IS("weaken.seccomp") ? 0 : seccomp_install_payload(deny_suid != 0);
	return r < 0 ? stage_fail(st, r, "install the system call filter") : 0;
}

int confine_suid(struct stage_step *st)
{
	int r = seccomp_install_suid();
	return r < 0 ? stage_fail(st, r, "install the filter for writable volumes") : 0;
}
