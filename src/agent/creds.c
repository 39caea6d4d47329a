/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * In the agent, a file operation switches the file system ids and the supplementary groups, not the
 * effective ids. The kernel then takes CHOWN, DAC_OVERRIDE, FOWNER and FSETID out of the effective
 * set by itself (capabilities(7)), which are all of ours that bear on files, and everything else
 * about the process stays what it was: an agent with the effective uid of a tenant's user would own
 * its own files under /proc in that user's name, and that user could open /proc/1/mem through it.
 *
 * gVisor's kernel has no file system ids. There it is the effective ids after all; the real and the saved
 * ones stay the agent's, which is what its kernel compares before it lets anybody look into a process
 * (pkg/sentry/kernel/ptrace.go, CanTrace).
 *
 * The capability sets of a command are emptied explicitly where the kernel does not do it alone.
 * Bounding: dropped one by one, while SETPCAP is still there. Permitted, effective: cleared by the
 * change of uid, and once more by capset(), which also clears the inheritable set. Ambient: follows
 * the permitted set (capabilities(7)).
 */
#include "agent/creds.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/caps.h"

void creds_of(const struct user *u, struct creds *ret)
{
	ret->uid = u->uid;
	ret->gid = u->gid;
	ret->ngroups = u->ngroups;
	memcpy(ret->groups, u->groups, u->ngroups * sizeof(u->groups[0]));
}

int creds_self_init(struct creds_self *self)
{
	int n = getgroups(USER_GROUPS_MAX, self->own.groups);
	if (n < 0 && errno != EINVAL)
		return -errno;
	self->many_groups = n < 0;
	self->own.ngroups = n < 0 ? 0 : (unsigned)n;
	self->own.uid = geteuid();
	self->own.gid = getegid();
	self->dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
	self->inside = false;
	self->kept = NULL;
	return 0;
}

/* Back first: only the own effective uid may take another gid. */
static int effective_ids_set(const struct creds *c)
{
	if (setresuid((uid_t)-1, getuid(), (uid_t)-1) < 0 || setresgid((gid_t)-1, c->gid, (gid_t)-1) < 0 ||
	    setresuid((uid_t)-1, c->uid, (uid_t)-1) < 0)
		return -errno;
	return 0;
}

/* setfsuid() and setfsgid() report no error; an impossible id answers the current one. */
static int fs_ids_set(const struct creds *c)
{
	if (setfsgid(c->gid) < 0 && errno == ENOSYS)
		return effective_ids_set(c);
	setfsuid(c->uid);
	if ((gid_t)setfsgid((gid_t)-1) != c->gid || (uid_t)setfsuid((uid_t)-1) != c->uid)
		return -EPERM;
	return 0;
}

void creds_restore_dumpable(struct creds_self *self)
{
	/* 2 (root only) is not for prctl to set. */
	if (self->dumpable == 0 || self->dumpable == 1)
		prctl(PR_SET_DUMPABLE, self->dumpable, 0, 0, 0);
}

int creds_enter(struct creds_self *self, const struct creds *c)
{
	int r;
	creds_release(self);
	/* The agent's own user: nothing to give up, and where the agent is not root nothing that it
	 * could give up. */
	if (c->uid == self->own.uid && c->gid == self->own.gid)
		return 0;
	if (self->many_groups)
		return -EPERM;
	self->inside = true;
	if (setgroups(c->ngroups, c->groups) < 0)
		r = -errno;
	else
		r = fs_ids_set(c);
	if (r < 0)
		creds_leave(self);
	return r;
}

void creds_leave(struct creds_self *self)
{
	if (!self->inside)
		return;
	/* First the ids: they bring the capabilities back. A group list that could not be changed
	 * on the way in (EPERM) cannot be on the way out, and need not be. */
	if (fs_ids_set(&self->own) < 0)
		abort();
	if (setgroups(self->own.ngroups, self->own.groups) < 0) {
		gid_t now[USER_GROUPS_MAX];
		int n = getgroups(USER_GROUPS_MAX, now);
		if (n < 0 || (unsigned)n != self->own.ngroups ||
		    memcmp(now, self->own.groups, (size_t)n * sizeof(now[0])) != 0)
			abort();
	}
	creds_restore_dumpable(self);
	self->inside = false;
	self->kept = NULL;
}

int creds_keep(struct creds_self *self, const struct creds *c)
{
	if (self->kept == c)
		return 0;
	int r = creds_enter(self, c);
	if (r == 0 && self->inside)
		self->kept = c;
	return r;
}

void creds_release(struct creds_self *self)
{
	if (self->kept)
		creds_leave(self);
}

static int bounding_drop(unsigned long long drop)
{
	for (unsigned cap = 0; drop >> cap; cap++)
		if ((drop >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	return 0;
}

/* Leaves of the permitted set what keep has too, in force; nothing inheritable. */
static int caps_limit(unsigned long long keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	if (keep && syscall(SYS_capget, &h, d) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		d[i].permitted &= (uint32_t)(keep >> (32 * i));
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

int creds_become(const struct creds *c)
{
	/* Raw calls: a libc may carry a change of ids to its threads through memory that, here, is
	 * shared with the parent. */
	bool same = c->uid == geteuid() && c->gid == getegid(), root = geteuid() == 0;
	if (root) {
		int r = bounding_drop(c->uid ? BRIG_CAPS_AGENT
					     : BRIG_CAPS_AGENT & ~BRIG_CAPS_COMMAND);
		if (r < 0)
			return r;
	}
	/* Where one id is all there is (a user namespace without a range, an agent that is not
	 * root) the groups cannot be changed, and the process has none to give away. */
	if (syscall(SYS_setgroups, (unsigned long)c->ngroups, c->groups) < 0 &&
	    !(errno == EPERM && same))
		return -errno;
	if (syscall(SYS_setresgid, c->gid, c->gid, c->gid) < 0 ||
	    syscall(SYS_setresuid, c->uid, c->uid, c->uid) < 0)
		return -errno;
	return caps_limit(c->uid == 0 && root ? BRIG_CAPS_COMMAND : 0);
}
