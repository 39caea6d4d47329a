/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: there are few keys and each request has one, so all are kept in memory. A
 * look-up compares with every one of them, whole, so its time tells nothing about any.
 *
 * A key that was revoked stays, as its hash, until STORE_REVOKED_MAX others were revoked after it:
 * who still sends it is told what happened, which somebody who guesses never is.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "store/db.h"

#define USED_STEP_MS 60000
#define RECORDS_MAX (STORE_KEYS_MAX + STORE_REVOKED_MAX)

static void row_read(sqlite3_stmt *st, struct store_key *k)
{
	db_copy(st, 0, k->id, sizeof(k->id));
	db_copy(st, 1, k->name, sizeof(k->name));
	db_copy(st, 2, k->tenant, sizeof(k->tenant));
	db_copy(st, 3, k->role, sizeof(k->role));
	db_copy(st, 4, k->scopes, sizeof(k->scopes));
	memcpy(k->hash, sqlite3_column_blob(st, 5), STORE_HASH_LEN);
	k->created_ms = sqlite3_column_int64(st, 6);
	k->used_ms = sqlite3_column_int64(st, 7);
	k->expires_ms = sqlite3_column_int64(st, 8);
	k->revoked_ms = sqlite3_column_int64(st, 9);
}

int keys_load(struct store *s, struct brig_err *err)
{
	sqlite3_stmt *st = db_start(s, ST_KEY_ALL);
	/* One more: a rotation adds before it drops. */
	s->keys = calloc(RECORDS_MAX + 1, sizeof(*s->keys));
	if (!s->keys)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "load the keys");
	while (db_row(s, st)) {
		if (s->nkeys == RECORDS_MAX || sqlite3_column_bytes(st, 5) != STORE_HASH_LEN) {
			db_end(st);
			return brig_fail(err, BRIG_E_CORRUPT, 0, "api.db has %s",
					 s->nkeys == RECORDS_MAX ? "too many keys"
								 : "a malformed key");
		}
		struct store_key *k = &s->keys[s->nkeys++];
		row_read(st, k);
		s->nrevoked += k->revoked_ms != 0;
	}
	return 0;
}

static int room(const struct store *s, struct brig_err *err)
{
	if (s->nkeys - s->nrevoked < STORE_KEYS_MAX)
		return 0;
	brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u keys already", STORE_KEYS_MAX);
	return brig_fix(err, "revoke those that are not used");
}

static int add(struct store *s, const struct store_key *k, struct brig_err *err)
{
	sqlite3_stmt *st = db_start(s, ST_KEY_ADD);
	db_text(st, 1, k->id);
	db_text(st, 2, k->name);
	db_text(st, 3, k->tenant);
	db_text(st, 4, k->role);
	db_text(st, 5, k->scopes);
	db_blob(st, 6, k->hash, STORE_HASH_LEN);
	db_int(st, 7, k->created_ms);
	db_int(st, 8, k->used_ms);
	db_int(st, 9, k->expires_ms);
	db_int(st, 10, k->revoked_ms);
	if (db_change(s, st) < 0)
		return brig_fail(err, BRIG_E_EXISTS, 0, "key '%s' exists", k->id);
	s->keys[s->nkeys++] = *k;
	return 0;
}

int store_key_add(struct store *s, const struct store_key *k, struct brig_err *err)
{
	return room(s, err) < 0 ? -1 : add(s, k, err);
}

const struct store_key *store_key_find(struct store *s, const uint8_t hash[STORE_HASH_LEN])
{
	const struct store_key *found = NULL;
	for (size_t i = 0; i < s->nkeys; i++)
		if (CRYPTO_memcmp(s->keys[i].hash, hash, STORE_HASH_LEN) == 0)
			found = &s->keys[i];
	return found;
}

static struct store_key *by_id(const struct store *s, const char *id)
{
	for (size_t i = 0; i < s->nkeys; i++)
		if (strcmp(s->keys[i].id, id) == 0 && !s->keys[i].revoked_ms)
			return &s->keys[i];
	return NULL;
}

const struct store_key *store_key_get(const struct store *s, const char *id)
{
	return by_id(s, id);
}

static void set_time(struct store *s, enum store_stmt which, const char *id, int64_t ms)
{
	sqlite3_stmt *st = db_start(s, which);
	db_int(st, 1, ms);
	db_text(st, 2, id);
	db_change(s, st);
}

void store_key_used(struct store *s, const char *id, int64_t now_ms)
{
	struct store_key *k = by_id(s, id);
	if (!k || now_ms - k->used_ms < USED_STEP_MS)
		return;
	k->used_ms = now_ms;
	set_time(s, ST_KEY_USED, id, now_ms);
}

const struct store_key *store_key_at(const struct store *s, size_t i)
{
	return i < s->nkeys ? &s->keys[i] : NULL;
}

static void drop(struct store *s, struct store_key *k)
{
	size_t at = (size_t)(k - s->keys);
	s->nrevoked -= k->revoked_ms != 0;
	memmove(k, k + 1, (s->nkeys - at - 1) * sizeof(*k));
	s->nkeys--;
}

/* The one that was revoked first makes room. */
static void forget_oldest(struct store *s)
{
	struct store_key *oldest = NULL;
	for (size_t i = 0; i < s->nkeys; i++) {
		struct store_key *k = &s->keys[i];
		if (k->revoked_ms && (!oldest || k->revoked_ms < oldest->revoked_ms))
			oldest = k;
	}
	if (!oldest)
		return;
	sqlite3_stmt *st = db_start(s, ST_KEY_REMOVE);
	db_text(st, 1, oldest->id);
	db_change(s, st);
	drop(s, oldest);
}

bool store_key_revoke(struct store *s, const char *id, int64_t now_ms)
{
	struct store_key *k = by_id(s, id);
	if (!k)
		return false;
	set_time(s, ST_KEY_REVOKE, id, now_ms);
	k->revoked_ms = now_ms;
	if (++s->nrevoked > STORE_REVOKED_MAX)
		forget_oldest(s);
	return true;
}

int store_key_rotate(struct store *s, const char *old, const struct store_key *made,
		     int64_t until_ms, int64_t now_ms, struct brig_err *err)
{
	struct store_key *k = by_id(s, old);
	bool now = until_ms <= now_ms;
	if (!k)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no key '%.64s'", old);
	/* One that ends now leaves its place to the new one. */
	if (!now && room(s, err) < 0)
		return -1;
	db_change(s, db_start(s, ST_BEGIN));
	int r = add(s, made, err);
	if (r == 0 && now)
		(void)store_key_revoke(s, old, now_ms);
	else if (r == 0 && (k->expires_ms == 0 || k->expires_ms > until_ms))
		set_time(s, ST_KEY_EXPIRE, old, k->expires_ms = until_ms);
	db_change(s, db_start(s, ST_COMMIT));
	return r;
}

void keys_forget(struct store *s, const char *tenant)
{
	for (size_t i = s->nkeys; i-- > 0;)
		if (strcmp(s->keys[i].tenant, tenant) == 0)
			drop(s, &s->keys[i]);
}
