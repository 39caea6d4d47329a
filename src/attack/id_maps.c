/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the maps of its user namespace: neither user nor group 0 of the host may be in them, and
 * nobody inside may change them.
 */
#include "attack/attack.h"

static void check_map(const char *path)
{
	char line[128];
	unsigned inside, outside, count;
	FILE *f = fopen(path, "re");
	if (!f)
		untried("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%u %u %u", &inside, &outside, &count) != 3)
			untried("%s: %s", path, line);
		if (outside == 0)
			broken("%s maps %u to 0 of the host", path, inside);
		if (count > 65536)
			broken("%s maps %u ids", path, count);
	}
	fclose(f);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "0 0 1\n", 6) > 0)
		broken("%s can be written", path);
}

ATTACK(id_maps)
{
	check_map("/proc/self/uid_map");
	check_map("/proc/self/gid_map");
	held("0 of the host is not mapped");
}
