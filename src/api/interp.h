/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interp.h: the code interpreter of one box: its contexts, and what is to be run in them.
 *
 * A context has one kernel (kernel.h), which is started when it is first needed, and a queue: what
 * is asked of it happens one after the other, in the order in which it was asked.
 */
#ifndef BRIG_API_INTERP_H
#define BRIG_API_INTERP_H

#include <sys/queue.h>

#include "api/api.h"
#include "api/kernel.h"

#define INTERP_CONTEXTS_MAX 64u /* of one box */
#define INTERP_QUEUE_MAX 256u	/* requests that wait for one context */
/* A kernel that was interrupted because its client has gone is ended when it does not stop by then.
 */
#define INTERP_STOP_MS 4000u
/* A kernel that has not said ready by then is given up. */
#define INTERP_START_MS 30000u
#define INTERP_KEEPALIVE_MS 5000u
/* Kernels that import ahead beside their box's first requests; those of pools come on top. */
#define INTERP_WARMING_MAX 2u

struct ictx;

/* One thing asked of a context; embedded in what answers it. Its owner is told once, by line() with
 * `last` or by refused(); then it is out of the queue. */
struct irun {
	TAILQ_ENTRY(irun) link;
	struct ictx *c; /* NULL: not queued */
	bool execute;	/* else: wait until the context's kernel is ready */
	json_t *code;	/* string */
	json_t *envs;	/* object of strings, or NULL */
	const struct irun_ops *ops;
};
struct irun_ops {
	/* A line for the client; the last call has p NULL. Unexecuted ones get that call only. */
	void (*line)(struct irun *r, const char *p, size_t n);
	/* No kernel, or it ended: the last call. */
	void (*refused)(struct irun *r, const char *why);
};

struct interp *interp_of(struct box *b); /* made at first use; NULL: no memory */

/* An existing context by id; NULL. */
struct ictx *ictx_find(struct interp *in, const char *id);
/* The one that a language has when no context is named; made if need be. */
struct ictx *ictx_default(struct interp *in, const char *language, struct brig_err *err);
struct ictx *ictx_new(struct interp *in, const char *language, const char *cwd,
		      struct brig_err *err);
/* Ends its kernel and all that waits (refused), and forgets it. */
void ictx_remove(struct ictx *c);
/* Ends its kernel and what runs in it; what waits runs in the next one. */
void ictx_restart(struct ictx *c);
const char *ictx_id(const struct ictx *c);
/* {"id","language","cwd"}; NULL: no memory. */
json_t *ictx_json(const struct ictx *c);
/* All of them, oldest first. */
json_t *interp_list(struct interp *in);

/* Queues r; ops are called from the loop or from within. There must be room. */
bool ictx_has_room(const struct ictx *c);
void irun_submit(struct ictx *c, struct irun *r);
/* .. before all that wait; not while something runs. */
void irun_submit_first(struct ictx *c, struct irun *r);
/* Its client has gone: no more calls; what runs is interrupted. r may be freed. */
void irun_cancel(struct irun *r);
/* The client does not read: its kernel is held back. */
void irun_hold(struct irun *r, bool hold);

#endif
