/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends signals to the first process, whose end would be that of the sandbox, and to everybody
 * else. The runner sees by the exit code that the agent lives on.
 */
#include "attack/attack.h"

#include <time.h>

ATTACK(kill_init)
{
	static const int signals[] = { SIGSTOP, SIGTERM, SIGSEGV, SIGKILL };
	struct timespec moment = { 0, 20000000 };
	if (getpid() == 1)
		untried("this is the first process");
	for (size_t i = 0; i < N(signals); i++) {
		/* The kernel drops what the first process of a namespace does not handle, without
		 * an error. */
		kill(1, signals[i]);
		nanosleep(&moment, NULL);
	}
	char state[512];
	if (read_some("/proc/1/stat", state, sizeof(state)) < 0)
		broken("process 1 is gone");
	const char *at = strrchr(state, ')');
	if (at && (at[2] == 'T' || at[2] == 'Z' || at[2] == 'X'))
		broken("process 1 is in state %c", at[2]);
	held("process 1 lives, in state %c", at ? at[2] : '?');
}
