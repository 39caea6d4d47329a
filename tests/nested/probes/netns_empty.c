/* SPDX-License-Identifier: Apache-2.0 */
/* A fresh network namespace has loopback, down, and nothing else: no route, no other link, and the
 * abstract unix sockets of the host are not in it. */
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "probe.h"

static struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0brig-probe" };
#define NAME_LEN ((socklen_t)(offsetof(struct sockaddr_un, sun_path) + 11))

static int inside(void)
{
	struct if_nameindex *links = if_nameindex();
	struct sockaddr_in out = { .sin_family = AF_INET, .sin_port = htons(53),
				   .sin_addr.s_addr = htonl(0x08080808) };
	struct sockaddr_in self = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
	struct ifreq lo = { .ifr_name = "lo" };
	int u = socket(AF_UNIX, SOCK_STREAM, 0), i = socket(AF_INET, SOCK_DGRAM, 0);

	must(links && !strcmp(links[0].if_name, "lo") && links[1].if_index == 0);
	must(connect(u, (void *)&name, NAME_LEN) < 0 && errno == ECONNREFUSED);
	must(connect(i, (void *)&out, sizeof(out)) < 0 && errno == ENETUNREACH);
	must(ioctl(i, SIOCGIFFLAGS, &lo) == 0 && !(lo.ifr_flags & IFF_UP));
	must(bind(i, (void *)&self, sizeof(self)) < 0 || connect(i, (void *)&out, sizeof(out)) < 0);
	lo.ifr_flags |= IFF_UP;
	must(ioctl(i, SIOCSIFFLAGS, &lo) == 0);
	must(connect(i, (void *)&out, sizeof(out)) < 0 && errno == ENETUNREACH);
	return 0;
}

int main(void)
{
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);

	must(bind(l, (void *)&name, NAME_LEN) == 0 && listen(l, 1) == 0);
	must(connect(c, (void *)&name, NAME_LEN) == 0); /* it is there, outside */
	in_child(CLONE_NEWNET, -1, inside);
	return 0;
}
