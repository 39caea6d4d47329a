/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Everything brig-vmm needs comes in as a descriptor, so its root can be empty: a tmpfs that is made
 * the root and then read-only, with the old root detached. Whoever owns the VMM finds no path to open,
 * no network, no other process that its uid may signal, and the filters of filter.c before any of
 * that. What a file system or uid of the host could say no to is refused before, with the reason.
 */
#include "engine/microvm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

int jail_files(int *fd[], unsigned n, struct brig_err *err)
{
	enum { AWAY = 64 };
	int next = 3;
	/* Out of the way first: any of them may sit in another's place. */
	for (unsigned i = 0; i < n; i++)
		if (*fd[i] >= 0 && (*fd[i] = fcntl(*fd[i], F_DUPFD_CLOEXEC, AWAY)) < 0)
			return brig_fail(err, BRIG_E_INVALID, errno, "take over a descriptor");
	for (unsigned i = 0; i < n; i++) {
		if (*fd[i] < 0)
			continue;
		if (dup3(*fd[i], next, O_CLOEXEC) < 0)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "place a descriptor");
		*fd[i] = next++;
	}
	int r = fd_close_from(next);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "close all other descriptors") : 0;
}

/* Without root: a user namespace in which we are, whoever we are outside. */
static int userns_enter(struct brig_err *err)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	if (unshare(CLONE_NEWUSER) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "make a user namespace");
	int r = fd_spew_at(AT_FDCWD, "/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (r == 0)
		r = fd_spew_at(AT_FDCWD, "/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	if (r == 0)
		r = fd_spew_at(AT_FDCWD, "/proc/self/gid_map", map);
	return r < 0 ? brig_fail(err, BRIG_E_UNSUPPORTED, -r, "map the user of the namespace") : 0;
}

int jail_namespaces(struct brig_err *err)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	if (geteuid() != 0 && userns_enter(err) < 0)
		return -1;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "make namespaces");
	/* /proc exists everywhere and is only covered; nothing of ours is written to the host. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("empty", "/proc", "tmpfs", flags, "size=4k,nr_inodes=1,mode=555") < 0 || chdir("/proc") < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "make an empty root");
	return 0;
}

static int limit(int what, rlim_t n)
{
	const struct rlimit l = { n, n };
	return setrlimit(what, &l);
}

int jail_user(uint32_t uid, uint32_t gid, struct brig_err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 } };
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "drop capability %d", cap);
	if (geteuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0))
		return brig_fail(err, BRIG_E_INTERNAL, errno, "become user %u", uid);
	if (syscall(SYS_capset, &head, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || limit(RLIMIT_CORE, 0) < 0 || limit(RLIMIT_NOFILE, 64) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "give up all rights");
	/* With the ids the kernel forgot that we are to end with the one that started us. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "ask for a death signal");
	return 0;
}
