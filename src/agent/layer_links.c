/* SPDX-License-Identifier: Apache-2.0 */
/* layer_links.c: an open table, at most half full. Its memory is the sandbox's own. */
#include "agent/layer_links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct layer_link {
	uint64_t ino;
	char *path; /* NULL = free */
};

static struct layer_link *slot_of(struct layer_link *slot, uint32_t cap, uint64_t ino)
{
	uint32_t i = (uint32_t)((ino * 0x9e3779b97f4a7c15ull) >> 32) & (cap - 1);
	while (slot[i].path && slot[i].ino != ino)
		i = (i + 1) & (cap - 1);
	return &slot[i];
}

static int grow(struct layer_links *l)
{
	uint32_t cap = l->cap ? l->cap * 2 : 64;
	struct layer_link *slot = calloc(cap, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->cap; i++)
		if (l->slot[i].path)
			*slot_of(slot, cap, l->slot[i].ino) = l->slot[i];
	free(l->slot);
	l->slot = slot;
	l->cap = cap;
	return 0;
}

const char *layer_links_see(struct layer_links *l, uint64_t ino, const char *path, int *ret_err)
{
	*ret_err = l->n * 2 >= l->cap ? grow(l) : 0;
	if (*ret_err < 0)
		return NULL;
	struct layer_link *s = slot_of(l->slot, l->cap, ino);
	if (s->path)
		return s->path;
	s->path = strdup(path);
	s->ino = ino;
	if (!s->path)
		*ret_err = -ENOMEM;
	else
		l->n++;
	return NULL;
}

void layer_links_done(struct layer_links *l)
{
	for (uint32_t i = 0; i < l->cap; i++)
		free(l->slot[i].path);
	free(l->slot);
	*l = (struct layer_links){ .slot = NULL };
}
