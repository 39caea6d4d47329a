/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.h: what each tenant has at a time, and that it gets no more than its policy's quotas.
 *
 * Theory of operation
 * -------------------
 * A charge is made before brigd is asked for a sandbox, so that a thousand requests at once are
 * counted one after the other, however long each create takes. It is returned when the create
 * fails, and otherwise when brigd has said that nothing of the sandbox is left: who gave up his
 * place in the count but not yet his memory would let a tenant have more than its quota. A
 * restarted brig-api counts anew what its records and brigd's list have (adopt.c).
 */
#ifndef BRIG_API_QUOTA_H
#define BRIG_API_QUOTA_H

#include "api/amounts.h"
#include "api/api.h"
#include "api/policy.h"

struct charge;
struct tenant;

/* n times `each`, all or none: n charges into out. New sandboxes count against creates per second.
 */
int quota_take(struct api *a, struct tenant *t, const struct amounts *each, unsigned n,
	       struct charge **out, struct refusal *ret);
/* For what exists already. NULL: out of memory. */
struct charge *quota_adopt(struct tenant *t, const struct amounts *what);
/* What it really got. c may be NULL, here and below. */
void charge_settle(struct charge *c, const struct amounts *what);
void charge_return(struct charge *c);
/* Labels of the sandbox that it is for: API_LABEL with `kind`, and by which a next brig-api knows
 * what it stands for. New reference. */
json_t *charge_labels(const struct charge *c, const char *kind, const char *tenant);
/* Whether anything that its tenant has is bounded, so that it matters when it is returned. */
bool charge_matters(const struct charge *c);
/* Forgets the charge; what it stood for stays counted, until quota_snapshot_gone(). */
void charge_keep(struct charge *c);
void quota_snapshot_gone(struct api *a, const char *tenant);

/* {"sandboxes", "cpu_milli", ..}: what the tenant has. */
json_t *quota_use_json(struct api *a, const struct tenant *t);

#endif
