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
	/* Of whoever holds the server's own socket. */
	const char *tenant = "local";
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
	return *ret_rules <= EGRESS_RULES_MAX
		       ? 0
		       : brig_fail(err, BRIG_E_LIMIT, 0, "network: more than %u rules", EGRESS_RULES_MAX);
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
		return brig_fix(err, "give --net deny with --allow, or leave the rules out");
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
					    "grant",	   "prefer",	  "tenant",
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
