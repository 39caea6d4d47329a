/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a socket of every family but the local, the two Internet ones and netlink. Most load a
 * module that nobody looks after.
 */
#include "attack/attack.h"

#include <sys/socket.h>

ATTACK(socket_families)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM };
	for (int family = 0; family < 64; family++) {
		if (family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
		    family == AF_NETLINK)
			continue;
		for (size_t i = 0; i < N(types); i++)
			if (socket(family, types[i], 0) >= 0)
				broken("a socket of family %d, type %d", family, types[i]);
	}
	held("%s", strerror(errno));
}
