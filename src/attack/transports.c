/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens Internet sockets of the transports that are modules with a history: SCTP, DCCP, MPTCP,
 * SMC, L2TP, UDP-Lite.
 */
#include "attack/attack.h"

#include <sys/socket.h>

ATTACK(transports)
{
	static const struct {
		int type, protocol;
		const char *name;
	} all[] = { { SOCK_STREAM, 262, "MPTCP" },    { SOCK_STREAM, 132, "SCTP" },
		    { SOCK_SEQPACKET, 132, "SCTP" },  { SOCK_DGRAM, 115, "L2TP" },
		    { SOCK_DGRAM, 136, "UDP-Lite" },  { SOCK_STREAM, 256, "SMC" },
		    { 6 /* SOCK_DCCP */, 33, "DCCP" } };
	static const int families[] = { AF_INET, AF_INET6 };
	for (size_t i = 0; i < N(all); i++)
		for (size_t f = 0; f < N(families); f++)
			if (socket(families[f], all[i].type, all[i].protocol) >= 0)
				broken("a socket of %s", all[i].name);
	held("%s", strerror(errno));
}
