/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h: sandboxes made ahead of requests. A pool belongs to one image, one tier and the default limits; a
 * request that asks for exactly that takes one, any other is served cold. A sandbox is used once
 * and never comes back.
 */
#ifndef BRIG_DAEMON_POOL_H
#define BRIG_DAEMON_POOL_H

#include <jansson.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"

#define POOLS_MAX 16u

struct brigd;
struct image;
struct sandbox;
struct sandbox_plan;

LIST_HEAD(pool_list, sandbox);

struct pool {
	struct pool_list idle; /* READY ones */
	char image[128];
	int tier; /* or a word (tier.h), resolved at each refill */
	const struct image *made; /* what the name meant at the last refill; only compared */
	unsigned size, ready, filling;
	uint64_t hits, misses, fills, failures;
	uint64_t fill_ns_last, fill_ns_sum;
	uint64_t not_before; /* after a failure */
	char error[256];
};

/* "IMAGE=N" or "IMAGE=N:TIER"; before brigd_run(). */
int pool_add(struct brigd *d, const char *text, struct brig_err *err);
/* A ready sandbox for this plan, or NULL; counts the hit or the miss. The plan is moved in. */
struct sandbox *pool_take(struct brigd *d, struct sandbox_plan *plan);
/* Sees to it that missing ones are made once nothing more urgent is under way. */
void pool_schedule(struct brigd *d);
void pool_stop(struct brigd *d);

/* From sandbox.c. */
void pool_filled(struct sandbox *sb);
void pool_lost(struct sandbox *sb);

json_t *pool_info(const struct brigd *d);

#endif
