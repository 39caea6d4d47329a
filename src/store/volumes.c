/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "store/db.h"

static void row_read(sqlite3_stmt *st, struct store_volume *ret)
{
	*ret = (struct store_volume){ .sealed = false };
	db_copy(st, 0, ret->id, sizeof(ret->id));
	db_copy(st, 1, ret->tenant, sizeof(ret->tenant));
	db_copy(st, 2, ret->name, sizeof(ret->name));
	db_copy(st, 3, ret->state, sizeof(ret->state));
	db_copy(st, 4, ret->source, sizeof(ret->source));
	ret->bytes = (uint64_t)sqlite3_column_int64(st, 5);
	ret->inodes = (uint64_t)sqlite3_column_int64(st, 6);
	ret->sealed = sqlite3_column_int(st, 7) != 0;
	ret->created_ms = sqlite3_column_int64(st, 8);
}

void store_volume_put(struct store *s, const struct store_volume *v)
{
	sqlite3_stmt *st = db_start(s, ST_VOLUME_PUT);
	db_text(st, 1, v->id);
	db_text(st, 2, v->tenant);
	db_text(st, 3, v->name);
	db_text(st, 4, v->state);
	db_text(st, 5, v->source);
	db_int(st, 6, (int64_t)v->bytes);
	db_int(st, 7, (int64_t)v->inodes);
	db_int(st, 8, v->sealed);
	db_int(st, 9, v->created_ms);
	db_change(s, st);
}

bool store_volume_get(struct store *s, const char *tenant, const char *ref, struct store_volume *ret)
{
	sqlite3_stmt *st = db_start(s, ST_VOLUME_GET);
	db_text(st, 1, tenant);
	db_text(st, 2, ref);
	db_text(st, 3, ref);
	if (!db_row(s, st))
		return false;
	row_read(st, ret);
	db_end(st);
	return true;
}

void store_volume_remove(struct store *s, const char *id)
{
	sqlite3_stmt *st = db_start(s, ST_VOLUME_REMOVE);
	db_text(st, 1, id);
	db_change(s, st);
}

void store_volumes(struct store *s, void (*fn)(void *ctx, const struct store_volume *v), void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_VOLUME_ALL);
	while (db_row(s, st)) {
		struct store_volume v;
		row_read(st, &v);
		fn(ctx, &v);
	}
}
