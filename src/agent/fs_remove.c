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
 * left at is gone. The first error ends the removal.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/fs.h"
#include "base/clock.h"
#include "base/fd.h"

#define DEPTH_MAX 4096u

/* A directory on the way, and its name in the one above. */
struct step {
	dev_t dev;
	ino_t ino;
	char *name;
};

struct fs_remove {
	struct fs_op op;
	DIR *dir; /* of way[depth] */
	struct step *way;
	unsigned depth, cap;
	int parent;		   /* of the whole tree */
	char failed[NAME_MAX + 2]; /* the name that could not be removed */
};

static void remove_free(struct fs_remove *rm)
{
	if (rm->dir)
		closedir(rm->dir);
	rm->dir = NULL;
	for (unsigned i = 0; i < rm->depth; i++)
		free(rm->way[i].name);
	free(rm->way);
	rm->way = NULL;
	rm->depth = 0;
	fd_close(&rm->parent);
}

static void remove_close(struct stream *s)
{
	struct fs_remove *rm = (struct fs_remove *)s;
	remove_free(rm);
	fs_op_leave(&rm->op);
}

static int remove_frame(struct stream *s, const struct frame *f)
{
	/* Credit is of no use to it, and no reason to end. */
	return fs_op_credit((struct fs_op *)s, f);
}

static const struct stream_ops remove_ops = {
	.frame = remove_frame,
	.data = fs_op_no_data,
	.close = remove_close,
	.orphan = remove_close,
};

/* Enters `name` of the directory `at`. */
static int way_down(struct fs_remove *rm, int at, const char *name)
{
	struct stat st;
	if (rm->depth == DEPTH_MAX)
		return -ENAMETOOLONG;
	if (rm->depth == rm->cap) {
		unsigned cap = rm->cap ? rm->cap * 2 : 16;
		struct step *way = reallocarray(rm->way, cap, sizeof(*way));
		if (!way)
			return -ENOMEM;
		rm->way = way;
		rm->cap = cap;
	}
	AUTO_FD fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	AUTO_FREE char *copy = strdup(name);
	DIR *d = copy ? fdopendir(fd) : NULL;
	if (!d)
		return -ENOMEM;
	fd_steal(&fd);
	if (rm->dir)
		closedir(rm->dir);
	rm->dir = d;
	rm->way[rm->depth++] = (struct step){ .dev = st.st_dev, .ino = st.st_ino, .name = copy };
	copy = NULL;
	return 0;
}

/* The directory at hand is empty: leaves and removes it. 1: that was the last. */
static int way_up(struct fs_remove *rm)
{
	struct step *left = &rm->way[rm->depth - 1];
	AUTO_FREE char *name = left->name;
	struct stat st;
	AUTO_FD up = -1;
	int at = rm->parent;
	left->name = NULL;
	rm->depth--;
	if (rm->depth) {
		const struct step *s = left - 1;
		up = openat(dirfd(rm->dir), "..", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
		if (up < 0 || fstat(up, &st) < 0)
			return -errno;
		if (st.st_dev != s->dev || st.st_ino != s->ino)
			return -EBUSY;
		at = up;
	}
	closedir(rm->dir);
	rm->dir = NULL;
	if (unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
		int err = errno;
		snprintf(rm->failed, sizeof(rm->failed), "%s", name);
		return -err;
	}
	if (rm->depth == 0)
		return 1;
	rm->dir = fdopendir(up);
	if (!rm->dir)
		return -errno;
	fd_steal(&up);
	return 0;
}

/* Removes the next name. 1: all is gone; 0; or -errno. */
static int remove_step(struct fs_remove *rm)
{
	errno = 0;
	struct dirent *e = readdir(rm->dir);
	if (!e)
		return errno ? -errno : way_up(rm);
	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return 0;
	int r = 0;
	if (e->d_type != DT_DIR && unlinkat(dirfd(rm->dir), e->d_name, 0) == 0)
		return 0;
	/* The type is a hint: it may be unknown, and the entry may have been exchanged. */
	if (e->d_type == DT_DIR || errno == EISDIR || errno == EPERM)
		r = way_down(rm, dirfd(rm->dir), e->d_name);
	else
		r = -errno;
	if (r == -ENOTDIR) {
		bool gone = unlinkat(dirfd(rm->dir), e->d_name, 0) == 0 || errno == ENOENT;
		r = gone ? 0 : -errno;
	}
	if (r < 0 && r != -ENOENT) {
		snprintf(rm->failed, sizeof(rm->failed), "%s", e->d_name);
		return r;
	}
	return 0;
}

static void remove_slice(void *ctx)
{
	struct fs_remove *rm = ctx;
	uint64_t until = clock_now() + FS_SLICE_NS;
	if (rm->op.s.id == 0)
		return;
	int r = fs_enter(&rm->op);
	while (r == 0 && clock_now() < until)
		r = remove_step(rm);
	fs_leave(&rm->op);
	if (r == 0)
		ev_task_queue(&rm->op.s.agent->ev, &rm->op.task);
	else
		fs_op_done(&rm->op, r < 0 ? -r : 0, r < 0 ? rm->failed : "", 0);
}

/* Splits the path into the directory and the last name. */
static int parent_open(const char *path, char name[NAME_MAX + 1])
{
	char dir[PATH_MAX];
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	size_t at = n;
	while (at > 0 && path[at - 1] != '/')
		at--;
	if (n - at > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path + at, n - at);
	name[n - at] = '\0';
	/* The root has no name, and "." and ".." are not names that could be removed. */
	if (name[0] == '\0' || strcmp(name, ".") == 0)
		return -EBUSY;
	if (strcmp(name, "..") == 0)
		return -ENOTEMPTY;
	memcpy(dir, path, at);
	dir[at] = '\0';
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* With the user's credentials. 1: done; 0: rm stands at the top of a tree; or -errno. */
static int remove_begin(struct fs_remove *rm, const struct fs_request *q)
{
	char name[NAME_MAX + 1];
	struct stat st;
	int r = parent_open(q->path, name);
	if (r < 0)
		return r;
	rm->parent = r;
	if (fstatat(rm->parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(rm->parent, name, 0) < 0 ? -errno : 1;
	if (!(q->h.flags & BRIG_FS_RECURSIVE))
		return unlinkat(rm->parent, name, AT_REMOVEDIR) < 0 ? -errno : 1;
	return way_down(rm, rm->parent, name);
}

void fs_remove_open(struct agent *a, const struct fs_request *q)
{
	struct fs_remove *rm = calloc(1, sizeof(*rm));
	int r = rm ? creds_enter(&a->self, &q->creds) : -ENOMEM;
	if (rm)
		rm->parent = -1;
	if (r == 0) {
		r = remove_begin(rm, q);
		creds_leave(&a->self);
	}
	if (r != 0) {
		if (rm)
			remove_free(rm);
		free(rm);
		fs_reply(a, q->id, r < 0 ? -r : 0, 0, 0, r < 0 ? q->asked : "");
		return;
	}
	rm->op.task = (struct ev_task){ .fn = remove_slice, .ctx = rm };
	fs_op_start(&rm->op, a, q, &remove_ops, rm);
	ev_task_queue(&a->ev, &rm->op.task);
}
