/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtq.h: one split virtqueue, seen from the device (virtio 1.2, section 2.7).
 *
 * The driver of the guest is hostile: rings may point anywhere, chains may loop, indices may jump,
 * and all of it may change while it is read. What was accepted by virtq_start() is frozen; every
 * other value is loaded once and its copy is checked. A broken ring is -EPROTO, for good: the device
 * then needs a reset by its driver, nothing else happens.
 */
#ifndef BRIG_MICROVM_VIRTQ_H
#define BRIG_MICROVM_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/microvm/guest_mem.h"

#define VIRTQ_MAX 256u

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct virtq {
	/* What the driver writes; frozen while `ready`. */
	uint32_t num;
	uint64_t desc_at, avail_at, used_at;
	/* Ours. */
	bool ready, broken;
	uint16_t next_avail, next_used;
	const struct virtq_desc *desc; /* num of them, in guest memory */
	const uint16_t *avail;	       /* flags, idx, ring[num] */
	uint8_t *used;		       /* flags, idx, ring[num] of 8 bytes */
};

/* One request: out = what the device may read, in = what it may write; host addresses, all checked. */
struct virtq_chain {
	uint16_t head;
	unsigned nout, nin;
	struct iovec iov[VIRTQ_MAX]; /* nout, then nin */
};
static inline const struct iovec *chain_in(const struct virtq_chain *c)
{
	return c->iov + c->nout;
}

/* Checks size, alignment and places, and freezes them; -EINVAL leaves the queue not ready. */
int virtq_start(struct virtq *q, const struct guest_mem *m);
void virtq_reset(struct virtq *q);

/* The next request: 1, 0 = none, -EPROTO = broken. */
int virtq_pop(struct virtq *q, const struct guest_mem *m, struct virtq_chain *c);
/* Puts the last popped chain back: it will be popped again. */
void virtq_unpop(struct virtq *q);
/* Gives a chain back of which `written` bytes were filled. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);
/* 1 if the driver wants an interrupt for what was pushed. */
bool virtq_wants_irq(const struct virtq *q);

#endif
