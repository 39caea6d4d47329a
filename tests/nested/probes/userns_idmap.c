/* SPDX-License-Identifier: Apache-2.0 */
/* The file system of a sandbox: a user namespace whose root is an ordinary host id, an overlay whose
 * lower layer is an idmapped mount of a tree that host root owns, and a tmpfs above. Inside, files of
 * the image belong to root; outside, what was written belongs to the leased range; the image itself
 * is untouched. */
#include <sys/mount.h>

#include "probe.h"

#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif
#define BASE 0x70010000u

static int sync_pipe[2];

static int inside(void)
{
	struct stat st;
	char go;

	must(read(sync_pipe[0], &go, 1) == 1);
	must(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
	must(getuid() == 0);
	must(stat("/tmp/p/root/file", &st) == 0 && st.st_uid == 0 && st.st_gid == 0);
	must(stat("/tmp/p/root/users", &st) == 0 && st.st_uid == 1000);
	must(spew(AT_FDCWD, "/tmp/p/root/file", "changed") == 0); /* copied up */
	must(chown("/tmp/p/root/file", 5, 5) == 0);
	must(mkdir("/tmp/p/root/new", 0700) == 0);
	/* Ids outside the range do not exist here. */
	must(chown("/tmp/p/root/file", 65536, 0) != 0 && errno == EINVAL);
	/* The host's root is nobody to us. */
	must(kill(1, 0) != 0 && errno == EPERM);
	must(open("/proc/sys/kernel/core_pattern", O_WRONLY) < 0);
	must(open("/etc/shadow", O_RDONLY) < 0 && errno == EACCES);
	return 0;
}

int main(void)
{
	struct {
		uint64_t set, clr, propagation, userns_fd;
	} attr = { .set = MOUNT_ATTR_IDMAP };
	struct stat st;
	char map[64], ns[64];

	must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	must(mkdir("/tmp/p", 0755) == 0);
	must(mount("p", "/tmp/p", "tmpfs", 0, NULL) == 0);
	must(mkdir("/var/tmp/probe-image", 0755) == 0); /* on the disk */
	must(close(open("/var/tmp/probe-image/file", O_CREAT | O_WRONLY, 0644)) == 0);
	must(close(open("/var/tmp/probe-image/users", O_CREAT | O_WRONLY, 0644)) == 0);
	must(chown("/var/tmp/probe-image/users", 1000, 1000) == 0);
	must(mkdir("/tmp/p/image", 0755) == 0 && mkdir("/tmp/p/root", 0755) == 0 &&
	     mkdir("/tmp/p/upper", 0755) == 0 && mkdir("/tmp/p/work", 0755) == 0);
	must(chown("/tmp/p/upper", BASE, BASE) == 0);

	must(pipe(sync_pipe) == 0);
	pid_t pid = clone_into(CLONE_NEWUSER, -1);
	must(pid >= 0);
	if (pid == 0) {
		/* Mounts are made by the parent, in the namespace that both share. */
		exit(inside());
	}
	snprintf(map, sizeof(map), "0 %u 65536", BASE);
	snprintf(ns, sizeof(ns), "/proc/%d/uid_map", pid);
	must(spew(AT_FDCWD, ns, map) == 0);
	snprintf(ns, sizeof(ns), "/proc/%d/gid_map", pid);
	must(spew(AT_FDCWD, ns, map) == 0);
	snprintf(ns, sizeof(ns), "/proc/%d/ns/user", pid);
	attr.userns_fd = (uint64_t)open(ns, O_RDONLY | O_CLOEXEC);
	int tree = open_tree(AT_FDCWD, "/var/tmp/probe-image", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	must(tree >= 0);
	must(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0);
	must(move_mount(tree, "", AT_FDCWD, "/tmp/p/image", MOVE_MOUNT_F_EMPTY_PATH) == 0 &&
	     close(tree) == 0);
	must(mount("o", "/tmp/p/root", "overlay", 0,
		   "lowerdir=/tmp/p/image,upperdir=/tmp/p/upper,workdir=/tmp/p/work") == 0);
	must(write(sync_pipe[1], "g", 1) == 1);
	must(reap(pid) == 0);

	must(stat("/tmp/p/upper/new", &st) == 0 && st.st_uid == BASE && st.st_gid == BASE);
	must(stat("/tmp/p/upper/file", &st) == 0 && st.st_uid == BASE + 5);
	must(stat("/var/tmp/probe-image/file", &st) == 0 && st.st_size == 0 && st.st_uid == 0);
	must(umount2("/tmp/p/root", 0) == 0 && umount2("/tmp/p/image", 0) == 0);
	must(umount2("/tmp/p", 0) == 0 && rmdir("/tmp/p") == 0);
	must(unlink("/var/tmp/probe-image/file") == 0 && unlink("/var/tmp/probe-image/users") == 0 &&
	     rmdir("/var/tmp/probe-image") == 0);
	return 0;
}
