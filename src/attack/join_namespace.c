/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enters namespaces by their files: its own, and those of every process in sight.
 */
#include "attack/attack.h"

#include <dirent.h>
#include <sched.h>

static char path[300];

static int enter(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && syscall(SYS_setns, fd, 0) == 0 ? 0 : 1;
}

ATTACK(join_namespace)
{
	static const char *const kinds[] = { "net", "ipc", "uts", "mnt", "pid", "user", "cgroup" };
	unsigned tried = 0;
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		for (size_t i = 0; i < N(kinds); i++, tried++) {
			snprintf(path, sizeof(path), "/proc/%.16s/ns/%s", e->d_name, kinds[i]);
			if (in_child(enter) == 0)
				broken("%s was entered", path);
		}
	}
	held("%u files", tried);
}
