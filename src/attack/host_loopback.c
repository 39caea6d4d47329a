/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects to a listener on the host's loopback addresses: services there trust whoever reaches
 * them (CVE-2020-8558).
 */
#include "attack/attack.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

ATTACK(host_loopback)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	static const char *const addresses[] = { "127.0.0.1", "127.0.0.2", "0.0.0.0",
						 "169.254.169.254" };
	a6.sin6_port = a4.sin_port = htons((uint16_t)atoi(canary("BRIG_CANARY_PORT")));
	for (size_t i = 0; i < N(addresses); i++) {
		int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct timeval patience = { .tv_sec = 2 };
		inet_pton(AF_INET, addresses[i], &a4.sin_addr);
		if (s < 0)
			break;
		setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		if (connect(s, (struct sockaddr *)&a4, sizeof(a4)) == 0)
			broken("connected to %s", addresses[i]);
		close(s);
	}
	int s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s >= 0 && connect(s, (struct sockaddr *)&a6, sizeof(a6)) == 0)
		broken("connected to ::1");
	held("%s", strerror(errno));
}
