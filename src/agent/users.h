/* SPDX-License-Identifier: Apache-2.0 */
/*
 * users.h: users and groups as the sandbox's own /etc/passwd and /etc/group name them. Both files
 * belong to the tenant: at most a bounded part of each is read, lines that are too long or
 * malformed are passed over, and nothing is cached.
 */
#ifndef BRIG_AGENT_USERS_H
#define BRIG_AGENT_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Supplementary groups beyond this many are not given. */
#define USER_GROUPS_MAX 64
#define USER_NAME_MAX 64

struct user {
	uid_t uid;
	gid_t gid;
	unsigned ngroups;
	gid_t groups[USER_GROUPS_MAX]; /* supplementary */
	char name[USER_NAME_MAX];      /* "" = not in passwd */
	char home[512];
	char shell[256];
};

/*
 * spec is NAME, UID, NAME:GROUP or UID:GID; "" is uid 0. A name wins over a number of the same
 * spelling. A uid without an entry has gid 0, home "/" and shell /bin/sh, as in Docker. With a
 * GROUP there are no supplementary groups. 0, -ENOENT for an unknown user or group.
 */
int user_lookup(const char *spec, struct user *ret);

/* Names for listings: the number in decimal where there is no name. */
void user_name(uid_t uid, char *ret, size_t cap);
void group_name(gid_t gid, char *ret, size_t cap);
/* The user's primary group or a membership is the group of that name. */
bool user_in_group(const struct user *u, const char *group);
/* A line of the file is exactly `word`; a file that others may write does not count. */
bool users_file_lists(const char *path, const char *word);

#endif
