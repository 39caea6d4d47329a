/* SPDX-License-Identifier: Apache-2.0 */
/* fake_guest.h: the driver's half of a virtio-mmio device, for tests: memory, registers, rings. */
#ifndef BRIG_TESTS_FAKE_GUEST_H
#define BRIG_TESTS_FAKE_GUEST_H

#include "engine/microvm/dev/mmio.h"

enum { FG_NUM = 16, FG_NEXT = 1, FG_WRITE = 2, FG_DATA = 0x100000 };

struct fake_guest {
	struct guest_mem mem;
	struct vmmio m;
	unsigned irqs;
	uint16_t next_desc[VMMIO_QUEUES_MAX];
};

/* A device with its driver not yet there; ends with fg_done(). */
void fg_init(struct fake_guest *g, const struct vdev_ops *ops, void *dev, uint64_t features);
void fg_done(struct fake_guest *g);
/* Registers, 4 bytes. */
void fg_set(struct fake_guest *g, uint32_t reg, uint32_t v);
uint32_t fg_get(struct fake_guest *g, uint32_t reg);
/* From reset to DRIVER_OK with these features and every queue; returns Status. */
uint32_t fg_drive(struct fake_guest *g, uint64_t features);
/* Where the parts of queue i lie. */
uint64_t fg_desc_at(unsigned i);
uint64_t fg_avail_at(unsigned i);
uint64_t fg_used_at(unsigned i);

struct fg_piece {
	uint64_t at;
	uint32_t len;
	bool write;
};
/* Makes a chain of n pieces available in queue i; returns its head. */
uint16_t fg_offer(struct fake_guest *g, unsigned i, const struct fg_piece *p, unsigned n);
/* used.idx of queue i, and of its last element the length. */
uint16_t fg_used(struct fake_guest *g, unsigned i);
uint32_t fg_used_len(struct fake_guest *g, unsigned i);

#endif
