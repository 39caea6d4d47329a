/* SPDX-License-Identifier: Apache-2.0 */
/*
 * egressproc.h: brig-egress, the gateway of sandboxes' networks, as its supervisor sees it: `brig serve`,
 * or `brig run` for a private server whose sandbox asks for a network. egressproc.c has the theory.
 */
#ifndef BRIG_CLI_EGRESSPROC_H
#define BRIG_CLI_EGRESSPROC_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "brig/net.h"
#include "cli/resolvwatch.h"

struct egressproc {
	pid_t pid;
	int pidfd;
	int control; /* its end of the socket to brigd; ours, too, so that the next one can have it */
	int jaild;   /* where brig-jaild says what it opened */
	int log;     /* its standard error; not ours to close */
	int sock[BRIG_NET_SOCKETS];
	struct resolvwatch resolv;
	bool told; /* jaild has spoken */
	uint64_t started, again; /* again: when to start it, 0 = not */
	unsigned deaths;
};
#define EGRESSPROC_NONE                                                                    \
	{                                                                                  \
		.pidfd = -1, .control = -1, .jaild = -1, .log = 2, .sock = { -1, -1, -1, -1 }, \
		.resolv = RESOLVWATCH_NONE                                                    \
	}

/* Makes the sockets of a life of the daemons; *ret_brigd and *ret_jaild are theirs. What was left of the
 * life before must have been given up by egressproc_reap(). ret_jaild NULL: only brigd is another, and
 * jaild's gateway is still there (egressproc_end()); *ret_brigd may then stay -1. */
int egressproc_open(struct egressproc *p, int *ret_brigd, int *ret_jaild, struct brig_err *err);
/* What to wait for (a descriptor may be -1), and how long at most: -1 for ever. */
void egressproc_poll(const struct egressproc *p, struct pollfd ret[3], int *ret_ms);
/* Does what is due: starts it when jaild has spoken, starts it again when it has died. 1: its process
 * changed. Without a gateway the server goes on without networks, and says so once. */
int egressproc_work(struct egressproc *p);
/* Waits until it was started, or never will be: at most a few seconds. */
void egressproc_await(struct egressproc *p);
/* Ends it with the brigd that it served. */
void egressproc_end(struct egressproc *p);
/* Ends it, and gives up everything. */
void egressproc_reap(struct egressproc *p);
/* Gives up everything and leaves it to its end, which comes when brigd's does. */
void egressproc_leave(struct egressproc *p);

#endif
