/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h: absolute times are nanoseconds of CLOCK_MONOTONIC; wall-clock time is for display. */
#ifndef BRIG_BASE_CLOCK_H
#define BRIG_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t which)
{
	struct timespec ts;
	clock_gettime(which, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
static inline uint64_t clock_now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}
#define MS_NS 1000000ull
#define SEC_NS 1000000000ull

#endif
