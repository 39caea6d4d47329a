/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens raw and packet sockets: forged addresses, router advertisements to neighbours
 * (CVE-2020-10749).
 */
#include "attack/attack.h"

#include <netinet/in.h>
#include <sys/socket.h>

ATTACK(raw_sockets)
{
	static const int protocols[] = { IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_RAW, IPPROTO_ICMPV6 };
	for (size_t i = 0; i < N(protocols); i++)
		if (socket(AF_INET, SOCK_RAW, protocols[i]) >= 0 ||
		    socket(AF_INET6, SOCK_RAW, protocols[i]) >= 0)
			broken("a raw socket of protocol %d", protocols[i]);
	if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || socket(AF_PACKET, SOCK_DGRAM, 0) >= 0 ||
	    socket(AF_INET, SOCK_PACKET, 0) >= 0)
		broken("a packet socket");
	held("%s", strerror(errno));
}
