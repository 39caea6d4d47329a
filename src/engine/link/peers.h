/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers.h: which links reach each other. The rules have two elements for each pair (rules.h); what they
 * hold is known here, so that nothing of a lease is left when another sandbox gets it.
 */
#ifndef BRIG_LINK_PEERS_H
#define BRIG_LINK_PEERS_H

#include <stdint.h>

struct peer_pair {
	uint32_t a, b; /* leases, a < b */
};
struct peers {
	struct peer_pair *v;
	unsigned n, cap;
};

/* That it is so already is no error. 0 or -errno; -ENOSPC: RULES_PEERS_MAX pairs. */
int peers_set(struct peers *p, int nft, uint32_t a, uint32_t b, int on);
/* The lease reaches nobody any more. On an error some are left. */
int peers_forget(struct peers *p, int nft, uint32_t lease);
void peers_done(struct peers *p);

#endif
