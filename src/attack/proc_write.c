/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens every file of /proc outside of the processes, and of /sys, for writing. Some, such as
 * core_pattern, modprobe, sysrq-trigger and uevent_helper, make the host's kernel run a program or
 * stop (a process with host uid 0 may open the first without any capability). Writes nothing.
 */
#include "attack/attack.h"

#include <dirent.h>
#include <limits.h>

static unsigned tried;

static void try_file(const char *path)
{
	tried++;
	if (open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) >= 0)
		broken("%s can be opened for writing", path);
}

static void walk(const char *dir, int depth)
{
	char path[PATH_MAX];
	struct stat sb;
	DIR *d = depth > 0 ? opendir(dir) : NULL;
	for (struct dirent *e; d && (e = readdir(d));) {
		bool process = depth == 12 && e->d_name[0] >= '1' && e->d_name[0] <= '9';
		if (e->d_name[0] == '.' || process ||
		    snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path) ||
		    lstat(path, &sb) < 0)
			continue;
		if (S_ISDIR(sb.st_mode))
			walk(path, depth - 1);
		else if (S_ISREG(sb.st_mode))
			try_file(path);
	}
	if (d)
		closedir(d);
}

ATTACK(proc_write)
{
	/* These first: outside, the run ends at one whose opening does nothing. */
	static const char *const files[] = {
		"/proc/sys/kernel/core_pattern",     "/proc/sys/kernel/modprobe",
		"/proc/sys/kernel/hotplug",	     "/proc/sys/vm/panic_on_oom",
		"/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger",
		"/sys/kernel/uevent_helper"
	};
	for (size_t i = 0; i < N(files); i++)
		try_file(files[i]);
	walk("/proc", 12);
	walk("/sys", 12);
	held("%u files, none can be opened", tried);
}
