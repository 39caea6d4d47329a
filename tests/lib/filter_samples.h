/* SPDX-License-Identifier: Apache-2.0 */
/* filter_samples.h: calls at which a filter may decide differently, drawn from its own rules. */
#ifndef BRIG_TESTS_FILTER_SAMPLES_H
#define BRIG_TESTS_FILTER_SAMPLES_H

#include <stdint.h>

#include "seccomp_profile.h"

struct samples {
	const struct profile *p;
	uint64_t seed;
};

/* A pseudo-random number; the same for the same seed on every machine. */
uint64_t samples_random(struct samples *s);
/*
 * Arguments for a call of number nr: each one near a value that some rule of it compares with, that
 * value with other bits changed inside or outside its mask or above bit 31, or any number at all.
 */
void samples_args(struct samples *s, uint32_t nr, uint64_t args[6]);

#endif
