/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 *   FILLING: create at brigd -> kernel started -> ready -> imports done -> IDLE -> taken by a
 * create
 *
 * A pool makes one sandbox at a time, and begins WARM_DELAY_MS after one was taken, so that the
 * request that took it is served before its successor costs anything. A sandbox whose kernel ends
 * while it waits is removed and made again; after a failure the pool waits, twice as long each
 * time.
 *
 * Imports happen before a sandbox counts as idle: that second is what a pool is for.
 *
 * A sandbox is made with a network or without and stays so. A pool has both kinds, in numbers that follow
 * the requests: one that finds none of its kind has the next be of it, in the place of the other.
 *
 * A create that brigd works on cannot be taken back: who does not wait for its answer never learns
 * what to remove. So a pool that ends leaves it under way, without a pool, and what it made is
 * removed when the answer comes; a->norphans counts these, for the end of the process to wait.
 */
#include "api/warm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "base/clock.h"
#include "base/size.h"

#define WARM_DELAY_MS 20u
#define WARM_RETRY_MS 1000u
#define WARM_RETRY_MAX_MS 60000u

struct pool;
struct spare {
	LIST_ENTRY(spare) link;
	struct api *a;
	struct pool *p;	    /* NULL: an orphan, in no list */
	struct link_op *op; /* the create; NULL: answered */
	char id[BRIG_ID_LEN + 8];
	json_t *reply;
	struct kernel *k;
	bool idle;
	bool linked; /* asked for; and, when brigd has answered, had */
};

struct pool {
	struct warm *w;
	char template_id[192];
	char asked[160]; /* image of the template */
	char image[160], fallback[160];
	unsigned size;
	json_t *spec;
	LIST_HEAD(spare_list, spare) spares; /* idle ones, and the one that is being made */
	unsigned nidle;
	unsigned links; /* so many of size have a network */
	bool no_network; /* the server has none: there is one kind only */
	bool filling;
	uint64_t hits, misses, fills, failures, retry_ms;
	char error[256];
	struct ev_timer timer;
};

struct warm {
	struct api *a;
	bool closing; /* what is left in brigd is left to it, or to the next start (boxes_adopt) */
	struct pool *pools[WARM_POOLS_MAX];
	unsigned n;
};

static void pool_schedule(struct pool *p, uint64_t delay_ms)
{
	if (!p->filling && p->nidle < p->size)
		ev_timer_set(&p->w->a->ev, &p->timer, clock_now() + delay_ms * MS_NS);
}

/* Takes it out of its pool; what brigd has of it is removed, at once or when it is there. */
static void spare_discard(struct spare *s)
{
	struct pool *p = s->p;
	LIST_REMOVE(s, link);
	if (s->idle)
		p->nidle--;
	else
		p->filling = false;
	if (s->op) {
		s->p = NULL;
		s->a->norphans++;
		return;
	}
	kernel_free(s->k);
	if (s->id[0] && !p->w->closing)
		(void)box_remove_id(p->w->a, s->id, NULL, NULL);
	json_decref(s->reply);
	free(s);
}

static void orphan_gone(void *ctx)
{
	struct api *a = ctx;
	a->norphans--;
}

/* The create of an orphan was answered; id NULL: nothing was made. */
static void orphan_end(struct spare *s, const char *id)
{
	if (!id || !box_remove_id(s->a, id, orphan_gone, s->a))
		orphan_gone(s->a);
	free(s);
}

static void spare_failed(struct spare *s, const char *why)
{
	struct pool *p = s->p;
	p->failures++;
	/* Once for a series of the same. */
	if (strncmp(p->error, why, sizeof(p->error) - 1) != 0)
		log_line(&p->w->a->log, LOG_WARN, s->id[0] ? s->id : NULL, "warm pool of '%s': %s",
			 p->template_id, why);
	snprintf(p->error, sizeof(p->error), "%s", why);
	p->retry_ms = p->retry_ms ? 2 * p->retry_ms : WARM_RETRY_MS;
	if (p->retry_ms > WARM_RETRY_MAX_MS)
		p->retry_ms = WARM_RETRY_MAX_MS;
	spare_discard(s);
	pool_schedule(p, p->retry_ms);
}

static void kernel_event(void *ctx, struct interp_event *e)
{
	struct spare *s = ctx;
	struct pool *p = s->p;
	if (e->kind == INTERP_READY && kernel_warm(s->k, true) < 0) {
		spare_failed(s, "the kernel takes no request");
		return;
	}
	if (e->kind != INTERP_WARM || s->idle)
		return;
	s->idle = true;
	p->nidle++;
	p->fills++;
	p->filling = false;
	p->retry_ms = 0;
	p->error[0] = '\0';
	pool_schedule(p, WARM_DELAY_MS);
}

static void kernel_lost(void *ctx, const char *why)
{
	spare_failed(ctx, why);
}

static const struct kernel_ops ops_of_kernel = { .event = kernel_event, .gone = kernel_lost };

static void create_replied(void *ctx, json_t *ok)
{
	struct spare *s = ctx;
	struct pool *p = s->p;
	struct brig_err err = BRIG_ERR_INIT;
	const char *id = json_string_value(json_object_get(ok, "id"));
	if (!p) {
		orphan_end(s, id);
		return;
	}
	s->op = NULL;
	snprintf(s->id, sizeof(s->id), "%s", id ? id : "");
	s->reply = json_incref(ok);
	if (s->linked) {
		s->linked = json_is_true(json_object_get(ok, "network"));
		p->no_network = !s->linked;
	}
	const struct kernel_spec spec = { .box = s->id,
					  .language = "python",
					  .cwd = json_string_value(json_object_get(ok, "home")),
					  .user = json_string_value(json_object_get(ok, "user")) };
	if (kernel_start(p->w->a->link, &spec, &ops_of_kernel, s, &s->k, &err) < 0)
		spare_failed(s, err.msg);
}

static int spare_ask(struct spare *s, struct brig_err *err);

static void create_failed(void *ctx, json_t *error)
{
	struct spare *s = ctx;
	struct pool *p = s->p;
	struct brig_err err = BRIG_ERR_INIT;
	if (!p) {
		orphan_end(s, NULL);
		return;
	}
	api_err_from(error, &err);
	s->op = NULL;
	if (err.code == BRIG_E_NOT_FOUND && p->fallback[0]) {
		snprintf(p->image, sizeof(p->image), "%s", p->fallback);
		p->fallback[0] = '\0';
		if (spare_ask(s, &err) == 0)
			return;
	}
	spare_failed(s, err.msg);
}

static const struct link_ops ops_of_create = { .reply = create_replied, .failed = create_failed };

static int spare_ask(struct spare *s, struct brig_err *err)
{
	struct pool *p = s->p;
	json_object_set_new(p->spec, "image", json_string(p->image));
	json_object_del(p->spec, "network");
	if (s->linked)
		json_object_set_new(p->spec, "network",
				    json_pack("{s:s,s:b}", "mode", "deny", "optional", 1));
	json_t *req = json_pack("{s:s,s:o}", "op", "create", "spec", json_copy(p->spec));
	if (link_start(p->w->a->link, req, false, &ops_of_create, s, &s->op, err) == 0)
		return 0;
	s->op = NULL;
	return -1;
}

static unsigned linked_idle(const struct pool *p)
{
	const struct spare *s;
	unsigned n = 0;
	LIST_FOREACH(s, &p->spares, link)
	{
		n += s->idle && s->linked;
	}
	return n;
}

static void pool_fill(void *ctx)
{
	struct pool *p = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	bool linked = linked_idle(p) < p->links;
	struct spare *s = calloc(1, sizeof(*s));
	if (!s) {
		pool_schedule(p, WARM_RETRY_MAX_MS);
		return;
	}
	s->a = p->w->a;
	s->p = p;
	s->linked = linked;
	p->filling = true;
	LIST_INSERT_HEAD(&p->spares, s, link);
	if (spare_ask(s, &err) < 0)
		spare_failed(s, err.msg);
}

/* ---- for the create ---- */

/* Between pool and box nobody listens to a kernel; kernel_ready() tells whether it lives. */
static void unheard(void *ctx, struct interp_event *e)
{
	(void)ctx;
	(void)e;
}

static void unheard_end(void *ctx, const char *why)
{
	(void)ctx;
	(void)why;
}

static const struct kernel_ops ops_of_nobody = { .event = unheard, .gone = unheard_end };

static struct pool *pool_find(const struct warm *w, const char *template_id)
{
	for (unsigned i = 0; w && i < w->n; i++)
		if (strcmp(w->pools[i]->template_id, template_id) == 0)
			return w->pools[i];
	return NULL;
}

static struct spare *spare_find(const struct pool *p, bool linked)
{
	struct spare *s;
	LIST_FOREACH(s, &p->spares, link)
	{
		if (s->idle && s->linked == linked)
			break;
	}
	return s;
}

/* One more of the kind that was missing; where the pool is full it takes the place of another. */
static void pool_turn(struct pool *p, bool linked)
{
	struct spare *other = spare_find(p, !linked);
	if (linked && p->links < p->size)
		p->links++;
	else if (!linked && p->links)
		p->links--;
	if (other && p->nidle == p->size)
		spare_discard(other);
	pool_schedule(p, WARM_DELAY_MS);
}

bool warm_take(struct warm *w, const struct warm_wish *wish, struct warm_box *ret)
{
	struct pool *p = pool_find(w, wish->template_id);
	/* A tag of the tenant may have led it elsewhere. */
	if (!p || strcmp(p->asked, wish->image) != 0)
		return false;
	bool linked = wish->network && !(p->no_network && wish->optional);
	struct spare *s = spare_find(p, linked);
	if (!s) {
		p->misses++;
		pool_turn(p, linked);
		return false;
	}
	p->hits++;
	ret->linked = s->linked;
	memcpy(ret->id, s->id, sizeof(ret->id));
	ret->reply = s->reply;
	ret->kernel = s->k;
	kernel_hand(s->k, &ops_of_nobody, NULL);
	s->reply = NULL;
	s->k = NULL;
	s->id[0] = '\0';
	spare_discard(s);
	pool_schedule(p, WARM_DELAY_MS);
	return true;
}

json_t *warm_info(const struct warm *w)
{
	json_t *list = json_array();
	for (unsigned i = 0; w && i < w->n; i++) {
		const struct pool *p = w->pools[i];
		json_t *o = json_pack("{s:s,s:i,s:i,s:I,s:I,s:I,s:I}", "template", p->template_id,
				      "size", (int)p->size, "ready", (int)p->nidle, "hits",
				      (json_int_t)p->hits, "misses", (json_int_t)p->misses, "fills",
				      (json_int_t)p->fills, "failures", (json_int_t)p->failures);
		if (o && p->error[0])
			json_object_set_new(o, "error", json_string(p->error));
		json_array_append_new(list, o);
	}
	return list;
}

/* ---- configuration ---- */

int warm_parse(const char *text, char ret_template[192], unsigned *ret_size, struct brig_err *err)
{
	const char *eq = strrchr(text, '=');
	uint64_t n = 0;
	if (!eq || eq == text || eq - text >= 192 || size_parse_count(eq + 1, &n) < 0 || n < 1 ||
	    n > WARM_SIZE_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'%.200s' is not TEMPLATE=N with N of 1 to %u", text,
				 WARM_SIZE_MAX);
	memcpy(ret_template, text, (size_t)(eq - text));
	ret_template[eq - text] = '\0';
	*ret_size = (unsigned)n;
	return 0;
}

int warm_open(struct api *a, struct warm **ret, struct brig_err *err)
{
	struct warm *w = calloc(1, sizeof(*w));
	if (!w)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "make the pools");
	w->a = a;
	*ret = w;
	return 0;
}

int warm_add(struct warm *w, const struct warm_plan *plan, struct brig_err *err)
{
	if (w->n >= WARM_POOLS_MAX || pool_find(w, plan->template_id))
		return brig_fail(err, BRIG_E_INVALID, 0, "too many pools, or two of '%s'",
				 plan->template_id);
	struct pool *p = calloc(1, sizeof(*p));
	if (!p || !plan->spec || !(p->spec = json_copy(plan->spec))) {
		free(p);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "make a pool");
	}
	p->w = w;
	p->size = plan->size;
	p->links = plan->size / 2;
	snprintf(p->template_id, sizeof(p->template_id), "%s", plan->template_id);
	snprintf(p->asked, sizeof(p->asked), "%s", plan->image);
	snprintf(p->image, sizeof(p->image), "%s", plan->image);
	snprintf(p->fallback, sizeof(p->fallback), "%s", plan->fallback ? plan->fallback : "");
	LIST_INIT(&p->spares);
	p->timer = (struct ev_timer){ .fn = pool_fill, .ctx = p };
	w->pools[w->n++] = p;
	pool_schedule(p, 0);
	return 0;
}

void warm_close(struct warm *w)
{
	if (w)
		w->closing = true;
	for (unsigned i = 0; w && i < w->n; i++) {
		struct pool *p = w->pools[i];
		for (struct spare *s = LIST_FIRST(&p->spares), *next; s; s = next) {
			next = LIST_NEXT(s, link);
			spare_discard(s);
		}
		ev_timer_stop(&w->a->ev, &p->timer);
		json_decref(p->spec);
		free(p);
	}
	free(w);
}
