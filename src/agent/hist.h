/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.h: the last bytes of an output, kept by reference.
 *
 * A pipe of ours holds duplicates (tee) of the buffers that went to the channel. Nobody but us has an
 * end of it. Bytes go in behind and are forgotten in front; to look at them they are taken out.
 */
#ifndef BRIG_AGENT_HIST_H
#define BRIG_AGENT_HIST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct hist {
	int pipe[2], null; /* -1: not made */
	uint32_t len;	   /* bytes in it */
};

void hist_init(struct hist *h);
void hist_done(struct hist *h);
/* Makes it, if need be, to hold `size` bytes and as many again in whole pages. 0 or -errno. */
int hist_make(struct hist *h, uint32_t size);
/* Forgets all but the last n bytes. 0 or -errno. */
int hist_trim(struct hist *h, uint32_t n);
/* Adds the first n bytes that lie in a pipe, where they stay. How many it took; fewer than n where its
 * buffers are used up. */
uint32_t hist_add(struct hist *h, int from, uint32_t n);
/* Takes all out into parts of exactly h->len bytes. 0 or -errno. */
int hist_take(struct hist *h, struct iovec part[2]);

#endif
