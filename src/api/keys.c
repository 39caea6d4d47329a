/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.c: /v1/keys. A key is shown when it is made, and never again.
 *
 * An operator manages the keys of all tenants, a key with the permission `keys` those of its own.
 * Such a key makes none that may do more, or lives longer, than itself: a narrow key that leaks
 * must not become a wide one.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/key.h"
#include "api/tenant.h"
#include "api/text.h"
#include "daemon/fields.h"
#include "store/store.h"

/* "e2b_" and hexadecimal digits: older E2B clients insist on that form. */
#define KEY_PREFIX "e2b_"
#define KEY_BYTES 32 /* 256 bits */

static bool word_ok(const char *s, size_t max)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	return n >= 1 && n < max && s[n] == '\0';
}

static json_t *time_json(int64_t ms)
{
	char text[TEXT_TIME_MAX];
	text_time(ms, text);
	return ms ? json_string(text) : json_null();
}

static perm_set scopes_of(const struct store_key *k)
{
	perm_set set = 0;
	(void)scopes_parse(k->scopes, &set);
	return set;
}

static json_t *key_json(const struct store_key *k)
{
	bool expired = k->expires_ms && k->expires_ms <= wall_ms();
	return json_pack("{s:s,s:s,s:s,s:s,s:o,s:s,s:o,s:o,s:o}", "id", k->id, "name", k->name,
			 "tenant", k->tenant, "role", k->role, "scopes",
			 k->scopes[0] ? scopes_json(scopes_of(k)) : json_null(), "state",
			 expired ? "expired" : "active", "created", time_json(k->created_ms),
			 "expires", time_json(k->expires_ms), "last_used", time_json(k->used_ms));
}

int key_make(struct api *a, struct store_key *k, const char *replaces, int64_t until_ms,
	     char ret[API_KEY_MAX], struct brig_err *err)
{
	k->created_ms = wall_ms();
	k->used_ms = k->revoked_ms = 0;
	if (text_token(KEY_PREFIX, KEY_BYTES, ret, API_KEY_MAX) < 0 ||
	    text_token("key", 6, k->id, sizeof(k->id)) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "no random bytes");
	text_sha256(ret, strlen(ret), k->hash);
	return replaces ? store_key_rotate(a->store, replaces, k, until_ms, k->created_ms, err)
			: store_key_add(a->store, k, err);
}

static void tell_made(struct call *c, const struct store_key *k, char key[API_KEY_MAX])
{
	json_t *o = key_json(k);
	auditor_subject(c->r, k->id);
	json_object_set_new(o, "key", json_string(key));
	OPENSSL_cleanse(key, API_KEY_MAX);
	http_answer_header(c->r, "Cache-Control", "no-store");
	http_reply_json(c->r, 201, o);
}

/* Nobody gives away more than he has. */
static int within_own(const struct call *c, const struct store_key *k, struct brig_err *err)
{
	perm_set more = perms_of(k->role, scopes_of(k)) & ~c->perms;
	char text[SCOPES_TEXT_MAX];
	if (more) {
		scopes_text(more, text);
		brig_err_set(err, BRIG_E_DENIED, 0, "the new key could do what yours may not: %s",
			     text);
		return brig_fix(err, "give it fewer scopes, or use a key that has these");
	}
	if (c->key_expires_ms && (!k->expires_ms || k->expires_ms > c->key_expires_ms)) {
		brig_err_set(err, BRIG_E_DENIED, 0, "the new key would outlive yours");
		return brig_fix(err, "say 'expires_in_s', at most what is left of your key");
	}
	return 0;
}

static int expiry_parse(json_t *body, int64_t *ret_ms, struct brig_err *err)
{
	uint64_t s = 0;
	if (field_u64(body, "expires_in_s", 1, KEY_LIFE_MAX_S, &s, err) < 0)
		return -1;
	if (s)
		*ret_ms = wall_ms() + (int64_t)s * 1000;
	return 0;
}

static int names_parse(struct call *c, struct store_key *k, struct brig_err *err)
{
	const char *name = "unnamed", *tenant = c->tenant, *role = ROLE_DEFAULT;
	json_t *list = NULL;
	perm_set scopes = 0;
	if (field_str(c->body, "name", 128, &name, err) < 0 ||
	    field_str(c->body, "tenant", 128, &tenant, err) < 0 ||
	    field_str(c->body, "role", 64, &role, err) < 0 ||
	    field_strings(c->body, "scopes", PERM__N, 1024, &list, err) < 0)
		return -1;
	if (!word_ok(name, sizeof(k->name)))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'name' is of a-z A-Z 0-9 _ . -, at most %zu characters",
				 sizeof(k->name) - 1);
	if (!role_perms(role)) {
		brig_err_set(err, BRIG_E_INVALID, 0, "there is no role '%.64s'", role);
		return brig_fix(err, "roles are %s", role_names());
	}
	if (list && json_array_size(list) == 0)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'scopes' is empty: leave it out for all that the role has");
	if (scopes_from_json(list, role, &scopes, err) < 0)
		return -1;
	/* One that is not there is told like one that is another's. */
	if ((!c->operator&& strcmp(tenant, c->tenant) != 0) || !tenant_find(c->api, tenant)) {
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "there is no tenant '%.64s'", tenant);
		return brig_fix(err, "the operator makes one with `brig tenant create`");
	}
	snprintf(k->name, sizeof(k->name), "%s", name);
	snprintf(k->tenant, sizeof(k->tenant), "%s", tenant);
	snprintf(k->role, sizeof(k->role), "%s", role);
	scopes_text(scopes, k->scopes);
	return 0;
}

static void key_create(struct call *c)
{
	static const char *const known[] = { "name",   "tenant",       "role",
					     "scopes", "expires_in_s", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct store_key k = { .name = "" };
	char key[API_KEY_MAX];
	if (fields_known(c->body, "the body", known, &err) < 0 || names_parse(c, &k, &err) < 0 ||
	    expiry_parse(c->body, &k.expires_ms, &err) < 0 || within_own(c, &k, &err) < 0 ||
	    key_make(c->api, &k, NULL, 0, key, &err) < 0)
		call_fail(c, &err);
	else
		tell_made(c, &k, key);
}

static void key_list(struct call *c)
{
	json_t *all = json_array();
	const struct store_key *k;
	for (size_t i = 0; (k = store_key_at(c->api->store, i)); i++)
		if (!k->revoked_ms && call_may_see(c, k->tenant))
			json_array_append_new(all, key_json(k));
	http_reply_json(c->r, 200, json_pack("{s:o}", "keys", all));
}

/* The key that arg[0] names; NULL: 404 was answered. */
static const struct store_key *key_named(struct call *c)
{
	const struct store_key *k = store_key_get(c->api->store, c->arg[0]);
	if (k && call_may_see(c, k->tenant))
		return k;
	call_fail_text(c, 404, "there is no key '%.64s'", c->arg[0]);
	return NULL;
}

static void key_get(struct call *c)
{
	const struct store_key *k = key_named(c);
	if (k)
		http_reply_json(c->r, 200, key_json(k));
}

static void key_revoke(struct call *c)
{
	if (!key_named(c))
		return;
	store_key_revoke(c->api->store, c->arg[0], wall_ms());
	http_reply_empty(c->r, 204);
}

/* The new one has what the old one had, and as long a life. */
static void key_rotate(struct call *c)
{
	static const char *const known[] = { "overlap_s", "expires_in_s", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	uint64_t overlap_s = 0;
	char key[API_KEY_MAX];
	const struct store_key *old = key_named(c);
	if (!old)
		return;
	struct store_key k = *old;
	int64_t now = wall_ms();
	if (old->expires_ms)
		k.expires_ms = now + (old->expires_ms - old->created_ms);
	if (fields_known(c->body, "the body", known, &err) < 0 ||
	    field_u64(c->body, "overlap_s", 0, KEY_OVERLAP_MAX_S, &overlap_s, &err) < 0 ||
	    expiry_parse(c->body, &k.expires_ms, &err) < 0 || within_own(c, &k, &err) < 0 ||
	    key_make(c->api, &k, c->arg[0], now + (int64_t)overlap_s * 1000, key, &err) < 0)
		call_fail(c, &err);
	else
		tell_made(c, &k, key);
}

const struct route keys_routes[] = {
	{ "POST", "/v1/keys", ROUTE_BODY, PERM_KEYS, key_create },
	{ "GET", "/v1/keys", 0, PERM_KEYS, key_list },
	{ "GET", "/v1/keys/{}", 0, PERM_KEYS, key_get },
	{ "DELETE", "/v1/keys/{}", 0, PERM_KEYS, key_revoke },
	{ "POST", "/v1/keys/{}/rotate", ROUTE_BODY, PERM_KEYS, key_rotate },
	{ .method = NULL },
};
