/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_v1.c: snapshots as brig's own command line and programs see them. They are taken in snapshot.c. */
#include <string.h>

#include "api/call.h"
#include "api/snapshot.h"
#include "store/store.h"

struct pick {
	struct call *c;
	const char *ref; /* id or name; NULL = all */
	json_t *all;
	char id[SNAPSHOT_ID_MAX], tenant[40]; /* of the one that was found */
};

static bool pick_one(void *ctx, const struct store_snapshot *snap)
{
	struct pick *p = ctx;
	if (!call_may_see(p->c, snap->tenant) ||
	    (p->ref && strcmp(snap->id, p->ref) != 0 && strcmp(snap->name, p->ref) != 0))
		return true;
	json_array_append_new(p->all, snapshot_v1_json(snap));
	if (!p->ref)
		return true;
	memcpy(p->id, snap->id, strnlen(snap->id, sizeof(p->id) - 1) + 1);
	memcpy(p->tenant, snap->tenant, strnlen(snap->tenant, sizeof(p->tenant) - 1) + 1);
	return false;
}

/* The newest that the path names, in p->all; false: it was answered. */
static bool found(struct pick *p)
{
	struct brig_err err = BRIG_ERR_INIT;
	p->ref = p->c->arg[0];
	p->all = json_array();
	store_snapshots(p->c->api->store, pick_one, p);
	if (json_array_size(p->all))
		return true;
	json_decref(p->all);
	brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "no snapshot '%.64s'", p->ref);
	brig_err_remedy(&err, "see `brig snapshot ls` for what exists");
	call_fail(p->c, &err);
	return false;
}

static void list(struct call *c)
{
	struct pick p = { .c = c, .all = json_array() };
	store_snapshots(c->api->store, pick_one, &p);
	http_reply_json(c->r, 200, json_pack("{s:o}", "snapshots", p.all));
}

static void get(struct call *c)
{
	struct pick p = { .c = c };
	if (!found(&p))
		return;
	http_reply_json(c->r, 200, json_incref(json_array_get(p.all, 0)));
	json_decref(p.all);
}

static void drop(struct call *c)
{
	struct pick p = { .c = c };
	if (!found(&p))
		return;
	json_decref(p.all);
	(void)snapshot_drop(c->api, p.tenant, p.id);
	http_reply_empty(c->r, 204);
}

const struct route snapshot_v1_routes[] = {
	{ "GET", "/v1/snapshots", 0, PERM_SNAPSHOT_READ, list },
	{ "GET", "/v1/snapshots/{}", 0, PERM_SNAPSHOT_READ, get },
	{ "DELETE", "/v1/snapshots/{}", 0, PERM_SNAPSHOT_WRITE, drop },
	{ .method = NULL },
};
