/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packets.h: what the packet rules of the gateway namespace logged (NFLOG): the heads of packets that
 * sandboxes sent and nobody lets through. The kernel frames them; the packets are the tenants'.
 */
#ifndef BRIG_DAEMON_PACKETS_H
#define BRIG_DAEMON_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct packet_seen {
	uint32_t lease;	 /* of the link it came from */
	bool forged;	 /* its source is not that link's */
	bool known;	 /* the rest could be read */
	uint8_t proto;	 /* of IP */
	uint8_t dest[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;	 /* of the destination; 0 where the protocol has none */
};

/* One datagram of the kernel; calls fn for each packet in it. What is malformed is left out. */
void packets_parse(const void *p, size_t n, void (*fn)(void *ctx, const struct packet_seen *s), void *ctx);

#endif
