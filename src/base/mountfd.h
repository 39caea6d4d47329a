/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mountfd.h: the descriptor-based mount calls (Linux 5.2, mount_setattr 5.12), which musl and older
 * glibc do not wrap. Own names and constants (values of include/uapi/linux/mount.h), because
 * <linux/mount.h> and glibc's <sys/mount.h> cannot be included together. Each returns >= 0 or -errno.
 */
#ifndef BRIG_BASE_MOUNTFD_H
#define BRIG_BASE_MOUNTFD_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MNTFD_TREE_CLONE 1u
#define MNTFD_TREE_CLOEXEC ((unsigned)O_CLOEXEC)
#define MNTFD_MOVE_F_EMPTY 0x4u
#define MNTFD_MOVE_T_EMPTY 0x40u
#define MNTFD_ATTR_RDONLY 0x1ull
#define MNTFD_ATTR_NOSUID 0x2ull
#define MNTFD_ATTR_NODEV 0x4ull
#define MNTFD_ATTR_NOEXEC 0x8ull
#define MNTFD_ATTR_NOATIME 0x10ull
#define MNTFD_ATTR_ATIME_MASK 0x70ull
#define MNTFD_ATTR_IDMAP 0x100000ull
#define MNTFD_AT_RECURSIVE 0x8000u
#define MNTFD_AT_EMPTY_PATH 0x1000u

struct mntfd_attr {
	uint64_t set, clear, propagation, userns_fd;
};

static inline int mntfd_ret(long r)
{
	return r < 0 ? -errno : (int)r;
}
/* A detached copy of the mount at fd (and of `path` below it). */
static inline int mntfd_clone(int dirfd, const char *path, unsigned at_flags)
{
	return mntfd_ret(syscall(SYS_open_tree, dirfd, path,
				 MNTFD_TREE_CLONE | MNTFD_TREE_CLOEXEC | at_flags));
}
static inline int mntfd_setattr(int fd, unsigned at_flags, const struct mntfd_attr *a)
{
	return mntfd_ret(
		syscall(SYS_mount_setattr, fd, "", MNTFD_AT_EMPTY_PATH | at_flags, a, sizeof(*a)));
}
/* Attaches a detached mount on the directory or file that `target` refers to. */
static inline int mntfd_attach(int fd, int target)
{
	return mntfd_ret(syscall(SYS_move_mount, fd, "", target, "",
				 MNTFD_MOVE_F_EMPTY | MNTFD_MOVE_T_EMPTY));
}
static inline int mntfd_fsopen(const char *type)
{
	return mntfd_ret(syscall(SYS_fsopen, type, 1u /* FSOPEN_CLOEXEC */));
}
static inline int mntfd_fsconfig_str(int fs, const char *key, const char *value)
{
	return mntfd_ret(syscall(SYS_fsconfig, fs, 1u /* SET_STRING */, key, value, 0));
}
static inline int mntfd_fsconfig_flag(int fs, const char *key)
{
	return mntfd_ret(syscall(SYS_fsconfig, fs, 0u /* SET_FLAG */, key, NULL, 0));
}
/* Creates the superblock and returns a detached mount of it. */
static inline int mntfd_fsmount(int fs, uint64_t attr)
{
	int r = mntfd_ret(syscall(SYS_fsconfig, fs, 6u /* CMD_CREATE */, NULL, NULL, 0));
	return r < 0 ? r : mntfd_ret(syscall(SYS_fsmount, fs, 1u /* CLOEXEC */, (unsigned)attr));
}

#endif
