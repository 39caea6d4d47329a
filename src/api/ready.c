/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ready.c: GET /readyz: whether a request that comes now would be served. /healthz says that the
 * server is alive; a live server is not ready while its database cannot be written, while brigd
 * does not answer in time, and when it is about to end.
 *
 * Anybody may ask, as often as he likes, so the disk is not written for each question: the last
 * answer of the database counts for DATABASE_MS.
 */
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "base/clock.h"
#include "store/store.h"

#define BRIGD_MS 2000u
#define DATABASE_MS 1000u

struct ready {
	struct call *c;
	struct ev_timer late;
};

static void ready_gone(struct call *c)
{
	struct ready *rd = c->priv;
	ev_timer_stop(&c->api->ev, &rd->late);
	free(rd);
}

/* what: the part that is missing. */
static void not_ready(struct call *c, const char *what, const struct brig_err *err)
{
	struct brig_err told = *err;
	told.code = BRIG_E_UNAVAILABLE;
	api_fail_details(c->r, 503, &told, json_pack("{s:s}", "not_ready", what));
}

static void brigd_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	(void)ok;
	call_op_done(c);
	ev_timer_stop(&c->api->ev, &((struct ready *)c->priv)->late);
	if (c->api->ending) {
		struct brig_err err = BRIG_ERR_INIT;
		brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "the server is ending");
		not_ready(c, "shutdown", &err);
		return;
	}
	http_reply_json(c->r, 200,
			json_pack("{s:b,s:{s:s,s:s}}", "ready", 1, "checks", "brigd", "ok",
				  "database", "ok"));
}

static void brigd_failed(void *ctx, json_t *error)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	call_op_done(c);
	ev_timer_stop(&c->api->ev, &((struct ready *)c->priv)->late);
	api_err_from(error, &err);
	not_ready(c, "brigd", &err);
}

static void brigd_late(void *ctx)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	if (c->op)
		link_cancel(c->op);
	c->op = NULL;
	brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "brigd has not answered for %u ms", BRIGD_MS);
	brig_err_remedy(&err, "wait; if it persists, the operator must look at the server's log");
	not_ready(c, "brigd", &err);
}

static int database(struct api *a, struct brig_err *err)
{
	uint64_t now = clock_now();
	if (a->probed_ns && now - a->probed_ns < DATABASE_MS * MS_NS && a->probed.code == BRIG_E_OK)
		return 0;
	if (!a->probed_ns || now - a->probed_ns >= DATABASE_MS * MS_NS) {
		a->probed = (struct brig_err)BRIG_ERR_INIT;
		a->probed_ns = now;
		if (store_probe(a->store, &a->probed) == 0)
			return 0;
		brig_err_remedy(&a->probed,
				"the operator must look at the free space and the health of the "
				"disk below the data folder");
	}
	*err = a->probed;
	return -1;
}

static void ready(struct call *c)
{
	static const struct link_ops ops = { .reply = brigd_replied, .failed = brigd_failed };
	struct brig_err err = BRIG_ERR_INIT;
	http_answer_header(c->r, "Cache-Control", "no-store");
	if (c->api->ending) {
		brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "the server is ending");
		brig_err_remedy(&err, "ask another server, or this one when it was started again");
		not_ready(c, "shutdown", &err);
		return;
	}
	if (database(c->api, &err) < 0) {
		not_ready(c, "database", &err);
		return;
	}
	struct ready *rd = calloc(1, sizeof(*rd));
	if (!rd) {
		call_fail_text(c, 503, "out of memory");
		return;
	}
	rd->c = c;
	rd->late = (struct ev_timer){ .fn = brigd_late, .ctx = c };
	c->priv = rd;
	c->gone = ready_gone;
	if (ev_timer_set(&c->api->ev, &rd->late, clock_now() + BRIGD_MS * MS_NS) < 0) {
		call_fail_text(c, 503, "out of memory");
		return;
	}
	if (link_start(c->api->link, json_pack("{s:s}", "op", "version"), false, &ops, c, &c->op,
		       &err) < 0) {
		c->op = NULL;
		not_ready(c, "brigd", &err);
	}
}

const struct route ready_routes[] = {
	{ "GET", "/readyz", 0, PERM_OPEN, ready },
	{ .method = NULL },
};
