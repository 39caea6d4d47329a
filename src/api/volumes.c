/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The database knows volumes by tenant and name; brigd, brig-jaild and the disk know ids only, which are
 * random and never used again. A record is written before the volume is made, and leaves after it is gone
 * from the disk: whatever dies in between, there is a record that says what was under way, and nothing is on
 * the disk that no record leads to.
 *
 *     creating --made--> ready --DELETE--> removing --gone--> (no record)
 *         \________ failed, or cut off ________/
 *
 * What is "removing" is tried again until it is done, also by the next brig-api; one that was "creating" when
 * brig-api died is removed, because nobody was told of it. Work goes on when its client leaves.
 *
 * Who may attach a volume is decided here by name and tenant; that one sandbox at most writes to it, by
 * brig-jaild (jail/volumes.c), which is also where it cannot be wrong.
 */
#include "api/volumes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/tenant.h"
#include "api/text.h"
#include "base/clock.h"
#include "brig/ids.h"
#include "brig/jail_proto.h"
#include "brig/limits.h"
#include "daemon/fields.h"
#include "store/store.h"

#define NAME_MAX_LEN 63u
/* Until what could not be removed is tried again. */
#define RETRY_NS (2 * SEC_NS)

/* One operation of brigd on a volume. */
struct job {
	LIST_ENTRY(job) link;
	struct volumes *all;
	struct link_op *op;
	struct call *c; /* who waits; NULL: nobody */
	struct store_volume v;
	bool e2b;
};

struct volumes {
	struct api *a;
	LIST_HEAD(, job) jobs;
	struct ev_timer retry;
};

/* ---- texts ---- */

static bool name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	return n >= 1 && n <= NAME_MAX_LEN && name[n] == '\0' && !strchr("_.-", name[0]);
}

static int name_check(const char *name, struct brig_err *err)
{
	if (name && name_ok(name))
		return 0;
	return brig_fail(err, BRIG_E_INVALID, 0,
			 "the name of a volume is 1 to %u of a-z A-Z 0-9 _ . -, and begins with a letter or digit",
			 NAME_MAX_LEN);
}

static void id_make(char ret[BRIG_ID_LEN + 1])
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t raw[BRIG_ID_LEN];
	while (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		;
	/* 36 does not divide 256; the ids need to be unique, not uniform. */
	for (unsigned i = 0; i < BRIG_ID_LEN; i++)
		ret[i] = set[raw[i] % 36];
	ret[BRIG_ID_LEN] = '\0';
}

static json_t *volume_json(const struct store_volume *v)
{
	char created[TEXT_TIME_MAX];
	text_time(v->created_ms, created);
	return json_pack("{s:s,s:s,s:s,s:I,s:I,s:b,s:o,s:s}", "id", v->id, "name", v->name, "state", v->state,
			 "size_bytes", (json_int_t)v->bytes, "inodes", (json_int_t)v->inodes, "snapshot",
			 (int)v->sealed, "source", v->source[0] ? json_string(v->source) : json_null(), "created",
			 created);
}

static json_t *volume_e2b(const struct store_volume *v, bool token)
{
	json_t *o = json_pack("{s:s,s:s}", "volumeID", v->id, "name", v->name);
	/* It would be for E2B's content service; files of a volume are reached through a sandbox here. */
	if (token)
		json_object_set_new(o, "token", json_string(""));
	return o;
}

/* ---- work ---- */

static void job_free(struct job *j)
{
	if (j->op)
		link_cancel(j->op);
	if (j->c)
		j->c->priv = NULL;
	LIST_REMOVE(j, link);
	free(j);
}

static void call_left(struct call *c)
{
	struct job *j = c->priv;
	if (j)
		j->c = NULL;
}

static void retry_soon(struct volumes *all)
{
	if (!ev_timer_armed(&all->retry))
		(void)ev_timer_set(&all->a->ev, &all->retry, clock_now() + RETRY_NS);
}

/* So that the name is free at once: no name of a tenant begins like this. */
static void name_give_up(struct store_volume *v)
{
	v->name[0] = '-';
	memcpy(v->name + 1, v->id, BRIG_ID_LEN + 1);
}

static void made(void *ctx, json_t *ok)
{
	struct job *j = ctx;
	(void)ok;
	j->op = NULL;
	snprintf(j->v.state, sizeof(j->v.state), "ready");
	store_volume_put(j->all->a->store, &j->v);
	if (j->c)
		http_reply_json(j->c->r, 201, j->e2b ? volume_e2b(&j->v, true) : volume_json(&j->v));
	job_free(j);
}

/* Something of it may be there: when brigd has died, nobody knows. */
static void not_made(void *ctx, json_t *error)
{
	struct job *j = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	j->op = NULL;
	snprintf(j->v.state, sizeof(j->v.state), "removing");
	name_give_up(&j->v);
	store_volume_put(j->all->a->store, &j->v);
	retry_soon(j->all);
	api_err_from(error, &err);
	if (j->c)
		call_fail(j->c, &err);
	job_free(j);
}

static void removed(void *ctx, json_t *ok)
{
	struct job *j = ctx;
	(void)ok;
	j->op = NULL;
	store_volume_remove(j->all->a->store, j->v.id);
	if (j->c)
		http_reply_empty(j->c->r, 204);
	job_free(j);
}

static void not_removed(void *ctx, json_t *error)
{
	struct job *j = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	j->op = NULL;
	api_err_from(error, &err);
	/* In use: it stays. Everything else has been decided, and is tried again. */
	if (err.code == BRIG_E_STATE && j->v.name[0] != '-') {
		snprintf(j->v.state, sizeof(j->v.state), "ready");
		store_volume_put(j->all->a->store, &j->v);
	} else {
		retry_soon(j->all);
	}
	if (j->c)
		call_fail(j->c, &err);
	job_free(j);
}

static const struct link_ops make_ops = { .reply = made, .failed = not_made };
static const struct link_ops remove_ops = { .reply = removed, .failed = not_removed };

/* c may be NULL. -1 with err: nothing is under way. */
static int job_start(struct volumes *all, struct call *c, const struct store_volume *v, json_t *req,
		     const struct link_ops *ops, struct job **ret, struct brig_err *err)
{
	struct job *j = calloc(1, sizeof(*j));
	if (!j) {
		json_decref(req);
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	}
	*j = (struct job){ .all = all, .v = *v };
	LIST_INSERT_HEAD(&all->jobs, j, link);
	if (link_start(all->a->link, req, false, ops, j, &j->op, err) < 0) {
		j->op = NULL;
		job_free(j);
		return -1;
	}
	if (c) {
		j->c = c;
		c->priv = j;
		c->gone = call_left;
	}
	if (ret)
		*ret = j;
	return 0;
}

static json_t *remove_request(const struct store_volume *v)
{
	return json_pack("{s:s,s:s,s:s}", "op", "volume", "do", "remove", "id", v->id);
}

static bool under_way(const struct volumes *all, const char *id)
{
	const struct job *j;
	LIST_FOREACH(j, &all->jobs, link)
	{
		if (strcmp(j->v.id, id) == 0)
			return true;
	}
	return false;
}

/* Statements are shared, so rows are taken before work is begun. */
struct unfinished {
	struct volumes *all;
	struct store_volume v[16];
	unsigned n;
	bool more;
};

static void unfinished_one(void *ctx, const struct store_volume *v)
{
	struct unfinished *u = ctx;
	if (strcmp(v->state, "ready") == 0 || under_way(u->all, v->id))
		return;
	if (u->n < sizeof(u->v) / sizeof(u->v[0]))
		u->v[u->n++] = *v;
	else
		u->more = true;
}

static void finish(void *ctx)
{
	struct volumes *all = ctx;
	struct unfinished u = { .all = all };
	store_volumes(all->a->store, unfinished_one, &u);
	for (unsigned i = 0; i < u.n; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct store_volume *v = &u.v[i];
		if (strcmp(v->state, "creating") == 0) {
			snprintf(v->state, sizeof(v->state), "removing");
			name_give_up(v);
			store_volume_put(all->a->store, v);
		}
		if (job_start(all, NULL, v, remove_request(v), &remove_ops, NULL, &err) < 0)
			u.more = true;
	}
	if (u.more)
		retry_soon(all);
}

int volumes_open(struct api *a, struct brig_err *err)
{
	struct volumes *all = calloc(1, sizeof(*all));
	if (!all)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the volumes");
	LIST_INIT(&all->jobs);
	all->a = a;
	all->retry = (struct ev_timer){ .fn = finish, .ctx = all };
	a->volumes = all;
	(void)ev_timer_set(&a->ev, &all->retry, clock_now());
	return 0;
}

void volumes_close(struct api *a)
{
	struct volumes *all = a->volumes;
	if (!all)
		return;
	while (LIST_FIRST(&all->jobs))
		job_free(LIST_FIRST(&all->jobs));
	ev_timer_stop(&a->ev, &all->retry);
	free(all);
	a->volumes = NULL;
}

/* ---- quotas ---- */

struct count {
	const char *tenant; /* NULL: all */
	uint64_t n, bytes;
};

static void count_one(void *ctx, const struct store_volume *v)
{
	struct count *c = ctx;
	if (c->tenant && strcmp(v->tenant, c->tenant) != 0)
		return;
	c->n++;
	c->bytes += v->bytes;
}

void volumes_use(struct api *a, const char *tenant, uint64_t *ret_n, uint64_t *ret_bytes)
{
	struct count c = { .tenant = tenant };
	store_volumes(a->store, count_one, &c);
	*ret_n = c.n;
	*ret_bytes = c.bytes;
}

static int beyond(struct call *c, const char *tenant, enum policy_index quota, uint64_t most, uint64_t use,
		  uint64_t asked, const char *what, struct brig_err *err)
{
	brig_err_set(err, BRIG_E_BUSY, 0, "tenant '%s' has %llu of %llu %s, and this would be %llu more (%s)",
		     tenant, (unsigned long long)use, (unsigned long long)most, what, (unsigned long long)asked,
		     policy_field(quota));
	json_decref(c->details);
	c->details = json_pack("{s:s,s:s,s:I,s:I,s:I}", "tenant", tenant, "quota", policy_field(quota), "limit",
			       (json_int_t)most, "use", (json_int_t)use, "asked", (json_int_t)asked);
	return brig_fix(err, "remove volumes that are not needed; the operator can raise the quota: brig tenant "
			     "set %s", tenant);
}

static int quota_check(struct call *c, const char *tenant, uint64_t bytes, struct brig_err *err)
{
	const struct tenant *t = tenant_find(c->api, tenant);
	uint64_t n, used;
	volumes_use(c->api, NULL, &n, &used);
	if (n >= VOLUMES_MAX)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "there are %u volumes already", VOLUMES_MAX);
	if (!t)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no tenant '%s'", tenant);
	volumes_use(c->api, tenant, &n, &used);
	uint64_t most = t->policy.v[POLICY_quota_volumes], most_bytes = t->policy.v[POLICY_quota_volume_bytes];
	if (most != POLICY_UNSET && n >= most)
		return beyond(c, tenant, POLICY_quota_volumes, most, n, 1, "volumes", err);
	if (most_bytes != POLICY_UNSET && (used > most_bytes || bytes > most_bytes - used))
		return beyond(c, tenant, POLICY_quota_volume_bytes, most_bytes, used, bytes, "bytes of volumes", err);
	return 0;
}

/* ---- routes ---- */

/* Whose volumes: the key's tenant, or what the operator says. */
static const char *tenant_of(struct call *c)
{
	const char *t = c->operator ? http_query(c->r, "tenant") : NULL;
	if (!t)
		return c->tenant;
	if (tenant_name_ok(t))
		return t;
	call_fail_text(c, 400, "'tenant' is malformed");
	return NULL;
}

static void missing(struct brig_err *err, const char *ref)
{
	brig_err_set(err, BRIG_E_NOT_FOUND, 0, "there is no volume '%.64s'", ref);
	brig_err_remedy(err, "`brig volume ls` lists them; `brig volume create %.64s` makes it",
			name_ok(ref) ? ref : "NAME");
}

/* By name or id; another tenant's is as one that is not there. */
static bool find(struct call *c, const char *ref, struct store_volume *ret)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *tenant = tenant_of(c);
	if (!tenant)
		return false;
	if (store_volume_get(c->api->store, tenant, ref, ret) && ret->name[0] != '-')
		return true;
	missing(&err, ref);
	call_fail(c, &err);
	return false;
}

struct listing {
	const char *tenant;
	json_t *all;
	bool e2b;
};

static void list_one(void *ctx, const struct store_volume *v)
{
	struct listing *l = ctx;
	if (strcmp(v->tenant, l->tenant) == 0 && v->name[0] != '-')
		json_array_append_new(l->all, l->e2b ? volume_e2b(v, false) : volume_json(v));
}

static void list(struct call *c, bool e2b)
{
	struct listing l = { .tenant = tenant_of(c), .e2b = e2b };
	if (!l.tenant)
		return;
	l.all = json_array();
	store_volumes(c->api->store, list_one, &l);
	http_reply_json(c->r, 200, e2b ? l.all : json_pack("{s:o}", "volumes", l.all));
}

static void volume_list(struct call *c)
{
	list(c, false);
}

static void volume_list_e2b(struct call *c)
{
	list(c, true);
}

/* What is asked for: its size, or that of the one that it is a copy of. */
static int ask_parse(struct call *c, const char *tenant, struct store_volume *v, struct store_volume *from,
		     struct brig_err *err)
{
	static const char *const known[] = { "name", "size_bytes", "inodes", "from", "snapshot", NULL };
	const char *name = NULL, *source = NULL;
	*v = (struct store_volume){ .state = "creating", .bytes = VOLUME_BYTES_DEFAULT,
				    .inodes = VOLUME_INODES_DEFAULT, .created_ms = wall_ms() };
	*from = (struct store_volume){ .sealed = false };
	if (fields_known(c->body, "the body", known, err) < 0 ||
	    field_str(c->body, "name", 256, &name, err) < 0 || name_check(name, err) < 0 ||
	    field_str(c->body, "from", 256, &source, err) < 0 ||
	    field_bool(c->body, "snapshot", &v->sealed, err) < 0 ||
	    field_u64(c->body, "size_bytes", VOLUME_BYTES_MIN, VOLUME_BYTES_MAX, &v->bytes, err) < 0 ||
	    field_u64(c->body, "inodes", VOLUME_INODES_MIN, VOLUME_INODES_MAX, &v->inodes, err) < 0)
		return -1;
	snprintf(v->name, sizeof(v->name), "%s", name);
	snprintf(v->tenant, sizeof(v->tenant), "%s", tenant);
	id_make(v->id);
	if (!source) {
		/* An inode and a block for each file, and some of the blocks are the journal's. */
		if (v->inodes > v->bytes / 2048)
			return brig_fail(err, BRIG_E_LIMIT, 0,
					 "%llu files do not fit into %llu bytes: at most %llu do",
					 (unsigned long long)v->inodes, (unsigned long long)v->bytes,
					 (unsigned long long)(v->bytes / 2048));
		return v->sealed ? brig_fail(err, BRIG_E_INVALID, 0, "a snapshot is one of a volume: 'from' is missing")
				 : 0;
	}
	if (json_object_get(c->body, "size_bytes") || json_object_get(c->body, "inodes"))
		return brig_fail(err, BRIG_E_INVALID, 0, "a copy is as large as what it is made of: 'from' "
							 "excludes 'size_bytes' and 'inodes'");
	if (!store_volume_get(c->api->store, tenant, source, from) || strcmp(from->state, "ready") != 0) {
		missing(err, source);
		return -1;
	}
	v->bytes = from->bytes;
	v->inodes = from->inodes;
	snprintf(v->source, sizeof(v->source), "%s", from->name);
	return 0;
}

static void create(struct call *c, bool e2b)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store_volume v, from, there;
	struct job *j;
	const char *tenant = tenant_of(c);
	if (!tenant)
		return;
	if (ask_parse(c, tenant, &v, &from, &err) < 0 || quota_check(c, tenant, v.bytes, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (store_volume_get(c->api->store, tenant, v.name, &there)) {
		brig_err_set(&err, BRIG_E_EXISTS, 0, "volume '%s' exists already", v.name);
		call_fail(c, &err);
		return;
	}
	json_t *req = json_pack("{s:s,s:s,s:s}", "op", "volume", "do", from.id[0] ? "clone" : "make", "id", v.id);
	if (from.id[0]) {
		json_object_set_new(req, "from", json_string(from.id));
		json_object_set_new(req, "seal", json_boolean(v.sealed));
	} else {
		json_object_set_new(req, "bytes", json_integer((json_int_t)v.bytes));
		json_object_set_new(req, "inodes", json_integer((json_int_t)v.inodes));
	}
	auditor_subject(c->r, v.id);
	store_volume_put(c->api->store, &v);
	if (job_start(c->api->volumes, c, &v, req, &make_ops, &j, &err) == 0) {
		j->e2b = e2b;
		return;
	}
	store_volume_remove(c->api->store, v.id);
	call_fail(c, &err);
}

static void volume_create(struct call *c)
{
	create(c, false);
}

static void volume_create_e2b(struct call *c)
{
	create(c, true);
}

static void measured(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct store_volume v;
	call_op_done(c);
	if (!find(c, c->arg[0], &v))
		return;
	json_t *o = volume_json(&v);
	json_object_set(o, "capacity_bytes", json_object_get(ok, "bytes"));
	json_object_set(o, "used_bytes", json_object_get(ok, "used_bytes"));
	json_object_set(o, "used_inodes", json_object_get(ok, "used_inodes"));
	json_object_set(o, "readers", json_object_get(ok, "readers"));
	json_object_set(o, "writers", json_object_get(ok, "writers"));
	http_reply_json(c->r, 200, o);
}

/* With what it holds; without, as long as it is made or removed. */
static void volume_get(struct call *c)
{
	static const struct link_ops ops = { .reply = measured, .failed = call_op_failed };
	struct store_volume v;
	if (!find(c, c->arg[0], &v))
		return;
	if (strcmp(v.state, "ready") == 0 && !http_query(c->r, "brief"))
		call_op(c, json_pack("{s:s,s:s,s:s}", "op", "volume", "do", "stat", "id", v.id), &ops);
	else
		http_reply_json(c->r, 200, volume_json(&v));
}

static void volume_get_e2b(struct call *c)
{
	struct store_volume v;
	if (find(c, c->arg[0], &v))
		http_reply_json(c->r, 200, volume_e2b(&v, true));
}

static void volume_delete(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store_volume v;
	if (!find(c, c->arg[0], &v))
		return;
	auditor_subject(c->r, v.id);
	if (under_way(c->api->volumes, v.id)) {
		brig_err_set(&err, BRIG_E_BUSY, 0, "volume '%s' is being made or removed", v.name);
		brig_err_remedy(&err, "try again in a moment");
		call_fail(c, &err);
		return;
	}
	snprintf(v.state, sizeof(v.state), "removing");
	store_volume_put(c->api->store, &v);
	if (job_start(c->api->volumes, c, &v, remove_request(&v), &remove_ops, NULL, &err) == 0)
		return;
	retry_soon(c->api->volumes);
	call_fail(c, &err);
}

const struct route volumes_routes[] = {
	{ "GET", "/v1/volumes", 0, PERM_VOLUME_READ, volume_list },
	{ "POST", "/v1/volumes", ROUTE_BODY, PERM_VOLUME_WRITE, volume_create },
	{ "GET", "/v1/volumes/{}", 0, PERM_VOLUME_READ, volume_get },
	{ "DELETE", "/v1/volumes/{}", 0, PERM_VOLUME_WRITE, volume_delete },
	{ "GET", "/volumes", ROUTE_E2B, PERM_VOLUME_READ, volume_list_e2b },
	{ "POST", "/volumes", ROUTE_E2B | ROUTE_BODY, PERM_VOLUME_WRITE, volume_create_e2b },
	{ "GET", "/volumes/{}", ROUTE_E2B, PERM_VOLUME_READ, volume_get_e2b },
	{ "DELETE", "/volumes/{}", ROUTE_E2B, PERM_VOLUME_WRITE, volume_delete },
	{ .method = NULL },
};

/* ---- for a sandbox ---- */

static int attach_one(struct api *a, const char *tenant, perm_set perms, const char *ref, const char *path,
		      bool readonly, json_t *list, struct brig_err *err)
{
	struct store_volume v;
	if (!ref || !path)
		return brig_fail(err, BRIG_E_INVALID, 0, "a volume has a name and a path inside");
	if (!(perms & PERM_BIT(readonly ? PERM_VOLUME_READ : PERM_VOLUME_WRITE))) {
		brig_err_set(err, BRIG_E_DENIED, 0, "this key may not %s volumes", readonly ? "read" : "write to");
		return brig_fix(err, "it needs a role or scope with the permission '%s'",
				perm_name(readonly ? PERM_VOLUME_READ : PERM_VOLUME_WRITE));
	}
	if (!store_volume_get(a->store, tenant, ref, &v) || v.name[0] == '-') {
		missing(err, ref);
		return -1;
	}
	if (strcmp(v.state, "ready") != 0) {
		brig_err_set(err, BRIG_E_STATE, 0, "volume '%s' is %s", v.name, v.state);
		return brig_fix(err, "try again when it is ready");
	}
	if (v.sealed && !readonly) {
		brig_err_set(err, BRIG_E_STATE, 0, "volume '%s' is a snapshot: nobody may write to it", v.name);
		return brig_fix(err, "attach it read-only, or write to a clone: brig volume clone %s NAME", v.name);
	}
	json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "volume", v.id, "guest", path, "readonly",
					      (int)readonly));
	return 0;
}

/* key: how the array is called where it comes from; key_name, key_path: how the two are called in it. */
static int attach_all(struct api *a, const char *tenant, perm_set perms, const json_t *want, const char *key,
		      const char *key_name, const char *key_path, json_t *spec, struct brig_err *err)
{
	const char *const known[] = { key_name, key_path, "readonly", NULL };
	json_t *list = json_array(), *v;
	size_t i;
	int r = 0;
	if (!json_is_array(want) || json_array_size(want) > JAIL_VOLUMES_MAX) {
		json_decref(list);
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is not an array of at most %u volumes", key, JAIL_VOLUMES_MAX);
	}
	json_array_foreach(want, i, v)
	{
		const char *ref = NULL, *path = NULL;
		bool readonly = false;
		if (r < 0)
			break;
		if (!json_is_object(v))
			r = brig_fail(err, BRIG_E_INVALID, 0, "volume %zu is not an object", i + 1);
		else if (fields_known(v, "the volume", known, err) < 0 || field_str(v, key_name, 256, &ref, err) < 0 ||
			 field_str(v, key_path, JAIL_PATH_MAX - 1, &path, err) < 0 ||
			 field_bool(v, "readonly", &readonly, err) < 0)
			r = -1;
		else
			r = attach_one(a, tenant, perms, ref, path, readonly, list, err);
	}
	if (r == 0 && json_array_size(list))
		json_object_set(spec, "volumes", list);
	json_decref(list);
	return r;
}

int volumes_resolve(struct api *a, const char *tenant, perm_set perms, const char *key, const json_t *want,
		    json_t *spec, struct brig_err *err)
{
	return want ? attach_all(a, tenant, perms, want, key, "name", "path", spec, err) : 0;
}

int volumes_rename(struct api *a, const char *tenant, perm_set perms, json_t *spec, struct brig_err *err)
{
	json_t *want = json_object_get(spec, "volumes");
	if (json_array_size(want) == 0)
		return 0;
	json_incref(want);
	int r = attach_all(a, tenant, perms, want, "volumes", "volume", "guest", spec, err);
	json_decref(want);
	return r;
}
