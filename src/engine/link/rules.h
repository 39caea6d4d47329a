/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.h: the packet rules of a gateway namespace, and what they have counted. rules.c has the rules.
 */
#ifndef BRIG_LINK_RULES_H
#define BRIG_LINK_RULES_H

#include <stdint.h>

/* NFLOG group of the packets that were refused, and the words that say why. */
#define RULES_LOG_GROUP 1u
#define RULES_REFUSED "refused"
#define RULES_FORGED "forged"

struct rules_counts {
	uint64_t refused, forged; /* packets */
};

/* Pairs of links that reach each other. */
#define RULES_PEERS_MAX 16384u

/* nft: a NETLINK_NETFILTER socket in the gateway namespace. 0 or -errno; *ret_step says what failed. */
int rules_load(int nft, const char **ret_step);
/* Lets the link of a lease in. What it may be is a fact that never changes, so it is never taken back. */
int rules_admit(int nft, uint32_t lease);
/* Lets the links of two leases reach each other, or not any more: on must not be what it is. Whoever gives a
 * lease to another sandbox takes them back before (peers.h). 0 or -errno. */
int rules_peer(int nft, uint32_t a, uint32_t b, int on);
/* No two links reach each other any more. */
int rules_peers_end(int nft);
/* Packets of a lease's link since the rules were loaded; other holders of the lease included. */
int rules_counts(int nft, uint32_t lease, struct rules_counts *ret);

#endif
