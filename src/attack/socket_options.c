/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets options that bring parsers of the kernel into a connection: upper-layer protocols (kernel
 * TLS, ESP in TCP: CVE-2026-46300), encapsulation in UDP, programs on sockets, IPsec policies.
 */
#include "attack/attack.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

ATTACK(socket_options)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { .len = 1, .filter = &all };
	int espinudp = 2 /* UDP_ENCAP_ESPINUDP */;
	int tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
	if (tcp < 0 || udp < 0)
		held("not even a socket: %s", strerror(errno));
	if (setsockopt(udp, IPPROTO_UDP, 100 /* UDP_ENCAP */, &espinudp, sizeof(espinudp)) == 0)
		broken("UDP_ENCAP");
	if (setsockopt(udp, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0)
		broken("SO_ATTACH_FILTER");
	static const char *const layers[] = { "tls", "espintcp", "mptcp", "smc" };
	for (size_t i = 0; i < N(layers); i++) {
		/* ENOTCONN comes from the layer itself: it was found and asked. */
		if (setsockopt(tcp, IPPROTO_TCP, 31 /* TCP_ULP */, layers[i],
			       (socklen_t)strlen(layers[i])) == 0 ||
		    errno == ENOTCONN)
			broken("TCP_ULP %s", layers[i]);
	}
	held("%s", strerror(errno));
}
