/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts that come from a more privileged mount namespace are locked: root of the user namespace can
 * make neither a read-only one writable, nor take a mask off, nor lift nosuid. */
#include <sys/mount.h>

#include "probe.h"

static int inside(void)
{
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
	must(mount(NULL, "/tmp/ml/ro", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL) != 0 &&
	     errno == EPERM);
	must(mount(NULL, "/tmp/ml/ro", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0 &&
	     errno == EPERM);
	must(umount2("/tmp/ml/ro", 0) != 0 && errno == EINVAL);
	must(umount2("/tmp/ml/ro", MNT_DETACH) != 0 && errno == EINVAL);
	/* A copy of the part below would show what is under the mask: refused as well. */
	must(open_tree(AT_FDCWD, "/tmp/ml", OPEN_TREE_CLONE) < 0 && errno == EINVAL);
	/* It may mount of its own. */
	must(mount("t", "/tmp/ml", "tmpfs", 0, NULL) == 0);
	return 0;
}

int main(void)
{
	must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	must(mkdir("/tmp/ml", 0755) == 0 && mount("t", "/tmp/ml", "tmpfs", 0, NULL) == 0);
	must(mkdir("/tmp/ml/ro", 0755) == 0 &&
	     mount("t", "/tmp/ml/ro", "tmpfs", MS_RDONLY | MS_NOSUID, NULL) == 0);
	in_child(0, -1, inside);
	must(umount2("/tmp/ml/ro", 0) == 0 && umount2("/tmp/ml", 0) == 0 && rmdir("/tmp/ml") == 0);
	return 0;
}
