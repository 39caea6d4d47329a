/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a network policy.
 *
 * Oracle: a text is refused with a reason, or every rule of it says again what it said when its
 * line is parsed alone; mode none allows nothing; where a denial by address or name is preferred,
 * what a deny rule names is not allowed; nothing is granted by a policy without grants; each host is
 * found by its name, with and without the suffix.
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void check(const struct net_policy *p)
{
	struct net_addr some = net_addr_v4((const uint8_t[]){ 10, 1, 2, 3 });
	bool grants = false;
	for (unsigned i = 0; i < p->nhosts; i++) {
		struct net_addr found[EGRESS_HOSTS_MAX];
		char name[NET_NAME_MAX + sizeof(EGRESS_HOST_SUFFIX)];
		snprintf(name, sizeof(name), "%s" EGRESS_HOST_SUFFIX, p->hosts[i].name);
		unsigned n = net_policy_hosts(p, p->hosts[i].name, found, EGRESS_HOSTS_MAX), is = 0;
		must(n > 0 && n <= p->nhosts && net_addr_is_v4(&p->hosts[i].addr));
		for (unsigned k = 0; k < n; k++)
			is |= net_addr_eq(&found[k], &p->hosts[i].addr);
		must(is && net_policy_hosts(p, name, found, EGRESS_HOSTS_MAX) == n);
	}
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		struct brig_err err = BRIG_ERR_INIT;
		must(r->port_from <= r->port_to && strlen(r->line) < EGRESS_RULE_MAX);
		must(net_dest_check(strchr(r->line, ' ') + 1, &err) == 0);
		grants |= r->verb == NET_GRANT;
		char name[NET_NAME_MAX + 2] = "";
		if (r->where == NET_BELOW)
			snprintf(name, sizeof(name), "x.%s", r->name);
		else if (r->where == NET_HOST)
			snprintf(name, sizeof(name), "%s", r->name);
		const struct net_addr *a = r->where == NET_PREFIX ? &r->addr : NULL;
		struct net_verdict v = net_policy_judge(p, name[0] ? name : NULL, a, r->port_to);
		if (p->mode == NET_MODE_NONE)
			must(!v.allowed);
		else if (r->where != NET_ANY && r->verb == NET_DENY && !p->prefer_allow)
			must(!v.allowed && v.reason == EGRESS_R_RULE && v.rule->verb == NET_DENY);
		else if (r->where != NET_ANY && r->verb == NET_ALLOW && p->prefer_allow)
			must(v.allowed && v.rule && v.rule->verb == NET_ALLOW);
		if (name[0]) {
			(void)net_policy_resolves(p, name);
			(void)net_policy_unnamed(p, name, &some, r->port_to);
			must(net_policy_fixed(p, name) <= strlen(name));
		}
	}
	if (!grants)
		must(!net_policy_grants(p, "a.test", &some, 80, NET_PROTECT_PRIVATE) &&
		     !net_policy_grants_any_port(p, "a.test", &some, NET_PROTECT_PRIVATE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_policy *p = NULL;
	struct brig_err err = BRIG_ERR_INIT;
	if (net_policy_parse((const char *)data, size, &p, &err) < 0) {
		must(!p && err.msg[0]);
		return 0;
	}
	check(p);
	net_policy_free(p);
	return 0;
}
