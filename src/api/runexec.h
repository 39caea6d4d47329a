/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runexec.h: one isolated execution: a sandbox that is made for it and removed behind it, its files
 * before and after, its output as it comes, its status.
 */
#ifndef BRIG_API_RUNEXEC_H
#define BRIG_API_RUNEXEC_H

#include "api/api.h"
#include "api/runask.h"

struct runexec;

/* Callbacks come from the loop. done is the last; r is gone behind it. */
struct runexec_ops {
	/* The command runs: id, tier, warnings (borrowed). */
	void (*started)(void *ctx, json_t *info);
	/* which: 0 stdout, 1 stderr */
	void (*output)(void *ctx, unsigned which, const void *p, size_t n);
	/* STATUS of client_proto.h and files that were read back (NULL if none were asked for),
	 * both borrowed; or err. */
	void (*done)(void *ctx, json_t *status, json_t *files, const struct brig_err *err);
};

/* Takes over *ask with its charge, also when it fails; tenant: whose it is. */
int runexec_start(struct api *a, struct run_ask *ask, const char *tenant,
		  const struct runexec_ops *ops, void *ctx, struct runexec **ret,
		  struct brig_err *err);
/* While held no output is taken: the command waits for it. */
void runexec_hold(struct runexec *r, bool hold);
/* Ends it and removes everything; done is not called. */
void runexec_cancel(struct runexec *r);

#endif
