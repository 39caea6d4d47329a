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

#include "api/admit.h"
#include "api/ask.h"
#include "api/call.h"
#include "api/describe.h"
#include "api/network.h"
#include "api/snapshot.h"
#include "api/spawn.h"
#include "base/fd.h"
#include "daemon/fields.h"

#define FORKS_MAX 64u
#define TIMEOUT_S 300u

struct fork {
	struct call *c;
	struct spawn *spawn;
	struct charge *charge; /* until it is being made */
	struct box *made;      /* referenced */
	struct brig_err err;
};

struct forks {
	struct export *export;
	unsigned n, waiting;
	bool told;
	bool forever; /* as the one that is copied */
	uint64_t timeout_s;
	json_t *spec; /* as it was admitted */
	struct fork *fork;
};

static void forks_gone(struct call *c)
{
	struct forks *f = c->priv;
	if (f->export)
		snapshot_export_cancel(f->export);
	for (unsigned i = 0; f->fork && i < f->n; i++) {
		charge_return(f->fork[i].charge);
		if (f->fork[i].spawn)
			box_spawn_cancel(f->fork[i].spawn);
		if (f->fork[i].made && !f->told)
			box_kill(f->fork[i].made, "client_gone", NULL);
		box_unref(f->fork[i].made);
	}
	json_decref(f->spec);
	free(f->fork);
	free(f);
}

static void answer(struct call *c)
{
	struct forks *f = c->priv;
	json_t *all = json_array();
	bool v1 = !(c->route->flags & ROUTE_E2B);
	for (unsigned i = 0; i < f->n; i++) {
		struct fork *one = &f->fork[i];
		if (v1) {
			json_array_append_new(all, one->made ? json_pack("{s:o}", "sandbox", describe_v1(one->made))
							     : json_pack("{s:o}", "error",
									 api_err_json(&one->err, http_id(c->r))));
			continue;
		}
		json_array_append_new(
			all,
			one->made ? json_pack("{s:o}", "sandbox",
					      describe_sandbox(one->made, call_may(c, PERM_FILES)))
				  : json_pack("{s:{s:i,s:s,s:s}}", "error", "code",
					      (int)api_status(one->err.code), "message",
					      one->err.msg, "remediation", api_remedy(&one->err)));
	}
	f->told = true;
	http_reply_json(c->r, 201, v1 ? json_pack("{s:o}", "forks", all) : all);
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

/* The specification of all copies. */
static json_t *spec_of(const struct box *b, struct brig_err *err)
{
	json_t *env = NULL;
	if (ask_env(b->envs, &env, err) < 0)
		return NULL;
	json_array_append_new(env, json_string("E2B_SANDBOX=true"));
	json_array_append_new(env, json_sprintf("E2B_TEMPLATE_ID=%s", b->template_id));
	json_t *o = json_pack("{s:o,s:s,s:o}", "env", env, "tier", b->tier, "limits",
			      b->limits ? json_deep_copy(b->limits) : json_object());
	json_t *net = network_spec(b->network, b->allow_internet, b->tenant);
	if (net)
		json_object_set_new(o, "network", net);
	return o;
}

static void one_start(struct fork *one, int fd)
{
	struct box *b = one->c->box;
	struct forks *f = one->c->priv;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *spec = json_deep_copy(f->spec);
	const struct box_plan plan = { .tenant = b->tenant,
				       .request_id = http_id(one->c->r),
				       .template_id = b->template_id,
				       .alias = b->alias,
				       .image = b->image,
				       .image_name = b->image_name,
				       .spec = spec,
				       .metadata = b->metadata,
				       .envs = b->envs,
				       .network = b->network,
				       .allow_internet = b->allow_internet,
				       .private_traffic = !network_public(b->network),
				       .pause_on_timeout = b->pause_on_timeout,
				       .auto_resume = b->auto_resume,
				       .timeout_ms = f->forever ? 0 : (int64_t)f->timeout_s * 1000,
				       .layer_fd = fd,
				       .charge = one->charge };
	int r = -1;
	if (fd < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, -fd, "open the files that were taken");
	} else if (spec) {
		one->charge = NULL; /* it is the plan's now */
		r = box_spawn(one->c->api, &plan, forked, one, &one->spawn, &err);
	} else {
		brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
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
		AUTO_FD fd = snapshot_export_open(e);
		one_start(&f->fork[i], fd);
	}
	if (--f->waiting == 0)
		answer(c);
}

static int forks_admit(struct call *c, struct forks *f, struct brig_err *err)
{
	struct charge *charges[FORKS_MAX];
	const struct box *b = c->box;
	f->spec = spec_of(b, err);
	if (!f->spec)
		return -1;
	const struct admission ask = { .spec = f->spec,
				       .image = b->image_name,
				       .digest = b->image,
				       .network = network_asked(b->network, b->allow_internet),
				       .n = f->n };
	if (call_admit(c, &ask, charges, err) < 0)
		return -1;
	for (unsigned i = 0; i < f->n; i++)
		f->fork[i].charge = charges[i];
	return 0;
}

void fork_run(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	uint64_t count = 1, timeout_s = TIMEOUT_S;
	struct box *b = call_box(c);
	if (!b)
		return;
	bool given = json_object_get(c->body, "timeout") != NULL;
	if (field_u64(c->body, "count", 1, FORKS_MAX, &count, &err) < 0 ||
	    field_u64(c->body, "timeout", 1, BOX_TIMEOUT_MAX_S, &timeout_s, &err) < 0 ||
	    call_admit_timeout(c, given, &timeout_s, &err) < 0) {
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
	f->forever = !given && !b->end_ms && !(c->route->flags & ROUTE_E2B);
	c->priv = f;
	c->gone = forks_gone;
	/* Before anything is exported: all of them, or none. */
	if (forks_admit(c, f, &err) < 0 || snapshot_export(b, fork_exported, c, &f->export, &err) < 0)
		call_fail(c, &err);
}
