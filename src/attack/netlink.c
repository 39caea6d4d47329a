/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens netlink sockets of every protocol but routing: netfilter, audit, IPsec policies, device
 * events.
 */
#include "attack/attack.h"

#include <sys/socket.h>

ATTACK(netlink)
{
	for (int protocol = 1; protocol < 32; protocol++)
		if (socket(AF_NETLINK, SOCK_RAW, protocol) >= 0 ||
		    socket(AF_NETLINK, SOCK_DGRAM, protocol) >= 0)
			broken("a netlink socket of protocol %d", protocol);
	held("%s", strerror(errno));
}
