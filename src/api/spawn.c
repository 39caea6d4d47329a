/* SPDX-License-Identifier: Apache-2.0 */
#include "api/spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/events.h"
#include "api/quota.h"
#include "api/tenant.h"
#include "api/text.h"
#include "api/warm.h"
#include "base/clock.h"
#include "base/fd.h"

#define TOKEN_BYTES 20

struct spawn {
	struct api *a;
	box_spawned done; /* NULL: cancelled while brigd was making it */
	void *ctx;
	struct link_op *op;
	struct box_plan plan; /* strings and references of our own */
	json_t *made;	      /* what brigd answered */
	struct kernel *warm;  /* of a sandbox that was made ahead */
	bool tell_env, tell_network; /* .. it is still to be told */
	struct ev_timer now;	     /* completes one that needs nothing more, from the loop */
};

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static void spawn_free(struct spawn *s)
{
	const struct box_plan *p = &s->plan;
	char *const strings[] = {
		(char *)(uintptr_t)p->tenant,	 (char *)(uintptr_t)p->template_id,
		(char *)(uintptr_t)p->alias,	 (char *)(uintptr_t)p->image,
		(char *)(uintptr_t)p->fallback,	 (char *)(uintptr_t)p->request_id,
		(char *)(uintptr_t)p->image_name
	};
	for (unsigned i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		free(strings[i]);
	charge_return(p->charge);
	json_decref(p->spec);
	json_decref(p->metadata);
	json_decref(p->envs);
	json_decref(p->network);
	json_decref(s->made);
	kernel_free(s->warm);
	ev_timer_stop(&s->a->ev, &s->now);
	fd_close(&s->plan.layer_fd);
	free(s);
}

static const char *made_id(const struct spawn *s)
{
	return json_string_value(json_object_get(s->made, "id"));
}

/* What brigd made is removed again, and paid for until then. */
static void remove_made(struct spawn *s)
{
	box_remove_charged(s->a, made_id(s), s->plan.charge);
	s->plan.charge = NULL;
}

static void fail(struct spawn *s, const struct brig_err *err)
{
	struct brig_err copied = *err;
	s->done(s->ctx, NULL, &copied);
	spawn_free(s);
}

static void copy_text(char *dst, size_t cap, const char *src)
{
	snprintf(dst, cap, "%s", src ? src : "");
}

static uint64_t limit(const json_t *made, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json_object_get(made, "limits"), key));
}

static void record_fill(struct box *b, struct spawn *s)
{
	struct box_plan *p = &s->plan;
	const char *digest = json_string_value(json_object_get(s->made, "digest"));
	const char *image = json_string_value(json_object_get(s->made, "image"));
	copy_text(b->tenant, sizeof(b->tenant), p->tenant);
	copy_text(b->template_id, sizeof(b->template_id), p->template_id);
	copy_text(b->alias, sizeof(b->alias), p->alias);
	copy_text(b->image, sizeof(b->image), digest ? digest : image);
	copy_text(b->image_name, sizeof(b->image_name), p->image_name ? p->image_name : image);
	copy_text(b->tier, sizeof(b->tier), json_string_value(json_object_get(s->made, "tier")));
	copy_text(b->user, sizeof(b->user), json_string_value(json_object_get(s->made, "user")));
	copy_text(b->home, sizeof(b->home), json_string_value(json_object_get(s->made, "home")));
	b->metadata = json_incref(p->metadata);
	b->envs = json_incref(p->envs);
	b->network = json_incref(p->network);
	b->limits = json_incref(json_object_get(p->spec, "limits"));
	b->allow_internet = p->allow_internet;
	b->pause_on_timeout = p->pause_on_timeout;
	b->auto_resume = p->auto_resume;
	b->cpu_milli = (uint32_t)limit(s->made, "cpu_milli");
	b->memory_bytes = limit(s->made, "memory_bytes");
	b->disk_bytes = limit(s->made, "disk_bytes");
	b->started_ms = b->last_used_ms = wall_ms();
	b->timeout_ms = p->timeout_ms;
	b->end_ms = p->timeout_ms ? b->started_ms + p->timeout_ms : 0;
	const struct amounts got = { .sandboxes = 1,
				     .cpu_milli = b->cpu_milli,
				     .memory_bytes = b->memory_bytes,
				     .disk_bytes = b->disk_bytes };
	charge_settle(p->charge, &got);
	b->charge = p->charge;
	p->charge = NULL;
}

static void announce(struct box *b, const struct spawn *s)
{
	const char *request = s->plan.request_id;
	b->announced = true;
	events_add(b->api, EVENT_CREATED, b->tenant, b->id, request,
		   json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:b}", "template", b->template_id,
			     "image", b->image, "tier", b->tier, "cpu_milli",
			     (json_int_t)b->cpu_milli, "memory_bytes", (json_int_t)b->memory_bytes,
			     "disk_bytes", (json_int_t)b->disk_bytes, "timeout_ms",
			     (json_int_t)b->timeout_ms, "from_snapshot", s->plan.layer_fd >= 0));
	events_add(b->api, EVENT_READY, b->tenant, b->id, request,
		   json_pack("{s:b}", "warm", s->warm != NULL));
}

/* Everything of it exists: from here on it is a box. */
static void complete(struct spawn *s)
{
	struct brig_err err = BRIG_ERR_INIT;
	/* Its tenant may have been removed since it was asked for. */
	bool whose = tenant_find(s->a, s->plan.tenant) != NULL;
	struct box *b = whose ? box_add(s->a, made_id(s)) : NULL;
	if (!b || text_token("", TOKEN_BYTES, b->token, sizeof(b->token)) < 0 ||
	    (s->plan.private_traffic &&
	     text_token("", TOKEN_BYTES, b->traffic_token, sizeof(b->traffic_token)) < 0)) {
		if (b)
			box_kill(b, "host_resources_exhausted", NULL);
		else
			remove_made(s);
		if (whose)
			brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "there are %u sandboxes already",
				     API_BOXES_MAX);
		else
			brig_err_set(&err, BRIG_E_DENIED, 0, "tenant '%s' was removed",
				     s->plan.tenant);
		fail(s, &err);
		return;
	}
	record_fill(b, s);
	box_save(b);
	announce(b, s);
	if (s->warm && interp_adopt(b, s->warm))
		s->warm = NULL;
	else if (interp_wanted(b->template_id, b->metadata))
		interp_prepare(b);
	s->done(s->ctx, b, NULL);
	spawn_free(s);
}

static void create_replied(void *ctx, json_t *ok)
{
	struct spawn *s = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	s->op = NULL;
	s->made = json_incref(ok);
	if (!s->done) {
		if (made_id(s))
			remove_made(s);
		spawn_free(s);
		return;
	}
	if (!made_id(s)) {
		brig_err_set(&err, BRIG_E_INTERNAL, 0, "brigd told no id of the sandbox");
		fail(s, &err);
		return;
	}
	complete(s);
}

static int ask(struct spawn *s, const char *image, struct brig_err *err);

static void create_failed(void *ctx, json_t *error)
{
	struct spawn *s = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	const char *fallback = s->plan.fallback;
	s->op = NULL;
	if (!s->done) {
		spawn_free(s);
		return;
	}
	api_err_from(error, &err);
	if (err.code == BRIG_E_NOT_FOUND && fallback) {
		s->plan.fallback = NULL;
		int r = ask(s, fallback, &err);
		free((char *)(uintptr_t)fallback);
		if (r == 0)
			return;
	}
	fail(s, &err);
}

static const struct link_ops ops = { .reply = create_replied, .failed = create_failed };

static int ask(struct spawn *s, const char *image, struct brig_err *err)
{
	json_object_set_new(s->plan.spec, "image", json_string(image));
	json_t *req = json_pack("{s:s,s:O}", "op", "create", "spec", s->plan.spec);
	if (s->plan.layer_fd >= 0)
		json_object_set_new(s->plan.spec, "layer", json_integer(0));
	return link_start_fd(s->a->link, req, s->plan.layer_fd, false, &ops, s, &s->op, err);
}

/* ---- made ahead (warm.h) ---- */

/* Nothing is asked for that a sandbox which was made ahead does not have. */
static bool plain(const struct box_plan *p)
{
	const char *key;
	json_t *v;
	json_object_foreach(p->spec, key, v)
	{
		if (strcmp(key, "env") != 0 && strcmp(key, "labels") != 0 &&
		    strcmp(key, "image") != 0 && strcmp(key, "network") != 0 &&
		    (strcmp(key, "limits") != 0 || json_object_size(v) != 0))
			return false;
	}
	return p->layer_fd < 0;
}

static void warm_complete(void *ctx)
{
	complete(ctx);
}

static void warm_replied(void *ctx, json_t *ok);
static void warm_failed(void *ctx, json_t *error);
static const struct link_ops warm_ops = { .reply = warm_replied, .failed = warm_failed };

/* The next thing that it must be told; 1: under way, 0: nothing, -1. */
static int warm_tell(struct spawn *s)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *req;
	if (s->tell_env) {
		s->tell_env = false;
		req = json_pack("{s:s,s:s,s:O}", "op", "setenv", "id", made_id(s), "env",
				json_object_get(s->plan.spec, "env"));
	} else if (s->tell_network) {
		s->tell_network = false;
		json_t *net = json_copy(json_object_get(s->plan.spec, "network"));
		json_object_del(net, "optional");
		req = json_pack("{s:s,s:s,s:o}", "op", "network", "id", made_id(s), "network", net);
	} else {
		return 0;
	}
	return link_start(s->a->link, req, false, &warm_ops, s, &s->op, &err) < 0 ? -1 : 1;
}

static void warm_drop(struct spawn *s)
{
	(void)box_remove_id(s->a, made_id(s), NULL, NULL); /* the charge is that of the next */
	json_decref(s->made);
	s->made = NULL;
	kernel_free(s->warm);
	s->warm = NULL;
}

/* It is gone, most likely: then as if there had been none. */
static void warm_failed(void *ctx, json_t *error)
{
	struct spawn *s = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	(void)error;
	s->op = NULL;
	warm_drop(s);
	if (ask(s, s->plan.image, &err) < 0)
		fail(s, &err);
}

static void warm_replied(void *ctx, json_t *ok)
{
	struct spawn *s = ctx;
	(void)ok;
	s->op = NULL;
	int r = warm_tell(s);
	if (r < 0)
		warm_failed(s, NULL);
	else if (r == 0)
		complete(s);
}

/* True: it is under way. */
static bool spawn_warm(struct spawn *s)
{
	json_t *net = json_object_get(s->plan.spec, "network");
	const struct warm_wish wish = { .template_id = s->plan.template_id,
					.image = s->plan.image,
					.network = net != NULL,
					.optional = json_is_true(json_object_get(net, "optional")) };
	struct warm_box w;
	if (!plain(&s->plan) || !warm_take(s->a->warm, &wish, &w))
		return false;
	s->made = w.reply;
	s->warm = w.kernel;
	s->now = (struct ev_timer){ .fn = warm_complete, .ctx = s };
	s->tell_env = json_object_size(s->plan.envs) != 0;
	s->tell_network = w.linked;
	int r = warm_tell(s);
	if (r == 0)
		r = ev_timer_set(&s->a->ev, &s->now, clock_now());
	if (r < 0)
		warm_drop(s);
	return r >= 0;
}

int box_spawn(struct api *a, const struct box_plan *plan, box_spawned done, void *ctx,
	      struct spawn **ret, struct brig_err *err)
{
	struct spawn *s = calloc(1, sizeof(*s));
	if (!s) {
		charge_return(plan->charge);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	s->a = a;
	s->done = done;
	s->ctx = ctx;
	s->plan = *plan;
	s->plan.tenant = copy(plan->tenant);
	s->plan.template_id = copy(plan->template_id);
	s->plan.alias = copy(plan->alias);
	s->plan.image = copy(plan->image);
	s->plan.fallback = copy(plan->fallback);
	s->plan.request_id = copy(plan->request_id);
	s->plan.image_name = copy(plan->image_name);
	s->plan.spec = json_incref(plan->spec);
	s->plan.metadata = json_incref(plan->metadata);
	s->plan.envs = json_incref(plan->envs);
	s->plan.network = json_incref(plan->network);
	s->plan.layer_fd = -1;
	if (plan->layer_fd >= 0)
		s->plan.layer_fd = fcntl(plan->layer_fd, F_DUPFD_CLOEXEC, 3);
	if ((plan->layer_fd >= 0 && s->plan.layer_fd < 0) || !s->plan.image || !s->plan.tenant) {
		spawn_free(s);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory or descriptors");
	}
	json_object_set_new(s->plan.spec, "labels",
			    charge_labels(plan->charge, "sandbox", plan->tenant));
	if (!spawn_warm(s) && ask(s, s->plan.image, err) < 0) {
		spawn_free(s);
		return -1;
	}
	*ret = s;
	return 0;
}

void box_spawn_cancel(struct spawn *s)
{
	/* brigd's answer may be on its way: who does not wait for it never learns what to remove.
	 */
	if (s->op && !s->made) {
		s->done = NULL;
		return;
	}
	if (s->op)
		link_cancel(s->op);
	if (s->made)
		remove_made(s);
	spawn_free(s);
}
