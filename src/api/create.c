/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create.c: POST /v2/sandboxes and /sandboxes. The two differ in the default of the timeout only:
 * newer clients leave it to the server, older ones always send it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/admit.h"
#include "api/ask.h"
#include "api/audit.h"
#include "api/call.h"
#include "api/describe.h"
#include "api/network.h"
#include "api/networks.h"
#include "api/secrets.h"
#include "api/spawn.h"
#include "api/template.h"
#include "api/tenant.h"
#include "api/volumes.h"
#include "daemon/fields.h"
#include "daemon/netask.h"

#define TIMEOUT_V1_S 15
#define TIMEOUT_V2_S 300

struct create {
	struct spawn *spawn;
	json_t *spec;
	char template_id[192];
};

static void create_gone(struct call *c)
{
	struct create *cr = c->priv;
	if (cr->spawn)
		box_spawn_cancel(cr->spawn);
	secrets_wipe_spec(cr->spec);
	json_decref(cr->spec);
	free(cr);
}

static void created(void *ctx, struct box *b, const struct brig_err *err)
{
	struct call *c = ctx;
	struct create *cr = c->priv;
	cr->spawn = NULL;
	if (b) {
		http_note_box(c->r, b->id);
		auditor_subject(c->r, b->id);
		const char *image = json_string_value(json_object_get(cr->spec, "image"));
		if (image)
			http_answer_header(c->r, "X-Brig-Image", image);
		http_reply_json(c->r, 201, describe_sandbox(b, call_may(c, PERM_FILES)));
	} else if (err->code == BRIG_E_NOT_FOUND) {
		struct brig_err told = *err;
		brig_err_set(&told, BRIG_E_NOT_FOUND, 0, "template '%s' not found",
			     cr->template_id);
		if (err->remedy[0])
			brig_err_remedy(&told, "%s", err->remedy);
		call_fail(c, &told);
	} else {
		call_fail(c, err);
	}
}

/* What this version has not: refused by name rather than left out in silence. */
static int refuse_missing(struct call *c)
{
	const char *missing = NULL;
	if (json_object_get(c->body, "iam"))
		missing = "cloud identities (iam)";
	else if (json_is_false(json_object_get(c->body, "autoPauseMemory")))
		missing = "a pause that drops the memory (autoPauseMemory false)";
	if (!missing)
		return 0;
	call_fail_text(c, 501, "%s: not part of this version of brig", missing);
	return -1;
}

struct lifecycle {
	bool auto_pause, auto_resume, auto_pause_memory;
	uint64_t timeout_s;
};

static int lifecycle_parse(json_t *body, struct lifecycle *l, struct brig_err *err)
{
	json_t *resume = NULL;
	if (field_bool(body, "autoPause", &l->auto_pause, err) < 0 ||
	    field_bool(body, "autoPauseMemory", &l->auto_pause_memory, err) < 0 ||
	    field_object(body, "autoResume", &resume, err) < 0 ||
	    (resume && field_bool(resume, "enabled", &l->auto_resume, err) < 0) ||
	    field_u64(body, "timeout", 1, BOX_TIMEOUT_MAX_S, &l->timeout_s, err) < 0)
		return -1;
	if (!l->auto_pause_memory && (!l->auto_pause || l->auto_resume))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "autoPauseMemory false needs autoPause, and no autoResume");
	return 0;
}

static int strings_only(json_t *o, const char *what, struct brig_err *err)
{
	const char *key;
	json_t *v;
	json_object_foreach(o, key, v)
	{
		if (!json_is_string(v))
			return brig_fail(err, BRIG_E_INVALID, 0, "'%.64s' in %s is not a string",
					 key, what);
	}
	return 0;
}

/* tier, image and limits: of the body's own fields, then of the metadata. */
static int spec_parse_body(json_t *body, json_t *metadata, const struct template *t, json_t *spec,
			   struct brig_err *err)
{
	static const char *const names[] = { "tier", "image" };
	json_t *limits = t->limits ? json_copy(t->limits) : json_object();
	json_object_set_new(spec, "limits", limits);
	for (unsigned i = 0; i < 2; i++) {
		const char *s = NULL;
		if (field_str(body, names[i], 128, &s, err) < 0)
			return -1;
		if (s)
			json_object_set_new(spec, names[i], json_string(s));
	}
	json_t *ports = json_object_get(body, "ports");
	if (ports && !json_is_array(ports))
		return brig_fail(err, BRIG_E_INVALID, 0, "'ports' must be an array");
	if (json_array_size(ports))
		json_object_set(spec, "ports", ports);
	return ask_limits(json_object_get(body, "limits"), limits, err) < 0 ||
			       ask_metadata(metadata, spec, err) < 0
		       ? -1
		       : 0;
}

static int env_list(json_t *spec, json_t *envs, const char *template_id, struct brig_err *err)
{
	json_t *list = NULL;
	if (ask_env(envs, &list, err) < 0)
		return -1;
	json_array_append_new(list, json_string("E2B_SANDBOX=true"));
	json_array_append_new(list, json_sprintf("E2B_TEMPLATE_ID=%s", template_id));
	json_object_set_new(spec, "env", list);
	return 0;
}

/* The variables of a snapshot's sandbox, and over them those of this request. */
static json_t *merged(json_t *under, json_t *over)
{
	json_t *o = under ? json_copy(under) : json_object();
	if (over)
		json_object_update(o, over);
	return o;
}

/* The image that is asked for, and what a policy may allow it by. Where the policy has not the
 * template's own image but what is taken in its place, that is taken at once. */
static void image_choose(struct call *c, const struct template *t, const char *own,
			 struct box_plan *plan, const char **digest)
{
	const struct tenant *whose = call_tenant(c);
	plan->image = own ? own : t->image;
	plan->image_name = own ? own : t->image_name;
	plan->fallback = own ? NULL : t->fallback;
	*digest = own ? NULL : t->image;
	if (!whose || !plan->fallback)
		return;
	if (!policy_has_image(&whose->policy, plan->image, NULL) &&
	    policy_has_image(&whose->policy, plan->fallback, NULL))
		plan->image = plan->image_name = plan->fallback;
	if (plan->image == plan->fallback ||
	    !policy_has_image(&whose->policy, plan->fallback, NULL))
		plan->fallback = NULL;
}

static int create_start(struct call *c, struct template *t, const struct lifecycle *l,
			struct brig_err *err)
{
	struct create *cr = c->priv;
	json_t *metadata = NULL, *envs = NULL, *network = json_object_get(c->body, "network");
	json_t *internet = json_object_get(c->body, "allow_internet_access");
	bool ignored;
	if (field_object(c->body, "metadata", &metadata, err) < 0 ||
	    field_object(c->body, "envVars", &envs, err) < 0 ||
	    field_bool(c->body, "allow_internet_access", &ignored, err) < 0 ||
	    strings_only(metadata, "metadata", err) < 0 || network_check(network, err) < 0)
		return -1;
	json_t *private_ = NULL;
	if (net_networks_parse(c->body, &private_, err) < 0)
		return -1;
	json_decref(private_);
	json_t *all = merged(t->envs, envs);
	const char *own = NULL;
	int r = spec_parse_body(c->body, metadata, t, cr->spec, err);
	if (r == 0)
		r = env_list(cr->spec, all, cr->template_id, err);
	if (r == 0)
		r = secrets_attach(c, json_object_get(c->body, "secrets"), cr->spec, err);
	if (r == 0)
		r = volumes_resolve(c->api, c->tenant, c->perms, "volumeMounts",
				    json_object_get(c->body, "volumeMounts"), cr->spec, err);
	if (r == 0) {
		/* An image that was named beside the template is taken instead of it. */
		own = json_string_value(json_object_get(cr->spec, "image"));
		int allow_internet = internet ? json_is_true(internet) : -1;
		struct box_plan plan = { .tenant = c->tenant,
					 .request_id = http_id(c->r),
					 .template_id = cr->template_id,
					 .alias = t->alias,
					 .spec = cr->spec,
					 .metadata = metadata,
					 .envs = all,
					 .network = network,
					 .allow_internet = allow_internet,
					 .private_traffic = !network_public(network),
					 .pause_on_timeout = l->auto_pause,
					 .auto_resume = l->auto_resume,
					 .timeout_ms = (int64_t)l->timeout_s * 1000,
					 .layer_fd = own ? -1 : t->snapshot_fd };
		struct admission ask = { .spec = cr->spec,
					 .network = network_asked(network, allow_internet),
					 .n = 1 };
		json_t *networks = json_object_get(c->body, "networks");
		json_t *net = network_with(network_spec(network, allow_internet, c->tenant), networks, c->tenant);
		if (json_array_size(networks) && ask.network == POLICY_NET_NONE)
			ask.network = POLICY_NET_DENY;
		if (net)
			json_object_set_new(cr->spec, "network", net);
		image_choose(c, t, own, &plan, &ask.digest);
		ask.image = plan.image_name;
		r = networks_exist(c->api, c->tenant, networks, err);
		if (r == 0)
			r = call_admit(c, &ask, &plan.charge, err);
		/* Which of the two it became, brigd tells. */
		if (plan.fallback)
			plan.image_name = NULL;
		if (r == 0)
			r = box_spawn(c->api, &plan, created, c, &cr->spawn, err);
	}
	json_decref(all);
	return r;
}

static void create_run(struct call *c, int64_t default_s)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct lifecycle l = { .auto_pause_memory = true, .timeout_s = (uint64_t)default_s };
	const char *id = NULL;
	struct template t;
	struct create *cr;
	if (lifecycle_parse(c->body, &l, &err) < 0 ||
	    field_str(c->body, "templateID", sizeof(cr->template_id) - 1, &id, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (!id || !id[0]) {
		call_fail_text(c, 400, "'templateID' is missing");
		return;
	}
	bool given = json_object_get(c->body, "timeout") != NULL;
	if (call_admit_timeout(c, given, &l.timeout_s, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (refuse_missing(c) < 0)
		return;
	if (!(cr = calloc(1, sizeof(*cr)))) {
		call_fail_text(c, 503, "out of memory");
		return;
	}
	snprintf(cr->template_id, sizeof(cr->template_id), "%s", id);
	cr->spec = json_object();
	c->priv = cr;
	c->gone = create_gone;
	if (template_find(c->api, c->tenant, id, &t, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (create_start(c, &t, &l, &err) < 0)
		call_fail(c, &err);
	template_done(&t);
}

static void create_v1(struct call *c)
{
	create_run(c, TIMEOUT_V1_S);
}

static void create_v2(struct call *c)
{
	create_run(c, TIMEOUT_V2_S);
}

const struct route create_routes[] = {
	{ "POST", "/v2/sandboxes", ROUTE_E2B | ROUTE_BODY, PERM_BOX_WRITE, create_v2 },
	{ "POST", "/sandboxes", ROUTE_E2B | ROUTE_BODY, PERM_BOX_WRITE, create_v1 },
	{ .method = NULL },
};
