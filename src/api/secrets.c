/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A value comes in by PUT, is encrypted, and goes out to brigd only, in the one field of a sandbox's
 * specification that no operation shows. It is in no record of a sandbox (so in no snapshot, fork,
 * event or answer) and is read from the database again for each sandbox that asks for it. What held
 * it in between is overwritten: the request's body, the strings of the specification, the frame to
 * brigd's text. The key lies in a page that no core file has; core files are off besides.
 *
 * The key's file is not below this process's folder: it came as a descriptor. If it is not the key
 * that the records were made with, nothing is changed and nothing is lost: secrets answer 503 with
 * both ids until the right file is back.
 *
 * A new key (`brig secret rekey`): the command line writes FILE.new, tells us its key, we encrypt
 * everything anew in one transaction, and it renames. Cut off anywhere, one of the two files has the
 * key of the records, and both are given to us at the next start.
 */
#include "api/secrets.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/audit.h"
#include "api/box.h"
#include "api/call.h"
#include "api/key.h"
#include "api/text.h"
#include "daemon/fields.h"
#include "daemon/spec.h"
#include "secret/seal.h"
#include "store/store.h"

struct secrets {
	struct seal_key *key;	  /* NULL: why says so */
	char have[SEAL_KEY_ID_MAX]; /* of the file that was given, for why */
	char want[SEAL_KEY_ID_MAX]; /* of the records, "" = there are none */
};

/* ---- the key ---- */

static void want_one(void *ctx, const struct store_secret *r)
{
	struct secrets *s = ctx;
	snprintf(s->want, sizeof(s->want), "%s", r->key);
}

static struct seal_key *key_read(int fd)
{
	char text[SEAL_KEY_TEXT + 2];
	struct seal_key *k = NULL;
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text), 0);
	if (n > 0 && seal_key_parse(text, (size_t)n, &k) < 0)
		k = NULL;
	OPENSSL_cleanse(text, sizeof(text));
	return k;
}

int secrets_open(struct api *a, const int fds[SECRET_KEYS_MAX], struct brig_err *err)
{
	struct secrets *s = calloc(1, sizeof(*s));
	if (!s)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the secrets");
	a->secrets = s;
	store_secrets(a->store, want_one, s);
	for (unsigned i = 0; i < SECRET_KEYS_MAX && !s->key; i++) {
		struct seal_key *k = key_read(fds[i]);
		if (k && !s->have[0])
			snprintf(s->have, sizeof(s->have), "%s", seal_key_id(k));
		if (k && (!s->want[0] || strcmp(s->want, seal_key_id(k)) == 0))
			s->key = k;
		else
			seal_key_free(k);
	}
	if (!s->key && s->want[0])
		log_line(&a->log, LOG_WARN, NULL,
			 "secrets cannot be used: they need the key %s, and %s%s was given", s->want,
			 s->have[0] ? "key " : "none", s->have);
	return 0;
}

void secrets_close(struct api *a)
{
	if (a->secrets)
		seal_key_free(a->secrets->key);
	free(a->secrets);
	a->secrets = NULL;
}

static int usable(const struct secrets *s, struct brig_err *err)
{
	if (s->key)
		return 0;
	if (s->want[0])
		brig_err_set(err, BRIG_E_UNAVAILABLE, 0,
			     "the secrets were encrypted with the key %s, and the server was given "
			     "%s%s: nothing was changed",
			     s->want, s->have[0] ? "the key " : "none", s->have);
	else
		brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "the server has no key for secrets");
	return brig_fix(err, "put the right key file back (secret.key in the data folder, or "
			     "--secret-key of `brig serve`) and start the server again");
}

/* ---- values ---- */

/* A text that the caller wipes and frees. */
static char *value_open(struct api *a, const struct store_secret *r, size_t *ret_n)
{
	size_t n = r->n >= SEAL_TAG_LEN ? r->n - SEAL_TAG_LEN : 0;
	char *text = malloc(n + 1);
	if (text && unseal(a->secrets->key, r->tenant, r->name, r->nonce, r->value, r->n, text) < 0) {
		free(text);
		return NULL;
	}
	if (text)
		text[n] = '\0';
	*ret_n = n;
	return text;
}

static int value_seal(struct api *a, struct seal_key *key, struct store_secret *r,
		      const char *value, size_t n, struct brig_err *err)
{
	uint8_t *sealed = malloc(n + SEAL_TAG_LEN);
	int ok = sealed && seal(key, r->tenant, r->name, value, n, r->nonce, sealed) == 0;
	int made = ok ? 0 : brig_fail(err, BRIG_E_INTERNAL, 0, "encrypt the secret");
	snprintf(r->key, sizeof(r->key), "%s", seal_key_id(key));
	r->value = sealed;
	r->n = n + SEAL_TAG_LEN;
	if (made == 0)
		made = store_secret_put(a->store, r, err);
	r->value = NULL;
	free(sealed);
	return made;
}

static bool name_ok(const char *name)
{
	size_t n = strspn(name,
			  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	return n >= 1 && n <= SECRET_NAME_MAX && name[n] == '\0';
}

static bool env_name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
	return n >= 1 && n <= 128 && name[n] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

/* ---- for a sandbox ---- */

static int attach_one(struct api *a, const char *tenant, const char *env, const char *name,
		      json_t *list, struct brig_err *err)
{
	struct store_secret r;
	size_t n = 0;
	if (!name || !name_ok(name) || !env_name_ok(env)) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "'secrets' is {\"ENV_NAME\": \"name of a secret\"} or a list of names "
			     "that are names of variables, too");
		return -1;
	}
	if (!store_secret_get(a->store, tenant, name, &r)) {
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "there is no secret '%s'", name);
		return brig_fix(err, "`brig secret set %s` makes it", name);
	}
	char *value = value_open(a, &r, &n);
	free(r.value);
	if (!value)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "secret '%s' was changed in the database",
				 name);
	size_t head = strlen(env) + 1;
	char *entry = malloc(head + n + 1);
	json_t *text = NULL;
	if (entry) {
		snprintf(entry, head + 1, "%s=", env);
		memcpy(entry + head, value, n + 1);
		text = json_stringn(entry, head + n);
		OPENSSL_cleanse(entry, head + n);
	}
	free(entry);
	OPENSSL_cleanse(value, n);
	free(value);
	return text && json_array_append_new(list, text) == 0
		       ? 0
		       : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "attach the secret");
}

int secrets_resolve(struct api *a, const char *tenant, const json_t *want, json_t *spec,
		    struct brig_err *err)
{
	const char *env;
	json_t *v;
	size_t i;
	int r = 0;
	if (!json_is_object(want) && !json_is_array(want))
		return brig_fail(err, BRIG_E_INVALID, 0, "'secrets' must be an object or an array");
	if (json_object_size(want) + json_array_size(want) > SECRET_PER_TENANT_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than %u 'secrets'",
				 SECRET_PER_TENANT_MAX);
	if (usable(a->secrets, err) < 0)
		return -1;
	json_t *list = json_array();
	/* In the spec from the start: whoever drops that wipes these. */
	json_object_set_new(spec, "secret_env", list);
	json_object_foreach((json_t *)(uintptr_t)want, env, v)
	{
		r = r < 0 ? r : attach_one(a, tenant, env, json_string_value(v), list, err);
	}
	json_array_foreach(want, i, v)
	{
		const char *name = json_string_value(v);
		r = r < 0 ? r : attach_one(a, tenant, name ? name : "", name, list, err);
	}
	if (r < 0) {
		secrets_wipe(list);
		json_object_del(spec, "secret_env");
	}
	return r;
}

int secrets_deny(struct brig_err *err)
{
	brig_err_set(err, BRIG_E_DENIED, 0, "this key may not use secrets");
	return brig_fix(err, "it needs a role or scope with the permission 'secrets'");
}

int secrets_attach(struct call *c, const json_t *want, json_t *spec, struct brig_err *err)
{
	if (!want)
		return 0;
	/* Who runs a command with it can read it. */
	if (!call_may(c, PERM_SECRETS))
		return secrets_deny(err);
	return secrets_resolve(c->api, c->tenant, want, spec, err);
}

void secrets_wipe_spec(json_t *spec)
{
	if (spec && spec->refcount == 1)
		secrets_wipe(json_object_get(spec, "secret_env"));
}

/* ---- routes ---- */

/* Whose secrets: the key's tenant, or what the operator says. */
static const char *tenant_of(struct call *c)
{
	const char *t = c->operator ? http_query(c->r, "tenant") : NULL;
	if (!t)
		return c->tenant;
	if (strlen(t) < sizeof(c->tenant) && name_ok(t))
		return t;
	call_fail_text(c, 400, "'tenant' is malformed");
	return NULL;
}

static json_t *secret_json(const struct store_secret *r)
{
	char created[TEXT_TIME_MAX], updated[TEXT_TIME_MAX];
	text_time(r->created_ms, created);
	text_time(r->updated_ms, updated);
	return json_pack("{s:s,s:s,s:s}", "name", r->name, "created", created, "updated", updated);
}

struct listing {
	const char *tenant;
	json_t *all; /* NULL: counted only */
	unsigned n;
};

static void list_one(void *ctx, const struct store_secret *r)
{
	struct listing *l = ctx;
	if (strcmp(r->tenant, l->tenant) != 0)
		return;
	l->n++;
	if (l->all)
		json_array_append_new(l->all, secret_json(r));
}

static void secret_list(struct call *c)
{
	struct listing l = { .tenant = tenant_of(c) };
	if (!l.tenant)
		return;
	l.all = json_array();
	store_secrets(c->api->store, list_one, &l);
	http_reply_json(c->r, 200, json_pack("{s:o}", "secrets", l.all));
}

static void missing(struct call *c, const char *name)
{
	call_fail_text(c, 404, "there is no secret '%.64s'", name);
}

static void secret_get(struct call *c)
{
	struct store_secret r;
	const char *tenant = tenant_of(c);
	if (!tenant)
		return;
	if (!store_secret_get(c->api->store, tenant, c->arg[0], &r)) {
		missing(c, c->arg[0]);
		return;
	}
	free(r.value);
	http_reply_json(c->r, 200, secret_json(&r));
}

static void secret_delete(struct call *c)
{
	const char *tenant = tenant_of(c);
	if (!tenant)
		return;
	if (store_secret_remove(c->api->store, tenant, c->arg[0]))
		http_reply_empty(c->r, 204);
	else
		missing(c, c->arg[0]);
}

static int put(struct call *c, const char *tenant, const char *value, size_t n,
	       struct store_secret *r, bool *ret_new, struct brig_err *err)
{
	struct store_secret old;
	struct listing l = { .tenant = tenant };
	*r = (struct store_secret){ .created_ms = wall_ms() };
	r->updated_ms = r->created_ms;
	snprintf(r->tenant, sizeof(r->tenant), "%s", tenant);
	snprintf(r->name, sizeof(r->name), "%.*s", (int)SECRET_NAME_MAX, c->arg[0]);
	*ret_new = !store_secret_get(c->api->store, tenant, r->name, &old);
	if (*ret_new) {
		store_secrets(c->api->store, list_one, &l);
		if (l.n >= SECRET_PER_TENANT_MAX) {
			brig_err_set(err, BRIG_E_EXHAUSTED, 0, "the tenant has %u secrets already",
				     l.n);
			return brig_fix(err, "remove those that are not needed");
		}
	} else {
		r->created_ms = old.created_ms;
		free(old.value);
	}
	return value_seal(c->api, c->api->secrets->key, r, value, n, err);
}

static void secret_put(struct call *c)
{
	static const char *const known[] = { "value", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct store_secret r;
	json_t *value = json_object_get(c->body, "value");
	const char *text = json_string_value(value), *tenant = tenant_of(c);
	size_t n = json_string_length(value);
	bool made = false;
	/* The body's text is of no more use. */
	http_body_wipe(c->r);
	if (!tenant)
		return;
	if (!name_ok(c->arg[0]))
		call_fail_text(c, 400, "a name is 1 to %u of a-z A-Z 0-9 _ . -", SECRET_NAME_MAX);
	else if (fields_known(c->body, "the body", known, &err) < 0 ||
		 usable(c->api->secrets, &err) < 0)
		call_fail(c, &err);
	else if (!text || n < 1 || n > SECRET_VALUE_MAX)
		call_fail_text(c, 400, "'value' is a text of 1 to %u bytes, without NUL",
			       SECRET_VALUE_MAX);
	else if (put(c, tenant, text, n, &r, &made, &err) < 0)
		call_fail(c, &err);
	else
		http_reply_json(c->r, made ? 201 : 200, secret_json(&r));
	if (text)
		OPENSSL_cleanse((char *)(uintptr_t)text, n);
}

/* For `brig run --secret` on this machine, whose brigd it talks to itself. Who may open this socket
 * owns the key and the database as well. */
static void secret_env(struct call *c)
{
	static const char *const known[] = { "secrets", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	const char *tenant = tenant_of(c);
	json_t *want = json_object_get(c->body, "secrets"), *o = json_object();
	if (!tenant) {
		json_decref(o);
		return;
	}
	if (fields_known(c->body, "the body", known, &err) < 0 ||
	    (want ? secrets_resolve(c->api, tenant, want, o, &err)
		  : brig_fail(&err, BRIG_E_INVALID, 0, "'secrets' is missing")) < 0)
		call_fail(c, &err);
	else
		http_reply_secret(c->r, 200, o);
	secrets_wipe_spec(o);
	json_decref(o);
}

/* ---- another key ---- */

struct rekey {
	struct api *a;
	struct store_secret *all;
	unsigned n;
};

static void rekey_one(void *ctx, const struct store_secret *r)
{
	struct rekey *k = ctx;
	if (k->n < STORE_SECRETS_MAX)
		k->all[k->n++] = *r;
}

static int rekey(struct api *a, struct seal_key *key, unsigned *ret_n, struct brig_err *err)
{
	struct rekey k = { .a = a, .all = calloc(STORE_SECRETS_MAX, sizeof(*k.all)) };
	int r = k.all ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the secrets");
	if (r < 0)
		return -1;
	store_secrets(a->store, rekey_one, &k);
	store_begin(a->store);
	for (unsigned i = 0; i < k.n && r == 0; i++) {
		struct store_secret s;
		size_t n = 0;
		if (!store_secret_get(a->store, k.all[i].tenant, k.all[i].name, &s))
			continue;
		char *value = value_open(a, &s, &n);
		free(s.value);
		r = value ? value_seal(a, key, &s, value, n, err)
			  : brig_fail(err, BRIG_E_CORRUPT, 0,
				      "secret '%s' of tenant '%s' was changed in the database: "
				      "nothing was encrypted anew",
				      s.name, s.tenant);
		if (value)
			OPENSSL_cleanse(value, n);
		free(value);
	}
	if (r == 0)
		store_commit(a->store);
	else
		store_rollback(a->store);
	*ret_n = k.n;
	free(k.all);
	return r;
}

static void key_show(struct call *c)
{
	const struct secrets *s = c->api->secrets;
	http_reply_json(c->r, 200,
			json_pack("{s:s?,s:s?}", "key", s->key ? seal_key_id(s->key) : NULL, "needs",
				  s->want[0] ? s->want : NULL));
}

static void key_replace(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct secrets *s = c->api->secrets;
	json_t *v = json_object_get(c->body, "key");
	const char *text = json_string_value(v);
	struct seal_key *key = NULL;
	unsigned n = 0;
	http_body_wipe(c->r);
	if (!text || seal_key_parse(text, json_string_length(v), &key) < 0) {
		call_fail_text(c, 400, "'key' is no key of %u hexadecimal digits", SEAL_KEY_TEXT);
	} else if (usable(s, &err) < 0 || rekey(c->api, key, &n, &err) < 0) {
		seal_key_free(key);
		call_fail(c, &err);
	} else {
		seal_key_free(s->key);
		s->key = key;
		snprintf(s->have, sizeof(s->have), "%s", seal_key_id(key));
		snprintf(s->want, sizeof(s->want), "%s", n ? seal_key_id(key) : "");
		auditor_subject(c->r, seal_key_id(key));
		http_reply_json(c->r, 200,
				json_pack("{s:s,s:i}", "key", seal_key_id(key), "secrets", (int)n));
	}
	if (text)
		OPENSSL_cleanse((char *)(uintptr_t)text, json_string_length(v));
}

const struct route secrets_routes[] = {
	{ "GET", "/v1/secrets", 0, PERM_SECRETS, secret_list },
	{ "GET", "/v1/secrets/{}", 0, PERM_SECRETS, secret_get },
	{ "PUT", "/v1/secrets/{}", ROUTE_BODY, PERM_SECRETS, secret_put },
	{ "DELETE", "/v1/secrets/{}", 0, PERM_SECRETS, secret_delete },
	{ "POST", "/v1/secret-env", ROUTE_BODY, PERM_OPERATOR, secret_env },
	{ "GET", "/v1/secret-key", 0, PERM_OPERATOR, key_show },
	{ "POST", "/v1/secret-key", ROUTE_BODY, PERM_OPERATOR, key_replace },
	{ .method = NULL },
};
