/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the kernel's crypto interface. CVE-2026-31431 wrote to the page cache of read-only files
 * through it and splice.
 */
#include "attack/attack.h"

#include <sys/socket.h>

ATTACK(af_alg)
{
	if (socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0)
		broken("a socket of family AF_ALG");
	held("%s", strerror(errno));
}
