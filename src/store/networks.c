/* SPDX-License-Identifier: Apache-2.0 */
/* networks.c: records of private networks: that a name of a tenant is one. */
#include <stdio.h>
#include <string.h>

#include "store/db.h"

static void row_read(sqlite3_stmt *st, struct store_network *ret)
{
	*ret = (struct store_network){ .created_ms = sqlite3_column_int64(st, 2) };
	db_copy(st, 0, ret->tenant, sizeof(ret->tenant));
	db_copy(st, 1, ret->name, sizeof(ret->name));
}

int store_network_add(struct store *s, const struct store_network *n, struct brig_err *err)
{
	struct store_network old;
	if (store_network_get(s, n->tenant, n->name, &old)) {
		brig_err_set(err, BRIG_E_EXISTS, 0, "there is a network '%s' already", n->name);
		return brig_fix(err, "use it, or choose another name");
	}
	if (db_number(s, ST_NETWORK_COUNT) >= STORE_NETWORKS_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u networks already", STORE_NETWORKS_MAX);
		return brig_fix(err, "remove those that are not needed");
	}
	sqlite3_stmt *st = db_start(s, ST_NETWORK_ADD);
	db_text(st, 1, n->tenant);
	db_text(st, 2, n->name);
	db_int(st, 3, n->created_ms);
	db_change(s, st);
	return 0;
}

bool store_network_get(struct store *s, const char *tenant, const char *name, struct store_network *ret)
{
	sqlite3_stmt *st = db_start(s, ST_NETWORK_GET);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	bool is = db_row(s, st);
	if (is)
		row_read(st, ret);
	db_end(st);
	return is;
}

bool store_network_remove(struct store *s, const char *tenant, const char *name)
{
	sqlite3_stmt *st = db_start(s, ST_NETWORK_REMOVE);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	return db_change(s, st) > 0;
}

void store_networks(struct store *s, void (*fn)(void *ctx, const struct store_network *n), void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_NETWORK_ALL);
	while (db_row(s, st)) {
		struct store_network n;
		row_read(st, &n);
		fn(ctx, &n);
	}
}
