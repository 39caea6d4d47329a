/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h: what a sandbox may reach: the text of include/brig/egress_proto.h, and what it decides.
 * Pure: no descriptor, no clock, no resolver.
 */
#ifndef BRIG_NET_POLICY_H
#define BRIG_NET_POLICY_H

#include "base/err.h"
#include "brig/egress_proto.h"
#include "net/addr.h"
#include "net/name.h"

enum net_mode { NET_MODE_NONE, NET_MODE_DENY, NET_MODE_PUBLIC };
enum net_verb { NET_ALLOW, NET_DENY, NET_GRANT };
enum net_where { NET_HOST, NET_BELOW, NET_ANY, NET_PREFIX };

struct net_rule {
	enum net_verb verb;
	enum net_where where;
	uint16_t port_from, port_to; /* 0, 65535 = no port was said */
	struct net_addr addr;	     /* of PREFIX */
	unsigned bits;
	const char *name; /* of HOST and BELOW (without "*."); in the policy's own memory */
	const char *line; /* as it was written */
};

struct net_host {
	const char *name; /* canonical, without EGRESS_HOST_SUFFIX */
	struct net_addr addr;
};

struct net_policy {
	enum net_mode mode;
	bool prefer_allow;
	unsigned nrules;
	struct net_rule *rules;
	unsigned nhosts;
	struct net_host *hosts;
	char *text, *names;
};

/* One DEST: what a command line or a request names. The error says what is wrong with it. */
int net_dest_check(const char *dest, struct brig_err *err);

/* n bytes of text; 0 and *ret to be freed with net_policy_free, or -1. */
int net_policy_parse(const char *text, size_t n, struct net_policy **ret, struct brig_err *err);
void net_policy_free(struct net_policy *p); /* NULL is allowed */

/* The addresses that a name stands for by `host` lines; at most `most`, 0: by none. */
unsigned net_policy_hosts(const struct net_policy *p, const char *name, struct net_addr *ret, unsigned most);

struct net_verdict {
	bool allowed;
	enum egress_reason reason;   /* where it is not */
	const struct net_rule *rule; /* that decided; NULL = the mode */
	enum net_protect protects;   /* of EGRESS_R_PROTECTED */
};

/* By name, by address, or by both (either may be NULL): 5. of the contract. Not 1. */
struct net_verdict net_policy_judge(const struct net_policy *p, const char *name,
				    const struct net_addr *addr, uint16_t port);
/* Whether a question for name may be asked at all. */
struct net_verdict net_policy_resolves(const struct net_policy *p, const char *name);
/* Whether a grant lifts the protection `as` of addr, reached by name (or NULL). */
bool net_policy_grants(const struct net_policy *p, const char *name, const struct net_addr *addr,
		       uint16_t port, enum net_protect as);
/* Whether one of its addresses may be told to a sandbox that asks for name: a grant of any port
 * does. */
bool net_policy_grants_any_port(const struct net_policy *p, const char *name,
				const struct net_addr *addr, enum net_protect as);
/* Whether a name, said at this port, could change what the address alone decides. */
bool net_policy_names_matter(const struct net_policy *p, uint16_t port, bool by_address);
/* 4. of the contract: the rule that allows a connection without a name to an address of this name.
 */
const struct net_rule *net_policy_unnamed(const struct net_policy *p, const char *name,
					  const struct net_addr *addr, uint16_t port);
/* How many bytes at the end of name a rule fixes; a name that is allowed by none: 0. */
size_t net_policy_fixed(const struct net_policy *p, const char *name);

#endif
