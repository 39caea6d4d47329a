/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_guest.h"

#include <stdlib.h>
#include <string.h>

uint64_t fg_desc_at(unsigned i)
{
	return 0x10000 + 0x3000ull * i;
}
uint64_t fg_avail_at(unsigned i)
{
	return 0x11000 + 0x3000ull * i;
}
uint64_t fg_used_at(unsigned i)
{
	return 0x12000 + 0x3000ull * i;
}

static void count_irq(void *ctx)
{
	((struct fake_guest *)ctx)->irqs++;
}

void fg_init(struct fake_guest *g, const struct vdev_ops *ops, void *dev, uint64_t features)
{
	memset(g, 0, sizeof(*g));
	if (guest_mem_map(&g->mem, GUEST_MEM_MIN) < 0)
		abort();
	vmmio_init(&g->m, ops, dev, features, &g->mem, count_irq, g);
}

void fg_done(struct fake_guest *g)
{
	guest_mem_unmap(&g->mem);
	pthread_mutex_destroy(&g->m.lock);
}

void fg_set(struct fake_guest *g, uint32_t reg, uint32_t v)
{
	vmmio_write(&g->m, reg, 4, v);
}

uint32_t fg_get(struct fake_guest *g, uint32_t reg)
{
	return (uint32_t)vmmio_read(&g->m, reg, 4);
}

uint32_t fg_drive(struct fake_guest *g, uint64_t features)
{
	fg_set(g, 0x70, 0);
	fg_set(g, 0x70, 1);
	fg_set(g, 0x70, 3);
	fg_set(g, 0x24, 0);
	fg_set(g, 0x20, (uint32_t)features);
	fg_set(g, 0x24, 1);
	fg_set(g, 0x20, (uint32_t)(features >> 32));
	fg_set(g, 0x70, 11);
	for (unsigned i = 0; i < VMMIO_QUEUES_MAX; i++) {
		guest_zero(&g->mem, GPA(fg_desc_at(i)), 0x3000);
		g->next_desc[i] = 0;
		fg_set(g, 0x30, i);
		if (fg_get(g, 0x34) == 0)
			continue;
		fg_set(g, 0x38, FG_NUM);
		fg_set(g, 0x80, (uint32_t)fg_desc_at(i));
		fg_set(g, 0x90, (uint32_t)fg_avail_at(i));
		fg_set(g, 0xa0, (uint32_t)fg_used_at(i));
		fg_set(g, 0x44, 1);
	}
	fg_set(g, 0x70, 15);
	return fg_get(g, 0x70);
}

uint16_t fg_offer(struct fake_guest *g, unsigned i, const struct fg_piece *p, unsigned n)
{
	uint16_t head = g->next_desc[i] % FG_NUM, idx;
	for (unsigned k = 0; k < n; k++) {
		uint16_t at = g->next_desc[i]++ % FG_NUM;
		struct virtq_desc d = { p[k].at, p[k].len, 0, (uint16_t)((at + 1) % FG_NUM) };
		d.flags = (uint16_t)((k + 1 < n ? FG_NEXT : 0) | (p[k].write ? FG_WRITE : 0));
		guest_write(&g->mem, GPA(fg_desc_at(i) + 16ull * at), &d, sizeof(d));
	}
	guest_read(&g->mem, GPA(fg_avail_at(i) + 2), &idx, 2);
	guest_write(&g->mem, GPA(fg_avail_at(i) + 4 + 2ull * (idx % FG_NUM)), &head, 2);
	idx++;
	guest_write(&g->mem, GPA(fg_avail_at(i) + 2), &idx, 2);
	return head;
}

uint16_t fg_used(struct fake_guest *g, unsigned i)
{
	uint16_t idx;
	guest_read(&g->mem, GPA(fg_used_at(i) + 2), &idx, 2);
	return idx;
}

uint32_t fg_used_len(struct fake_guest *g, unsigned i)
{
	uint32_t len;
	uint16_t last = (uint16_t)(fg_used(g, i) - 1);
	guest_read(&g->mem, GPA(fg_used_at(i) + 8 + 8ull * (last % FG_NUM)), &len, 4);
	return len;
}
