/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes device nodes: memory, a disk, and the character device 0:0 that overlayfs reads as "this
 * file is deleted".
 */
#include "attack/attack.h"

#include <sys/sysmacros.h>

ATTACK(make_device)
{
	static const struct {
		mode_t type;
		unsigned major, minor;
	} nodes[] = {
		{ S_IFCHR, 1, 1 }, { S_IFBLK, 254, 0 }, { S_IFBLK, 8, 0 }, { S_IFCHR, 0, 0 }
	};
	static const char *const dirs[] = { "/tmp", "/dev/shm", "/dev" };
	char path[64];
	for (size_t d = 0; d < N(dirs); d++)
		for (size_t i = 0; i < N(nodes); i++) {
			snprintf(path, sizeof(path), "%s/.attack-node", dirs[d]);
			if (mknod(path, nodes[i].type | 0600,
				  makedev(nodes[i].major, nodes[i].minor)) == 0) {
				unlink(path);
				broken("%s became device %u:%u", path, nodes[i].major,
				       nodes[i].minor);
			}
		}
	held("%s", strerror(errno));
}
