/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The table of boxes: what clients of the API know of the sandboxes that brigd runs. A record
 * exists from the moment a create was answered by brigd until the box is killed; each change is in
 * the store before anybody is told of it.
 *
 * Killing is immediate here and takes a moment there: the box is dead and out of the table first,
 * so that a client whose stream breaks and who asks at once finds it dead; then its streams are
 * broken; then brigd removes the sandbox. That removal is repeated until brigd says that it is
 * gone, because a sandbox without a record would live until its server ends.
 */
#include "api/box.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/events.h"
#include "api/metrics.h"
#include "api/quota.h"
#include "api/text.h"
#include "base/clock.h"
#include "store/store.h"

#define REMOVAL_RETRY_MS 1000u

struct box_removal {
	struct api *a;
	char id[BRIG_ID_LEN + 8];
	struct link_op *op;
	struct ev_timer retry;
	void (*done)(void *ctx);
	void *ctx;
	struct charge *charge; /* of the sandbox */
	/* Whose it was, and the request that asked for its end; "" = not to be told as an event. */
	char tenant[sizeof(((struct box *)0)->tenant)], asked[HTTP_ID_MAX];
};

int64_t wall_ms(void)
{
	return (int64_t)(clock_ns(CLOCK_REALTIME) / MS_NS);
}

static struct box_list *bucket(struct api *a, const char *id)
{
	uint32_t h = 2166136261u; /* FNV-1a */
	for (; *id; id++)
		h = (h ^ (uint8_t)*id) * 16777619u;
	return &a->by_id[h % API_ID_BUCKETS];
}

struct box *box_find(struct api *a, const char *id)
{
	struct box *b;
	for (b = LIST_FIRST(bucket(a, id)); b; b = LIST_NEXT(b, id_link)) {
		if (strcmp(b->id, id) == 0)
			return b;
	}
	return NULL;
}

struct box *box_ref(struct box *b)
{
	b->refs++;
	return b;
}

static void box_free(struct box *b)
{
	charge_return(b->charge);
	json_decref(b->metadata);
	json_decref(b->envs);
	json_decref(b->network);
	json_decref(b->limits);
	free(b);
}

void box_unref(struct box *b)
{
	if (b && --b->refs == 0)
		box_free(b);
}

void box_use(struct box *b, struct box_user *u)
{
	LIST_INSERT_HEAD(&b->users, u, link);
	b->last_used_ms = wall_ms();
}

void box_unuse(struct box_user *u)
{
	LIST_REMOVE(u, link);
}

static void end_expired(void *ctx);

struct box *box_add(struct api *a, const char *id)
{
	struct box *b;
	if (a->nboxes >= API_BOXES_MAX || strlen(id) >= sizeof(b->id) ||
	    !(b = calloc(1, sizeof(*b))))
		return NULL;
	b->api = a;
	b->refs = 1;
	b->state = BOX_RUNNING;
	b->allow_internet = -1;
	snprintf(b->id, sizeof(b->id), "%s", id);
	b->end_timer = (struct ev_timer){ .fn = end_expired, .ctx = b };
	LIST_INIT(&b->wakers);
	LIST_INIT(&b->users);
	LIST_INIT(&b->procs);
	LIST_INIT(&b->watchers);
	LIST_INSERT_HEAD(&a->all, b, all);
	LIST_INSERT_HEAD(bucket(a, id), b, id_link);
	a->nboxes++;
	return b;
}

static void unlist(struct box *b)
{
	LIST_REMOVE(b, all);
	LIST_REMOVE(b, id_link);
	b->api->nboxes--;
	ev_timer_stop(&b->api->ev, &b->end_timer);
	metrics_box_done(b);
}

/* Arms the timer of the end. Wall time is what clients see; the timer counts another clock, so it
 * looks again when it fires. */
static void end_schedule(struct box *b)
{
	int64_t left = b->end_ms - wall_ms();
	if (b->end_ms == 0 || b->state == BOX_PAUSED || b->state == BOX_DEAD) {
		ev_timer_stop(&b->api->ev, &b->end_timer);
		return;
	}
	/* Out of memory for a timer is the one thing that would let a sandbox live on unwatched. */
	if (ev_timer_set(&b->api->ev, &b->end_timer,
			 clock_now() + (left > 0 ? (uint64_t)left * MS_NS : 0)) < 0)
		box_kill(b, "host_resources_exhausted", NULL);
}

static char *json_text(const json_t *o)
{
	return o ? json_dumps(o, JSON_COMPACT) : NULL;
}

void box_save(struct box *b)
{
	char *metadata = json_text(b->metadata), *envs = json_text(b->envs);
	char *network = json_text(b->network), *limits = json_text(b->limits);
	const struct store_box r = { .id = b->id,
				     .tenant = b->tenant,
				     .template_id = b->template_id,
				     .alias = b->alias,
				     .image = b->image,
				     .image_name = b->image_name,
				     .tier = b->tier,
				     .state = box_state_name(b),
				     .metadata = metadata,
				     .envs = envs,
				     .network = network,
				     .limits = limits,
				     .token = b->token,
				     .traffic_token = b->traffic_token,
				     .user = b->user,
				     .home = b->home,
				     .name = b->name,
				     .allow_internet = b->allow_internet,
				     .pause_on_timeout = b->pause_on_timeout,
				     .auto_resume = b->auto_resume,
				     .started_ms = b->started_ms,
				     .end_ms = b->end_ms,
				     .timeout_ms = b->timeout_ms,
				     .cpu_milli = b->cpu_milli,
				     .memory_bytes = b->memory_bytes,
				     .disk_bytes = b->disk_bytes };
	if (b->state != BOX_DEAD && !b->transient)
		store_box_put(b->api->store, &r);
	free(metadata);
	free(envs);
	free(network);
	free(limits);
	end_schedule(b);
}

void box_set_timeout(struct box *b, int64_t timeout_ms, bool extend)
{
	int64_t end = wall_ms() + timeout_ms;
	b->timeout_ms = timeout_ms;
	bool moved = !extend || (b->end_ms && end > b->end_ms);
	if (moved)
		b->end_ms = end;
	box_save(b);
	if (moved && b->state != BOX_DEAD) {
		char text[TEXT_TIME_MAX];
		text_time(end, text);
		events_add(
			b->api, EVENT_TIMEOUT, b->tenant, b->id, b->asked,
			json_pack("{s:s,s:I}", "ends", text, "timeout_ms", (json_int_t)timeout_ms));
	}
	b->asked[0] = '\0';
}

void box_asked(struct box *b, const char *request_id)
{
	snprintf(b->asked, sizeof(b->asked), "%s", request_id);
}

void box_changed(struct box *b, bool paused, const char *by)
{
	events_add(b->api, paused ? EVENT_PAUSED : EVENT_RESUMED, b->tenant, b->id, b->asked,
		   json_pack("{s:s}", "by", b->asked[0] ? "request" : by));
	b->asked[0] = '\0';
}

/* ---- the end ---- */

json_t *box_evidence(const json_t *info)
{
	static const char *const keys[] = { "stop_reason", "evidence", "limits_hit", "exit_code",
					    "signal" };
	json_t *status = json_object_get(info, "status"), *o = json_object();
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_get(status, keys[i]))
			json_object_set(o, keys[i], json_object_get(status, keys[i]));
	json_object_set(o, "state", json_object_get(info, "state"));
	if (json_is_string(json_object_get(info, "fault")))
		json_object_set(o, "fault", json_object_get(info, "fault"));
	return o;
}

static void tell_stopped(struct box *b, const char *why, json_t *evidence)
{
	char started[TEXT_TIME_MAX];
	text_time(b->started_ms, started);
	events_add(b->api, EVENT_STOPPED, b->tenant, b->id, b->asked,
		   json_pack("{s:s,s:o,s:s,s:I}", "reason", why, "evidence",
			     evidence ? evidence : json_object(), "started", started, "lived_ms",
			     (json_int_t)(wall_ms() - b->started_ms)));
}

void box_stopped(struct box *b, json_t *evidence)
{
	if (b->announced && !b->stopped)
		tell_stopped(b, "ended", evidence);
	else
		json_decref(evidence);
	b->stopped = true;
}

struct box_removal *box_kill_wait(struct box *b, const char *why, json_t *evidence,
				  void (*done)(void *ctx), void *ctx)
{
	struct box_user *u;
	if (b->state == BOX_DEAD) {
		json_decref(evidence);
		return NULL;
	}
	/* Of one that is kept for its output it was told when it stopped. */
	if (b->announced && !b->stopped)
		tell_stopped(b, why, evidence);
	else
		json_decref(evidence);
	b->state = BOX_DEAD;
	unlist(b);
	if (!b->transient)
		store_box_remove(b->api->store, b->id);
	box_state_done(b);
	while ((u = LIST_FIRST(&b->users)))
		u->killed(u);
	envd_box_done(b);
	interp_box_done(b);
	struct box_removal *m = box_remove_id(b->api, b->id, done, ctx);
	if (m)
		m->charge = b->charge;
	else
		charge_return(b->charge);
	b->charge = NULL;
	if (m && b->announced) {
		snprintf(m->tenant, sizeof(m->tenant), "%s", b->tenant);
		snprintf(m->asked, sizeof(m->asked), "%s", b->asked);
	}
	box_unref(b);
	return m;
}

void box_kill(struct box *b, const char *why, json_t *evidence)
{
	(void)box_kill_wait(b, why, evidence, NULL, NULL);
}

static json_t *end_json(const struct box *b)
{
	char text[TEXT_TIME_MAX];
	text_time(b->end_ms, text);
	return json_pack("{s:s,s:I}", "ends", text, "timeout_ms", (json_int_t)b->timeout_ms);
}

static void paused_at_end(void *ctx, const struct brig_err *err)
{
	struct box *b = ctx;
	if (err && b->state != BOX_DEAD)
		box_kill(b, "timeout", end_json(b));
	box_unref(b);
}

static void end_expired(void *ctx)
{
	struct box *b = ctx;
	if (b->end_ms - wall_ms() > 5) { /* the wall clock was set back */
		end_schedule(b);
		return;
	}
	if (!b->pause_on_timeout) {
		box_kill(b, "timeout", end_json(b));
		return;
	}
	(void)box_pause(b, paused_at_end, box_ref(b));
}

static void removal_end(struct box_removal *m)
{
	if (m->tenant[0])
		events_add(m->a, EVENT_REMOVED, m->tenant, m->id, m->asked, NULL);
	charge_return(m->charge);
	if (m->done)
		m->done(m->ctx);
	ev_timer_stop(&m->a->ev, &m->retry);
	free(m);
}

static void removal_replied(void *ctx, json_t *ok)
{
	(void)ok;
	removal_end(ctx);
}

static void removal_retry(struct box_removal *m)
{
	m->op = NULL;
	/* A brigd that is gone has taken its sandboxes with it. */
	if (link_lost(m->a->link) ||
	    ev_timer_set(&m->a->ev, &m->retry, clock_now() + REMOVAL_RETRY_MS * MS_NS) < 0)
		removal_end(m);
}

static void removal_failed(void *ctx, json_t *error)
{
	struct box_removal *m = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	api_err_from(error, &err);
	if (err.code == BRIG_E_NOT_FOUND)
		removal_end(m);
	else
		removal_retry(m);
}

static const struct link_ops removal_ops = { .reply = removal_replied, .failed = removal_failed };

static void removal_start(void *ctx)
{
	struct box_removal *m = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *req = json_pack("{s:s,s:s,s:b}", "op", "rm", "id", m->id, "force", 1);
	if (link_start(m->a->link, req, false, &removal_ops, m, &m->op, &err) < 0)
		removal_retry(m);
}

struct box_removal *box_remove_id(struct api *a, const char *id, void (*done)(void *ctx), void *ctx)
{
	struct box_removal *m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->a = a;
	snprintf(m->id, sizeof(m->id), "%s", id);
	m->done = done;
	m->ctx = ctx;
	m->retry = (struct ev_timer){ .fn = removal_start, .ctx = m };
	/* From the loop, also where it cannot even be asked for. */
	if (ev_timer_set(&a->ev, &m->retry, clock_now()) < 0) {
		free(m);
		return NULL;
	}
	return m;
}

void box_remove_charged(struct api *a, const char *id, struct charge *charge)
{
	struct box_removal *m = box_remove_id(a, id, NULL, NULL);
	if (m)
		m->charge = charge;
	else
		charge_return(charge);
}

void box_removal_forget(struct box_removal *m)
{
	m->done = NULL;
}

void boxes_done(struct api *a)
{
	struct box *b;
	while ((b = LIST_FIRST(&a->all))) {
		b->state = BOX_DEAD;
		unlist(b);
		box_state_done(b);
		while (!LIST_EMPTY(&b->users))
			LIST_FIRST(&b->users)->killed(LIST_FIRST(&b->users));
		envd_box_done(b);
		interp_box_done(b);
		box_unref(b);
	}
}
