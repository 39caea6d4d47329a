/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts processes until it may start no more. The runner allows it BRIG_CANARY_PIDS; twice as many
 * are a limit that does not hold. They wait for nothing but the end, which is that of the sandbox.
 */
#include "attack/attack.h"

ATTACK(fork_bomb)
{
	long limit = strtol(canary("BRIG_CANARY_PIDS"), NULL, 10);
	long n = 0;
	while (n < 2 * limit) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (pid == 0)
			for (;;)
				pause();
		n++;
	}
	if (n >= 2 * limit)
		broken("%ld processes, and %ld are allowed", n, limit);
	held("after %ld processes: %s", n, strerror(errno));
}
