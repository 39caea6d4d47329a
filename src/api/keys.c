/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c: /v1/keys, over the operator's socket only: a key is shown when it is made, and never
 * again. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/key.h"
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

static json_t *key_json(const struct store_key *k)
{
	char created[TEXT_TIME_MAX], used[TEXT_TIME_MAX] = "";
	text_time(k->created_ms, created);
	if (k->used_ms)
		text_time(k->used_ms, used);
	return json_pack("{s:s,s:s,s:s,s:s,s:o}", "id", k->id, "name", k->name, "tenant", k->tenant,
			 "created", created, "last_used",
			 k->used_ms ? json_string(used) : json_null());
}

int key_make(struct api *a, const char *name, const char *tenant, struct store_key *ret_record,
	     char ret[API_KEY_MAX], struct brig_err *err)
{
	struct store_key k = { .created_ms = wall_ms() };
	snprintf(k.name, sizeof(k.name), "%s", name);
	snprintf(k.tenant, sizeof(k.tenant), "%s", tenant);
	if (text_token(KEY_PREFIX, KEY_BYTES, ret, API_KEY_MAX) < 0 ||
	    text_token("key", 6, k.id, sizeof(k.id)) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "no random bytes");
	text_sha256(ret, strlen(ret), k.hash);
	if (store_key_add(a->store, &k, err) < 0)
		return -1;
	*ret_record = k;
	return 0;
}

static void key_create(struct call *c)
{
	static const char *const known[] = { "name", "tenant", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct store_key k;
	const char *name = "unnamed", *tenant = KEY_TENANT_DEFAULT;
	char key[API_KEY_MAX];
	if (fields_known(c->body, "the body", known, &err) < 0 ||
	    field_str(c->body, "name", 128, &name, &err) < 0 ||
	    field_str(c->body, "tenant", 128, &tenant, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (!word_ok(name, sizeof(k.name)) || !word_ok(tenant, sizeof(k.tenant))) {
		call_fail_text(c, 400,
			       "'name' and 'tenant' are of a-z A-Z 0-9 _ . -, at most %zu and %zu "
			       "characters",
			       sizeof(k.name) - 1, sizeof(k.tenant) - 1);
		return;
	}
	if (key_make(c->api, name, tenant, &k, key, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	auditor_subject(c->r, k.id);
	json_t *o = key_json(&k);
	json_object_set_new(o, "key", json_string(key));
	OPENSSL_cleanse(key, sizeof(key));
	http_answer_header(c->r, "Cache-Control", "no-store");
	http_reply_json(c->r, 201, o);
}

static void key_list(struct call *c)
{
	json_t *all = json_array();
	const struct store_key *k;
	for (size_t i = 0; (k = store_key_at(c->api->store, i)); i++)
		json_array_append_new(all, key_json(k));
	http_reply_json(c->r, 200, json_pack("{s:o}", "keys", all));
}

static void key_revoke(struct call *c)
{
	if (store_key_remove(c->api->store, c->arg[0]))
		http_reply_empty(c->r, 204);
	else
		call_fail_text(c, 404, "there is no key '%.64s'", c->arg[0]);
}

const struct route keys_routes[] = {
	{ "POST", "/v1/keys", ROUTE_OPERATOR | ROUTE_BODY, key_create },
	{ "GET", "/v1/keys", ROUTE_OPERATOR, key_list },
	{ "DELETE", "/v1/keys/{}", ROUTE_OPERATOR, key_revoke },
	{ .method = NULL },
};
