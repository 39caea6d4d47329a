/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/netask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/fields.h"

#define LIST_BYTES_MAX 49152u
#define RATE_MAX (1ull << 50)

const char *const net_lists[] = { "allow", "deny", "grant", NULL };

const char *net_policy_mode(const json_t *policy)
{
	const char *s = json_string_value(json_object_get(policy, "mode"));
	return s ? s : "none";
}

/* ---- parsing ---- */

static int amounts_parse(json_t *obj, const char *key, struct egress_amounts *ret, struct brig_err *err)
{
	static const char *const names[] = {
#define X(field, text, what) text,
		BRIG_EGRESS_AMOUNTS(X)
#undef X
			NULL
	};
	json_t *o = NULL;
#define X(field, text, what) ret->field = EGRESS_NO_LIMIT;
	BRIG_EGRESS_AMOUNTS(X)
#undef X
	if (field_object(obj, key, &o, err) < 0)
		return -1;
	if (!o)
		return 0;
	if (fields_known(o, key, names, err) < 0)
		return -1;
#define X(field, text, what)                                                     \
	if (field_u64(o, text, 0, INT64_MAX, &ret->field, err) < 0)              \
		return brig_ctx(err, "%s", key);
	BRIG_EGRESS_AMOUNTS(X)
#undef X
	return 0;
}

static int terms_parse(json_t *obj, struct egress_lease *t, struct brig_err *err)
{
	const char *tenant = NET_TENANT_LOCAL;
	*t = (struct egress_lease){ .connections_max = 1024,
				    .connects_per_second = EGRESS_NO_LIMIT,
				    .rate_out_bps = EGRESS_NO_LIMIT,
				    .rate_in_bps = EGRESS_NO_LIMIT };
	if (field_str(obj, "tenant", EGRESS_TENANT_MAX - 1, &tenant, err) < 0 ||
	    field_u64(obj, "connections", 1, 65536, &t->connections_max, err) < 0 ||
	    field_u64(obj, "connects_per_second", 1, 1000000, &t->connects_per_second, err) < 0 ||
	    field_u64(obj, "rate_out", 1024, RATE_MAX, &t->rate_out_bps, err) < 0 ||
	    field_u64(obj, "rate_in", 1024, RATE_MAX, &t->rate_in_bps, err) < 0 ||
	    amounts_parse(obj, "budget", &t->budget, err) < 0 ||
	    amounts_parse(obj, "destination_budget", &t->dest_budget, err) < 0 ||
	    amounts_parse(obj, "tenant_budget", &t->tenant_budget, err) < 0)
		return -1;
	snprintf(t->tenant, sizeof(t->tenant), "%s", tenant);
	return 0;
}

/* One rule is one line of the policy. */
static int dest_check(const char *verb, const char *dest, struct brig_err *err)
{
	size_t n = strlen(dest);
	int clean = n > 0 && n < EGRESS_RULE_MAX - 16;
	for (size_t i = 0; i < n; i++)
		clean = clean && (unsigned char)dest[i] > 0x20 && (unsigned char)dest[i] < 0x7f;
	if (clean)
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "network: %s '%.64s' is no destination", verb, dest);
	return brig_fix(err, "give HOST, *.HOST, ADDRESS or PREFIX, each with :PORT if only that is meant");
}

static int policy_parse(json_t *obj, json_t *policy, unsigned *ret_rules, struct brig_err *err)
{
	const char *prefer = "deny";
	if (field_str(obj, "prefer", 16, &prefer, err) < 0)
		return -1;
	if (strcmp(prefer, "deny") != 0 && strcmp(prefer, "allow") != 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "network: 'prefer' is deny or allow");
	json_object_set_new(policy, "prefer", json_string(prefer));
	for (unsigned i = 0; net_lists[i]; i++) {
		json_t *a = NULL, *v;
		size_t k;
		if (field_strings(obj, net_lists[i], EGRESS_RULES_MAX, LIST_BYTES_MAX, &a, err) < 0)
			return brig_ctx(err, "network");
		json_array_foreach(a, k, v)
		{
			if (dest_check(net_lists[i], json_string_value(v), err) < 0)
				return -1;
		}
		*ret_rules += (unsigned)json_array_size(a);
		json_object_set_new(policy, net_lists[i], a ? json_copy(a) : json_array());
	}
	return *ret_rules <= EGRESS_RULES_MAX + NET_NETWORKS_MAX
		       ? 0
		       : brig_fail(err, BRIG_E_LIMIT, 0, "network: more than %u rules", EGRESS_RULES_MAX);
}

static bool label_ok(const char *s, size_t n, const char *inner)
{
	static const char ends[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	if (n < 1 || n > 63 || !strchr(ends, s[0]) || !strchr(ends, s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!strchr(ends, s[i]) && !strchr(inner, s[i]))
			return false;
	return true;
}

static int aliases_parse(json_t *obj, json_t **ret, struct brig_err *err)
{
	json_t *a = NULL, *v;
	size_t i;
	if (field_strings(obj, "aliases", NET_ALIASES_MAX, NET_ALIASES_MAX * 64, &a, err) < 0)
		return -1;
	json_array_foreach(a, i, v)
	{
		const char *s = json_string_value(v);
		if (label_ok(s, strlen(s), "-") && (s[0] < '0' || s[0] > '9'))
			continue;
		brig_err_set(err, BRIG_E_INVALID, 0, "alias '%.64s' is no name of a host", s);
		return brig_fix(err, "an alias is 1 to 63 of a-z 0-9 - and begins with a letter: db, db-2");
	}
	*ret = a ? json_incref(a) : json_array();
	return 0;
}

static int network_parse(json_t *v, json_t *all, struct brig_err *err)
{
	static const char *const keys[] = { "name", "aliases", NULL };
	const char *name = NULL;
	json_t *aliases = NULL, *other;
	size_t i;
	if (!json_is_object(v))
		return brig_fail(err, BRIG_E_INVALID, 0, "an entry of 'networks' is no object");
	if (fields_known(v, "the entry of networks", keys, err) < 0 || field_str(v, "name", 63, &name, err) < 0)
		return -1;
	if (!name || !label_ok(name, strlen(name), "-_.") || strcmp(name, "none") == 0) {
		brig_err_set(err, BRIG_E_INVALID, 0, "'%.64s' is no name of a network", name ? name : "");
		return brig_fix(err, "a name is 1 to 63 of a-z 0-9 - _ . and not none");
	}
	json_array_foreach(all, i, other)
	{
		if (strcmp(json_string_value(json_object_get(other, "name")), name) == 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "network '%s' is named twice", name);
	}
	if (aliases_parse(v, &aliases, err) < 0)
		return -1;
	return json_array_append_new(all, json_pack("{s:s,s:o}", "name", name, "aliases", aliases)) == 0
		       ? 0
		       : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the networks");
}

int net_networks_parse(json_t *obj, json_t **ret, struct brig_err *err)
{
	json_t *given = NULL, *all, *v;
	size_t i;
	*ret = NULL;
	if (field_array(obj, "networks", &given, err) < 0)
		return -1;
	if (!given)
		return 0;
	if (json_array_size(given) > NET_NETWORKS_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "more than %u networks", NET_NETWORKS_MAX);
	all = json_array();
	json_array_foreach(given, i, v)
	{
		if (network_parse(v, all, err) < 0) {
			json_decref(all);
			return -1;
		}
	}
	*ret = all;
	return 0;
}

static int mode_parse(json_t *obj, json_t *policy, unsigned rules, bool *ret_link, struct brig_err *err)
{
	const char *mode = rules ? "deny" : "none";
	if (field_str(obj, "mode", 16, &mode, err) < 0)
		return -1;
	if (strcmp(mode, "none") != 0 && strcmp(mode, "deny") != 0 && strcmp(mode, "public") != 0) {
		brig_err_set(err, BRIG_E_INVALID, 0, "unknown network '%.16s'", mode);
		return brig_fix(err, "networks are none, deny and public");
	}
	*ret_link = strcmp(mode, "none") != 0;
	if (!*ret_link && rules) {
		brig_err_set(err, BRIG_E_INVALID, 0, "network none has no rules");
		return brig_fix(err, "give --net deny with --allow or --network, or leave these out");
	}
	json_object_set_new(policy, "mode", json_string(mode));
	return 0;
}

int net_policy_text(const json_t *policy, struct buf *ret)
{
	char line[EGRESS_RULE_MAX + 16];
	int n = snprintf(line, sizeof(line), "net %s\nprefer %s\n", net_policy_mode(policy),
			 json_string_value(json_object_get(policy, "prefer")));
	int r = buf_add(ret, line, (size_t)n);
	for (unsigned i = 0; net_lists[i]; i++) {
		json_t *v;
		size_t k;
		json_array_foreach(json_object_get(policy, net_lists[i]), k, v)
		{
			n = snprintf(line, sizeof(line), "%s %s\n", net_lists[i], json_string_value(v));
			if (r == 0)
				r = buf_add(ret, line, (size_t)n);
		}
	}
	return r;
}

int net_ask_parse(json_t *obj, struct net_ask *ret, struct brig_err *err)
{
	static const char *const keys[] = { "mode",	   "allow",	  "deny",
					    "grant",	   "prefer",	  "tenant", "networks",
					    "budget",	   "destination_budget", "tenant_budget",
					    "connections", "connects_per_second", "rate_out",
					    "rate_in",	   "optional", NULL };
	struct net_ask a = { .link = false };
	unsigned rules = 0;
	*ret = a;
	if (!obj)
		return 0;
	if (fields_known(obj, "network", keys, err) < 0 || terms_parse(obj, &a.terms, err) < 0 ||
	    field_bool(obj, "optional", &a.optional, err) < 0)
		return -1;
	json_t *policy = json_object();
	if (!policy)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the network");
	json_t *networks = NULL;
	if (net_networks_parse(obj, &networks, err) < 0) {
		json_decref(policy);
		return -1;
	}
	rules += (unsigned)json_array_size(networks);
	if (networks)
		json_object_set_new(policy, "networks", networks);
	if (policy_parse(obj, policy, &rules, err) < 0 ||
	    mode_parse(obj, policy, rules, &a.link, err) < 0) {
		json_decref(policy);
		return -1;
	}
	if (a.link)
		a.policy = policy;
	else
		json_decref(policy);
	*ret = a;
	return 0;
}

void net_ask_done(struct net_ask *a)
{
	json_decref(a->policy);
	*a = (struct net_ask){ .link = false };
}
