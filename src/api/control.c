/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c: what E2B's clients do with one sandbox that exists. A pause or resume belongs to the
 * box and goes on without the client that asked for it (box_state.c).
 */
#include <stdlib.h>
#include <string.h>

#include "api/admit.h"
#include "api/call.h"
#include "api/describe.h"
#include "api/metrics.h"
#include "api/network.h"
#include "daemon/fields.h"

#define CONNECT_V1_S 15
#define CONNECT_V2_S 300
#define REFRESH_S 60
#define REFRESH_MAX_S 3600

static int timeout_of(struct call *c, uint64_t min, uint64_t fallback, uint64_t *ret)
{
	struct brig_err err = BRIG_ERR_INIT;
	bool given = json_object_get(c->body, "timeout") != NULL;
	*ret = fallback;
	if (field_u64(c->body, "timeout", min, BOX_TIMEOUT_MAX_S, ret, &err) == 0 &&
	    (*ret == UINT64_MAX || call_admit_timeout(c, given, ret, &err) == 0))
		return 0;
	call_fail(c, &err);
	return -1;
}

static void get(struct call *c)
{
	struct box *b = call_box(c);
	if (b)
		http_reply_json(c->r, 200, describe_detail(b, call_may(c, PERM_FILES)));
}

/* ---- delete ---- */

static void removed(void *ctx)
{
	struct call *c = ctx;
	c->priv = NULL;
	http_reply_empty(c->r, 204);
}

static void delete_gone(struct call *c)
{
	if (c->priv)
		box_removal_forget(c->priv);
}

void control_delete(struct call *c)
{
	struct box *b = call_box(c);
	if (!b)
		return;
	c->gone = delete_gone;
	box_asked(b, http_id(c->r));
	c->priv = box_kill_wait(b, "deleted", NULL, removed, c);
	if (!c->priv)
		call_fail_text(c, 503, "out of memory");
}

/* ---- end time ---- */

static void timeout(struct call *c)
{
	uint64_t s = 0;
	struct box *b = call_box(c);
	if (!b || timeout_of(c, 0, UINT64_MAX, &s) < 0)
		return;
	if (s == UINT64_MAX) {
		call_fail_text(c, 400, "'timeout' is missing");
		return;
	}
	box_asked(b, http_id(c->r));
	box_set_timeout(b, (int64_t)s * 1000, false);
	http_reply_empty(c->r, 204);
}

static void refreshes(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	uint64_t s = REFRESH_S;
	struct box *b = call_box(c);
	if (!b)
		return;
	bool given = json_object_get(c->body, "duration") != NULL;
	if (field_u64(c->body, "duration", 0, REFRESH_MAX_S, &s, &err) < 0 ||
	    call_admit_timeout(c, given, &s, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	int64_t was = b->timeout_ms;
	box_asked(b, http_id(c->r));
	box_set_timeout(b, (int64_t)s * 1000, true);
	b->timeout_ms = was;
	http_reply_empty(c->r, 204);
}

/* ---- pause, resume, connect ---- */

/* A call that waits for its box. */
struct wait {
	struct box_waker *waker;
	uint64_t timeout_s;
	bool was_running;
};

static void wait_gone(struct call *c)
{
	struct wait *w = c->priv;
	if (w->waker)
		box_wake_cancel(w->waker);
	free(w);
}

static struct wait *wait_new(struct call *c)
{
	struct wait *w = calloc(1, sizeof(*w));
	if (!w) {
		call_fail_text(c, 503, "out of memory");
		return NULL;
	}
	c->priv = w;
	c->gone = wait_gone;
	return w;
}

static void paused(void *ctx, const struct brig_err *err)
{
	struct call *c = ctx;
	((struct wait *)c->priv)->waker = NULL;
	if (err)
		call_fail(c, err);
	else
		http_reply_empty(c->r, 204);
}

static int memory_kept(struct call *c, const char *doing)
{
	if (!json_is_false(json_object_get(c->body, "memory")))
		return 0;
	call_fail_text(c, 501, "%s without its memory: not part of this version of brig", doing);
	return -1;
}

static void pause_box(struct call *c)
{
	struct box *b = call_box(c);
	struct wait *w;
	if (!b || memory_kept(c, "a pause") < 0 || !(w = wait_new(c)))
		return;
	if (b->state == BOX_RUNNING || b->state == BOX_RESUMING)
		box_asked(b, http_id(c->r));
	struct box_waker *waker = box_pause(b, paused, c);
	if (waker)
		w->waker = waker;
}

static void connected(void *ctx, const struct brig_err *err)
{
	struct call *c = ctx;
	struct wait *w = c->priv;
	w->waker = NULL;
	if (err) {
		call_fail(c, err);
		return;
	}
	box_asked(c->box, http_id(c->r));
	box_set_timeout(c->box, (int64_t)w->timeout_s * 1000, true);
	http_reply_json(c->r, w->was_running ? 200 : 201,
			describe_sandbox(c->box, call_may(c, PERM_FILES)));
}

static void wake(struct call *c, uint64_t default_s)
{
	struct box *b = c->box;
	struct wait *w;
	uint64_t s;
	if (timeout_of(c, 0, default_s, &s) < 0 || !(w = wait_new(c)))
		return;
	w->timeout_s = s;
	w->was_running = b->state == BOX_RUNNING;
	if (!w->was_running && memory_kept(c, "a resume") < 0)
		return;
	if (!w->was_running)
		box_asked(b, http_id(c->r));
	struct box_waker *waker = box_wake(b, true, connected, c);
	if (waker)
		w->waker = waker;
}

static void connect_v1(struct call *c)
{
	if (call_box(c))
		wake(c, CONNECT_V1_S);
}

static void connect_v2(struct call *c)
{
	if (call_box(c))
		wake(c, CONNECT_V2_S);
}

static void resume(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct box *b = call_box(c);
	if (!b)
		return;
	if (b->state == BOX_RUNNING) {
		call_fail_text(c, 409, "sandbox '%s' is running already", b->id);
		return;
	}
	if (field_bool(c->body, "autoPause", &b->pause_on_timeout, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	wake(c, CONNECT_V1_S);
}

/* ---- network ---- */

/* The policy is enforced: now it is the sandbox's. */
static void network_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct box *b = c->box;
	json_t *internet = json_object_get(c->body, "allow_internet_access");
	(void)ok;
	call_op_done(c);
	/* Who may reach the ports was settled when the sandbox was made, and its token told. */
	json_t *o = json_copy(c->body);
	json_object_del(o, "allow_internet_access");
	json_object_del(o, "allowPublicTraffic");
	if (b->traffic_token[0])
		json_object_set_new(o, "allowPublicTraffic", json_false());
	json_decref(b->network);
	b->network = o;
	b->allow_internet = internet ? json_is_true(internet) : -1;
	box_save(b);
	http_reply_empty(c->r, 204);
}

/* Whether it was made with a link, as far as is kept of what it was made with. */
static bool network_spec_kept(const struct box *b)
{
	return network_asked(b->network, b->allow_internet) != POLICY_NET_NONE;
}

static void network(struct call *c)
{
	static const struct link_ops ops = { .reply = network_replied, .failed = call_op_failed };
	struct brig_err err = BRIG_ERR_INIT;
	json_t *internet = json_object_get(c->body, "allow_internet_access");
	bool ignored;
	struct box *b = call_box(c);
	if (!b)
		return;
	if (network_check(c->body, &err) < 0 ||
	    field_bool(c->body, "allow_internet_access", &ignored, &err) < 0 ||
	    call_admit_network(c, network_asked(c->body, json_is_true(internet)), &err) < 0) {
		call_fail(c, &err);
		return;
	}
	json_t *spec = network_spec(c->body, internet ? json_is_true(internet) : -1, b->tenant);
	/* A sandbox without a link has no policy, and needs none to reach nothing. */
	if (!spec && !network_spec_kept(b)) {
		network_replied(c, NULL);
		return;
	}
	json_object_del(spec, "tenant");
	json_object_del(spec, "optional");
	if (!spec)
		spec = json_pack("{s:s}", "mode", "none");
	call_op(c, json_pack("{s:s,s:s,s:o}", "op", "network", "id", b->id, "network", spec), &ops);
}

/* ---- metrics, logs ---- */

static int64_t query_number(struct call *c, const char *name)
{
	const char *s = http_query(c->r, name);
	return s ? strtoll(s, NULL, 10) : 0;
}

static void metrics(struct call *c)
{
	struct box *b = call_box(c);
	if (b)
		http_reply_json(c->r, 200,
				metrics_json(b, query_number(c, "start"), query_number(c, "end")));
}

/* The last sample of each sandbox that was named. */
static void metrics_many(struct call *c)
{
	const char *ids = http_query(c->r, "sandbox_ids");
	json_t *all = json_object();
	char id[ROUTE_ID_MAX];
	while (ids && *ids) {
		size_t n = strcspn(ids, ",");
		if (n < sizeof(id)) {
			memcpy(id, ids, n);
			id[n] = '\0';
			struct box *b = box_find(c->api, id);
			json_t *m = b && call_may_see(c, b->tenant) ? metrics_last_json(b) : NULL;
			if (m)
				json_object_set_new(all, id, m);
		}
		ids += n + (ids[n] == ',');
	}
	http_reply_json(c->r, 200, json_pack("{s:o}", "sandboxes", all));
}

/* What E2B logs there is the log of its envd. Ours keeps none: output belongs to whoever ran a
 * command. */
static void logs_v1(struct call *c)
{
	if (call_box(c))
		http_reply_json(c->r, 200, json_pack("{s:[],s:[]}", "logs", "logEntries"));
}

static void logs_v2(struct call *c)
{
	if (call_box(c))
		http_reply_json(c->r, 200, json_pack("{s:[]}", "logs"));
}

#define E2B ROUTE_E2B
#define E2B_BODY (ROUTE_E2B | ROUTE_BODY)
const struct route control_routes[] = {
	{ "GET", "/sandboxes/metrics", E2B, PERM_METRICS, metrics_many },
	{ "GET", "/sandboxes/{}", E2B, PERM_BOX_READ, get },
	{ "DELETE", "/sandboxes/{}", E2B, PERM_BOX_WRITE, control_delete },
	{ "POST", "/v2/sandboxes/{}/connect", E2B_BODY, PERM_BOX_WRITE, connect_v2 },
	{ "POST", "/sandboxes/{}/connect", E2B_BODY, PERM_BOX_WRITE, connect_v1 },
	{ "POST", "/sandboxes/{}/resume", E2B_BODY, PERM_BOX_WRITE, resume },
	{ "POST", "/sandboxes/{}/pause", E2B_BODY, PERM_BOX_WRITE, pause_box },
	{ "POST", "/sandboxes/{}/timeout", E2B_BODY, PERM_BOX_WRITE, timeout },
	{ "POST", "/sandboxes/{}/refreshes", E2B_BODY, PERM_BOX_WRITE, refreshes },
	{ "PUT", "/sandboxes/{}/network", E2B_BODY, PERM_BOX_WRITE, network },
	{ "GET", "/sandboxes/{}/metrics", E2B, PERM_METRICS, metrics },
	{ "GET", "/sandboxes/{}/logs", E2B, PERM_BOX_READ, logs_v1 },
	{ "GET", "/v2/sandboxes/{}/logs", E2B, PERM_BOX_READ, logs_v2 },
	{ .method = NULL },
};
