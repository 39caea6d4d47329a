/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks for the uptime of the host, which dates its last update and links the sandboxes of one host:
 * the clocks must have an origin of their own, where the kernel can do that. (Who looks for it
 * finds the difference in /proc/self/timens_offsets; what this hides is hidden from ordinary
 * programs.)
 */
#include "attack/attack.h"

#include <time.h>

ATTACK(uptime)
{
	char text[64];
	long host = strtol(canary("BRIG_CANARY_UPTIME"), NULL, 10);
	struct timespec boot, mono;
	if (access("/proc/self/ns/time", F_OK) < 0)
		held("this kernel has no time namespaces");
	if (clock_gettime(CLOCK_BOOTTIME, &boot) < 0 || clock_gettime(CLOCK_MONOTONIC, &mono) < 0 ||
	    read_some("/proc/uptime", text, sizeof(text)) <= 0)
		untried("clocks: %s", strerror(errno));
	const struct {
		const char *name;
		long s;
	} clocks[] = { { "CLOCK_BOOTTIME", (long)boot.tv_sec },
		       { "CLOCK_MONOTONIC", (long)mono.tv_sec },
		       { "/proc/uptime", strtol(text, NULL, 10) } };
	for (size_t i = 0; i < N(clocks); i++)
		/* A test may start minutes after the runner noted its own. */
		if (clocks[i].s >= host - 1 && clocks[i].s <= host + 600)
			broken("%s shows the host's uptime", clocks[i].name);
	held("%ld s", clocks[0].s);
}
