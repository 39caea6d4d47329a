/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netask.h: the network that a request asks for.
 *
 * A request's "network" object, every key optional:
 *   {"mode":"none"|"deny"|"public","allow":[DEST],"deny":[DEST],"grant":[DEST],"prefer":"deny"|"allow",
 *    "tenant":"..","budget":AMOUNTS,"destination_budget":AMOUNTS,"tenant_budget":AMOUNTS,
 *    "optional":bool,"connections":N,"connects_per_second":N,"rate_out":BYTES,"rate_in":BYTES}
 * "networks": [{"name","aliases":[..]}], private ones that it is in (netpeer.h); they need a link as rules do.
 * AMOUNTS: {"bytes_out":N,"bytes_in":N,"requests":N,"names":N}. DEST and what a policy means are in
 * egress_proto.h. Rules without a mode mean deny; without anything there is no link at all.
 */
#ifndef BRIG_DAEMON_NETASK_H
#define BRIG_DAEMON_NETASK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "brig/egress_proto.h"

/* What a request asks for. */
struct net_ask {
	bool link;	/* a network at all */
	bool optional;	/* .. if this server offers any */
	json_t *policy; /* {"mode","prefer","allow","deny","grant","networks"}; new reference, NULL without a link */
	struct egress_lease terms; /* tenant, budgets, rates; the rest is brig-egress's link's */
};
/* obj may be NULL. Checks the policy as brig-egress will. */
int net_ask_parse(json_t *obj, struct net_ask *ret, struct brig_err *err);
void net_ask_done(struct net_ask *a);
/* The tenant of a request that names none: of whoever holds the server's own socket. */
#define NET_TENANT_LOCAL "local"
#define NET_NETWORKS_MAX 8u /* of one sandbox */
#define NET_ALIASES_MAX 8u  /* in one network */
/* "networks" of obj, in the form in which they are kept; NULL: it has none. New reference. */
int net_networks_parse(json_t *obj, json_t **ret, struct brig_err *err);

/* The text of a policy, as egress_proto.h has it. 0 or -ENOMEM. */
int net_policy_text(const json_t *policy, struct buf *ret);
/* Its mode. */
const char *net_policy_mode(const json_t *policy);
/* The lists of a policy's rules; ends with NULL. */
extern const char *const net_lists[];

#endif
