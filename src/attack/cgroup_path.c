/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for the place of the sandbox in the host's tree of control groups, which names the daemon,
 * the tenant, other sandboxes.
 */
#include "attack/attack.h"

ATTACK(cgroup_path)
{
	char line[512];
	unsigned count = 0;
	FILE *f = fopen("/proc/self/cgroup", "re");
	if (!f)
		held("/proc/self/cgroup: %s", strerror(errno));
	for (; fgets(line, sizeof(line), f); count++) {
		line[strcspn(line, "\n")] = '\0';
		const char *path = strrchr(line, ':');
		if (!path || strcmp(path, ":/") != 0)
			broken("%s", line);
	}
	held("%u hierarchies, each begins here", count);
}
