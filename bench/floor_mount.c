/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_mount.c: cost of the mounts that a root file system is put together from.
 *
 * Theory of operation
 * -------------------
 * Every case starts in a copy of the benchmark's mount namespace, makes its mounts below the private
 * tmpfs and lets the end of the namespace take them away; unmounting is timed where it would be on
 * somebody's path. The overlay has an ext4 or whatever /usr is as its lower layer and a tmpfs above
 * it, which is what a sandbox gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "floor.h"

/* The linux/mount.h of Debian 12 knows these, but clashes with sys/mount.h; the numbers are ABI. */
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif
struct attr { /* struct mount_attr, linux/mount.h */
	uint64_t set, clr, propagation, userns_fd;
};

static int enter(struct floor *f)
{
	static const char *const dirs[] = { "m", "up", "n" };

	if (unshare(CLONE_NEWNS) || chdir(f->work))
		return -1;
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i], 0755) && errno != EEXIST)
			return -1;
	return 0;
}

static void mount_time(struct floor *f, const char *what, const char *src, const char *dst,
		       const char *type, unsigned long flags, const char *data)
{
	char name[FLOOR_NAME_MAX];
	uint64_t t0 = floor_now();

	snprintf(name, sizeof(name), "mount %s", what);
	if (!floor_take(f, name, t0, mount(src, dst, type, flags, data) == 0))
		return;
	snprintf(name, sizeof(name), "umount %s", what);
	t0 = floor_now();
	floor_take(f, name, t0, umount2(dst, MNT_DETACH) == 0);
}

static void simple(struct floor *f)
{
	if (enter(f))
		return floor_miss(f, "mount tmpfs", errno);
	mount_time(f, "tmpfs", "t", "m", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=1k");
	mount_time(f, "bind of a directory", "/usr", "m", NULL, MS_BIND, NULL);
	mount_time(f, "devpts newinstance", "d", "m", "devpts", MS_NOSUID | MS_NOEXEC,
		   "newinstance,ptmxmode=0666,mode=620");
	mount_time(f, "mqueue", "q", "m", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (mount("/usr", "m", NULL, MS_BIND, NULL) == 0) {
		uint64_t t0 = floor_now();
		floor_take(f, "remount bind read-only", t0,
			   mount(NULL, "m", NULL,
				 MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0);
	}
}

static int overlay_dirs(void)
{
	if (mount("t", "up", "tmpfs", 0, "size=16m") || mkdir("up/u", 0755) || mkdir("up/w", 0755))
		return -1;
	return 0;
}

static void overlay(struct floor *f)
{
	if (enter(f) || overlay_dirs())
		return floor_miss(f, "mount overlay", errno);
	mount_time(f, "overlay (tmpfs above /usr)", "o", "m", "overlay", 0,
		   "lowerdir=/usr,upperdir=up/u,workdir=up/w");
	mount_time(f, "overlay again (same work directory)", "o", "m", "overlay", 0,
		   "lowerdir=/usr,upperdir=up/u,workdir=up/w");
	mount_time(f, "overlay volatile", "o", "m", "overlay", 0,
		   "lowerdir=/usr,upperdir=up/u,workdir=up/w,volatile");
}

static void overlay_userns(struct floor *f)
{
	static const char name[] = "mount overlay inside a user ns";
	pid_t holder;
	int r = floor_holder_start(CLONE_NEWUSER, &holder);

	if (r)
		return floor_miss(f, name, -r);
	AUTO_FD user = floor_ns_open(holder, "user");
	if (enter(f) || setns(user, CLONE_NEWUSER) || setresgid(0, 0, 0) || setresuid(0, 0, 0) ||
	    unshare(CLONE_NEWNS) || overlay_dirs()) {
		floor_miss(f, name, errno);
	} else {
		mount_time(f, "overlay inside a user ns", "o", "m", "overlay", 0,
			   "lowerdir=/usr,upperdir=up/u,workdir=up/w,userxattr");
		mount_time(f, "tmpfs inside a user ns", "t", "m", "tmpfs", MS_NOSUID | MS_NODEV,
			   "size=16m");
	}
	floor_holder_end(holder);
}

static void proc_child(struct floor *f)
{
	mount_time(f, "proc of a new pid ns", "p", "m", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_time(f, "proc hidepid=invisible,subset=pid", "p", "m", "proc",
		   MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible,subset=pid");
	if (mount("p", "m", "proc", 0, NULL))
		return;
	uint64_t t0 = floor_now();
	floor_take(f, "mask a proc file (bind /dev/null)", t0,
		   mount("/dev/null", "m/meminfo", NULL, MS_BIND, NULL) == 0);
}

static void proc(struct floor *f)
{
	if (enter(f))
		return floor_miss(f, "mount proc of a new pid ns", errno);
	pid_t pid = floor_clone(CLONE_NEWPID | CLONE_NEWNS, -1);
	if (pid == 0) {
		proc_child(f);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void sysfs(struct floor *f)
{
	if (enter(f) || unshare(CLONE_NEWNET))
		return floor_miss(f, "mount sysfs of a new net ns", errno);
	mount_time(f, "sysfs of a new net ns", "s", "m", "sysfs", MS_RDONLY | MS_NOSUID, NULL);
}

static void new_api(struct floor *f)
{
	if (enter(f))
		return floor_miss(f, "open_tree clone", errno);
	uint64_t t0 = floor_now();
	AUTO_FD tree = open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (!floor_take(f, "open_tree clone", t0, tree >= 0))
		return;
	struct attr ro = { .set = MS_RDONLY | MS_NOSUID | MS_NODEV };
	t0 = floor_now();
	floor_take(f, "mount_setattr read-only,nosuid,nodev on a detached tree", t0,
		   syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &ro, sizeof(ro)) == 0);
	t0 = floor_now();
	floor_take(f, "move_mount of a detached tree", t0,
		   move_mount(tree, "", AT_FDCWD, "m", MOVE_MOUNT_F_EMPTY_PATH) == 0);

	t0 = floor_now();
	AUTO_FD fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int ok = fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "size", "16m", 0) == 0 &&
		 fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
	AUTO_FD mnt = ok ? fsmount(fs, FSMOUNT_CLOEXEC, 0) : -1;
	floor_take(f, "fsopen, fsconfig, fsmount of a tmpfs (detached)", t0, mnt >= 0);
}

static void idmap(struct floor *f)
{
	static const char name[] = "mount_setattr idmap on a detached tree";
	pid_t holder;
	int r = floor_holder_start(CLONE_NEWUSER, &holder);

	if (r)
		return floor_miss(f, name, -r);
	AUTO_FD user = floor_ns_open(holder, "user");
	AUTO_FD tree = enter(f) ? -1 :
				  open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct attr map = { .set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user };
	uint64_t t0 = floor_now();
	floor_take(f, name, t0,
		   syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &map, sizeof(map)) == 0);
	floor_holder_end(holder);
}

static void pivot(struct floor *f)
{
	if (enter(f) || mount("t", "m", "tmpfs", 0, NULL) || chdir("m"))
		return floor_miss(f, "pivot_root", errno);
	uint64_t t0 = floor_now();
	if (!floor_take(f, "pivot_root", t0, syscall(SYS_pivot_root, ".", ".") == 0))
		return;
	t0 = floor_now();
	floor_take(f, "detach the old root (host table)", t0, umount2(".", MNT_DETACH) == 0);
}

/* A whole root: overlay, proc, two tmpfs, devpts, five device binds, pivot, detach. */
static void whole_root_child(struct floor *f)
{
	static const char *const dev[] = { "null", "zero", "full", "random", "urandom", "tty" };
	static const char name[] = "a whole root: overlay, proc, 3 tmpfs, devpts, 6 devices, pivot";
	uint64_t t0 = floor_now();
	int ok = overlay_dirs() == 0 &&
		 mount("o", "m", "overlay", 0, "lowerdir=n,upperdir=up/u,workdir=up/w") == 0 &&
		 mount("p", "m/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0 &&
		 mount("t", "m/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") == 0 &&
		 mount("d", "m/dev", "tmpfs", MS_NOSUID, "size=64k,mode=755") == 0 &&
		 mkdir("m/dev/pts", 0755) == 0 && mkdir("m/dev/shm", 01777) == 0 &&
		 mount("s", "m/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") == 0 &&
		 mount("pts", "m/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance") == 0;

	for (unsigned i = 0; ok && i < sizeof(dev) / sizeof(dev[0]); i++) {
		char from[32], to[32];
		snprintf(from, sizeof(from), "/dev/%s", dev[i]);
		snprintf(to, sizeof(to), "m/dev/%s", dev[i]);
		AUTO_FD fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
		ok = fd >= 0 && mount(from, to, NULL, MS_BIND, NULL) == 0;
	}
	ok = ok && chdir("m") == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
	     umount2(".", MNT_DETACH) == 0;
	floor_take(f, name, t0, ok);
}

static void whole_root(struct floor *f)
{
	if (enter(f) || (mkdir("n/proc", 0755) && errno != EEXIST) ||
	    (mkdir("n/tmp", 0755) && errno != EEXIST) || (mkdir("n/dev", 0755) && errno != EEXIST))
		return floor_miss(f, "a whole root", errno);
	pid_t pid = floor_clone(CLONE_NEWPID | CLONE_NEWNS, -1);
	if (pid == 0) {
		whole_root_child(f);
		uint64_t t0 = floor_now();
		f->sh->mark = t0;
		_exit(0);
	}
	if (pid > 0) {
		f->sh->mark = 0;
		waitpid(pid, NULL, 0);
		if (f->sh->mark)
			floor_take(f, "a whole root: exit of its last process, reaped", f->sh->mark, 1);
	}
}

const struct floor_case floor_mount_cases[] = {
	{ "simple mounts", simple },
	{ "overlay", overlay },
	{ "overlay in a user namespace", overlay_userns },
	{ "proc", proc },
	{ "mount API of fsopen and open_tree", new_api },
	{ "idmapped mount", idmap },
	{ "pivot_root", pivot },
	{ "whole root", whole_root },
	{ "sysfs", sysfs },
	{ NULL, NULL },
};
