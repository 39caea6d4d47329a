/* SPDX-License-Identifier: Apache-2.0 */
/* inodes.c: open addressing, a power of two of slots, at most three quarters full. */
#include "image/inodes.h"

#include <stdint.h>
#include <stdlib.h>

struct inode_slot {
	dev_t dev;
	ino_t ino;
	int used;
	void *value;
};

/* The finalizer of splitmix64: inode numbers are dense, and often multiples of something. */
static size_t slot_of(const struct inodes *m, dev_t dev, ino_t ino)
{
	uint64_t x = (uint64_t)ino ^ ((uint64_t)dev << 48);
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	size_t i = (size_t)(x ^ (x >> 31)) & (m->cap - 1);
	while (m->slots[i].used && (m->slots[i].dev != dev || m->slots[i].ino != ino))
		i = (i + 1) & (m->cap - 1);
	return i;
}

static int grow(struct inodes *m)
{
	struct inodes big = { .cap = m->cap ? m->cap * 2 : 64 };
	big.slots = calloc(big.cap, sizeof(*big.slots));
	if (!big.slots)
		return -1;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].used)
			big.slots[slot_of(&big, m->slots[i].dev, m->slots[i].ino)] = m->slots[i];
	big.n = m->n;
	free(m->slots);
	*m = big;
	return 0;
}

void **inodes_at(struct inodes *m, dev_t dev, ino_t ino)
{
	if (m->n * 4 >= m->cap * 3 && grow(m) < 0)
		return NULL;
	struct inode_slot *s = &m->slots[slot_of(m, dev, ino)];
	if (!s->used) {
		*s = (struct inode_slot){ .dev = dev, .ino = ino, .used = 1 };
		m->n++;
	}
	return &s->value;
}

void inodes_done(struct inodes *m)
{
	for (size_t i = 0; i < m->cap; i++)
		free(m->slots[i].value);
	free(m->slots);
	*m = (struct inodes){ .slots = NULL };
}
