/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/link/peers.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/link/rules.h"

static int drop(struct peers *p, int nft, unsigned i)
{
	int r = rules_peer(nft, p->v[i].a, p->v[i].b, 0);
	if (r < 0)
		return r;
	p->v[i] = p->v[--p->n];
	return 0;
}

static int add(struct peers *p, int nft, struct peer_pair pair)
{
	if (p->n == RULES_PEERS_MAX)
		return -ENOSPC;
	if (p->n == p->cap) {
		unsigned cap = p->cap ? 2 * p->cap : 64;
		struct peer_pair *mem = reallocarray(p->v, cap, sizeof(*mem));
		if (!mem)
			return -ENOMEM;
		p->v = mem;
		p->cap = cap;
	}
	int r = rules_peer(nft, pair.a, pair.b, 1);
	if (r == 0)
		p->v[p->n++] = pair;
	return r;
}

int peers_set(struct peers *p, int nft, uint32_t a, uint32_t b, int on)
{
	struct peer_pair pair = { .a = a < b ? a : b, .b = a < b ? b : a };
	unsigned i = 0;
	while (i < p->n && (p->v[i].a != pair.a || p->v[i].b != pair.b))
		i++;
	if ((i < p->n) == (on != 0))
		return 0;
	return on ? add(p, nft, pair) : drop(p, nft, i);
}

int peers_forget(struct peers *p, int nft, uint32_t lease)
{
	for (unsigned i = 0; i < p->n;) {
		int r = p->v[i].a == lease || p->v[i].b == lease ? drop(p, nft, i) : 1;
		if (r < 0)
			return r;
		i += r == 1;
	}
	return 0;
}

void peers_done(struct peers *p)
{
	free(p->v);
	*p = (struct peers){ .n = 0 };
}
