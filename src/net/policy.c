/* SPDX-License-Identifier: Apache-2.0 */
#include "net/policy.h"

static bool port_in(const struct net_rule *r, uint16_t port)
{
	return port >= r->port_from && port <= r->port_to;
}

static bool every_port(const struct net_rule *r)
{
	return r->port_from == 0;
}

static bool name_in(const struct net_rule *r, const char *name)
{
	return r->where == NET_ANY || (r->where == NET_HOST && strcmp(r->name, name) == 0) ||
	       (r->where == NET_BELOW && net_name_below(name, r->name));
}

static bool addr_in(const struct net_rule *r, const struct net_addr *addr)
{
	return r->where == NET_ANY ||
	       (r->where == NET_PREFIX && net_addr_in(addr, &r->addr, r->bits));
}

static bool about_names(const struct net_rule *r)
{
	return r->where == NET_HOST || r->where == NET_BELOW;
}

static struct net_verdict decide(const struct net_policy *p, const struct net_rule *allow,
				 const struct net_rule *deny)
{
	struct net_verdict v = { .reason = EGRESS_R_POLICY };
	if (p->mode == NET_MODE_NONE)
		return v;
	if (allow && (!deny || p->prefer_allow)) {
		v.allowed = true;
		v.rule = allow;
	} else if (deny) {
		v.reason = EGRESS_R_RULE;
		v.rule = deny;
	} else {
		v.allowed = p->mode == NET_MODE_PUBLIC;
	}
	return v;
}

unsigned net_policy_hosts(const struct net_policy *p, const char *name, struct net_addr *ret, unsigned most)
{
	size_t n = strlen(name), k = strlen(EGRESS_HOST_SUFFIX);
	unsigned found = 0;
	if (n > k && strcmp(name + n - k, EGRESS_HOST_SUFFIX) == 0)
		n -= k;
	for (unsigned i = 0; i < p->nhosts && found < most; i++)
		if (strncmp(p->hosts[i].name, name, n) == 0 && !p->hosts[i].name[n])
			ret[found++] = p->hosts[i].addr;
	return found;
}

struct net_verdict net_policy_judge(const struct net_policy *p, const char *name,
				    const struct net_addr *addr, uint16_t port)
{
	const struct net_rule *found[2] = { NULL, NULL }; /* by NET_ALLOW, NET_DENY */
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		if (r->verb == NET_GRANT || found[r->verb] || !port_in(r, port))
			continue;
		if ((name && name_in(r, name)) || (addr && addr_in(r, addr)))
			found[r->verb] = r;
	}
	return decide(p, found[NET_ALLOW], found[NET_DENY]);
}

struct net_verdict net_policy_resolves(const struct net_policy *p, const char *name)
{
	const struct net_rule *found[2] = { NULL, NULL };
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		if (r->verb == NET_GRANT || found[r->verb] || !name_in(r, name))
			continue;
		/* What is denied at one port only may be reached at the others. */
		if (r->verb == NET_ALLOW || every_port(r))
			found[r->verb] = r;
	}
	return decide(p, found[NET_ALLOW], found[NET_DENY]);
}

static bool grants(const struct net_policy *p, const char *name, const struct net_addr *addr,
		   int port, enum net_protect as)
{
	bool by_name = name && (as == NET_PROTECT_PRIVATE || as == NET_PROTECT_SHARED);
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		if (r->verb != NET_GRANT || (port >= 0 && !port_in(r, (uint16_t)port)))
			continue;
		if (r->where == NET_PREFIX && net_addr_in(addr, &r->addr, r->bits))
			return true;
		if (by_name && about_names(r) && name_in(r, name))
			return true;
	}
	return false;
}

bool net_policy_grants(const struct net_policy *p, const char *name, const struct net_addr *addr,
		       uint16_t port, enum net_protect as)
{
	return as == NET_PROTECT_NONE || grants(p, name, addr, port, as);
}

bool net_policy_grants_any_port(const struct net_policy *p, const char *name,
				const struct net_addr *addr, enum net_protect as)
{
	return as == NET_PROTECT_NONE || grants(p, name, addr, -1, as);
}

bool net_policy_names_matter(const struct net_policy *p, uint16_t port, bool by_address)
{
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		if (!about_names(r) && !(r->where == NET_ANY && !by_address))
			continue;
		if (port_in(r, port) && r->verb == (by_address ? NET_DENY : NET_ALLOW))
			return true;
	}
	return false;
}

const struct net_rule *net_policy_unnamed(const struct net_policy *p, const char *name,
					  const struct net_addr *addr, uint16_t port)
{
	struct net_verdict v = net_policy_judge(p, name, addr, port);
	if (!v.allowed || port == 80 || port == 443)
		return NULL;
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		if (r->verb == NET_ALLOW && about_names(r) && !every_port(r) && port_in(r, port) &&
		    name_in(r, name))
			return r;
	}
	return NULL;
}

size_t net_policy_fixed(const struct net_policy *p, const char *name)
{
	size_t most = 0;
	for (unsigned i = 0; i < p->nrules; i++) {
		const struct net_rule *r = &p->rules[i];
		if (r->verb != NET_ALLOW || !about_names(r) || !name_in(r, name))
			continue;
		size_t n = r->where == NET_HOST ? strlen(name) : strlen(r->name) + 1;
		if (n > most)
			most = n;
	}
	return most;
}
