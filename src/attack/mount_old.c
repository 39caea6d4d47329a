/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts a file system, and takes a mask of /proc away.
 */
#include "attack/attack.h"

#include <sys/mount.h>

ATTACK(mount_old)
{
	char dir[] = "/tmp/.attack-mount-XXXXXX";
	if (!mkdtemp(dir))
		untried("a directory in /tmp: %s", strerror(errno));
	int r = mount("none", dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=4k");
	int error = errno;
	if (r == 0)
		umount2(dir, MNT_DETACH);
	rmdir(dir);
	if (r == 0)
		broken("a tmpfs was mounted");
	if (mount("none", "/", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_RELATIME,
		  NULL) == 0 ||
	    umount2("/proc/keys", MNT_DETACH) == 0)
		broken("a mount was changed");
	held("%s", strerror(error));
}
