/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Contexts and their queues. The head of a queue is looked at by ictx_next(), which starts the
 * kernel if there is none, and hands over one execution when the kernel is ready and nothing runs.
 * Events of the kernel carry the number of the execution that they belong to; others are late words
 * of one that is over, and are dropped.
 *
 * An execution whose client has gone is interrupted, and its context waits for the kernel to say
 * that it is over. A kernel that does not within INTERP_STOP_MS is ended; its variables are lost,
 * the requests behind it are not.
 *
 * The first execution should not wait for an interpreter to start: interp_prepare() starts the
 * kernel of the default context ahead, and has it import what most cells use (warm.c does the same
 * for sandboxes that are made ahead).
 */
#include "api/interp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/warm.h"
#include "base/clock.h"

TAILQ_HEAD(irun_list, irun);
TAILQ_HEAD(ictx_list, ictx);

struct ictx {
	TAILQ_ENTRY(ictx) link;
	struct interp *in;
	struct api *api;
	struct ev *ev; /* api's */
	char id[40];
	const char *language;
	char cwd[4096];
	bool is_default;
	struct kernel *k;      /* NULL: none, or it has gone */
	struct irun_list runs; /* the head is what runs, if `running` */
	unsigned nruns;
	bool running;	       /* the kernel has an execution */
	bool orphan;	       /* .. whose client has gone */
	unsigned depth;	       /* calls of ours that are under way and still need it */
	bool removed;	       /* .. freed when the last one returns */
	bool warming;	       /* its kernel imports ahead */
	uint64_t last;	       /* number of the last execution handed over */
	struct ev_timer timer; /* of the start, or of the stop */
};

struct interp {
	struct box *b;
	struct ictx_list contexts;
	unsigned n;
};

static void ictx_next(struct ictx *c);
static void ictx_expired(void *ctx);
static void ictx_free(struct ictx *c);

/* Whoever is told something may remove the context it came from. */
static void ictx_enter(struct ictx *c)
{
	c->depth++;
}

static void ictx_leave(struct ictx *c)
{
	if (--c->depth == 0 && c->removed)
		ictx_free(c);
}

/* ---- contexts ---- */

static void id_random(char ret[40])
{
	uint8_t raw[16];
	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		abort(); /* cannot fail for 16 bytes, Linux getrandom(2) */
	for (size_t i = 0, at = 0; i < sizeof(raw); i++)
		at += (size_t)snprintf(ret + at, 40 - at, "%s%02x",
				       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", raw[i]);
}

struct ictx *ictx_new(struct interp *in, const char *language, const char *cwd,
		      struct brig_err *err)
{
	struct ictx *c;
	if (in->n >= INTERP_CONTEXTS_MAX) {
		brig_fail(err, BRIG_E_BUSY, 0, "the sandbox has %u contexts", INTERP_CONTEXTS_MAX);
		brig_err_remedy(err, "remove one");
		return NULL;
	}
	if (strlen(cwd) >= sizeof(c->cwd)) {
		brig_fail(err, BRIG_E_INVALID, 0, "'cwd' is longer than a path can be");
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		brig_fail(err, BRIG_E_EXHAUSTED, 0, "make a context");
		return NULL;
	}
	c->in = in;
	c->api = in->b->api;
	c->ev = &c->api->ev;
	c->language = language;
	memcpy(c->cwd, cwd, strlen(cwd) + 1);
	id_random(c->id);
	TAILQ_INIT(&c->runs);
	c->timer = (struct ev_timer){ .fn = ictx_expired, .ctx = c };
	TAILQ_INSERT_TAIL(&in->contexts, c, link);
	in->n++;
	return c;
}

static const char *home_of(const struct box *b)
{
	return b->home[0] ? b->home : "/";
}

struct ictx *ictx_default(struct interp *in, const char *language, struct brig_err *err)
{
	struct ictx *c;
	TAILQ_FOREACH(c, &in->contexts, link)
	{
		if (c->is_default && strcmp(c->language, language) == 0)
			return c;
	}
	c = ictx_new(in, language, home_of(in->b), err);
	if (c)
		c->is_default = true;
	return c;
}

struct ictx *ictx_find(struct interp *in, const char *id)
{
	struct ictx *c;
	TAILQ_FOREACH(c, &in->contexts, link)
	{
		if (strcmp(c->id, id) == 0)
			return c;
	}
	return NULL;
}

const char *ictx_id(const struct ictx *c)
{
	return c->id;
}

json_t *ictx_json(const struct ictx *c)
{
	return json_pack("{s:s,s:s,s:s}", "id", c->id, "language", c->language, "cwd", c->cwd);
}

json_t *interp_list(struct interp *in)
{
	struct ictx *c;
	json_t *list = json_array();
	TAILQ_FOREACH(c, &in->contexts, link)
	{
		json_array_append_new(list, ictx_json(c));
	}
	return list;
}

struct interp *interp_of(struct box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct interp *in = b->interp;
	if (in)
		return in;
	in = calloc(1, sizeof(*in));
	if (!in)
		return NULL;
	in->b = b;
	TAILQ_INIT(&in->contexts);
	b->interp = in;
	/* Both are listed from the start; their kernels start when they are used. */
	if (ictx_default(in, kernel_language("python"), &err) &&
	    ictx_default(in, kernel_language("javascript"), &err))
		return in;
	interp_box_done(b);
	return NULL;
}

/* ---- the queue ---- */

/* Takes r out; the caller tells its owner. */
static void run_leave(struct irun *r)
{
	struct ictx *c = r->c;
	TAILQ_REMOVE(&c->runs, r, link);
	c->nruns--;
	r->c = NULL;
}

static void run_refuse(struct irun *r, const char *why)
{
	run_leave(r);
	r->ops->refused(r, why);
}

static void run_done(struct irun *r)
{
	run_leave(r);
	r->ops->line(r, NULL, 0);
}

/* What runs is over, or will never be. The run itself, or NULL if nobody waits for it. */
static struct irun *running_take(struct ictx *c)
{
	struct irun *r = c->running && !c->orphan ? TAILQ_FIRST(&c->runs) : NULL;
	if (c->running && c->k)
		kernel_hold(c->k, false);
	c->running = c->orphan = false;
	ev_timer_stop(c->ev, &c->timer);
	return r;
}

static void warming_over(struct ictx *c)
{
	c->api->nwarming -= c->warming;
	c->warming = false;
}

static void kernel_event(void *ctx, struct interp_event *e)
{
	struct ictx *c = ctx;
	bool mine = c->running && e->id == c->last;
	ictx_enter(c);
	if (e->kind == INTERP_READY) {
		ev_timer_stop(c->ev, &c->timer);
		ictx_next(c);
	} else if (e->kind == INTERP_WARM) {
		warming_over(c);
	} else if (e->kind == INTERP_LINE && mine && !c->orphan) {
		struct irun *r = TAILQ_FIRST(&c->runs);
		r->ops->line(r, e->line, e->n);
	} else if (e->kind == INTERP_DONE && mine) {
		struct irun *r = running_take(c);
		if (r)
			run_done(r);
		ictx_next(c);
	}
	ictx_leave(c);
}

/* The kernel is no more: what ran in it is over. One that did not even start fails the request that
 * needed it. */
static void ictx_lost(struct ictx *c, const char *why)
{
	bool ran = c->running;
	struct kernel *k = c->k;
	struct irun *r = running_take(c);
	c->k = NULL;
	kernel_free(k);
	warming_over(c);
	ictx_enter(c);
	if (!ran)
		r = TAILQ_FIRST(&c->runs);
	if (r)
		run_refuse(r, why);
	ictx_next(c);
	ictx_leave(c);
}

static void kernel_lost(void *ctx, const char *why)
{
	ictx_lost(ctx, why);
}

static const struct kernel_ops ops_of_kernel = { .event = kernel_event, .gone = kernel_lost };

static void ictx_expired(void *ctx)
{
	ictx_lost(ctx, "the kernel did not start in time");
}

static int ictx_start(struct ictx *c, struct brig_err *err)
{
	struct box *b = c->in->b;
	const struct kernel_spec spec = { .box = b->id,
					  .language = c->language,
					  .cwd = c->cwd,
					  .user = b->user,
					  .envs = b->envs };
	if (kernel_start(b->api->link, &spec, &ops_of_kernel, c, &c->k, err) < 0)
		return -1;
	ev_timer_set(c->ev, &c->timer, clock_now() + INTERP_START_MS * MS_NS);
	return 0;
}

/* Returns false when there is nothing more to do now. */
static bool ictx_step(struct ictx *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct irun *r = TAILQ_FIRST(&c->runs);
	if (!r || c->running || c->removed)
		return false;
	if (!c->k && ictx_start(c, &err) < 0) {
		run_refuse(r, err.msg);
		return true;
	}
	if (!kernel_ready(c->k))
		return false;
	if (!r->execute) {
		run_done(r);
		return true;
	}
	if (kernel_execute(c->k, ++c->last, r->code, r->envs) < 0) {
		run_refuse(r, "the kernel takes no more requests");
		return true;
	}
	c->running = true;
	return false;
}

static void ictx_next(struct ictx *c)
{
	ictx_enter(c);
	while (ictx_step(c))
		;
	ictx_leave(c);
}

bool ictx_has_room(const struct ictx *c)
{
	return c->nruns < INTERP_QUEUE_MAX;
}

void irun_submit(struct ictx *c, struct irun *r)
{
	r->c = c;
	TAILQ_INSERT_TAIL(&c->runs, r, link);
	c->nruns++;
	ictx_next(c);
}

void irun_submit_first(struct ictx *c, struct irun *r)
{
	r->c = c;
	TAILQ_INSERT_HEAD(&c->runs, r, link);
	c->nruns++;
	ictx_next(c);
}

void irun_cancel(struct irun *r)
{
	struct ictx *c = r->c;
	if (!c)
		return;
	bool runs = c->running && !c->orphan && TAILQ_FIRST(&c->runs) == r;
	run_leave(r);
	if (!runs)
		return;
	c->orphan = true;
	kernel_hold(c->k, false);
	kernel_interrupt(c->k);
	ev_timer_set(c->ev, &c->timer, clock_now() + INTERP_STOP_MS * MS_NS);
}

void irun_hold(struct irun *r, bool hold)
{
	if (r->c && r->c->running && TAILQ_FIRST(&r->c->runs) == r)
		kernel_hold(r->c->k, hold);
}

/* ---- ends ---- */

void ictx_restart(struct ictx *c)
{
	if (c->running)
		ictx_lost(c, "the context was restarted");
	else if (c->k) {
		struct kernel *k = c->k;
		c->k = NULL;
		kernel_free(k);
		warming_over(c);
		ev_timer_stop(c->ev, &c->timer);
		ictx_next(c);
	}
}

static void ictx_free(struct ictx *c)
{
	struct irun *r;
	struct kernel *k = c->k;
	(void)running_take(c);
	c->k = NULL;
	kernel_free(k);
	warming_over(c);
	c->depth++; /* for good */
	while ((r = TAILQ_FIRST(&c->runs)))
		run_refuse(r, "the context was removed");
	free(c);
}

void ictx_remove(struct ictx *c)
{
	if (c->removed)
		return;
	c->removed = true;
	TAILQ_REMOVE(&c->in->contexts, c, link);
	c->in->n--;
	if (c->depth == 0)
		ictx_free(c);
}

void interp_box_done(struct box *b)
{
	struct interp *in = b->interp;
	struct ictx *c, *next;
	if (!in)
		return;
	for (c = TAILQ_FIRST(&in->contexts); c; c = next) {
		next = TAILQ_NEXT(c, link);
		ictx_remove(c);
	}
	b->interp = NULL;
	free(in);
}

/* ---- ahead of use ---- */

void interp_prepare(struct box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct interp *in = interp_of(b);
	struct ictx *c = in ? ictx_default(in, kernel_language("python"), &err) : NULL;
	/* A failure is told to the execution that needs the kernel. */
	if (!c || c->k || ictx_start(c, &err) < 0)
		return;
	/* Imports cost a second of a CPU: not for everybody when many come at once. */
	if (b->api->nwarming < INTERP_WARMING_MAX && kernel_warm(c->k, false) == 0) {
		b->api->nwarming++;
		c->warming = true;
	}
}

bool interp_wanted(const char *template_id, const json_t *metadata)
{
	const char *v = json_string_value(json_object_get(metadata, "brig.interpreter"));
	return strcmp(template_id, "code-interpreter-v1") == 0 || (v && strcmp(v, "python") == 0);
}

bool interp_adopt(struct box *b, struct kernel *k)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct interp *in = interp_of(b);
	struct ictx *c = in ? ictx_default(in, kernel_language("python"), &err) : NULL;
	if (!c || c->k || !kernel_ready(k))
		return false;
	if (json_object_size(b->envs) && kernel_setenv(k, b->envs) < 0)
		return false;
	kernel_hand(k, &ops_of_kernel, c);
	c->k = k;
	return true;
}
