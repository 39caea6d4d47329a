/* SPDX-License-Identifier: Apache-2.0 */
#include "store/db.h"

void store_tenant_put(struct store *s, const struct store_tenant *t)
{
	sqlite3_stmt *st = db_start(s, ST_TENANT_PUT);
	db_text(st, 1, t->name);
	db_int(st, 2, t->disabled);
	db_text(st, 3, t->policy);
	db_int(st, 4, t->created_ms);
	db_change(s, st);
}

static void delete_of(struct store *s, enum store_stmt which, const char *name)
{
	sqlite3_stmt *st = db_start(s, which);
	db_text(st, 1, name);
	db_change(s, st);
}

void store_tenant_remove(struct store *s, const char *name)
{
	db_change(s, db_start(s, ST_BEGIN));
	delete_of(s, ST_TENANT_KEYS, name);
	delete_of(s, ST_TENANT_TAGS, name);
	delete_of(s, ST_TENANT_RESULTS, name);
	delete_of(s, ST_TENANT_SECRETS, name);
	delete_of(s, ST_TENANT_NETWORKS, name);
	delete_of(s, ST_TENANT_REMOVE, name);
	db_change(s, db_start(s, ST_COMMIT));
	keys_forget(s, name);
}

void store_tenants(struct store *s, void (*fn)(void *ctx, const struct store_tenant *t), void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_TENANT_ALL);
	while (db_row(s, st)) {
		struct store_tenant t = { .disabled = sqlite3_column_int(st, 1),
					  .policy = db_column(st, 2),
					  .created_ms = sqlite3_column_int64(st, 3) };
		db_copy(st, 0, t.name, sizeof(t.name));
		fn(ctx, &t);
	}
}
