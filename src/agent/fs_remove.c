/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A tree is emptied by fs_tree.c, a slice at a time, with the credentials of the user. The first
 * error ends the removal.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/fs.h"
#include "agent/fs_tree.h"
#include "base/clock.h"
#include "base/fd.h"

struct fs_remove {
	struct fs_op op;
	struct fs_tree tree;
};

static void remove_close(struct stream *s)
{
	struct fs_remove *rm = (struct fs_remove *)s;
	fs_tree_done(&rm->tree);
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

static void remove_slice(void *ctx)
{
	struct fs_remove *rm = ctx;
	uint64_t until = clock_now() + FS_SLICE_NS;
	if (rm->op.s.id == 0)
		return;
	int r = fs_enter(&rm->op);
	while (r == 0 && clock_now() < until)
		r = fs_tree_step(&rm->tree);
	fs_leave(&rm->op);
	if (r == 0)
		ev_task_queue(&rm->op.s.agent->ev, &rm->op.task);
	else
		fs_op_done(&rm->op, r < 0 ? -r : 0, r < 0 ? rm->tree.failed : "", 0);
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
	AUTO_FD parent = parent_open(q->path, name);
	if (parent < 0)
		return parent;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(parent, name, 0) < 0 ? -errno : 1;
	if (!(q->h.flags & BRIG_FS_RECURSIVE))
		return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 1;
	return fs_tree_begin(&rm->tree, parent, name, false);
}

void fs_remove_open(struct agent *a, const struct fs_request *q)
{
	struct fs_remove *rm = calloc(1, sizeof(*rm));
	int r = rm ? creds_enter(&a->self, &q->creds) : -ENOMEM;
	if (rm)
		fs_tree_init(&rm->tree);
	if (r == 0) {
		r = remove_begin(rm, q);
		creds_leave(&a->self);
	}
	if (r != 0) {
		if (rm)
			fs_tree_done(&rm->tree);
		free(rm);
		fs_reply(a, q->id, r < 0 ? -r : 0, 0, 0, r < 0 ? q->asked : "");
		return;
	}
	rm->op.task = (struct ev_task){ .fn = remove_slice, .ctx = rm };
	fs_op_start(&rm->op, a, q, &remove_ops, rm);
	ev_task_queue(&a->ev, &rm->op.task);
}
