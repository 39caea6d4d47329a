/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "store/db.h"

int store_result_get(struct store *s, const char *tenant, const char *key, int64_t now_ms,
		     struct store_result *ret)
{
	sqlite3_stmt *st = db_start(s, ST_RESULT_GET);
	db_text(st, 1, tenant);
	db_text(st, 2, key);
	db_int(st, 3, now_ms);
	if (!db_row(s, st))
		return 0;
	size_t n = (size_t)sqlite3_column_bytes(st, 1);
	char *body = malloc(n + 1);
	int found = body && sqlite3_column_bytes(st, 0) == STORE_HASH_LEN;
	if (found) {
		memcpy(ret->request, sqlite3_column_blob(st, 0), STORE_HASH_LEN);
		if (n)
			memcpy(body, sqlite3_column_blob(st, 1), n);
		body[n] = '\0';
		ret->body = body;
		ret->n = n;
	} else {
		free(body);
	}
	db_end(st);
	return found;
}

int store_result_room(struct store *s, size_t n, int64_t now_ms, struct brig_err *err)
{
	sqlite3_stmt *st = db_start(s, ST_RESULT_EXPIRE);
	db_int(st, 1, now_ms);
	db_change(s, st);
	st = db_start(s, ST_RESULT_SUM);
	bool full = db_row(s, st) &&
		    (sqlite3_column_int64(st, 0) >= STORE_RESULTS_MAX ||
		     sqlite3_column_int64(st, 1) + (int64_t)n > STORE_RESULTS_BYTES_MAX);
	db_end(st);
	if (!full)
		return 0;
	brig_err_set(
		err, BRIG_E_BUSY, 0,
		"no result can be kept for this Idempotency-Key: %u results or %u MiB are kept",
		STORE_RESULTS_MAX, STORE_RESULTS_BYTES_MAX >> 20);
	return brig_fix(err, "try again when older results have expired, or without the header");
}

void store_result_put(struct store *s, const char *tenant, const char *key,
		      const uint8_t request[STORE_HASH_LEN], const char *body, size_t n,
		      int64_t expires_ms)
{
	sqlite3_stmt *st = db_start(s, ST_RESULT_PUT);
	db_text(st, 1, tenant);
	db_text(st, 2, key);
	db_blob(st, 3, request, STORE_HASH_LEN);
	db_blob(st, 4, body, n);
	db_int(st, 5, expires_ms);
	db_change(s, st);
}
