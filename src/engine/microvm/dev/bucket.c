/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Tokens are whole; the time that did not make one is kept by moving `at` on only as far as tokens
 * were made. Products of a time and a rate have 128 bits.
 */
#include "engine/microvm/dev/bucket.h"

#define SECOND 1000000000ull

void bucket_init(struct bucket *b, uint64_t rate, uint64_t now)
{
	*b = (struct bucket){ .rate = rate, .tokens = (int64_t)rate, .at = now };
}

static void fill(struct bucket *b, uint64_t now)
{
	uint64_t gap = now > b->at ? now - b->at : 0;
	int64_t want = (int64_t)b->rate - b->tokens;
	unsigned __int128 made = (unsigned __int128)gap * b->rate / SECOND;
	if (made >= (unsigned __int128)want) {
		b->tokens = (int64_t)b->rate;
		b->at = now;
		return;
	}
	b->tokens += (int64_t)made;
	b->at += (uint64_t)(made * SECOND / b->rate);
}

uint64_t bucket_wait(struct bucket *b, uint64_t now)
{
	if (b->rate == 0)
		return 0;
	fill(b, now);
	if (b->tokens > 0)
		return 0;
	/* Up to the first token above zero, rounded up. */
	uint64_t lack = (uint64_t)(1 - b->tokens);
	return b->at + (uint64_t)(((unsigned __int128)lack * SECOND + b->rate - 1) / b->rate);
}

void bucket_take(struct bucket *b, uint64_t n)
{
	if (b->rate)
		b->tokens -= (int64_t)n;
}
