/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * At its start brig-api has records of an earlier one, and brigd has sandboxes. Both sides may have
 * moved on meanwhile: sandboxes ended, end times passed, a create was under way. One `ls` settles
 * it:
 *
 *   record and sandbox    taken over: tokens, metadata and end time as they were; the state is
 * brigd's record only           dropped sandbox only          removed, if it has our label: nobody
 * knows its id
 *
 * Commands that envd clients had started go on running, but are not known to this process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/events.h"
#include "api/quota.h"
#include "api/tenant.h"
#include "store/store.h"

struct adoption {
	struct api *a;
	api_ready ready;
	json_t *live;	/* id -> state, of sandboxes with our label */
	json_t *ended;	/* ids of records without a sandbox */
	json_t *labels; /* id -> labels, of all that have ours */
};

static json_t *json_of(const char *text)
{
	return text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static void copy(char *dst, size_t cap, const char *src)
{
	snprintf(dst, cap, "%s", src);
}

static void record_adopt(void *ctx, const struct store_box *r)
{
	struct adoption *ad = ctx;
	const char *state = json_string_value(json_object_get(ad->live, r->id));
	bool stopped = state && strcmp(state, "stopped") == 0;
	/* Only of a command line's sandbox something is wanted when its command has ended. */
	struct box *b = state && (!stopped || r->name[0]) ? box_add(ad->a, r->id) : NULL;
	if (!b) {
		json_array_append_new(ad->ended, json_string(r->id));
		events_add(ad->a, EVENT_STOPPED, r->tenant, r->id, NULL,
			   json_pack("{s:s,s:{}}", "reason", "ended_unseen", "evidence"));
		events_add(ad->a, EVENT_REMOVED, r->tenant, r->id, NULL, NULL);
		return;
	}
	copy(b->tenant, sizeof(b->tenant), r->tenant);
	copy(b->template_id, sizeof(b->template_id), r->template_id);
	copy(b->alias, sizeof(b->alias), r->alias);
	copy(b->image, sizeof(b->image), r->image);
	copy(b->image_name, sizeof(b->image_name), r->image_name);
	copy(b->tier, sizeof(b->tier), r->tier);
	copy(b->token, sizeof(b->token), r->token);
	copy(b->traffic_token, sizeof(b->traffic_token), r->traffic_token);
	copy(b->user, sizeof(b->user), r->user);
	copy(b->home, sizeof(b->home), r->home);
	copy(b->name, sizeof(b->name), r->name);
	b->stopped = stopped;
	b->metadata = json_of(r->metadata);
	b->envs = json_of(r->envs);
	b->network = json_of(r->network);
	b->limits = json_of(r->limits);
	b->allow_internet = r->allow_internet;
	b->pause_on_timeout = r->pause_on_timeout;
	b->auto_resume = r->auto_resume;
	b->started_ms = r->started_ms;
	b->end_ms = r->end_ms;
	b->timeout_ms = r->timeout_ms;
	b->cpu_milli = r->cpu_milli;
	b->memory_bytes = r->memory_bytes;
	b->disk_bytes = r->disk_bytes;
	struct tenant *t = tenant_find(ad->a, b->tenant);
	const struct amounts has = { .sandboxes = 1,
				     .cpu_milli = b->cpu_milli,
				     .memory_bytes = b->memory_bytes,
				     .disk_bytes = b->disk_bytes };
	b->charge = t ? quota_adopt(t, &has) : NULL;
	b->announced = true;
	b->state = strcmp(state, "paused") == 0 ? BOX_PAUSED : BOX_RUNNING;
	json_object_del(ad->live, r->id);
}

static void adoption_end(struct adoption *ad, const struct brig_err *err)
{
	ad->ready(ad->a, err);
	json_decref(ad->live);
	json_decref(ad->ended);
	json_decref(ad->labels);
	free(ad);
}

/* What its tenant has until it is gone; NULL where nobody is known. */
static struct charge *orphan_charge(struct adoption *ad, const char *id)
{
	json_t *labels = json_object_get(ad->labels, id);
	const char *name = json_string_value(json_object_get(labels, API_TENANT_LABEL));
	const char *text = json_string_value(json_object_get(labels, API_CHARGE_LABEL));
	struct tenant *t = name ? tenant_find(ad->a, name) : NULL;
	struct amounts has;
	return t && text && amounts_parse(text, &has) == 0 ? quota_adopt(t, &has) : NULL;
}

static void ls_replied(void *ctx, json_t *ok)
{
	struct adoption *ad = ctx;
	size_t i;
	json_t *sb;
	const char *id;
	json_array_foreach(json_object_get(ok, "sandboxes"), i, sb)
	{
		const char *state = json_string_value(json_object_get(sb, "state"));
		id = json_string_value(json_object_get(sb, "id"));
		if (!id || !state || !json_object_get(json_object_get(sb, "labels"), API_LABEL))
			continue;
		/* One that is ending is neither taken over nor removed once more. */
		if (strcmp(state, "ready") == 0 || strcmp(state, "running") == 0 ||
		    strcmp(state, "exited") == 0 || strcmp(state, "paused") == 0 ||
		    strcmp(state, "stopped") == 0)
			json_object_set_new(ad->live, id, json_string(state));
		json_object_set(ad->labels, id, json_object_get(sb, "labels"));
	}
	store_boxes(ad->a->store, record_adopt, ad);
	json_array_foreach(ad->ended, i, sb)
	{
		store_box_remove(ad->a->store, json_string_value(sb));
	}
	json_object_foreach(ad->live, id, sb)
	{
		box_remove_charged(ad->a, id, orphan_charge(ad, id));
	}
	/* Sets the timers; an end that has passed comes at once. */
	struct box *b, *next;
	for (b = LIST_FIRST(&ad->a->all); b; b = next) {
		next = LIST_NEXT(b, all);
		box_save(b);
	}
	adoption_end(ad, NULL);
}

static void ls_failed(void *ctx, json_t *error)
{
	struct brig_err err = BRIG_ERR_INIT;
	api_err_from(error, &err);
	(void)brig_ctx(&err, "ask brigd for its sandboxes");
	adoption_end(ctx, &err);
}

int boxes_adopt(struct api *a, api_ready ready, struct brig_err *err)
{
	static const struct link_ops ops = { .reply = ls_replied, .failed = ls_failed };
	struct link_op *op;
	struct adoption *ad = calloc(1, sizeof(*ad));
	if (!ad)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	ad->a = a;
	ad->ready = ready;
	ad->live = json_object();
	ad->ended = json_array();
	ad->labels = json_object();
	if (link_start(a->link, json_pack("{s:s}", "op", "ls"), false, &ops, ad, &op, err) < 0) {
		json_decref(ad->live);
		json_decref(ad->ended);
		json_decref(ad->labels);
		free(ad);
		return brig_ctx(err, "ask brigd for its sandboxes");
	}
	return 0;
}
