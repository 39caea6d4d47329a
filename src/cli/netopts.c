/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/netopts.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "brig/egress_proto.h"
#include "cli/apicall.h"
#include "cli/remote.h"

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

/* rate_out=1M, connections=20 */
static int limit_add(json_t *o, const char *text, struct brig_err *err)
{
	static const struct {
		const char *flag, *key;
		int (*parse)(const char *text, uint64_t *ret);
		uint64_t min, max;
	} rows[] = { { "rate_out=", "rate_out", size_parse_bytes, 1024, 1ull << 50 },
		     { "rate_in=", "rate_in", size_parse_bytes, 1024, 1ull << 50 },
		     { "connections=", "connections", size_parse_count, 1, 65536 },
		     { "connects=", "connects_per_second", size_parse_count, 1, 1000000 } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = strlen(rows[i].flag);
		uint64_t v = 0;
		if (strncmp(text, rows[i].flag, n) != 0)
			continue;
		if (rows[i].parse(text + n, &v) < 0 || v < rows[i].min || v > rows[i].max)
			break;
		json_object_set_new(o, rows[i].key, json_integer((json_int_t)v));
		return 0;
	}
	brig_err_set(err, BRIG_E_INVALID, 0, "--net-limit '%.64s' is not WHAT=N, or N is out of range", text);
	return brig_fix(err, "rate_out=1M or rate_in=1M (bytes a second, at least 1K), connections=20 (1 to 65536), "
			     "connects=10 (1 to 1000000)");
}

static int networks_add(json_t *o, const struct net_opts *opts, struct brig_err *err)
{
	json_t *all = json_array();
	bool none = opts->networks.n == 1 && strcmp(opts->networks.v[0], "none") == 0;
	json_object_set_new(o, "networks", all);
	for (size_t i = 0; i < opts->networks.n && !none; i++) {
		json_t *one = json_pack("{s:s}", "name", opts->networks.v[i]);
		if (!one || json_array_append_new(all, one) < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "--network '%.64s' is not valid UTF-8",
					 opts->networks.v[i]);
		if (opts->aliases.n && list_add(one, "aliases", &opts->aliases, err) < 0)
			return -1;
	}
	return 0;
}

int net_opts_known(const json_t *network, struct brig_err *err)
{
	size_t i;
	const json_t *v;
	json_array_foreach(json_object_get(network, "networks"), i, v)
	{
		char path[128];
		const char *name = json_string_value(json_object_get(v, "name"));
		json_t *is = NULL;
		if (remote_wanted())
			return 0;
		/* What cannot be part of a path is no name of a network either: brigd tells. */
		if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != strlen(name) || strlen(name) > 63)
			continue;
		snprintf(path, sizeof(path), "/v1/networks/%s", name);
		if (api_call("GET", path, NULL, &is, err) < 0) {
			if (err->code == BRIG_E_NOT_FOUND && strstr(err->msg, "network"))
				return brig_fix(err, "`brig network create %s` makes it", name);
			return brig_ctx(err, "--network needs the server that keeps networks");
		}
		json_decref(is);
	}
	return 0;
}

int net_opts_json(const struct net_opts *o, json_t **ret, struct brig_err *err)
{
	const struct {
		const char *key;
		const struct strlist *list;
	} lists[] = { { "allow", &o->allow }, { "deny", &o->deny }, { "grant", &o->grant } };
	*ret = NULL;
	if (o->aliases.n && !o->networks.n) {
		brig_err_set(err, BRIG_E_INVALID, 0, "--alias is a name in a network, and none was given");
		return brig_fix(err, "name it: --network NAME --alias %s", o->aliases.v[0]);
	}
	if (!o->mode && !o->allow.n && !o->deny.n && !o->grant.n && !o->budget.n && !o->networks.n &&
	    !o->limit.n)
		return 0;
	json_t *n = json_object();
	int r = n ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0 && o->mode)
		json_object_set_new(n, "mode", json_string(o->mode));
	for (size_t i = 0; r == 0 && i < sizeof(lists) / sizeof(lists[0]); i++)
		if (lists[i].list->n)
			r = list_add(n, lists[i].key, lists[i].list, err);
	if (r == 0 && o->networks.n)
		r = networks_add(n, o, err);
	for (size_t i = 0; r == 0 && i < o->limit.n; i++)
		r = limit_add(n, o->limit.v[i], err);
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
	return json_array_size(json_object_get(network, "networks")) ||
	       json_array_size(json_object_get(network, "allow")) ||
	       json_array_size(json_object_get(network, "deny")) ||
	       json_array_size(json_object_get(network, "grant"));
}
