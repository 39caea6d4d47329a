/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault.h: what one brig-jaild leaves for the next, as the supervisor keeps it
 * (include/brig/keep_proto.h).
 */
#ifndef BRIG_CLI_VAULT_H
#define BRIG_CLI_VAULT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "base/err.h"
#include "brig/keep_proto.h"

struct vault_msg {
	LIST_ENTRY(vault_msg) link;
	size_t n;
	unsigned nfds;
	int fds[KEEP_FDS_MAX];
	char text[];
};

struct vault {
	int sock;  /* our end of the socket of the present brig-jaild */
	int ended; /* epoll of first processes: readable when one has ended */
	bool ready; /* that brig-jaild serves, and another could go on from here */
	struct vault_msg *host;
	LIST_HEAD(, vault_msg) boxes;
};
#define VAULT_NONE \
	{ .sock = -1, .ended = -1 }

/* A socket for a new brig-jaild; what the former one wrote there is read first. *ret_theirs is its end. */
int vault_open(struct vault *v, int *ret_theirs, struct brig_err *err);
/* Gives everything back that is kept to a brig-jaild that was started with --resume. */
int vault_replay(struct vault *v, struct brig_err *err);
/* Hands it the link to another brigd, which stays the caller's. */
int vault_link(const struct vault *v, int link, struct brig_err *err);
/* What to wait for, and what to do then. */
void vault_poll(const struct vault *v, struct pollfd ret[2]);
void vault_work(struct vault *v);
/* Whether a brig-jaild that has died can be followed by one that takes over. */
bool vault_resumable(struct vault *v);
/* Gives everything up. */
void vault_close(struct vault *v);

#endif
