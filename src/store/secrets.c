/* SPDX-License-Identifier: Apache-2.0 */
/* secrets.c: records of secrets. What is kept of a value is what secret/seal.h made of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/db.h"

static void row_read(sqlite3_stmt *st, struct store_secret *ret)
{
	*ret = (struct store_secret){ .value = NULL };
	db_copy(st, 0, ret->tenant, sizeof(ret->tenant));
	db_copy(st, 1, ret->name, sizeof(ret->name));
	db_copy(st, 2, ret->key, sizeof(ret->key));
	ret->created_ms = sqlite3_column_int64(st, 3);
	ret->updated_ms = sqlite3_column_int64(st, 4);
}

static bool exists(struct store *s, const char *tenant, const char *name)
{
	sqlite3_stmt *st = db_start(s, ST_SECRET_GET);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	bool is = db_row(s, st);
	db_end(st);
	return is;
}

int store_secret_put(struct store *s, const struct store_secret *r, struct brig_err *err)
{
	if (!exists(s, r->tenant, r->name) &&
	    db_number(s, ST_SECRET_COUNT) >= STORE_SECRETS_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u secrets already",
			     STORE_SECRETS_MAX);
		return brig_fix(err, "remove those that are not needed");
	}
	sqlite3_stmt *st = db_start(s, ST_SECRET_PUT);
	db_text(st, 1, r->tenant);
	db_text(st, 2, r->name);
	db_text(st, 3, r->key);
	db_blob(st, 4, r->nonce, sizeof(r->nonce));
	db_blob(st, 5, r->value, r->n);
	db_int(st, 6, r->created_ms);
	db_int(st, 7, r->updated_ms);
	db_change(s, st);
	return 0;
}

bool store_secret_get(struct store *s, const char *tenant, const char *name,
		      struct store_secret *ret)
{
	sqlite3_stmt *st = db_start(s, ST_SECRET_GET);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	if (!db_row(s, st))
		return false;
	row_read(st, ret);
	size_t n = (size_t)sqlite3_column_bytes(st, 6);
	ret->value = malloc(n + 1);
	bool whole = ret->value && sqlite3_column_bytes(st, 5) == (int)sizeof(ret->nonce);
	if (whole) {
		memcpy(ret->nonce, sqlite3_column_blob(st, 5), sizeof(ret->nonce));
		if (n)
			memcpy(ret->value, sqlite3_column_blob(st, 6), n);
		ret->n = n;
	} else {
		free(ret->value);
		ret->value = NULL;
	}
	db_end(st);
	return whole;
}

bool store_secret_remove(struct store *s, const char *tenant, const char *name)
{
	sqlite3_stmt *st = db_start(s, ST_SECRET_REMOVE);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	return db_change(s, st) > 0;
}

void store_secrets(struct store *s, void (*fn)(void *ctx, const struct store_secret *r), void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_SECRET_ALL);
	while (db_row(s, st)) {
		struct store_secret r;
		row_read(st, &r);
		fn(ctx, &r);
	}
}

void store_begin(struct store *s)
{
	db_change(s, db_start(s, ST_BEGIN));
}

void store_commit(struct store *s)
{
	db_change(s, db_start(s, ST_COMMIT));
}

void store_rollback(struct store *s)
{
	db_change(s, db_start(s, ST_ROLLBACK));
}
