/* SPDX-License-Identifier: Apache-2.0 */
/*
 * creds.h: acting as a user of the sandbox. creds_become() is for a child, for good;
 * creds_enter()/creds_leave() bracket the file system calls of one operation in the agent itself.
 */
#ifndef BRIG_AGENT_CREDS_H
#define BRIG_AGENT_CREDS_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/users.h"

struct creds {
	uid_t uid;
	gid_t gid;
	unsigned ngroups;
	gid_t groups[USER_GROUPS_MAX];
};

/* What the agent itself is, between the switches. */
struct creds_self {
	bool inside;
	const struct creds *kept; /* of creds_keep(), NULL = none */
	/* More groups than are remembered, as an ordinary user's agent may have (rootless): they
	 * could not be given back, so it acts for nobody else. */
	bool many_groups;
	int dumpable;
	struct creds own;
};

void creds_of(const struct user *u, struct creds *ret);
/* Reads the agent's own; 0 or -errno. */
int creds_self_init(struct creds_self *self);

/* Files are opened and changed as that user from here on. 0 or -errno, and then nothing changed. */
int creds_enter(struct creds_self *self, const struct creds *c);
/* Back. A process that cannot come back must not go on: it aborts. */
void creds_leave(struct creds_self *self);
/*
 * As creds_enter(), for a bracket that is likely to come again at once with the same `c`: it stays in
 * force until creds_release(), or until somebody else enters. A switch there and back is sixteen system
 * calls, a third of what it costs to write a piece of a file.
 */
int creds_keep(struct creds_self *self, const struct creds *c);
void creds_release(struct creds_self *self);
/* Restores what a switch of ids in a child that shared our memory did to it. */
void creds_restore_dumpable(struct creds_self *self);

/*
 * In a child before its exec: takes on ids and groups and gives up capabilities: all of them, in
 * every set, for a uid other than 0; for uid 0 all but BRIG_CAPS_COMMAND. Only system calls, so
 * that it may run in a child that shares the parent's memory. 0 or -errno.
 */
int creds_become(const struct creds *c);

#endif
