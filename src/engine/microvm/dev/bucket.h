/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bucket.h: a rate limit. A bucket fills at `rate` a second up to one second's worth; what is taken may
 * go below zero, so that a request larger than the bucket still goes, and is paid for afterwards.
 */
#ifndef BRIG_MICROVM_BUCKET_H
#define BRIG_MICROVM_BUCKET_H

#include <stdint.h>

#define BUCKET_RATE_MAX (1ull << 40)

struct bucket {
	uint64_t rate;	/* a second, 0 = no limit, <= BUCKET_RATE_MAX */
	int64_t tokens; /* <= rate */
	uint64_t at;	/* when they were counted, ns */
};

/* Full. */
void bucket_init(struct bucket *b, uint64_t rate, uint64_t now);
/* 0 if something may be taken now, else when, ns. */
uint64_t bucket_wait(struct bucket *b, uint64_t now);
/* n <= UINT32_MAX. */
void bucket_take(struct bucket *b, uint64_t n);

#endif
