/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves the root by the old way: keep a directory open, chroot below it, go back and up. Whoever
 * may chroot can do that; it must end at the sandbox's own root.
 */
#include "attack/attack.h"

static void climb(void)
{
	for (int i = 0; i < 64; i++)
		if (chdir("..") < 0)
			break;
	if (chroot(".") < 0 || chdir("/") < 0)
		untried("chroot again: %s", strerror(errno));
}

ATTACK(chroot_escape)
{
	struct stat before, after;
	char buf[16], dir[] = "/tmp/.attack-root-XXXXXX";
	const char *file = canary("BRIG_CANARY_FILE");
	int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || stat("/", &before) < 0 || !mkdtemp(dir))
		untried("a directory in /tmp: %s", strerror(errno));
	int r = chroot(dir), error = errno;
	if (r == 0 && fchdir(top) == 0)
		climb();
	rmdir(dir);
	if (r < 0)
		held("chroot: %s", strerror(error));
	if (stat("/", &after) < 0 || after.st_dev != before.st_dev || after.st_ino != before.st_ino)
		broken("the root is another one now");
	if (read_some(file, buf, sizeof(buf)) >= 0)
		broken("%s can be read", file);
	held("back at the same root");
}
