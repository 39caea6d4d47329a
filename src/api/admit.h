/* SPDX-License-Identifier: Apache-2.0 */
/* admit.h: a request for something new, held against its tenant's policy and quotas. */
#ifndef BRIG_API_ADMIT_H
#define BRIG_API_ADMIT_H

#include "api/call.h"
#include "api/quota.h"

/* The tenant for which a call acts; NULL: it was removed meanwhile. */
struct tenant *call_tenant(const struct call *c);

struct admission {
	json_t *spec;	    /* SPEC of client_proto.h; what it leaves out is filled in */
	const char *image;  /* as it was asked for; NULL: the default of a run */
	const char *digest; /* of what that led to, or NULL */
	enum policy_net network;
	bool timed; /* its timeout_ms is that of a command */
	unsigned n; /* how many of it */
};
/* For `tenant`: 0 and n charges in out, or -1 with why. */
int admit(struct api *a, const char *tenant, const struct admission *ask, struct charge **out,
	  struct refusal *ret);
/* For the call's: 0 and n charges in out; or -1 with err, and its details in the call for call_fail(). */
int call_admit(struct call *c, const struct admission *ask, struct charge **out,
	       struct brig_err *err);
/* A snapshot of c's tenant. */
int call_admit_snapshot(struct call *c, struct charge **out, struct brig_err *err);
/* Seconds until the end of a sandbox; given: the request said so. */
int call_admit_timeout(struct call *c, bool given, uint64_t *s, struct brig_err *err);
int call_admit_network(struct call *c, enum policy_net asked, struct brig_err *err);
int admit_network(struct api *a, const char *tenant, enum policy_net asked, struct refusal *ret);

#endif
