/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One inotify instance per watched directory. Its events are read only while there is credit for
 * them; the kernel's queue holds the rest and says so when it overflows. Events are passed on as
 * they come, not coalesced.
 *
 * Recursive: a table maps watch descriptors to paths below the watched directory. A directory that
 * appears is watched and then listed once, because entries may have been made in it before the
 * watch stood; such an entry may be reported twice. A directory that is moved away takes the
 * watches below it along: they are removed, since their paths are no longer true. Beyond
 * WATCHES_MAX directories, events are lost and OVERFLOW says so.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/fs.h"
#include "base/fd.h"

#define WATCHES_MAX 1024u
#define DEPTH_MAX 32u
#define EVENTS                                                                         \
	(IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)
/* One read of the kernel's queue. */
#define QUEUE_READ 4096u

struct watch {
	int wd;
	char *path; /* relative to the watched directory; "" = itself */
};

struct fs_watch {
	struct fs_op op;
	int fd;
	struct ev_io io;
	bool recursive, overflowed;
	struct watch *w;
	unsigned n, cap;
	size_t root_len;
	char path[PATH_MAX * 2]; /* the watched directory, and what is being looked at below it */
	size_t at, have;	 /* events read and not yet passed on */
	uint8_t queue[QUEUE_READ] __attribute__((aligned(8)));
};

static void watch_step(struct fs_watch *w);

static void watch_close(struct stream *s)
{
	struct fs_watch *w = (struct fs_watch *)s;
	ev_io_del(&s->agent->ev, &w->io);
	fd_close(&w->fd);
	for (unsigned i = 0; i < w->n; i++)
		free(w->w[i].path);
	free(w->w);
	w->w = NULL;
	w->n = 0;
	fs_op_leave(&w->op);
}

static int watch_frame(struct stream *s, const struct frame *f)
{
	struct fs_watch *w = (struct fs_watch *)s;
	int r = fs_op_credit(&w->op, f);
	if (r == 0)
		ev_task_queue(&s->agent->ev, &w->op.task);
	return r;
}

static const struct stream_ops watch_ops = {
	.frame = watch_frame,
	.data = fs_op_no_data,
	.close = watch_close,
	.orphan = watch_close,
};

/* There is credit for an event with the path dir/name. */
static bool watch_may_send(const struct fs_watch *w, const char *dir, const char *name)
{
	return w->op.credit >= sizeof(struct brig_fs_event) + strlen(dir) + 1 + strlen(name) + 1;
}

static void watch_send(struct fs_watch *w, enum brig_fs_event_kind kind, const char *dir,
		       const char *name)
{
	struct brig_fs_event m = { .kind = kind };
	char path[PATH_MAX];
	size_t d = strlen(dir), n = strlen(name);
	if (d + 1 + n >= sizeof(path))
		return;
	memcpy(path, dir, d);
	if (d && n)
		path[d++] = '/';
	memcpy(path + d, name, n + 1);
	w->op.credit -= (uint32_t)(sizeof(m) + d + n + 1);
	chan_send(&w->op.s.agent->chan, BRIG_FS_EVENT, w->op.s.id, &m, sizeof(m), path, d + n + 1);
}

static struct watch *watch_find(struct fs_watch *w, int wd)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->w[i].wd == wd)
			return &w->w[i];
	return NULL;
}

static void watch_forget(struct fs_watch *w, struct watch *x)
{
	free(x->path);
	*x = w->w[--w->n];
}

/* Sets w->path to the watched directory and `rel` below it; false if that is too long. */
static bool path_below(struct fs_watch *w, const char *rel)
{
	size_t n = strlen(rel);
	if (w->root_len + 1 + n >= PATH_MAX)
		return false;
	w->path[w->root_len] = '\0';
	if (n) {
		w->path[w->root_len] = '/';
		memcpy(w->path + w->root_len + 1, rel, n + 1);
	}
	return true;
}

/* Watches the directory w->path, known as rel. 0, -ENOSPC beyond the limits, -errno. */
static int watch_add_one(struct fs_watch *w, const char *rel)
{
	if (w->n == WATCHES_MAX)
		return -ENOSPC;
	if (w->n == w->cap) {
		unsigned cap = w->cap ? w->cap * 2 : 8;
		struct watch *mem = reallocarray(w->w, cap, sizeof(*mem));
		if (!mem)
			return -ENOMEM;
		w->w = mem;
		w->cap = cap;
	}
	/* Below the watched directory links are not followed: they may lead out, or round. */
	int wd = inotify_add_watch(w->fd, w->path, EVENTS | (rel[0] ? IN_DONT_FOLLOW : 0));
	if (wd < 0)
		return -errno;
	struct watch *old = watch_find(w, wd);
	AUTO_FREE char *copy = strdup(rel);
	if (!copy)
		return -ENOMEM;
	if (old) {
		/* The same directory under another name. */
		free(old->path);
		old->path = copy;
	} else {
		w->w[w->n++] = (struct watch){ .wd = wd, .path = copy };
	}
	copy = NULL;
	return 0;
}

static int watch_add_tree(struct fs_watch *w, const char *rel, bool tell, unsigned depth);

static void watch_found(struct fs_watch *w, uint16_t event, const char *rel, const char *name)
{
	if (watch_may_send(w, rel, name))
		watch_send(w, event, rel, name);
	else
		w->overflowed = true;
}

/* What is in the new directory already: subdirectories are watched, and entries told; a file that has
 * something in it was written before anybody watched. */
static int watch_scan(struct fs_watch *w, const char *rel, bool tell, unsigned depth)
{
	int fd = open(w->path,
		      O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC | (rel[0] ? O_NOFOLLOW : 0));
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;
	if (!d) {
		fd_close(&fd);
		return 0; /* gone, or not this user's to read: nothing to tell */
	}
	while (r == 0 && (e = readdir(d))) {
		char below[PATH_MAX];
		size_t n = strlen(rel), k = strlen(e->d_name);
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    n + 1 + k >= sizeof(below))
			continue;
		if (tell)
			watch_found(w, BRIG_FS_EV_CREATE, rel, e->d_name);
		if (tell && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_size)
			watch_found(w, BRIG_FS_EV_WRITE, rel, e->d_name);
		bool dir = e->d_type == DT_DIR;
		if (e->d_type == DT_UNKNOWN)
			dir = fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			      S_ISDIR(st.st_mode);
		if (!dir)
			continue;
		memcpy(below, rel, n);
		if (n)
			below[n++] = '/';
		memcpy(below + n, e->d_name, k + 1);
		r = watch_add_tree(w, below, tell, depth + 1);
	}
	closedir(d);
	return r;
}

/* -ENOSPC when the limits are reached; a directory that is gone meanwhile is no error. */
static int watch_add_tree(struct fs_watch *w, const char *rel, bool tell, unsigned depth)
{
	if (depth > DEPTH_MAX)
		return -ENOSPC;
	if (!path_below(w, rel))
		return 0;
	int r = watch_add_one(w, rel);
	if (r == -ENOENT || r == -ENOTDIR || r == -EACCES || r == -ELOOP)
		return rel[0] ? 0 : r;
	if (r < 0 || !w->recursive)
		return r;
	return watch_scan(w, rel, tell, depth);
}

/* A directory appeared at dir/name. */
static void watch_appeared(struct fs_watch *w, const char *dir, const char *name)
{
	char rel[PATH_MAX];
	size_t d = strlen(dir), n = strlen(name);
	if (d + 1 + n >= sizeof(rel))
		return;
	memcpy(rel, dir, d);
	if (d)
		rel[d++] = '/';
	memcpy(rel + d, name, n + 1);
	if (fs_enter(&w->op) < 0 || watch_add_tree(w, rel, true, 1) < 0)
		w->overflowed = true;
	fs_leave(&w->op);
}

/* The directory dir/name was moved away: what was watched in and below it has other names now. */
static void watch_vanished(struct fs_watch *w, const char *dir, const char *name)
{
	char rel[PATH_MAX];
	size_t d = strlen(dir), n = strlen(name);
	if (d + 1 + n >= sizeof(rel))
		return;
	memcpy(rel, dir, d);
	if (d)
		rel[d++] = '/';
	memcpy(rel + d, name, n + 1);
	n += d;
	for (unsigned i = w->n; i-- > 0;) {
		const char *p = w->w[i].path;
		if (strncmp(p, rel, n) != 0 || (p[n] != '\0' && p[n] != '/'))
			continue;
		inotify_rm_watch(w->fd, w->w[i].wd);
		watch_forget(w, &w->w[i]);
	}
}

static enum brig_fs_event_kind kind_of(uint32_t mask)
{
	if (mask & (IN_CREATE | IN_MOVED_TO))
		return BRIG_FS_EV_CREATE;
	if (mask & IN_MODIFY)
		return BRIG_FS_EV_WRITE;
	if (mask & IN_DELETE)
		return BRIG_FS_EV_REMOVE;
	return mask & IN_MOVED_FROM ? BRIG_FS_EV_RENAME : BRIG_FS_EV_CHMOD;
}

/* Passes one event on. False: the watched directory itself is gone, and with it the stream. */
static bool watch_event(struct fs_watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW) {
		w->overflowed = true;
		return true;
	}
	struct watch *x = watch_find(w, e->wd);
	if (!x)
		return true; /* it was removed, and this is from before */
	if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) {
		bool root = x->path[0] == '\0';
		/* Of a subdirectory the directory above tells. */
		if (root) {
			watch_send(w, BRIG_FS_EV_REMOVE, "", "");
			fs_op_done(&w->op, 0, "", 0);
		} else if (e->mask & IN_IGNORED) {
			watch_forget(w, x);
		}
		return !root;
	}
	const char *name = e->len ? e->name : "";
	/* A change of a subdirectory's own attributes is told by its parent, with its name. */
	if (name[0] == '\0' && x->path[0] != '\0')
		return true;
	watch_send(w, kind_of(e->mask), x->path, name);
	if (!w->recursive || !(e->mask & IN_ISDIR))
		return true;
	/* The table may move while it is changed: the path is copied before. */
	char dir[PATH_MAX];
	memcpy(dir, x->path, strlen(x->path) + 1);
	if (e->mask & (IN_CREATE | IN_MOVED_TO))
		watch_appeared(w, dir, name);
	else if (e->mask & IN_MOVED_FROM)
		watch_vanished(w, dir, name);
	return true;
}

static void watch_drain(struct fs_watch *w)
{
	while (w->at < w->have) {
		/* The kernel aligns them, and the buffer is aligned for the first. */
		const struct inotify_event *e = (const void *)(w->queue + w->at);
		const struct watch *x = watch_find(w, e->wd);
		if (!watch_may_send(w, x ? x->path : "", e->len ? e->name : ""))
			return;
		w->at += sizeof(*e) + e->len;
		if (!watch_event(w, e))
			return;
	}
	if (w->overflowed && watch_may_send(w, "", "")) {
		w->overflowed = false;
		watch_send(w, BRIG_FS_EV_OVERFLOW, "", "");
	}
}

static void watch_ready(void *ctx, uint32_t events)
{
	struct fs_watch *w = ctx;
	(void)events;
	if (w->at == w->have) {
		ssize_t n = read(w->fd, w->queue, sizeof(w->queue));
		w->at = 0;
		w->have = n > 0 ? (size_t)n : 0;
	}
	watch_step(w);
}

static void watch_step(struct fs_watch *w)
{
	watch_drain(w);
	/* Without credit the queue is the kernel's. */
	if (w->op.s.id)
		ev_io_set(&w->op.s.agent->ev, w->io,
			  w->at == w->have && w->op.credit ? EPOLLIN : 0);
}

static void watch_task(void *ctx)
{
	struct fs_watch *w = ctx;
	if (w->op.s.id)
		watch_step(w);
}

static int watch_begin(struct fs_watch *w, const struct fs_request *q)
{
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0)
		return -errno;
	w->root_len = strlen(q->path);
	while (w->root_len > 1 && q->path[w->root_len - 1] == '/')
		w->root_len--;
	memcpy(w->path, q->path, w->root_len);
	w->recursive = q->h.flags & BRIG_FS_RECURSIVE;
	int r = watch_add_tree(w, "", false, 0);
	/* More directories than may be watched: the rest is lost, and said to be. */
	if (r == -ENOSPC && w->n) {
		w->overflowed = true;
		r = 0;
	}
	return r;
}

void fs_watch_open(struct agent *a, const struct fs_request *q)
{
	struct fs_watch *w = calloc(1, sizeof(*w));
	int r = w ? creds_enter(&a->self, &q->creds) : -ENOMEM;
	if (r == 0) {
		w->fd = -1;
		r = watch_begin(w, q);
		creds_leave(&a->self);
	} else if (w) {
		w->fd = -1;
	}
	if (r == 0)
		r = ev_io_add(&a->ev, w->fd, 0, watch_ready, w, &w->io);
	if (r < 0) {
		if (w) {
			for (unsigned i = 0; i < w->n; i++)
				free(w->w[i].path);
			free(w->w);
			fd_close(&w->fd);
		}
		free(w);
		fs_reply(a, q->id, -r, 0, 0, q->asked);
		return;
	}
	w->op.task = (struct ev_task){ .fn = watch_task, .ctx = w };
	fs_op_start(&w->op, a, q, &watch_ops, w);
	fs_reply(a, q->id, 0, BRIG_FS_DONE_OPEN, 0, "");
	ev_task_queue(&a->ev, &w->op.task);
}
