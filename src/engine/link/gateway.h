/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway.h: the network namespace in which the links of a server's sandboxes end, and the links.
 *
 *     sandbox's namespace            gateway namespace                      host
 *     eth0  ===== veth ===========  bg<lease>  rules  sockets ------- brig-egress ---> network
 *
 * The gateway namespace has no link to anywhere else: what comes in is given to one of four sockets or
 * refused, or goes to the link of a peer (rules.c). The sockets are held by brig-egress, which lives in the host's namespace and makes
 * connections of its own. So there is no way through that a packet could take.
 *
 * Nothing keeps the namespace but descriptors: of jaild, its maker, and brig-egress. When the last of
 * these is gone, the kernel removes it, and with it the links, on both sides.
 */
#ifndef BRIG_LINK_GATEWAY_H
#define BRIG_LINK_GATEWAY_H

#include <stdint.h>

#include "base/err.h"
#include "brig/net.h"
#include "engine/link/rules.h"

struct gateway {
	int netns;   /* -1 = there is none */
	int rt, nft; /* netlink sockets in it, of the process that asks */
	int six;     /* IPv6, too */
	int packets; /* what the rules log, for who explains it (NFLOG); nonblocking */
	int sock[BRIG_NET_SOCKETS]; /* for brig-egress, who hands them on closes them; -1 = none */
};
#define GATEWAY_NONE                                                                                  \
	{                                                                                             \
		.netns = -1, .rt = -1, .nft = -1, .packets = -1, .sock = { -1, -1, -1, -1 }           \
	}

/* Makes one. home: the caller's own network namespace, to which it returns. name: of the instance; the
 * namespace's loopback carries it as its alias. Single-threaded callers only. 0 or -1 with err. */
int gateway_make(struct gateway *g, int home, const char *name, struct brig_err *err);
void gateway_done(struct gateway *g);
/* One that a former process made: netns and packets are taken over. Links are as they were, but reach each
 * other only when that is asked for anew. 0 or -errno; then there is none. */
int gateway_resume(struct gateway *g, int home, int netns, int packets, int six);
/* A process of its own (the maker) must not share the netlink sockets of its parent. 0 or -errno. */
int gateway_reopen(struct gateway *g, int home);

/*
 * Gives the network namespace that the caller is in (and which has nothing but loopback) its link: eth0,
 * up, with the lease's addresses and the gateway as its default route; the other end is in the gateway
 * namespace, and its packets are let in. Nobody inside has a right over it: the namespace belongs to the
 * outer user namespace. It ends with the namespace. 0 or -errno.
 */
int gateway_link(const struct gateway *g, uint32_t lease);

#endif
