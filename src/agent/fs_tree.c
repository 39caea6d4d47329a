/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A tree is emptied from the bottom with one open directory at a time. Down goes by openat()
 * without following links; up goes by "..", and only if what is there is the directory that was
 * left. A tenant who moves directories about meanwhile gets an error, not a removal elsewhere. So
 * the depth costs memory for the names of the way (bounded), and no descriptors.
 *
 * After a return the directory is read from its start again: everything before the place it was
 * left at is gone.
 *
 * Paths of several names are opened one by one. openat2() would do it in one call, but in a sandbox
 * with a writable volume the filter refuses it (suid.seccomp).
 */
#include "agent/fs_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define DEPTH_MAX 4096u

/* The front of struct statx, which musl does not have and the kernel's header only in exchange for
 * musl's own <sys/stat.h>. */
struct statx_front {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint8_t rest[240];
};
#define ATTR_MOUNT_ROOT 0x2000u /* Linux 5.8 */

static int stays_here(int fd)
{
	struct statx_front st;
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, &st) < 0)
		return -errno;
	return st.attributes & ATTR_MOUNT_ROOT ? -EXDEV : 0;
}

int fs_beneath(int root, const char *rel, int flags, bool one_fs)
{
	AUTO_FD at = -1;
	if (!*rel) {
		at = openat(root, ".", flags | O_CLOEXEC);
		return at < 0 ? -errno : fd_steal(&at);
	}
	for (;;) {
		char name[NAME_MAX + 1];
		size_t n = strcspn(rel, "/");
		if (n == 0 || n > NAME_MAX)
			return -EINVAL;
		memcpy(name, rel, n);
		name[n] = '\0';
		rel += n;
		if (strcmp(name, "..") == 0)
			return -EINVAL;
		int fd = openat(at < 0 ? root : at, name,
				(*rel ? O_PATH | O_DIRECTORY : flags) | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		fd_close(&at);
		at = fd;
		int r = one_fs ? stays_here(fd) : 0;
		if (r < 0)
			return r;
		if (!*rel++)
			return fd_steal(&at);
	}
}

void fs_tree_init(struct fs_tree *t)
{
	*t = (struct fs_tree){ .parent = -1 };
}

void fs_tree_done(struct fs_tree *t)
{
	if (t->dir)
		closedir(t->dir);
	for (unsigned i = 0; i < t->depth; i++)
		free(t->way[i].name);
	free(t->way);
	fd_close(&t->parent);
	t->dir = NULL;
	t->way = NULL;
	t->depth = t->cap = 0;
}

/* Enters `name` of the directory `at`. */
static int way_down(struct fs_tree *t, int at, const char *name)
{
	struct stat st;
	if (t->depth == DEPTH_MAX)
		return -ENAMETOOLONG;
	if (t->depth == t->cap) {
		unsigned cap = t->cap ? t->cap * 2 : 16;
		struct fs_way *way = reallocarray(t->way, cap, sizeof(*way));
		if (!way)
			return -ENOMEM;
		t->way = way;
		t->cap = cap;
	}
	AUTO_FD fd =
		fs_beneath(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK, t->one_fs);
	if (fd < 0)
		return fd == -ELOOP ? -ENOTDIR : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	AUTO_FREE char *copy = strdup(name);
	DIR *d = copy ? fdopendir(fd) : NULL;
	if (!d)
		return -ENOMEM;
	fd_steal(&fd);
	if (t->dir)
		closedir(t->dir);
	t->dir = d;
	t->way[t->depth++] = (struct fs_way){ .dev = st.st_dev, .ino = st.st_ino, .name = copy };
	copy = NULL;
	return 0;
}

/* The directory at hand is empty: leaves and removes it. 1: that was the last. */
static int way_up(struct fs_tree *t)
{
	struct fs_way *left = &t->way[t->depth - 1];
	AUTO_FREE char *name = left->name;
	struct stat st;
	AUTO_FD up = -1;
	int at = t->parent;
	left->name = NULL;
	t->depth--;
	if (t->depth) {
		const struct fs_way *s = left - 1;
		up = openat(dirfd(t->dir), "..", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
		if (up < 0 || fstat(up, &st) < 0)
			return -errno;
		if (st.st_dev != s->dev || st.st_ino != s->ino)
			return -EBUSY;
		at = up;
	}
	closedir(t->dir);
	t->dir = NULL;
	if (unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
		int err = errno;
		snprintf(t->failed, sizeof(t->failed), "%s", name);
		return -err;
	}
	if (t->depth == 0)
		return 1;
	t->dir = fdopendir(up);
	if (!t->dir)
		return -errno;
	fd_steal(&up);
	return 0;
}

int fs_tree_step(struct fs_tree *t)
{
	errno = 0;
	struct dirent *e = readdir(t->dir);
	if (!e)
		return errno ? -errno : way_up(t);
	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return 0;
	int r = 0;
	if (e->d_type != DT_DIR && unlinkat(dirfd(t->dir), e->d_name, 0) == 0)
		return 0;
	/* The type is a hint: it may be unknown, and the entry may have been exchanged. */
	if (e->d_type == DT_DIR || errno == EISDIR || errno == EPERM)
		r = way_down(t, dirfd(t->dir), e->d_name);
	else
		r = -errno;
	if (r == -ENOTDIR) {
		bool gone = unlinkat(dirfd(t->dir), e->d_name, 0) == 0 || errno == ENOENT;
		r = gone ? 0 : -errno;
	}
	if (r < 0 && r != -ENOENT) {
		snprintf(t->failed, sizeof(t->failed), "%s", e->d_name);
		return r;
	}
	return 0;
}

int fs_tree_begin(struct fs_tree *t, int parent, const char *name, bool one_fs)
{
	t->one_fs = one_fs;
	t->parent = fcntl(parent, F_DUPFD_CLOEXEC, 3);
	if (t->parent < 0)
		return -errno;
	int r = way_down(t, t->parent, name);
	if (r < 0)
		fs_tree_done(t);
	return r;
}
