/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a socket towards hypervisor and guests, which is not part of any network namespace
 * (CVE-2025-21756).
 */
#include "attack/attack.h"

#include <sys/socket.h>

ATTACK(af_vsock)
{
	if (socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 || socket(AF_VSOCK, SOCK_DGRAM, 0) >= 0)
		broken("a socket of family AF_VSOCK");
	held("%s", strerror(errno));
}
