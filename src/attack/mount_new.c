/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a file system and copies a tree by the calls of the newer mount interface.
 */
#include "attack/attack.h"

ATTACK(mount_new)
{
	if (syscall(430 /* fsopen */, "tmpfs", 0) >= 0)
		broken("fsopen");
	if (syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */) >= 0)
		broken("open_tree with a copy");
	if (syscall(428, AT_FDCWD, "/", 0) >= 0)
		broken("open_tree");
	if (syscall(433 /* fspick */, AT_FDCWD, "/", 0) >= 0)
		broken("fspick");
	held("%s", strerror(errno));
}
