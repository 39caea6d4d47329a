/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A tree is walked depth first with one open directory per level, by descriptor and without
 * following links, so that a directory that the tenant exchanges for a link meanwhile leads
 * nowhere. Each slice goes on where the last one stopped: at the end of its time, or at the end of
 * the credit, with the entry that did not fit kept for later.
 *
 * A directory below the first that cannot be read does not end the listing; the first such error is
 * reported at the end.
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

/* Open descriptors of one listing. */
#define DEPTH_MAX 64

struct level {
	DIR *dir;
	size_t path_len; /* of the directory, relative to the listed one */
};

struct fs_list {
	struct fs_op op;
	unsigned depth_wanted, depth;
	struct level level[DEPTH_MAX];
	struct fs_names names;
	int err; /* first directory that could not be read */
	char err_path[PATH_MAX];
	char path[PATH_MAX]; /* of the entry at hand */
	char base[PATH_MAX]; /* of the listed directory */
	uint32_t flags;
	size_t pending; /* its payload's length, waiting for credit */
	uint8_t entry[FS_ENTRY_MAX];
};

static void list_close(struct stream *s)
{
	struct fs_list *l = (struct fs_list *)s;
	while (l->depth)
		closedir(l->level[--l->depth].dir);
	fs_op_leave(&l->op);
}

static int list_frame(struct stream *s, const struct frame *f)
{
	struct fs_list *l = (struct fs_list *)s;
	int r = fs_op_credit(&l->op, f);
	if (r == 0)
		ev_task_queue(&s->agent->ev, &l->op.task);
	return r;
}

static const struct stream_ops list_ops = {
	.frame = list_frame,
	.data = fs_op_no_data,
	.close = list_close,
	.orphan = list_close,
};

static void list_error(struct fs_list *l, int err)
{
	/* What has gone since it was named is no error. */
	if (l->err || err == ENOENT)
		return;
	l->err = err;
	memcpy(l->err_path, l->path, strlen(l->path) + 1);
}

/* Takes fd. */
static int list_push(struct fs_list *l, int fd, size_t path_len)
{
	DIR *d = fdopendir(fd);
	if (!d) {
		int r = -errno;
		close(fd);
		return r;
	}
	l->level[l->depth++] = (struct level){ .dir = d, .path_len = path_len };
	return 0;
}

static void list_descend(struct fs_list *l, const char *name, size_t path_len)
{
	if (l->depth >= l->depth_wanted)
		return;
	if (l->depth == DEPTH_MAX) {
		list_error(l, ELOOP);
		return;
	}
	int fd = openat(dirfd(l->level[l->depth - 1].dir), name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int r = fd < 0 ? -errno : list_push(l, fd, path_len);
	if (r < 0)
		list_error(l, -r);
}

/* Sends the entry that waits. False: there is not enough credit for it. */
static bool list_send(struct fs_list *l)
{
	if (l->pending > l->op.credit)
		return false;
	l->op.credit -= (uint32_t)l->pending;
	chan_send(&l->op.s.agent->chan, BRIG_FS_ENTRY, l->op.s.id, l->entry, l->pending, NULL, 0);
	l->pending = 0;
	return true;
}

/* Looks at the next name. False: the walk is over. */
static bool list_step(struct fs_list *l)
{
	struct level *lv = &l->level[l->depth - 1];
	struct dirent *e = readdir(lv->dir);
	struct fs_named f = { .path = l->path, .dirfd = dirfd(lv->dir), .flags = l->flags };
	char whole[2 * PATH_MAX];
	if (!e) {
		closedir(lv->dir);
		l->depth--;
		return l->depth > 0;
	}
	size_t n = strlen(e->d_name), at = lv->path_len;
	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return true;
	if (at + 1 + n >= sizeof(l->path)) {
		list_error(l, ENAMETOOLONG);
		return true;
	}
	if (at)
		l->path[at++] = '/';
	memcpy(l->path + at, e->d_name, n + 1);
	f.name = e->d_name;
	if (fstatat(f.dirfd, f.name, &f.st, AT_SYMLINK_NOFOLLOW) < 0) {
		list_error(l, errno);
		return true;
	}
	if (l->flags & BRIG_FS_RESOLVE)
		snprintf(whole, sizeof(whole), "%s/%s", l->base, l->path);
	f.whole = whole;
	l->pending = fs_entry_make(l->entry, &f, &l->names);
	if (S_ISDIR(f.st.st_mode))
		list_descend(l, e->d_name, at + n);
	return true;
}

static bool queue_is_full(struct fs_list *l)
{
	return buf_len(&l->op.s.agent->chan.tx) >= CHAN_QUEUE_HIGH;
}

static void list_slice(void *ctx)
{
	struct fs_list *l = ctx;
	uint64_t until = clock_now() + FS_SLICE_NS;
	bool more = true, blocked = false;
	if (l->op.s.id == 0)
		return;
	if (fs_enter(&l->op) < 0) {
		fs_op_done(&l->op, EPERM, "credentials", 0);
		return;
	}
	while (more && !blocked && clock_now() < until && !queue_is_full(l)) {
		if (l->pending)
			blocked = !list_send(l);
		else
			more = list_step(l);
	}
	fs_leave(&l->op);
	if (!more && l->pending == 0)
		fs_op_done(&l->op, l->err, l->err_path, 0);
	else if (!blocked)
		ev_task_queue(&l->op.s.agent->ev, &l->op.task);
}

void fs_list_open(struct agent *a, const struct fs_request *q)
{
	struct fs_list *l = calloc(1, sizeof(*l));
	int fd = -1, r = l ? creds_enter(&a->self, &q->creds) : -ENOMEM;
	if (r == 0) {
		fd = open(q->path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
		creds_leave(&a->self);
	}
	if (r == 0 && q->h.arg == 0) {
		fd_close(&fd);
		r = -EINVAL; /* nothing was asked for */
	}
	if (r == 0)
		r = list_push(l, fd, 0);
	if (r < 0) {
		free(l);
		fs_reply(a, q->id, -r, 0, 0, q->asked);
		return;
	}
	size_t n = strlen(q->path);
	while (n && q->path[n - 1] == '/')
		n--;
	memcpy(l->base, q->path, n); /* calloc() has ended it */
	l->flags = q->h.flags;
	l->depth_wanted = q->h.arg > UINT32_MAX ? UINT32_MAX : (unsigned)q->h.arg;
	l->op.task = (struct ev_task){ .fn = list_slice, .ctx = l };
	fs_op_start(&l->op, a, q, &list_ops, l);
	ev_task_queue(&a->ev, &l->op.task);
}
