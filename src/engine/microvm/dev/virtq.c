/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The three parts of a ring are turned into host addresses once, when the driver says that the queue
 * is ready; guest memory never moves, so they stay good. From then on:
 *
 *   avail.idx   loaded once per pop (acquire: pairs with the driver's barrier before it writes idx).
 *               More than `num` ahead of us is a broken ring: so many requests cannot be open.
 *   head, next  used as an index only after they were held against `num`.
 *   chain       at most `num` steps, so a loop ends; a readable part after a writable one is broken.
 *   used.idx    ours; what the driver may have written there is never read.
 *
 * No indirect tables, no event index: they are not offered (mmio.c refuses what was not offered).
 */
#include "engine/microvm/dev/virtq.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { F_NEXT = 1, F_WRITE = 2 };
enum { AVAIL_F_NO_INTERRUPT = 1 };
_Static_assert(sizeof(struct virtq_desc) == 16, "wire");

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){ .num = 0 };
}

int virtq_start(struct virtq *q, const struct guest_mem *m)
{
	uint32_t n = q->num;
	if (n == 0 || n > VIRTQ_MAX || (n & (n - 1)))
		return -EINVAL;
	if (q->desc_at % 16 || q->avail_at % 2 || q->used_at % 4)
		return -EINVAL;
	const void *desc = guest_ptr(m, GPA(q->desc_at), 16ull * n);
	const void *avail = guest_ptr(m, GPA(q->avail_at), 4 + 2ull * n + 2);
	void *used = guest_ptr(m, GPA(q->used_at), 4 + 8ull * n + 2);
	if (!desc || !avail || !used)
		return -EINVAL;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->next_avail = q->next_used = 0;
	q->broken = false;
	q->ready = true;
	return 0;
}

static int broke(struct virtq *q)
{
	q->broken = true;
	return -EPROTO;
}

/* One copy of a descriptor, loaded field by field: memcpy may read twice. */
static struct virtq_desc desc_load(const struct virtq *q, uint16_t i)
{
	const struct virtq_desc *d = &q->desc[i];
	return (struct virtq_desc){
		.addr = __atomic_load_n(&d->addr, __ATOMIC_RELAXED),
		.len = __atomic_load_n(&d->len, __ATOMIC_RELAXED),
		.flags = __atomic_load_n(&d->flags, __ATOMIC_RELAXED),
		.next = __atomic_load_n(&d->next, __ATOMIC_RELAXED),
	};
}

int virtq_pop(struct virtq *q, const struct guest_mem *m, struct virtq_chain *c)
{
	if (!q->ready || q->broken)
		return q->broken ? -EPROTO : 0;
	/* Acquire: ring entries and descriptors are read after idx (driver: virtio_wmb before idx). */
	uint16_t idx = __atomic_load_n(&q->avail[1], __ATOMIC_ACQUIRE);
	uint16_t open = (uint16_t)(idx - q->next_avail);
	if (open == 0)
		return 0;
	if (open > q->num)
		return broke(q);
	uint16_t at = __atomic_load_n(&q->avail[2 + q->next_avail % q->num], __ATOMIC_RELAXED);
	c->head = at;
	c->nout = c->nin = 0;
	for (unsigned step = 0;; step++) {
		if (at >= q->num || step >= q->num)
			return broke(q);
		struct virtq_desc d = desc_load(q, at);
		uint8_t *p = guest_ptr(m, GPA(d.addr), d.len);
		if (!p || (d.flags & ~(F_NEXT | F_WRITE)) || (c->nin && !(d.flags & F_WRITE)))
			return broke(q);
		c->iov[c->nout + c->nin] = (struct iovec){ p, d.len };
		if (d.flags & F_WRITE)
			c->nin++;
		else
			c->nout++;
		if (!(d.flags & F_NEXT))
			break;
		at = d.next;
	}
	q->next_avail++;
	return 1;
}

void virtq_unpop(struct virtq *q)
{
	q->next_avail--;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	uint32_t elem[2] = { head, written };
	memcpy(q->used + 4 + 8u * (q->next_used % q->num), elem, sizeof(elem));
	q->next_used++;
	/* Release: the element and the data before idx (driver: virtio_rmb after it read idx). */
	__atomic_store_n((uint16_t *)(void *)(q->used + 2), q->next_used, __ATOMIC_RELEASE);
}

bool virtq_wants_irq(const struct virtq *q)
{
	/* Full: idx is visible before flags is looked at, or both sides wait (driver: virtio_mb
	 * between clearing the flag and looking at idx again). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !(__atomic_load_n(&q->avail[0], __ATOMIC_RELAXED) & AVAIL_F_NO_INTERRUPT);
}
