/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A key reaches the sandboxes of its tenant that have a record here, whoever made them: a command
 * line or a program of E2B's. brigd knows no tenants, so each name that a client gives is looked up
 * among those first, and only a whole id is handed on. To a client the others do not exist; but
 * names are brigd's and one server's, so a name that another tenant took is told as taken.
 *
 * A sandbox of a detached run, or of create, has no end time: it stays until it is removed, as it
 * does where the client is local. One of a run in the foreground is visible while it lives.
 */
#include <stdio.h>
#include <string.h>

#include "api/admit.h"
#include "api/box.h"
#include "api/events.h"
#include "api/network.h"
#include "api/networks.h"
#include "api/remote.h"
#include "api/template.h"
#include "api/tenant.h"
#include "api/text.h"

#define TOKEN_BYTES 20
#define PREFIX_MIN 4u

bool remote_may_see(const struct remote_who *who, const struct box *b)
{
	return who->operator|| strcmp(who->tenant, b->tenant) == 0;
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

static struct box *row_box(struct api *a, const struct remote_who *who, const json_t *row)
{
	struct box *b = box_find(a, text(row, "id"));
	return b && remote_may_see(who, b) ? b : NULL;
}

void remote_filter(struct api *a, const struct remote_who *who, json_t *rows)
{
	for (size_t i = json_array_size(rows); i-- > 0;) {
		if (!row_box(a, who, json_array_get(rows, i)))
			json_array_remove(rows, i);
	}
}

struct box *remote_resolve(struct api *a, const struct remote_who *who, json_t *rows,
			   const char *ref, struct brig_err *err)
{
	struct box *b, *named = NULL, *begun = NULL;
	size_t i, n = strlen(ref);
	bool several = false;
	json_t *row;
	json_array_foreach(rows, i, row)
	{
		if (!(b = row_box(a, who, row)))
			continue;
		if (strcmp(text(row, "name"), ref) == 0)
			named = b;
		if (n >= PREFIX_MIN && n < BRIG_ID_LEN && strncmp(b->id, ref, n) == 0) {
			several = begun != NULL;
			begun = b;
		}
	}
	if (named || (begun && !several))
		return named ? named : begun;
	if (several) {
		brig_err_set(err, BRIG_E_INVALID, 0, "'%.64s' is the beginning of several ids",
			     ref);
		brig_err_remedy(err, "give more characters of the id");
	} else {
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "no sandbox '%.64s'", ref);
		brig_err_remedy(err, "see `brig ls` for what exists");
	}
	return NULL;
}

static int too_many(struct brig_err *err)
{
	brig_err_set(err, BRIG_E_BUSY, 0, "there are %u sandboxes already", API_BOXES_MAX);
	return brig_fix(err, "remove some: see `brig ls`");
}

/* Ours replace what the client calls so: they say whose a sandbox is, and what it stands for. */
static int label(json_t *req, const struct remote_who *who, const struct charge *charge,
		 struct brig_err *err)
{
	json_t *spec = json_object_get(req, "spec"), *labels = json_object_get(spec, "labels");
	bool run = strcmp(text(req, "op"), "run") == 0;
	json_t *own = charge_labels(charge, "cli", who->tenant);
	labels = labels ? json_copy(labels) : json_object();
	int r = own && labels && json_object_update(labels, own) == 0 ? 0 : -1;
	json_decref(own);
	if (r < 0 || json_object_set(spec, "labels", labels) < 0 ||
	    (run && json_object_set_new(req, "describe", json_true()) < 0))
		r = brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	json_decref(labels);
	return r;
}

/* Rules are the client's; what lifts a protection, and whose budget is spent, are not. */
static int network_narrow(struct api *a, const struct remote_who *who, const char *tenant, json_t *network,
			  struct brig_err *err)
{
	if (!json_is_object(network))
		return brig_fail(err, BRIG_E_INVALID, 0, "'network' must be an object");
	if (!who->operator&& network_own_check(network, err) < 0)
		return -1;
	if (networks_exist(a, tenant, json_object_get(network, "networks"), err) < 0)
		return -1;
	return json_object_set_new(network, "tenant", json_string(tenant)) == 0
		       ? 0
		       : brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
}

int remote_network_prepare(struct api *a, const struct remote_who *who, const struct box *b, json_t *req,
			   struct refusal *why)
{
	json_t *network = json_object_get(req, "network");
	if (network_narrow(a, who, b->tenant, network, &why->err) < 0)
		return -1;
	return admit_network(a, b->tenant, network_own_asked(network), why);
}

/* NAME=VALUE of the snapshot's environment, where the request does not say otherwise. */
static void env_merge(json_t *spec, json_t *from)
{
	json_t *env = json_array(), *own = json_object_get(spec, "env"), *v, *e;
	const char *name;
	size_t i;
	json_object_foreach(from, name, v)
	{
		size_t n = strlen(name);
		bool said = false;
		json_array_foreach(own, i, e)
		{
			const char *s = json_string_value(e);
			said = said || (s && strncmp(s, name, n) == 0 && (s[n] == '=' || !s[n]));
		}
		if (!said && json_is_string(v))
			json_array_append_new(env, json_sprintf("%s=%s", name, json_string_value(v)));
	}
	if (json_is_array(own))
		json_array_extend(env, own);
	json_object_set_new(spec, "env", env);
}

/* What the request leaves open is as in the snapshot. *ret_image, *ret_digest: for the policy; owned by spec. */
static int snapshot_merge(struct api *a, const struct remote_who *who, json_t *spec, int *ret_layer,
			  char ret_name[160], struct brig_err *err)
{
	const char *ref = json_string_value(json_object_get(spec, "snapshot"));
	json_t *limits = json_object_get(spec, "limits");
	struct template t;
	if (!ref)
		return brig_fail(err, BRIG_E_INVALID, 0, "'snapshot' is not a string");
	if (json_object_get(spec, "image"))
		return brig_fail(err, BRIG_E_INVALID, 0, "'snapshot' brings its own image: 'image' excludes it");
	if (template_find(a, who->tenant, ref, &t, err) < 0 || !t.snapshot[0]) {
		if (err->code == BRIG_E_OK)
			template_done(&t);
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "no snapshot '%.64s'", ref);
		return brig_fix(err, "see `brig snapshot ls` for what exists");
	}
	snprintf(ret_name, 160, "%s", t.image_name);
	*ret_layer = t.snapshot_fd;
	t.snapshot_fd = -1;
	env_merge(spec, t.envs);
	if (json_is_object(limits))
		json_object_update_missing(limits, t.limits);
	else if (t.limits)
		json_object_set(spec, "limits", t.limits);
	if (!json_object_get(spec, "user") && t.user[0])
		json_object_set_new(spec, "user", json_string(t.user));
	json_object_del(spec, "snapshot"); /* ref is gone */
	int r = json_object_set_new(spec, "image", json_string(t.image)) < 0 ||
				json_object_set_new(spec, "layer", json_integer(0)) < 0
			? brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory")
			: 0;
	template_done(&t);
	return r;
}

int remote_box_prepare(struct api *a, const struct remote_who *who, json_t *req,
		       struct charge **ret, int *ret_layer, struct refusal *why)
{
	char image_name[160] = "";
	json_t *spec = json_object_get(req, "spec"), *labels = json_object_get(spec, "labels");
	json_t *network = json_object_get(spec, "network");
	bool begun = json_object_get(spec, "snapshot") != NULL;
	if (begun && snapshot_merge(a, who, spec, ret_layer, image_name, &why->err) < 0)
		return -1;
	const char *image = json_string_value(json_object_get(spec, "image"));
	const struct admission ask = { .spec = spec,
				       .network = network_own_asked(network),
				       .image = begun ? image_name : image,
				       .digest = begun ? image : NULL,
				       .timed = strcmp(text(req, "op"), "run") == 0,
				       .n = 1 };
	if (a->nboxes >= API_BOXES_MAX)
		return too_many(&why->err);
	if (labels && !json_is_object(labels))
		return brig_fail(&why->err, BRIG_E_INVALID, 0, "'labels' must be an object");
	if (network && network_narrow(a, who, who->tenant, network, &why->err) < 0)
		return -1;
	return admit(a, who->tenant, &ask, ret, why) < 0 ? -1 : label(req, who, *ret, &why->err);
}

static void copy(char *dst, size_t cap, const char *src)
{
	snprintf(dst, cap, "%s", src);
}

static uint64_t limit(const json_t *made, const char *key)
{
	json_int_t v = json_integer_value(
		json_object_get(json_object_get(made, "limits"), key));
	return v > 0 ? (uint64_t)v : 0;
}

/* For snapshots and forks of it. New reference. */
static json_t *envs_of(json_t *env)
{
	json_t *o = json_object(), *v;
	size_t i;
	json_array_foreach(env, i, v)
	{
		const char *s = json_string_value(v), *eq = s ? strchr(s, '=') : NULL;
		if (eq)
			json_object_setn_new_nocheck(o, s, (size_t)(eq - s), json_string(eq + 1));
	}
	return o;
}

static void record_fill(struct box *b, const struct remote_who *who, const json_t *spec,
			const json_t *ok)
{
	const char *image = text(ok, "image"), *digest = text(ok, "digest");
	copy(b->tenant, sizeof(b->tenant), who->tenant);
	copy(b->template_id, sizeof(b->template_id), image);
	copy(b->image_name, sizeof(b->image_name), image);
	copy(b->image, sizeof(b->image), digest[0] ? digest : image);
	copy(b->tier, sizeof(b->tier), text(ok, "tier"));
	copy(b->user, sizeof(b->user), text(ok, "user"));
	copy(b->home, sizeof(b->home), text(ok, "home"));
	copy(b->name, sizeof(b->name), text(ok, "name"));
	b->metadata = json_copy(json_object_get(spec, "labels"));
	json_object_del(b->metadata, API_LABEL);
	json_object_del(b->metadata, API_TENANT_LABEL);
	json_object_del(b->metadata, API_CHARGE_LABEL);
	b->envs = envs_of(json_object_get(spec, "env"));
	b->limits = json_incref(json_object_get(spec, "limits"));
	b->cpu_milli = (uint32_t)limit(ok, "cpu_milli");
	b->memory_bytes = limit(ok, "memory_bytes");
	b->disk_bytes = limit(ok, "disk_bytes");
	b->started_ms = b->last_used_ms = wall_ms();
}

static void announce(struct box *b, const char *request, bool snapshot)
{
	b->announced = true;
	events_add(b->api, EVENT_CREATED, b->tenant, b->id, request,
		   json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:n,s:b}", "template", b->template_id,
			     "image", b->image, "tier", b->tier, "cpu_milli",
			     (json_int_t)b->cpu_milli, "memory_bytes", (json_int_t)b->memory_bytes,
			     "disk_bytes", (json_int_t)b->disk_bytes, "timeout_ms", "from_snapshot",
			     (int)snapshot));
	events_add(b->api, EVENT_READY, b->tenant, b->id, request, json_pack("{s:b}", "warm", 0));
}

struct box *remote_box_made(struct api *a, const struct remote_who *who,
			    const struct remote_ask *ask, struct charge *charge, bool transient,
			    json_t *ok, struct brig_err *err)
{
	static const char *const described[] = { "digest", "user", "home", "limits" };
	const char *id = text(ok, "id");
	/* Its tenant may have been removed since it was asked for. */
	struct box *b = id[0] && tenant_find(a, who->tenant) ? box_add(a, id) : NULL;
	if (!b || text_token("", TOKEN_BYTES, b->token, sizeof(b->token)) < 0) {
		if (b)
			box_kill(b, "host_resources_exhausted", NULL);
		else if (id[0])
			box_remove_charged(a, id, charge);
		if (b || !id[0])
			charge_return(charge);
		(void)too_many(err);
		return NULL;
	}
	b->transient = transient;
	record_fill(b, who, json_object_get(ask->req, "spec"), ok);
	const struct amounts got = { .sandboxes = 1,
				     .cpu_milli = b->cpu_milli,
				     .memory_bytes = b->memory_bytes,
				     .disk_bytes = b->disk_bytes };
	charge_settle(charge, &got);
	b->charge = charge;
	box_save(b);
	announce(b, who->request, json_object_get(json_object_get(ask->req, "spec"), "layer") != NULL);
	for (unsigned i = 0; ask->verb == REMOTE_RUN && i < 4; i++)
		json_object_del(ok, described[i]);
	return b;
}
