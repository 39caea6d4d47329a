/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/netopts.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/size.h"
#include "brig/egress_proto.h"

static int list_add(json_t *o, const char *key, const struct strlist *list, struct brig_err *err)
{
	json_t *a = json_array();
	if (json_object_set_new(o, key, a) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	for (size_t i = 0; i < list->n; i++)
		if (json_array_append_new(a, json_string(list->v[i])) < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "--%s '%.64s' is not valid UTF-8", key,
					 list->v[i]);
	return 0;
}

static bool is_amount(const char *name, size_t n)
{
	static const char *const names[] = {
#define X(field, text, what) text,
		BRIG_EGRESS_AMOUNTS(X)
#undef X
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
			return true;
	return false;
}

/* bytes_out=10M, requests@dest=5 */
static int budget_add(json_t *o, const char *text, struct brig_err *err)
{
	const char *eq = strchr(text, '='), *at = memchr(text, '@', eq ? (size_t)(eq - text) : 0);
	size_t n = eq ? (size_t)((at ? at : eq) - text) : 0;
	uint64_t v = 0;
	bool dest = at && strncmp(at, "@dest=", 6) == 0;
	if (!eq || !is_amount(text, n) || (at && !dest) ||
	    (strncmp(text, "bytes", 5) == 0 ? size_parse_bytes(eq + 1, &v) : size_parse_count(eq + 1, &v)) <
		    0 ||
	    v > INT64_MAX) {
		brig_err_set(err, BRIG_E_INVALID, 0, "--net-budget '%.64s' is not WHAT=N", text);
		return brig_fix(err, "WHAT is bytes_out, bytes_in, requests or names, with @dest for each "
				     "destination: bytes_out=10M, requests@dest=100");
	}
	const char *key = dest ? "destination_budget" : "budget";
	json_t *b = json_object_get(o, key);
	if (!b) {
		b = json_object();
		json_object_set_new(o, key, b);
	}
	char name[16] = "";
	memcpy(name, text, n < sizeof(name) ? n : sizeof(name) - 1);
	json_object_set_new(b, name, json_integer((json_int_t)v));
	return 0;
}

int net_opts_json(const struct net_opts *o, json_t **ret, struct brig_err *err)
{
	const struct {
		const char *key;
		const struct strlist *list;
	} lists[] = { { "allow", &o->allow }, { "deny", &o->deny }, { "grant", &o->grant } };
	*ret = NULL;
	if (!o->mode && !o->allow.n && !o->deny.n && !o->grant.n && !o->budget.n)
		return 0;
	json_t *n = json_object();
	int r = n ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0 && o->mode)
		json_object_set_new(n, "mode", json_string(o->mode));
	for (size_t i = 0; r == 0 && i < sizeof(lists) / sizeof(lists[0]); i++)
		if (lists[i].list->n)
			r = list_add(n, lists[i].key, lists[i].list, err);
	for (size_t i = 0; r == 0 && i < o->budget.n; i++)
		r = budget_add(n, o->budget.v[i], err);
	if (r < 0)
		json_decref(n);
	else
		*ret = n;
	return r;
}

bool net_opts_link(const json_t *network)
{
	const char *mode = json_string_value(json_object_get(network, "mode"));
	if (mode)
		return strcmp(mode, "none") != 0;
	return json_array_size(json_object_get(network, "allow")) ||
	       json_array_size(json_object_get(network, "deny")) ||
	       json_array_size(json_object_get(network, "grant"));
}
