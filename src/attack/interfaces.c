/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for network interfaces besides loopback, and for a way to the world: a UDP socket that
 * connects has found a route. Sends nothing.
 */
#include "attack/attack.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

ATTACK(interfaces)
{
	struct if_nameindex *all = if_nameindex();
	for (struct if_nameindex *i = all; i && i->if_index; i++)
		if (strcmp(i->if_name, "lo") != 0)
			broken("interface %s", i->if_name);
	/* RFC 5737: nobody's address; the first is the metadata service of most clouds. */
	static const char *const addresses[] = { "169.254.169.254", "198.51.100.1" };
	for (size_t i = 0; i < N(addresses); i++) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80) };
		int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		inet_pton(AF_INET, addresses[i], &a.sin_addr);
		if (s >= 0 && connect(s, (struct sockaddr *)&a, sizeof(a)) == 0)
			broken("there is a route to %s", addresses[i]);
	}
	held("only lo: %s", strerror(errno));
}
