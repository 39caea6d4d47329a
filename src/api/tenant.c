/* SPDX-License-Identifier: Apache-2.0 */
#include "api/tenant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/box.h"
#include "api/key.h"
#include "store/store.h"

struct loading {
	struct api *a;
	struct brig_err *err;
	int r;
};

static struct tenant *enter(struct api *a, const char *name, int64_t created_ms)
{
	struct tenant *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->created_ms = created_ms;
	policy_init(&t->policy);
	LIST_INSERT_HEAD(&a->tenants, t, link);
	a->ntenants++;
	return t;
}

static void load_one(void *ctx, const struct store_tenant *st)
{
	struct loading *l = ctx;
	struct tenant *t = l->r < 0 ? NULL : enter(l->a, st->name, st->created_ms);
	if (!t) {
		l->r = l->r < 0 ? l->r : brig_fail(l->err, BRIG_E_EXHAUSTED, 0, "load the tenants");
		return;
	}
	t->disabled = st->disabled;
	json_t *o = json_loads(st->policy, JSON_REJECT_DUPLICATES, NULL);
	/* One that cannot be read must not become one that allows all. */
	if (!o || policy_change(&t->policy, o, l->err) < 0) {
		brig_err_set(l->err, BRIG_E_CORRUPT, 0, "api.db: the policy of tenant '%s' is none",
			     t->name);
		l->r = brig_fix(l->err, "restore api.db, or run the brig that wrote it");
	}
	json_decref(o);
}

static void tenant_free(struct tenant *t)
{
	policy_done(&t->policy);
	free(t);
}

static bool count_snapshot(void *ctx, const struct store_snapshot *snap)
{
	struct tenant *t = tenant_find(ctx, snap->tenant);
	if (t)
		t->use.snapshots++;
	return true;
}

int tenants_open(struct api *a, struct brig_err *err)
{
	struct loading l = { .a = a, .err = err };
	struct tenant *t;
	LIST_INIT(&a->tenants);
	store_tenants(a->store, load_one, &l);
	if (l.r < 0)
		return -1;
	store_snapshots(a->store, count_snapshot, a);
	return tenant_find(a, KEY_TENANT_DEFAULT) ? 0 : tenant_add(a, KEY_TENANT_DEFAULT, &t, err);
}

void tenants_close(struct api *a)
{
	struct tenant *t;
	while ((t = LIST_FIRST(&a->tenants))) {
		LIST_REMOVE(t, link);
		tenant_free(t);
	}
	a->ntenants = 0;
}

struct tenant *tenant_find(const struct api *a, const char *name)
{
	struct tenant *t;
	LIST_FOREACH(t, &a->tenants, link)
	{
		if (strcmp(t->name, name) == 0)
			return t;
	}
	return NULL;
}

bool tenant_name_ok(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	/* A path has no segment "." or "..". */
	return n >= 1 && n <= TENANT_NAME_MAX && name[n] == '\0' && name[0] != '.' &&
	       name[0] != '-';
}

int tenant_add(struct api *a, const char *name, struct tenant **ret, struct brig_err *err)
{
	if (tenant_find(a, name))
		return brig_fail(err, BRIG_E_EXISTS, 0, "tenant '%s' exists", name);
	if (a->ntenants >= STORE_TENANTS_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u tenants already",
			     STORE_TENANTS_MAX);
		return brig_fix(err, "remove those that are not needed: brig tenant rm");
	}
	*ret = enter(a, name, wall_ms());
	if (!*ret)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	if (tenant_save(a, *ret, err) == 0)
		return 0;
	LIST_REMOVE(*ret, link);
	a->ntenants--;
	tenant_free(*ret);
	return -1;
}

int tenant_save(struct api *a, const struct tenant *t, struct brig_err *err)
{
	json_t *o = policy_json(&t->policy, false);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	struct store_tenant st = { .disabled = t->disabled,
				   .policy = text,
				   .created_ms = t->created_ms };
	memcpy(st.name, t->name, sizeof(st.name));
	int r = text ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	if (r == 0)
		store_tenant_put(a->store, &st);
	free(text);
	json_decref(o);
	return r;
}

void tenant_remove(struct api *a, struct tenant *t)
{
	store_tenant_remove(a->store, t->name);
	LIST_REMOVE(t, link);
	a->ntenants--;
	t->removed = true;
	tenant_unused(t);
}

void tenant_unused(struct tenant *t)
{
	if (t->removed && !t->charges)
		tenant_free(t);
}
