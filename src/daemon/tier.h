/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier.h: which tier serves a request. Absent: the server's own word; "auto": the strongest that is
 * there. No request is served by a weaker one than it asked for, nor by one below its floor.
 */
#ifndef BRIG_DAEMON_TIER_H
#define BRIG_DAEMON_TIER_H

#include <jansson.h>

#include "base/err.h"
#include "brig/jail_proto.h"

/* Words for a tier that is none of them. */
#define TIER_ABSENT (-1)
#define TIER_AUTO (-2)

/* What this server offers. */
struct tier_offer {
	const struct jail_tier *host; /* BRIG_TIER__N of them */
	const char *const *refused; /* by tier: why the operator does not offer it; NULL = he does */
	int usual;		      /* for a request without a word: a tier, or TIER_AUTO */
};

/* A tier's name or "auto"; -1 with err otherwise. */
int tier_parse(const char *text, int *ret, struct brig_err *err);
/* asked: a tier or a word; floor: a tier. The tier, or -1 with what is missing and the remedy. */
int tier_resolve(const struct tier_offer *o, int asked, int floor, struct brig_err *err);
/* Names of the offered ones; {name: {"offered", "text", "remedy"}} of all; {name: why} of the refused. */
json_t *tier_names(const struct tier_offer *o);
json_t *tier_details(const struct tier_offer *o);
json_t *tier_refused(const struct tier_offer *o);

#endif
