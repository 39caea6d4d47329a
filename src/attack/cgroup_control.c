/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for control groups that can be reached: limits to raise, processes to move, and, in
 * version 1, release_agent (CVE-2022-0492), a program that the host's kernel starts as root.
 * Opens, writes nothing.
 */
#include "attack/attack.h"

#include <dirent.h>
#include <limits.h>

static unsigned tried;

static void try_dir(const char *dir)
{
	static const char *const files[] = { "release_agent",	      "cgroup.procs",
					     "notify_on_release",     "memory.max",
					     "memory.limit_in_bytes", "pids.max",
					     "cgroup.subtree_control" };
	char path[PATH_MAX];
	for (size_t i = 0; i < N(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		tried++;
		if (open(path, O_WRONLY | O_CLOEXEC) >= 0)
			broken("%s can be opened for writing", path);
	}
}

ATTACK(cgroup_control)
{
	char dir[600];
	try_dir("/sys/fs/cgroup");
	DIR *d = opendir("/sys/fs/cgroup");
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(dir, sizeof(dir), "/sys/fs/cgroup/%s", e->d_name);
		try_dir(dir);
	}
	held("%u files, none can be opened", tried);
}
