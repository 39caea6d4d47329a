/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for the tree of the template, which lies under the sandbox's root: one step above it,
 * after leaving a chroot, and by taking the root away.
 */
#include "attack/attack.h"

#include <dirent.h>
#include <sys/mount.h>

/* Names that only the template has (src/engine/container/rootfs.c). */
static void look(const char *where)
{
	static const char *const names[] = { "img", "hostdev", "l", "w", "r" };
	char path[64];
	struct stat sb;
	for (size_t i = 0; i < N(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", where, names[i]);
		if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode))
			broken("%s is there", path);
	}
}

ATTACK(cover)
{
	char dir[] = "/tmp/.attack-cover-XXXXXX";
	look("/");
	look("/..");
	look("/proc/self/root/..");
	if (umount2("/", MNT_DETACH) == 0)
		broken("the root was unmounted");
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		broken("pivot_root");
	int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top >= 0 && mkdtemp(dir) && chroot(dir) == 0 && fchdir(top) == 0) {
		for (int i = 0; i < 64 && chdir("..") == 0; i++)
			look(".");
		look(".");
	}
	held("nothing above the root");
}
