/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares its uptime with the host's: it dates the host's last update and links sandboxes of one
 * host.
 *
 * CONTROL: outside-root
 */
#define ATTACK "uptime"
#include "attack.h"

#include <time.h>

int main(void)
{
	char buf[64];
	long host = strtol(canary("BRIG_CANARY_UPTIME"), NULL, 10);
	struct timespec boot, mono;
	if (access("/proc/self/ns/time", F_OK) < 0)
		held("this kernel has no time namespaces");
	if (clock_gettime(CLOCK_BOOTTIME, &boot) < 0 || clock_gettime(CLOCK_MONOTONIC, &mono) < 0 ||
	    read_some("/proc/uptime", buf, sizeof(buf)) <= 0)
		untried("clocks: %s", strerror(errno));
	const long seen[] = { (long)boot.tv_sec, (long)mono.tv_sec, strtol(buf, NULL, 10) };
	for (size_t i = 0; i < N(seen); i++)
		/* A test may start minutes after the runner noted its own. */
		if (seen[i] >= host - 1 && seen[i] <= host + 600)
			broken("clock %zu shows the host's uptime", i);
	held("%ld s", seen[0]);
}
