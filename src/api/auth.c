/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A key is looked up by its hash. Who sends one that never was learns just that; who sends one that
 * was revoked or has expired holds, or held, the secret, and is told which of the two, and which
 * key. Then its tenant must not be disabled, and its role, narrowed by its scopes, must include
 * what the route needs. Which sandbox or snapshot a request means is looked at behind that, by its
 * tenant.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/key.h"
#include "api/tenant.h"
#include "api/text.h"
#include "store/store.h"

/* "Bearer x" -> "x", or NULL. */
static const char *bearer(const struct http_req *r)
{
	const char *v = http_header(r, "Authorization");
	if (!v || strncasecmp(v, "Bearer ", 7) != 0)
		return NULL;
	v += 7;
	return v + strspn(v, " ");
}

static void refuse_key(struct call *c, const struct brig_err *err)
{
	http_answer_header(c->r, "WWW-Authenticate", "Bearer");
	call_fail_details(c, 401, err, NULL);
}

/* The live key that was sent; NULL: refused. */
static const struct store_key *key_of(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	char when[TEXT_TIME_MAX];
	uint8_t hash[STORE_HASH_LEN];
	const char *sent = http_header(c->r, "X-API-KEY");
	if (!sent)
		sent = bearer(c->r);
	const struct store_key *k = NULL;
	if (sent) {
		text_sha256(sent, strlen(sent), hash);
		k = store_key_find(c->api->store, hash);
	}
	if (k)
		auditor_who(c->r, k->tenant, k->id, false);
	if (!k) {
		brig_err_set(&err, BRIG_E_DENIED, 0,
			     sent ? "the API key is not known" : "no API key was sent");
		brig_err_remedy(&err,
				"send a key in the header X-API-KEY; `brig key create` makes one");
	} else if (k->revoked_ms) {
		text_time(k->revoked_ms, when);
		brig_err_set(&err, BRIG_E_DENIED, 0, "the API key '%s' was revoked at %s", k->id,
			     when);
		brig_err_remedy(&err,
				"use the key that took its place, or have one made: `brig key "
				"create`");
	} else if (k->expires_ms && k->expires_ms <= wall_ms()) {
		text_time(k->expires_ms, when);
		brig_err_set(&err, BRIG_E_DENIED, 0, "the API key '%s' expired at %s", k->id, when);
		brig_err_remedy(&err, "have it replaced: `brig key rotate %s`", k->id);
	} else {
		return k;
	}
	refuse_key(c, &err);
	return NULL;
}

static void refuse_tenant(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_DENIED, 0, "tenant '%s' is disabled", c->tenant);
	brig_err_remedy(&err, "the operator enables it with `brig tenant enable %s`", c->tenant);
	call_fail_details(c, 403, &err, json_pack("{s:s}", "tenant", c->tenant));
}

static void refuse_route(struct call *c, const char *role, perm_set scopes)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *need = perm_name(c->route->needs);
	json_t *details = json_pack("{s:s,s:s,s:s,s:o}", "key", c->key_id, "role", role, "needed",
				    need, "scopes", scopes ? scopes_json(scopes) : json_null());
	if (c->route->needs == PERM_OPERATOR) {
		brig_err_set(&err, BRIG_E_DENIED, 0,
			     "this is the operator's to do, and no key's (role %s)", role);
		brig_err_remedy(&err, "run `brig tenant` where the server runs");
	} else if (role_perms(role) & PERM_BIT(c->route->needs)) {
		brig_err_set(&err, BRIG_E_DENIED, 0,
			     "the key's role %s includes %s, but its scopes do not", role, need);
		brig_err_remedy(&err, "use a key with the scope %s, or with none", need);
	} else {
		brig_err_set(&err, BRIG_E_DENIED, 0, "the key's role %s does not include %s", role,
			     need);
		brig_err_remedy(&err, "use a key of role %s: `brig key create --role %s`",
				c->route->needs == PERM_KEYS ? "admin" : "developer",
				c->route->needs == PERM_KEYS ? "admin" : "developer");
	}
	call_fail_details(c, 403, &err, details);
}

bool call_authenticate(struct call *c)
{
	const struct store_key *k;
	const struct tenant *t;
	perm_set scopes = 0;
	c->operator= strcmp(http_peer(c->r), "unix") == 0;
	snprintf(c->tenant, sizeof(c->tenant), "%s", KEY_TENANT_DEFAULT);
	if (c->operator || c->route->needs == PERM_OPEN)
		auditor_who(c->r, c->operator ? "" : c->tenant, NULL, c->operator);
	if (c->operator) {
		c->perms = PERM_ALL | PERM_BIT(PERM_OPERATOR);
		return true;
	}
	if (c->route->needs == PERM_OPEN)
		return true;
	if (!(k = key_of(c)))
		return false;
	snprintf(c->tenant, sizeof(c->tenant), "%s", k->tenant);
	snprintf(c->key_id, sizeof(c->key_id), "%s", k->id);
	c->key_expires_ms = k->expires_ms;
	http_note_key(c->r, k->id);
	/* Scopes that this brig does not know are not none. */
	c->perms = scopes_parse(k->scopes, &scopes) < 0 ? 0 : perms_of(k->role, scopes);
	store_key_used(c->api->store, k->id, wall_ms());
	t = tenant_find(c->api, c->tenant);
	if (!t || t->disabled) {
		refuse_tenant(c);
		return false;
	}
	if (c->route->needs != PERM_ANY && !call_may(c, c->route->needs)) {
		refuse_route(c, k->role, scopes);
		return false;
	}
	return true;
}
