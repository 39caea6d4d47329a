/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: there are few keys and each request has one, so all are kept in memory. A
 * look-up compares with every one of them, whole, so its time tells nothing about any.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "store/db.h"

#define USED_STEP_MS 60000

int keys_load(struct store *s, struct brig_err *err)
{
	sqlite3_stmt *st = db_start(s, ST_KEY_ALL);
	s->keys = calloc(STORE_KEYS_MAX, sizeof(*s->keys));
	if (!s->keys)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "load the keys");
	while (db_row(s, st)) {
		struct store_key *k = &s->keys[s->nkeys];
		if (s->nkeys == STORE_KEYS_MAX || sqlite3_column_bytes(st, 3) != STORE_HASH_LEN) {
			db_end(st);
			return brig_fail(err, BRIG_E_CORRUPT, 0, "api.db has %s",
					 s->nkeys == STORE_KEYS_MAX ? "too many keys"
								    : "a malformed key");
		}
		db_copy(st, 0, k->id, sizeof(k->id));
		db_copy(st, 1, k->name, sizeof(k->name));
		db_copy(st, 2, k->tenant, sizeof(k->tenant));
		memcpy(k->hash, sqlite3_column_blob(st, 3), STORE_HASH_LEN);
		k->created_ms = sqlite3_column_int64(st, 4);
		k->used_ms = sqlite3_column_int64(st, 5);
		s->nkeys++;
	}
	return 0;
}

int store_key_add(struct store *s, const struct store_key *k, struct brig_err *err)
{
	if (s->nkeys == STORE_KEYS_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u keys already", STORE_KEYS_MAX);
		return brig_fix(err, "revoke those that are not used");
	}
	sqlite3_stmt *st = db_start(s, ST_KEY_ADD);
	db_text(st, 1, k->id);
	db_text(st, 2, k->name);
	db_text(st, 3, k->tenant);
	db_blob(st, 4, k->hash, STORE_HASH_LEN);
	db_int(st, 5, k->created_ms);
	db_int(st, 6, k->used_ms);
	if (db_change(s, st) < 0)
		return brig_fail(err, BRIG_E_EXISTS, 0, "key '%s' exists", k->id);
	s->keys[s->nkeys++] = *k;
	return 0;
}

const struct store_key *store_key_find(struct store *s, const uint8_t hash[STORE_HASH_LEN])
{
	const struct store_key *found = NULL;
	for (size_t i = 0; i < s->nkeys; i++)
		if (CRYPTO_memcmp(s->keys[i].hash, hash, STORE_HASH_LEN) == 0)
			found = &s->keys[i];
	return found;
}

static struct store_key *by_id(struct store *s, const char *id)
{
	for (size_t i = 0; i < s->nkeys; i++)
		if (strcmp(s->keys[i].id, id) == 0)
			return &s->keys[i];
	return NULL;
}

void store_key_used(struct store *s, const char *id, int64_t now_ms)
{
	struct store_key *k = by_id(s, id);
	if (!k || now_ms - k->used_ms < USED_STEP_MS)
		return;
	k->used_ms = now_ms;
	sqlite3_stmt *st = db_start(s, ST_KEY_USED);
	db_int(st, 1, now_ms);
	db_text(st, 2, id);
	db_change(s, st);
}

const struct store_key *store_key_at(const struct store *s, size_t i)
{
	return i < s->nkeys ? &s->keys[i] : NULL;
}

bool store_key_remove(struct store *s, const char *id)
{
	struct store_key *k = by_id(s, id);
	if (!k)
		return false;
	sqlite3_stmt *st = db_start(s, ST_KEY_REMOVE);
	db_text(st, 1, id);
	db_change(s, st);
	size_t at = (size_t)(k - s->keys);
	memmove(k, k + 1, (s->nkeys - at - 1) * sizeof(*k));
	s->nkeys--;
	return true;
}
