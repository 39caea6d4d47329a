/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the kernel's crypto interface. CVE-2026-31431 wrote to the page cache of read-only files
 * through it and splice.
 *
 * CONTROL: none(the host's kernel may be built without it)
 */
#define ATTACK "af-alg"
#include "attack.h"

#include <sys/socket.h>

int main(void)
{
	if (socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0)
		broken("a socket of family AF_ALG");
	held("%s", strerror(errno));
}
