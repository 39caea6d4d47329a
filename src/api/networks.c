/* SPDX-License-Identifier: Apache-2.0 */
/*
 * networks.c: private networks by name: /v1/networks. Here is known that there is one; who is in it brigd
 * knows (daemon/netpeer.h), and is asked each time.
 */
#include "api/networks.h"

#include <stdio.h>
#include <string.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/text.h"
#include "daemon/fields.h"
#include "daemon/netask.h"
#include "store/store.h"

#define PER_TENANT_MAX 256u

int networks_exist(struct api *a, const char *tenant, const json_t *networks, struct brig_err *err)
{
	size_t i;
	const json_t *v;
	json_array_foreach(networks, i, v)
	{
		struct store_network n;
		const char *name = json_string_value(json_object_get(v, "name"));
		/* What is no name at all, brigd tells. */
		if (!name || store_network_get(a->store, tenant, name, &n))
			continue;
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "there is no network '%.64s'", name);
		return brig_fix(err, "`brig network create %.64s` makes it", name);
	}
	return 0;
}

/* Of the key, or what the operator says; his own sandboxes are brigd's tenant "local". */
static const char *tenant_of(struct call *c)
{
	const char *t = c->operator ? http_query(c->r, "tenant") : NULL;
	if (!c->operator)
		return c->tenant;
	return t ? t : NET_TENANT_LOCAL;
}

static json_t *network_json(const struct store_network *n, const json_t *rows)
{
	char created[TEXT_TIME_MAX];
	size_t i;
	const json_t *row, *members = NULL;
	text_time(n->created_ms, created);
	json_array_foreach(rows, i, row)
	{
		const char *tenant = json_string_value(json_object_get(row, "tenant"));
		const char *name = json_string_value(json_object_get(row, "name"));
		if (tenant && name && strcmp(tenant, n->tenant) == 0 && strcmp(name, n->name) == 0)
			members = json_object_get(row, "members");
	}
	return json_pack("{s:s,s:s,s:o}", "name", n->name, "created", created, "members",
			 members ? json_deep_copy(members) : json_array());
}

struct listing {
	const char *tenant;
	const json_t *rows;
	json_t *all; /* NULL: counted only */
	unsigned n;
};

static void list_one(void *ctx, const struct store_network *n)
{
	struct listing *l = ctx;
	if (strcmp(n->tenant, l->tenant) != 0)
		return;
	l->n++;
	if (l->all)
		json_array_append_new(l->all, network_json(n, l->rows));
}

static void missing(struct call *c)
{
	call_fail_text(c, 404, "there is no network '%.64s'", c->arg[0]);
}

/* ---- with brigd's answer ---- */

static void list_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct listing l = { .tenant = tenant_of(c), .rows = json_object_get(ok, "networks"), .all = json_array() };
	call_op_done(c);
	store_networks(c->api->store, list_one, &l);
	http_reply_json(c->r, 200, json_pack("{s:o}", "networks", l.all));
}

static void get_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct store_network n;
	call_op_done(c);
	if (store_network_get(c->api->store, tenant_of(c), c->arg[0], &n))
		http_reply_json(c->r, 200, network_json(&n, json_object_get(ok, "networks")));
	else
		missing(c);
}

static void remove_replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	struct store_network n;
	call_op_done(c);
	if (!store_network_get(c->api->store, tenant_of(c), c->arg[0], &n)) {
		missing(c);
		return;
	}
	json_t *o = network_json(&n, json_object_get(ok, "networks"));
	size_t members = json_array_size(json_object_get(o, "members"));
	json_decref(o);
	if (members) {
		brig_err_set(&err, BRIG_E_BUSY, 0, "network '%s' has %zu sandboxes", n.name, members);
		brig_err_remedy(&err, "remove them, or have them leave it (brig net SANDBOX --network none); brig "
				      "network inspect %s lists them", n.name);
		call_fail_details(c, 409, &err, NULL);
		return;
	}
	store_network_remove(c->api->store, n.tenant, n.name);
	http_reply_empty(c->r, 204);
}

static void ask(struct call *c, const struct link_ops *ops)
{
	call_op(c, json_pack("{s:s}", "op", "networks"), ops);
}

static void network_list(struct call *c)
{
	static const struct link_ops ops = { .reply = list_replied, .failed = call_op_failed };
	ask(c, &ops);
}

static void network_get(struct call *c)
{
	static const struct link_ops ops = { .reply = get_replied, .failed = call_op_failed };
	ask(c, &ops);
}

static void network_remove(struct call *c)
{
	static const struct link_ops ops = { .reply = remove_replied, .failed = call_op_failed };
	ask(c, &ops);
}

/* ---- making one ---- */

static int make(struct call *c, struct store_network *n, struct brig_err *err)
{
	static const char *const known[] = { "name", NULL };
	const char *name = NULL;
	struct listing l = { .tenant = n->tenant };
	json_t *networks = NULL;
	if (fields_known(c->body, "the body", known, err) < 0 ||
	    field_str(c->body, "name", sizeof(n->name) - 1, &name, err) < 0)
		return -1;
	/* What brigd takes as one. */
	json_t *o = json_pack("{s:[{s:s}]}", "networks", "name", name ? name : "");
	int r = net_networks_parse(o, &networks, err);
	json_decref(networks);
	json_decref(o);
	if (r < 0)
		return -1;
	store_networks(c->api->store, list_one, &l);
	if (l.n >= PER_TENANT_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "the tenant has %u networks already", l.n);
		return brig_fix(err, "remove those that are not needed");
	}
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->created_ms = wall_ms();
	return store_network_add(c->api->store, n, err);
}

static void network_create(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store_network n = { .created_ms = 0 };
	snprintf(n.tenant, sizeof(n.tenant), "%s", tenant_of(c));
	if (make(c, &n, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	auditor_subject(c->r, n.name);
	http_reply_json(c->r, 201, network_json(&n, NULL));
}

const struct route networks_routes[] = {
	{ "POST", "/v1/networks", ROUTE_BODY, PERM_BOX_WRITE, network_create },
	{ "GET", "/v1/networks", 0, PERM_BOX_READ, network_list },
	{ "GET", "/v1/networks/{}", 0, PERM_BOX_READ, network_get },
	{ "DELETE", "/v1/networks/{}", 0, PERM_BOX_WRITE, network_remove },
	{ .method = NULL },
};
