/* SPDX-License-Identifier: Apache-2.0 */
/* tier.h: the isolation tiers, once, from the weakest boundary to the strongest. */
#ifndef BRIG_TIER_H
#define BRIG_TIER_H

#include <stdint.h>
#include <string.h>

#define BRIG_TIERS(X)   \
	X(container, 0) \
	X(gvisor, 1)    \
	X(microvm, 2)

enum brig_tier {
#define X(name, number) BRIG_TIER_##name = number,
	BRIG_TIERS(X)
#undef X
		BRIG_TIER__N
};
#define BRIG_TIERS_N 3u
_Static_assert(BRIG_TIER__N == BRIG_TIERS_N, "the size of arrays on the wire");

static inline const char *brig_tier_name(uint32_t tier)
{
	static const char *const names[] = {
#define X(name, number) #name,
		BRIG_TIERS(X)
#undef X
	};
	return tier < BRIG_TIER__N ? names[tier] : "?";
}

/* BRIG_TIER__N: there is none of that name. */
static inline enum brig_tier brig_tier_by_name(const char *name)
{
	uint32_t t = 0;
	while (t < BRIG_TIER__N && strcmp(brig_tier_name(t), name) != 0)
		t++;
	return (enum brig_tier)t;
}

#endif
