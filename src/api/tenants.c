/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.c: /v1/tenants. The operator makes, changes and removes tenants; a key may look at its
 * own.
 */
#include <string.h>

#include "api/admit.h"
#include "api/audit.h"
#include "api/call.h"
#include "api/key.h"
#include "api/snapshot.h"
#include "api/tenant.h"
#include "api/text.h"
#include "api/volumes.h"
#include "daemon/fields.h"
#include "daemon/netask.h"
#include "store/store.h"

static unsigned keys_of(const struct api *a, const char *tenant)
{
	const struct store_key *k;
	unsigned n = 0;
	for (size_t i = 0; (k = store_key_at(a->store, i)); i++)
		n += !k->revoked_ms && strcmp(k->tenant, tenant) == 0;
	return n;
}

static json_t *tenant_json(struct api *a, const struct tenant *t)
{
	char created[TEXT_TIME_MAX];
	text_time(t->created_ms, created);
	/* Those of older databases have no time. */
	return json_pack("{s:s,s:b,s:o,s:i,s:o,s:o}", "name", t->name, "disabled", (int)t->disabled,
			 "created", t->created_ms ? json_string(created) : json_null(), "keys",
			 (int)keys_of(a, t->name), "use", quota_use_json(a, t), "policy",
			 policy_json(&t->policy, true));
}

/* The one that arg[0] names; NULL: 404 was answered. */
static struct tenant *tenant_named(struct call *c)
{
	struct tenant *t = tenant_find(c->api, c->arg[0]);
	if (t && call_may_see(c, t->name))
		return t;
	call_fail_text(c, 404, "there is no tenant '%.64s'", c->arg[0]);
	return NULL;
}

/* Of one's own, whatever it is called. */
static void quota_get(struct call *c)
{
	const struct tenant *t = call_tenant(c);
	if (t)
		http_reply_json(c->r, 200, tenant_json(c->api, t));
	else
		call_fail_text(c, 404, "there is no tenant '%s'", c->tenant);
}

static void tenant_create(struct call *c)
{
	static const char *const known[] = { "name", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	const char *name = NULL;
	struct tenant *t;
	if (fields_known(c->body, "the body", known, &err) < 0 ||
	    field_str(c->body, "name", 128, &name, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (!name || !tenant_name_ok(name)) {
		call_fail_text(c, 400,
			       "'name' is of a-z A-Z 0-9 _ . -, begins with none of the last two, "
			       "and has at most %u characters",
			       TENANT_NAME_MAX);
		return;
	}
	if (strcmp(name, NET_TENANT_LOCAL) == 0) {
		call_fail_text(c, 400, "'%s' is whose the sandboxes of the server's own user are", name);
		return;
	}
	if (tenant_add(c->api, name, &t, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	auditor_subject(c->r, t->name);
	http_reply_json(c->r, 201, tenant_json(c->api, t));
}

static void tenant_list(struct call *c)
{
	json_t *all = json_array();
	struct tenant *t;
	LIST_FOREACH(t, &c->api->tenants, link)
	{
		json_array_append_new(all, tenant_json(c->api, t));
	}
	http_reply_json(c->r, 200, json_pack("{s:o}", "tenants", all));
}

static void tenant_get(struct call *c)
{
	struct tenant *t = tenant_named(c);
	if (t)
		http_reply_json(c->r, 200, tenant_json(c->api, t));
}

static void tenant_change(struct call *c)
{
	static const char *const known[] = { "disabled", "policy", NULL };
	json_t *policy = NULL;
	struct brig_err err = BRIG_ERR_INIT;
	struct tenant *t = tenant_named(c);
	if (!t)
		return;
	bool disabled = t->disabled;
	if (fields_known(c->body, "the body", known, &err) < 0 ||
	    field_bool(c->body, "disabled", &disabled, &err) < 0 ||
	    field_object(c->body, "policy", &policy, &err) < 0 ||
	    (policy && policy_change(&t->policy, policy, &err) < 0)) {
		call_fail(c, &err);
		return;
	}
	t->disabled = disabled;
	if (tenant_save(c->api, t, &err) < 0)
		call_fail(c, &err);
	else
		http_reply_json(c->r, 200, tenant_json(c->api, t));
}

/* ---- removal ---- */

static void refuse_use(struct call *c, const struct tenant *t, unsigned boxes, unsigned snapshots,
		       uint64_t volumes)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_STATE, 0, "tenant '%s' has %u sandboxes, %u snapshots and %llu volumes",
		     t->name, boxes, snapshots, (unsigned long long)volumes);
	if (volumes)
		brig_err_remedy(&err, "remove the volumes first (brig volume rm --tenant %s NAME); nothing "
				      "else removes data", t->name);
	else
		brig_err_remedy(&err, "remove them first, or with it: brig tenant rm --force %s", t->name);
	call_fail_details(
		c, 0, &err,
		json_pack("{s:i,s:i,s:I}", "sandboxes", (int)boxes, "snapshots", (int)snapshots, "volumes",
			  (json_int_t)volumes));
}

static unsigned boxes_of(struct api *a, const char *tenant, bool kill)
{
	struct box *b, *next;
	unsigned n = 0;
	for (b = LIST_FIRST(&a->all); b; b = next) {
		next = LIST_NEXT(b, all);
		if (strcmp(b->tenant, tenant) != 0)
			continue;
		n++;
		if (kill)
			box_kill(b, "tenant_removed", NULL);
	}
	return n;
}

static void tenant_delete(struct call *c)
{
	struct tenant *t = tenant_named(c);
	const char *force = http_query(c->r, "force");
	bool all = force && strcmp(force, "true") == 0;
	if (!t)
		return;
	if (strcmp(t->name, KEY_TENANT_DEFAULT) == 0) {
		call_fail_text(c, 409, "tenant '%s' is the operator's own and stays", t->name);
		return;
	}
	uint64_t volumes, volume_bytes;
	volumes_use(c->api, t->name, &volumes, &volume_bytes);
	all = all && !volumes;
	unsigned boxes = boxes_of(c->api, t->name, all);
	unsigned snapshots = snapshots_of(c->api, t->name, all);
	if (!all && (boxes || snapshots || volumes)) {
		refuse_use(c, t, boxes, snapshots, volumes);
		return;
	}
	tenant_remove(c->api, t);
	http_reply_empty(c->r, 204);
}

const struct route tenants_routes[] = {
	{ "POST", "/v1/tenants", ROUTE_BODY, PERM_OPERATOR, tenant_create },
	{ "GET", "/v1/tenants", 0, PERM_OPERATOR, tenant_list },
	{ "GET", "/v1/tenants/{}", 0, PERM_QUOTA, tenant_get },
	{ "GET", "/v1/quota", 0, PERM_QUOTA, quota_get },
	{ "PATCH", "/v1/tenants/{}", ROUTE_BODY, PERM_OPERATOR, tenant_change },
	{ "DELETE", "/v1/tenants/{}", 0, PERM_OPERATOR, tenant_delete },
	{ .method = NULL },
};
