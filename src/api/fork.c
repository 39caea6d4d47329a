/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A fork is an export of the files, once, and a new sandbox of the same image for each copy that
 * was asked for, all at once. Each ends in a sandbox or in an error of its own; the answer has one
 * entry per fork, in no order that means anything. Processes are not copied. A client that goes
 * away before its answer has learnt no id: what was made for it is removed.
 */
#include <stdlib.h>
#include <string.h>

#include "api/ask.h"
#include "api/call.h"
#include "api/describe.h"
#include "api/network.h"
#include "api/snapshot.h"
#include "api/spawn.h"
#include "daemon/fields.h"

#define FORKS_MAX 64u
#define TIMEOUT_S 300u

struct fork {
	struct call *c;
	struct spawn *spawn;
	struct box *made; /* referenced */
	struct brig_err err;
};

struct forks {
	struct export *export;
	unsigned n, waiting;
	bool told;
	uint64_t timeout_s;
	struct fork *fork;
};

static void forks_gone(struct call *c)
{
	struct forks *f = c->priv;
	if (f->export)
		snapshot_export_cancel(f->export);
	for (unsigned i = 0; f->fork && i < f->n; i++) {
		if (f->fork[i].spawn)
			box_spawn_cancel(f->fork[i].spawn);
		if (f->fork[i].made && !f->told)
			box_kill(f->fork[i].made, "client_gone", NULL);
		box_unref(f->fork[i].made);
	}
	free(f->fork);
	free(f);
}

static void answer(struct call *c)
{
	struct forks *f = c->priv;
	json_t *all = json_array();
	for (unsigned i = 0; i < f->n; i++) {
		struct fork *one = &f->fork[i];
		json_array_append_new(
			all,
			one->made ? json_pack("{s:o}", "sandbox",
					      describe_sandbox(one->made, call_may(c, PERM_FILES)))
				  : json_pack("{s:{s:i,s:s,s:s}}", "error", "code",
					      (int)api_status(one->err.code), "message",
					      one->err.msg, "remediation", api_remedy(&one->err)));
	}
	f->told = true;
	http_reply_json(c->r, 201, all);
}

static void one_done(struct fork *one, struct box *b, const struct brig_err *err)
{
	struct forks *f = one->c->priv;
	one->spawn = NULL;
	if (b)
		one->made = box_ref(b);
	else
		one->err = *err;
	if (--f->waiting == 0)
		answer(one->c);
}

static void forked(void *ctx, struct box *b, const struct brig_err *err)
{
	one_done(ctx, b, err);
}

/* The specification of one copy; it is changed on the way, so each has its own. */
static json_t *spec_of(const struct box *b, struct brig_err *err)
{
	json_t *env = NULL;
	if (ask_env(b->envs, &env, err) < 0)
		return NULL;
	json_array_append_new(env, json_string("E2B_SANDBOX=true"));
	json_array_append_new(env, json_sprintf("E2B_TEMPLATE_ID=%s", b->template_id));
	return json_pack("{s:o,s:s,s:o}", "env", env, "tier", b->tier, "limits",
			 b->limits ? json_deep_copy(b->limits) : json_object());
}

static void one_start(struct fork *one, int fd, uint64_t bytes)
{
	struct box *b = one->c->box;
	struct forks *f = one->c->priv;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *spec = spec_of(b, &err);
	const struct box_plan plan = { .tenant = b->tenant,
				       .request_id = http_id(one->c->r),
				       .template_id = b->template_id,
				       .alias = b->alias,
				       .image = b->image,
				       .spec = spec,
				       .metadata = b->metadata,
				       .envs = b->envs,
				       .network = b->network,
				       .allow_internet = b->allow_internet,
				       .private_traffic = !network_public(b->network),
				       .pause_on_timeout = b->pause_on_timeout,
				       .auto_resume = b->auto_resume,
				       .timeout_ms = (int64_t)f->timeout_s * 1000,
				       .import_fd = fd,
				       .import_bytes = bytes };
	int r = spec ? box_spawn(one->c->api, &plan, forked, one, &one->spawn, &err) : -1;
	json_decref(spec);
	if (r < 0)
		one_done(one, NULL, &err);
}

static void fork_exported(void *ctx, const struct export *e, const struct brig_err *err)
{
	struct call *c = ctx;
	struct forks *f = c->priv;
	f->export = NULL;
	if (err) {
		call_fail(c, err);
		return;
	}
	/* One more than there are: the answer is not given while they are being started. */
	f->waiting = f->n + 1;
	for (unsigned i = 0; i < f->n; i++) {
		f->fork[i].c = c;
		one_start(&f->fork[i], snapshot_export_fd(e), snapshot_export_bytes(e));
	}
	if (--f->waiting == 0)
		answer(c);
}

void fork_run(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	uint64_t count = 1, timeout_s = TIMEOUT_S;
	struct box *b = call_box(c);
	if (!b)
		return;
	if (field_u64(c->body, "count", 1, FORKS_MAX, &count, &err) < 0 ||
	    field_u64(c->body, "timeout", 1, BOX_TIMEOUT_MAX_S, &timeout_s, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (b->state != BOX_RUNNING) {
		call_fail_text(c, 409, "sandbox '%s' is paused: connect to it first", b->id);
		return;
	}
	struct forks *f = calloc(1, sizeof(*f));
	struct fork *each = calloc(count, sizeof(*each));
	if (!f || !each) {
		free(f);
		free(each);
		call_fail_text(c, 503, "out of memory");
		return;
	}
	f->n = (unsigned)count;
	f->fork = each;
	f->timeout_s = timeout_s;
	c->priv = f;
	c->gone = forks_gone;
	if (snapshot_export(b, fork_exported, c, &f->export, &err) < 0)
		call_fail(c, &err);
}
