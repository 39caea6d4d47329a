/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h: the addresses and numbers of a sandbox's link.
 *
 * All of it is made of the lease (slot.h), which no two sandboxes of a host share at a time. The
 * addresses are never seen outside of a gateway namespace, so they need only be such that nobody wants
 * to reach: 198.18.0.0/15 is for measurements (RFC 2544), the other is a ULA whose number spells brig.
 */
#ifndef BRIG_NET_H
#define BRIG_NET_H

#include <stdint.h>

/* The gateway: the resolver, and the next hop of everything. */
#define BRIG_NET_GATEWAY4_TEXT "198.18.0.1"
#define BRIG_NET_GATEWAY6_TEXT "fd62:7269:6700::1"
#define BRIG_NET_GATEWAY4 0xc6120001u
/* A lease's own: 198.18.1.0 + lease, and fd62:7269:6700:1::LEASE. */
#define BRIG_NET_LEASE4 0xc6120100u
/* Where they all lie, for who has to tell them from the rest of the world. */
#define BRIG_NET_PREFIX4_TEXT "198.18.0.0/15"
#define BRIG_NET_PREFIX6_TEXT "fd62:7269:6700::/48"

/* Index of a link's end in the gateway namespace: this plus the lease. */
#define BRIG_NET_IFINDEX 1000u
#define BRIG_NET_MTU 1500u

/* In network byte order. lease 0: the gateway's. */
static inline void brig_net_addr4(uint32_t lease, uint8_t ret[4])
{
	uint32_t a = lease ? BRIG_NET_LEASE4 + lease : BRIG_NET_GATEWAY4;
	for (int i = 0; i < 4; i++)
		ret[i] = (uint8_t)(a >> (24 - 8 * i));
}

static inline void brig_net_addr6(uint32_t lease, uint8_t ret[16])
{
	static const uint8_t prefix[] = { 0xfd, 0x62, 0x72, 0x69, 0x67, 0x00 };
	for (unsigned i = 0; i < 16; i++)
		ret[i] = i < sizeof(prefix) ? prefix[i] : 0;
	ret[7] = lease != 0;
	ret[14] = (uint8_t)(lease >> 8);
	ret[15] = lease ? (uint8_t)lease : 1;
}

/* The lease of an address; 0 = it is none's. Both in network byte order. */
static inline uint32_t brig_net_lease4(const uint8_t a[4])
{
	uint32_t v = (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];
	return v > BRIG_NET_LEASE4 && v < BRIG_NET_LEASE4 + 0x2000u ? v - BRIG_NET_LEASE4 : 0;
}

/* Locally administered; side 0: inside, 1: the gateway's end. */
static inline void brig_net_mac(uint32_t lease, unsigned side, uint8_t ret[6])
{
	ret[0] = 0x02;
	ret[1] = 0x62;
	ret[2] = 0x72;
	ret[3] = (uint8_t)side;
	ret[4] = (uint8_t)(lease >> 8);
	ret[5] = (uint8_t)lease;
}

/*
 * What brig-jaild opens in a gateway namespace for brig-egress (egress_proto.h), in this order. All are
 * bound to the wildcard address and transparent (IP_TRANSPARENT): getsockname() of an accepted connection
 * is what the sandbox wanted to reach, and a datagram tells it by IP_PKTINFO. The rules have dropped
 * everything whose source is not the lease's.
 */
enum brig_net_socket { BRIG_NET_TCP4, BRIG_NET_TCP6, BRIG_NET_UDP4, BRIG_NET_UDP6, BRIG_NET_SOCKETS };
#define BRIG_NET_PORT 1080u
#define BRIG_NET_DNS_PORT 53u

#endif
