/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm.h: interpreters that are ready before they are asked for.
 *
 * Either the box exists and its default kernel is started behind the create (interp_prepare), or a
 * sandbox with a running kernel waits for the create (a pool, warm.c). A pool belongs to one
 * template and the limits that it has when a request names none; a sandbox of it is used once and
 * never comes back. What is private to a request (environment, tokens, metadata) is not in it: the
 * kernel is told the environment when the sandbox is taken.
 */
#ifndef BRIG_API_WARM_H
#define BRIG_API_WARM_H

#include "api/api.h"
#include "api/kernel.h"

/* Starts the kernel of b's default context and has it import what most cells use. */
void interp_prepare(struct box *b);
/* Whether a box of this template is meant for the interpreter: the template is code-interpreter-v1,
 * or the metadata say brig.interpreter = python. */
bool interp_wanted(const char *template_id, const json_t *metadata);
/* k, which runs in b's sandbox, becomes the kernel of b's default context; false: it does not, and
 * stays the caller's. */
bool interp_adopt(struct box *b, struct kernel *k);

struct warm; /* all pools */

#define WARM_POOLS_MAX 8u
#define WARM_SIZE_MAX 256u

/* What one pool makes; the caller's, copied. */
struct warm_plan {
	const char *template_id;
	const char *image, *fallback; /* fallback: if there is no such image; may be NULL */
	unsigned size;
	json_t *spec; /* SPEC of client_proto.h, without image, of a create without wishes */
};

int warm_open(struct api *a, struct warm **ret, struct brig_err *err);
/* "TEMPLATE=N" apart. */
int warm_parse(const char *text, char ret_template[192], unsigned *ret_size, struct brig_err *err);
int warm_add(struct warm *w, const struct warm_plan *plan, struct brig_err *err);
/* Makes a->warm with a pool for each "TEMPLATE=N"; NULL stays NULL for none (warm_plan.c). */
int warm_start(struct api *a, const char *const *texts, unsigned n, struct brig_err *err);
/* At the end of the process: frees. The sandboxes that nobody took end with brigd, or are removed
 * by the next start, which finds no record of them. One that is just being made is removed as soon
 * as brigd has answered: until then, and until it is gone, a->norphans is above 0. */
void warm_close(struct warm *w);

/* A sandbox that waited for a request of its template. */
struct warm_box {
	char id[BRIG_ID_LEN + 8]; /* brigd's */
	json_t *reply;		  /* what brigd answered to the create */
	struct kernel *kernel;
	bool linked; /* it has a network, of which nothing is allowed yet and whose tenant is to be told */
};
/* What is wished for in the place of the pool's own. */
struct warm_wish {
	const char *template_id;
	const char *image;	/* what the template leads to for this request */
	bool network, optional; /* optional: .. if the server has one */
};
/* True: *ret is the caller's, with its kernel (interp_adopt) and its reply. w may be NULL. */
bool warm_take(struct warm *w, const struct warm_wish *wish, struct warm_box *ret);
/* [{"template","size","ready","hits","misses","failures","error"}] */
json_t *warm_info(const struct warm *w);

#endif
