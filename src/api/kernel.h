/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h: one kernel: the process in a sandbox that executes the cells of one context.
 *
 * STARTING  brigd was asked to start it.
 * READY     its program text has arrived and runs; it takes one execution at a time.
 * GONE      it has ended, or was ended for breaking its protocol. gone() has been called.
 */
#ifndef BRIG_API_KERNEL_H
#define BRIG_API_KERNEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/interp_event.h"
#include "api/link.h"

struct kernel;

/* Unsent requests of one kernel: the largest body of a client, written as JSON, and its program. */
#define KERNEL_QUEUE_MAX (56u * 1024u * 1024u)
/* The last of what a kernel printed past its own capture, kept to tell why it did not start. */
#define KERNEL_LAST_WORDS 1024u

struct kernel_spec {
	const char *box;      /* brigd's id of the sandbox */
	const char *language; /* of kernel_languages */
	const char *cwd;      /* NULL: the home */
	const char *user;
	json_t *envs; /* object of strings, borrowed; or NULL */
};

struct kernel_ops {
	/* e->line is the callee's to take: set it to NULL to keep it. */
	void (*event)(void *ctx, struct interp_event *e);
	/* The last call. why: one sentence. Not called after kernel_free(). */
	void (*gone)(void *ctx, const char *why);
};

/* Every name of a language in lower case gives its canonical one ("js" -> "javascript"); NULL if no
 * kernel speaks it. */
const char *kernel_language(const char *name);

int kernel_start(struct link *l, const struct kernel_spec *spec, const struct kernel_ops *ops,
		 void *ctx, struct kernel **ret, struct brig_err *err);
/* Ends it, if it has not ended; may be called from within its callbacks. */
void kernel_free(struct kernel *k);
/* Another receiver for what comes from now on. */
void kernel_hand(struct kernel *k, const struct kernel_ops *ops, void *ctx);
bool kernel_ready(const struct kernel *k);

/* Requests; -1: it takes none (gone, or its queue is full). code is a JSON string, env an object of
 * strings or NULL; both are borrowed. */
int kernel_execute(struct kernel *k, uint64_t id, json_t *code, json_t *env);
int kernel_setenv(struct kernel *k, json_t *env);
/* idle: nobody waits for it, so it may take its time. */
int kernel_warm(struct kernel *k, bool idle);
/* SIGINT. */
void kernel_interrupt(struct kernel *k);
/* While held nothing more is read from it. */
void kernel_hold(struct kernel *k, bool hold);

#endif
