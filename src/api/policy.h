/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h: what an operator lets a tenant ask for. A request beyond it is refused with 403 and the
 * field named. What a request leaves out is filled in: with the policy's value, where the default
 * would be beyond it.
 */
#ifndef BRIG_API_POLICY_H
#define BRIG_API_POLICY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "brig/limits.h"
#include "brig/policy.h"

#define POLICY_UNSET UINT64_MAX
#define POLICY_IMAGES_MAX 256u

enum policy_index {
#define X(field, flag, kind, min, max, what) POLICY_##field,
	BRIG_POLICY(X)
#undef X
		POLICY__N
};

/* In the order of POLICY_TIERS, POLICY_NETWORKS and POLICY_PUBLISH. */
enum policy_tier { POLICY_CONTAINER, POLICY_GVISOR, POLICY_MICROVM };
enum policy_net { POLICY_NET_NONE, POLICY_NET_DENY, POLICY_NET_PUBLIC };

enum policy_publish { POLICY_PUBLISH_NONE, POLICY_PUBLISH_LOOPBACK, POLICY_PUBLISH_ANY };

struct policy {
	uint64_t v[POLICY__N];	     /* POLICY_UNSET */
	enum policy_tier tier_floor; /* POLICY_CONTAINER: none */
	enum policy_net network;     /* POLICY_NET_PUBLIC: none */
	enum policy_publish publish; /* POLICY_PUBLISH_ANY: none */
	json_t *images;		     /* names and digests; NULL: all */
};

/* Nothing is bounded. */
void policy_init(struct policy *p);
void policy_done(struct policy *p);
const char *policy_field(enum policy_index i);

/* Takes the fields that `body` has, null unsets; p is changed only if all are good. */
int policy_change(struct policy *p, json_t *body, struct brig_err *err);
/* all: with null for what is not set. */
json_t *policy_json(const struct policy *p, bool all);

/* What refused, for people and for programs. details is the caller's. */
struct refusal {
	struct brig_err err;
	json_t *details;
};
#define REFUSAL_INIT                 \
	{                            \
		.err = BRIG_ERR_INIT \
	}

/* Tier and limits of spec (SPEC of client_proto.h); tenant: for the remedy. timed: its timeout_ms
 * is that of a command. */
int policy_spec(const struct policy *p, const char *tenant, json_t *spec, bool timed,
		struct refusal *ret);
/* name: as it was asked for; digest: of what it led to, or NULL. */
bool policy_has_image(const struct policy *p, const char *name, const char *digest);
int policy_image(const struct policy *p, const char *tenant, const char *name, const char *digest,
		 struct refusal *ret);
int policy_network(const struct policy *p, const char *tenant, enum policy_net asked,
		   struct refusal *ret);
/* ports: of a SPEC, or NULL. */
int policy_ports(const struct policy *p, const char *tenant, const json_t *ports, struct refusal *ret);
/* Seconds until the end of a sandbox; one that was not given is made to fit. */
int policy_timeout(const struct policy *p, const char *tenant, bool given, uint64_t *s,
		   struct refusal *ret);

#endif
