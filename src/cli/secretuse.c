/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A value must reach the command's environment and nothing else: no argument, no output, no file. A
 * server elsewhere looks the names up itself, so that no value travels. The one of this machine is
 * two processes that do not know each other's trade: brig-api keeps secrets and may not be believed
 * with a sandbox's volumes, brigd makes sandboxes and cannot read the database. So this process,
 * whose user owns both, carries the value from one to the other. From then on it can neither be
 * traced by others of its user nor leave a core file, and what it held is overwritten as soon as
 * the request has been written.
 *
 * A private server keeps no secrets: it has no database.
 */
#include "cli/secretuse.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/fd.h"
#include "cli/apicall.h"
#include "cli/remote.h"

/* As brig-api has it: src/api/secrets.h. */
#define SECRET_NAME_MAX 64u
#define VARIABLE_MAX 128u

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool name_ok(const char *s, size_t n)
{
	return n >= 1 && n <= SECRET_NAME_MAX && strspn(s, LETTERS DIGITS "_.-") >= n;
}

static bool variable_ok(const char *s)
{
	size_t n = strspn(s, LETTERS DIGITS "_");
	return n >= 1 && n <= VARIABLE_MAX && s[n] == '\0' && !strchr(DIGITS, s[0]);
}

/* {"VARIABLE": "name"}; NULL with err. */
static json_t *wanted(const struct strlist *texts, struct brig_err *err)
{
	json_t *o = json_object();
	for (size_t i = 0; o && i < texts->n; i++) {
		const char *text = texts->v[i], *eq = strchr(text, '=');
		size_t n = eq ? (size_t)(eq - text) : strlen(text);
		const char *variable = eq ? eq + 1 : text;
		if (!name_ok(text, n))
			brig_err_set(err, BRIG_E_INVALID, 0,
				     "--secret '%.80s': a name is 1 to %u of a-z A-Z 0-9 _ . -",
				     text, SECRET_NAME_MAX);
		else if (!variable_ok(variable)) {
			brig_err_set(err, BRIG_E_INVALID, 0,
				     "--secret '%.80s': '%.80s' is no name of a variable", text,
				     variable);
			brig_err_remedy(err, "name one, as in --secret %.*s=TOKEN",
					(int)(n < 64 ? n : 64), text);
		} else if (json_object_get(o, variable))
			brig_err_set(err, BRIG_E_INVALID, 0,
				     "--secret names variable '%.80s' twice", variable);
		else if (json_object_set_new(o, variable, json_stringn(text, n)) == 0)
			continue;
		else
			brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
		json_decref(o);
		return NULL;
	}
	if (!o)
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	return o;
}

/* The parser and the writer of JSON copy texts as their buffers grow. */
static void free_wiped(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void wipe(json_t *list)
{
	json_t *v;
	size_t i;
	json_array_foreach(list, i, v) if (json_is_string(v))
		explicit_bzero((char *)(uintptr_t)json_string_value(v), json_string_length(v));
}

int secretuse_add(json_t *object, const struct strlist *texts, bool *ret_usage,
		  struct brig_err *err)
{
	json_t *answer = NULL;
	if (texts->n == 0)
		return 0;
	json_t *want = wanted(texts, err);
	*ret_usage = !want;
	if (!want)
		return -1;
	if (remote_wanted())
		return json_object_set_new(object, "secrets", want) == 0
			       ? 0
			       : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	(void)prctl(PR_SET_DUMPABLE, 0);
	json_set_alloc_funcs(malloc, free_wiped);
	if (api_call("POST", "/v1/secret-env", json_pack("{s:o}", "secrets", want), &answer, err) <
	    0)
		return brig_ctx(err, "--secret needs the server that keeps secrets");
	json_t *list = json_incref(json_object_get(answer, "secret_env"));
	json_decref(answer);
	if (!json_is_array(list) || json_array_size(list) != texts->n ||
	    json_object_set(object, "secret_env", list) < 0) {
		wipe(list);
		json_decref(list);
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the server gave no secrets");
	}
	json_decref(list);
	return 0;
}

void secretuse_wipe(const json_t *req)
{
	wipe(json_object_get(req, "secret_env"));
	wipe(json_object_get(json_object_get(req, "spec"), "secret_env"));
}
