/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * What is in the writable layer is seen by the descriptor of its root that the engine left to the
 * agent (a->layer): the overlay's upper directory, read-only and behind no path. What the sandbox
 * shows is seen from "/". The first says which entries to tell, the second gives the names of each
 * directory that is told; layer.h has the format.
 *
 * The walk keeps a stack of directories still to be told and the list of names of the one at hand,
 * so it costs memory of the sandbox in proportion to the directories that wait, and two
 * descriptors. All lookups go by fs_beneath() from one of the two roots, never through a link and
 * never onto another mount. A directory that is a mount point in the sandbox (a volume, /proc) is
 * left out.
 *
 * Commands may run meanwhile. What vanishes is left out, a file that changes is told as it is read:
 * whoever needs a moment's picture lets nothing run.
 *
 * One piece is composed in slices and then lent to the channel; the next is begun when it was sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/fs.h"
#include "agent/fs_tree.h"
#include "agent/layer.h"
#include "agent/layer_links.h"
#include "base/clock.h"
#include "base/fd.h"

/* A piece is sent when it is this long; one step adds at most one body and its attributes' list. */
#define PIECE (192u * 1024u)
#define OUT_MAX (16u * 1024u * 1024u)
/* XATTR_LIST_MAX of the kernel. */
#define XATTR_LIST 65536u

struct work {
	char *path;
	bool end; /* its DIR_END is due */
};

struct layer_export {
	struct fs_op op;
	struct source src;
	int root; /* "/" */
	bool heads;
	struct buf out;
	bool lent, finished, ended; /* ended: the last piece is under way */
	uint64_t moved;
	struct work *stack;
	size_t n, cap;
	/* The directory at hand. */
	char path[PATH_MAX];
	int upper;
	struct layer_names shown; /* to be told by NAMES */
	struct layer_names base;  /* what the image has there, of which GONE tells a part */
	bool naming, missing;
	struct layer_names names; /* its entries in the layer */
	/* The file at hand. */
	int file;
	off_t at, hole; /* read so far; end of the data at hand */
	struct layer_links links;
	char failed[PATH_MAX];
};

static struct layer_export *export_of(struct source *s)
{
	return (struct layer_export *)((char *)s - offsetof(struct layer_export, src));
}

/* ---- records ---- */

static int put(struct layer_export *x, struct layer_rec *h, const void *p1, size_t n1,
	       const void *p2, size_t n2)
{
	uint8_t *at;
	int r = buf_reserve(&x->out, sizeof(*h) + n1 + n2, &at);
	if (r < 0)
		return r;
	h->len = (uint32_t)(n1 + n2);
	memcpy(at, h, sizeof(*h));
	if (n1)
		memcpy(at + sizeof(*h), p1, n1);
	if (n2)
		memcpy(at + sizeof(*h) + n1, p2, n2);
	buf_commit(&x->out, sizeof(*h) + n1 + n2);
	return 0;
}

static int put_path(struct layer_export *x, struct layer_rec *h, const char *path,
		    const char *target)
{
	return put(x, h, path, strlen(path) + 1, target, target ? strlen(target) + 1 : 0);
}

static struct layer_rec rec_of(uint16_t type, const struct stat *st)
{
	return (struct layer_rec){ .type = type,
				   .mode = st->st_mode & 07777,
				   .uid = st->st_uid,
				   .gid = st->st_gid,
				   .mtime_sec = st->st_mtim.tv_sec,
				   .mtime_nsec = (uint32_t)st->st_mtim.tv_nsec };
}

/* One XATTR for each attribute of the tenant. */
static int put_xattrs(struct layer_export *x, int fd)
{
	ssize_t len = flistxattr(fd, NULL, 0);
	if (len <= 0)
		return len < 0 && errno != EOPNOTSUPP ? -errno : 0;
	AUTO_FREE char *list = malloc(XATTR_LIST);
	AUTO_FREE char *value = malloc(XATTR_LIST);
	if (!list || !value)
		return -ENOMEM;
	len = flistxattr(fd, list, XATTR_LIST);
	for (const char *at = list; at < list + len; at += strlen(at) + 1) {
		struct layer_rec h = { .type = LAYER_XATTR };
		if (!layer_xattr_ok(at))
			continue;
		ssize_t n = fgetxattr(fd, at, value, XATTR_LIST);
		if (n < 0 && errno == ENODATA)
			continue;
		int r = n < 0 ? -errno : put(x, &h, at, strlen(at) + 1, value, (size_t)n);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the walk ---- */

static int work_push(struct layer_export *x, const char *path, bool end)
{
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 64;
		struct work *stack = reallocarray(x->stack, cap, sizeof(*stack));
		if (!stack)
			return -ENOMEM;
		x->stack = stack;
		x->cap = cap;
	}
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	x->stack[x->n++] = (struct work){ .path = copy, .end = end };
	return 0;
}

/* It has gone, or is something else by now, or what the sandbox shows there is another mount. */
static bool is_absent(int err)
{
	return err == -ENOENT || err == -ENOTDIR || err == -ELOOP || err == -EXDEV;
}

/* Whether the image has something at a path. */
static uint16_t mark_of(struct layer_export *x, const char *path)
{
	int base = fs_agent(&x->op)->base;
	if (base < 0)
		return 0;
	AUTO_FD fd = *path ? fs_beneath(base, path, O_PATH | O_NOFOLLOW, true) : -1;
	return !*path || (fd >= 0 ? true : !is_absent(fd)) ? LAYER_F_IMAGE : 0;
}

/* The names of the image's directory; none if it has no such. */
static int base_read(struct layer_export *x, const char *path)
{
	int base = fs_agent(&x->op)->base;
	AUTO_FD fd = base < 0 ? -1 : fs_beneath(base, path, O_RDONLY | O_DIRECTORY, true);
	layer_names_done(&x->base);
	/* What may not be read there, as where owners cannot be mapped, is not told. */
	return fd < 0 ? 0 : layer_names_read(&x->base, fd);
}

/* Behind a whole list of names, ascending like it: the next of the image's that is not among them. The names
 * shown are gone through once more. 0, 1 at the end, or -errno. */
static int gone_put(struct layer_export *x)
{
	struct layer_rec h = { .type = LAYER_GONE };
	const char *name = layer_names_peek(&x->base), *have;
	char path[PATH_MAX];
	if (!name)
		return 1;
	x->base.next++;
	while ((have = layer_names_peek(&x->shown)) && strcmp(have, name) < 0)
		x->shown.next++;
	if (have && strcmp(have, name) == 0)
		return 0;
	int n = snprintf(path, sizeof(path), "%s%s%s", x->path, x->path[0] ? "/" : "", name);
	return n >= (int)sizeof(path) ? 0 : put_path(x, &h, path, NULL);
}

static int dir_begin(struct layer_export *x, const char *path)
{
	struct layer_rec h = { .type = LAYER_DIR };
	AUTO_FD upper = fs_beneath(fs_agent(&x->op)->layer, path, O_RDONLY | O_DIRECTORY, true);
	AUTO_FD shown = fs_beneath(x->root, path, O_RDONLY | O_DIRECTORY, true);
	int r = upper < 0 ? upper : shown < 0 ? shown : 0;
	if (r < 0)
		return is_absent(r) ? 0 : r;
	r = layer_names_read(&x->shown, shown);
	if (r == 0)
		r = layer_names_read(&x->names, upper);
	if (r == 0)
		r = base_read(x, path);
	h.flags = mark_of(x, path);
	if (r == 0)
		r = work_push(x, path, true);
	if (r == 0)
		r = put_path(x, &h, path, NULL);
	if (r < 0)
		return r;
	snprintf(x->path, sizeof(x->path), "%s", path);
	fd_close(&x->upper);
	x->upper = fd_steal(&upper);
	x->naming = true;
	return 0;
}

static int dir_end(struct layer_export *x, const char *path)
{
	struct stat st;
	AUTO_FD fd = fs_beneath(fs_agent(&x->op)->layer, path, O_RDONLY | O_DIRECTORY, true);
	/* Whoever received the beginning must see the end: without attributes it would be lost. */
	if (fd < 0 && !is_absent(fd))
		return fd;
	if (fd < 0)
		st = (struct stat){ .st_mode = 0755 };
	else if (fstat(fd, &st) < 0)
		return -errno;
	struct layer_rec h = rec_of(LAYER_DIR_END, &st);
	return put_path(x, &h, path, NULL);
}

/* As many of the directory's names as go into one record; the last one has none. */
static int names_put(struct layer_export *x)
{
	struct layer_rec h = { .type = LAYER_NAMES };
	struct buf text = BUF_INIT(LAYER_DATA_MAX);
	const char *name;
	while ((name = layer_names_peek(&x->shown)) && buf_add_str(&text, name) == 0)
		x->shown.next++;
	int r = name && buf_len(&text) == 0 ? -ENOMEM : 0;
	if (r == 0)
		r = put(x, &h, text.mem, buf_len(&text), NULL, 0);
	if (r == 0 && buf_len(&text) == 0) {
		x->naming = false;
		x->missing = true;
		x->shown.next = 0;
		r = x->heads ? 0 : put_xattrs(x, x->upper);
	}
	buf_done(&text);
	return r;
}

static int file_begin(struct layer_export *x, const char *name, const char *path)
{
	struct stat st;
	AUTO_FD fd = openat(x->upper, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return is_absent(-errno) ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_size == 0) {
		/* The place of a volume that is one file. */
		AUTO_FD shown = fs_beneath(x->root, path, O_PATH | O_NOFOLLOW, true);
		if (shown == -EXDEV)
			return 0;
	}
	int r = 0;
	const char *first =
		st.st_nlink > 1 ? layer_links_see(&x->links, st.st_ino, path, &r) : NULL;
	if (r < 0)
		return r;
	struct layer_rec h = rec_of(LAYER_FILE, &st), link = { .type = LAYER_LINK };
	h.flags = link.flags = mark_of(x, path);
	if (first)
		return put_path(x, &link, path, first);
	h.size = (uint64_t)st.st_size;
	r = put_path(x, &h, path, NULL);
	if (r == 0 && !x->heads)
		r = put_xattrs(x, fd);
	if (r == 0 && st.st_size && !x->heads) {
		x->file = fd_steal(&fd);
		x->at = x->hole = 0;
	}
	return r;
}

static int file_put(struct layer_export *x)
{
	struct layer_rec h = { .type = LAYER_DATA };
	uint8_t *at;
	/* Not for each piece: tmpfs looks at every page up to the hole. */
	if (x->at >= x->hole) {
		x->at = lseek(x->file, x->at, SEEK_DATA);
		x->hole = x->at < 0 ? -1 : lseek(x->file, x->at, SEEK_HOLE);
		if (x->hole < 0 && errno != ENXIO)
			return -errno;
		if (x->hole <= x->at) {
			fd_close(&x->file);
			return 0;
		}
	}
	size_t n = LAYER_DATA_MAX;
	if (x->hole - x->at < (off_t)n)
		n = (size_t)(x->hole - x->at);
	int r = buf_reserve(&x->out, sizeof(h) + n, &at);
	if (r < 0)
		return r;
	ssize_t got = pread(x->file, at + sizeof(h), n, x->at);
	if (got < 0)
		return -errno;
	if (got == 0) {
		fd_close(&x->file);
		return 0;
	}
	h.size = (uint64_t)x->at;
	h.len = (uint32_t)got;
	memcpy(at, &h, sizeof(h));
	buf_commit(&x->out, sizeof(h) + (size_t)got);
	x->at += got;
	return 0;
}

static int link_put(struct layer_export *x, const char *name, const char *path,
		    const struct stat *st)
{
	char target[PATH_MAX];
	struct layer_rec h = rec_of(LAYER_SYMLINK, st);
	ssize_t n = readlinkat(x->upper, name, target, sizeof(target) - 1);
	if (n <= 0)
		return 0; /* another thing by now */
	target[n] = '\0';
	h.mode = 0;
	h.flags = mark_of(x, path);
	return put_path(x, &h, path, target);
}

static int entry(struct layer_export *x, const char *name)
{
	struct stat st;
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s%s%s", x->path, x->path[0] ? "/" : "", name);
	snprintf(x->failed, sizeof(x->failed), "%s", path);
	if (n >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if (fstatat(x->upper, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return is_absent(-errno) ? 0 : -errno;
	struct layer_rec h = rec_of(LAYER_FIFO, &st);
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		return work_push(x, path, false);
	case S_IFREG:
		return file_begin(x, name, path);
	case S_IFLNK:
		return link_put(x, name, path, &st);
	case S_IFIFO:
		h.flags = mark_of(x, path);
		return put_path(x, &h, path, NULL);
	default:
		/* A socket, whose process does not travel, or the overlay's mark of what is gone.
		 */
		return 0;
	}
}

/* 0, 1 at the end, or -errno. */
static int export_step(struct layer_export *x)
{
	const char *name;
	if (x->file >= 0)
		return file_put(x);
	if (x->naming)
		return names_put(x);
	if (x->missing) {
		int r = gone_put(x);
		if (r == 1) {
			x->missing = false;
			layer_names_done(&x->shown);
			layer_names_done(&x->base);
		}
		return r < 0 ? r : 0;
	}
	if ((name = layer_names_peek(&x->names))) {
		x->names.next++;
		return entry(x, name);
	}
	if (x->n) {
		struct work w = x->stack[--x->n];
		snprintf(x->failed, sizeof(x->failed), "%s", w.path);
		int r = w.end ? dir_end(x, w.path) : dir_begin(x, w.path);
		free(w.path);
		return r;
	}
	struct layer_rec h = { .type = LAYER_END };
	int r = put(x, &h, NULL, 0, NULL, 0);
	return r < 0 ? r : 1;
}

/* ---- the stream ---- */

static void export_slice(void *ctx)
{
	struct layer_export *x = ctx;
	uint64_t until = clock_now() + FS_SLICE_NS;
	int r = 0;
	if (x->op.s.id == 0 || x->lent || x->finished)
		return;
	while (r == 0 && buf_len(&x->out) < PIECE && clock_now() < until)
		r = export_step(x);
	if (r < 0) {
		fs_op_done(&x->op, -r, x->failed, x->moved);
		return;
	}
	x->finished = r == 1;
	if (x->finished || buf_len(&x->out) >= PIECE)
		chan_offer(&x->op.s.agent->chan, &x->src);
	else
		ev_task_queue(&x->op.s.agent->ev, &x->op.task);
}

static int export_fill(struct source *s, struct data_frame *f)
{
	struct layer_export *x = export_of(s);
	size_t n = buf_len(&x->out) < PIECE ? buf_len(&x->out) : PIECE;
	if (x->ended || (!x->finished && buf_len(&x->out) < PIECE))
		return 0;
	if (n > x->op.credit)
		n = x->op.credit;
	if (n == 0)
		return 0;
	x->op.credit -= (uint32_t)n;
	x->moved += n;
	x->lent = true;
	x->ended = x->finished && n == buf_len(&x->out);
	f->type = BRIG_FS_DATA;
	f->flags = x->ended ? BRIG_FF_EOF : 0;
	f->stream = x->op.s.id;
	f->part[0] = (struct iovec){ .iov_base = buf_head(&x->out), .iov_len = n };
	return 1;
}

static void export_sent(struct source *s, size_t n, bool done)
{
	struct layer_export *x = export_of(s);
	/* id 0: closed, and what was under way was copied. */
	if (x->op.s.id == 0)
		return;
	buf_consume(&x->out, n);
	if (!done)
		return;
	x->lent = false;
	if (x->ended)
		fs_op_done(&x->op, 0, "", x->moved);
	else if (!x->finished && buf_len(&x->out) < PIECE)
		ev_task_queue(&x->op.s.agent->ev, &x->op.task);
}

static int export_frame(struct stream *s, const struct frame *f)
{
	struct layer_export *x = (struct layer_export *)s;
	int r = fs_op_credit(&x->op, f);
	if (r == 0)
		chan_offer(&s->agent->chan, &x->src);
	return r;
}

static void export_close(struct stream *s)
{
	struct layer_export *x = (struct layer_export *)s;
	fs_op_leave(&x->op);
	chan_reclaim(&s->agent->chan, &x->src, true);
	buf_done(&x->out);
	while (x->n)
		free(x->stack[--x->n].path);
	free(x->stack);
	x->stack = NULL;
	layer_names_done(&x->shown);
	layer_names_done(&x->base);
	layer_names_done(&x->names);
	layer_links_done(&x->links);
	fd_close(&x->file);
	fd_close(&x->upper);
	fd_close(&x->root);
}

static const struct stream_ops export_ops = {
	.frame = export_frame,
	.data = fs_op_no_data,
	.close = export_close,
	.orphan = export_close,
};

void layer_export_open(struct agent *a, const struct fs_request *q)
{
	struct layer_head head = { .magic = LAYER_MAGIC, .version = LAYER_VERSION };
	int r = 0;
	if (q->user.uid != 0)
		r = -EPERM;
	else if (strcmp(q->path, "/") != 0)
		r = -EINVAL;
	else if (a->layer < 0)
		r = -EOPNOTSUPP;
	AUTO_FD root = r == 0 ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (r == 0 && root < 0)
		r = -errno;
	struct layer_export *x = r == 0 ? calloc(1, sizeof(*x)) : NULL;
	if (r == 0 && !x)
		r = -ENOMEM;
	if (r < 0) {
		fs_reply(a, q->id, -r, 0, 0, q->asked);
		return;
	}
	x->out = (struct buf)BUF_INIT(OUT_MAX);
	x->upper = x->file = -1;
	x->heads = q->h.flags & BRIG_FS_HEADS;
	head.marks = a->base >= 0;
	x->root = fd_steal(&root);
	x->src = (struct source){ .fill = export_fill, .sent = export_sent };
	x->op.task = (struct ev_task){ .fn = export_slice, .ctx = x };
	fs_op_start(&x->op, a, q, &export_ops, x);
	r = work_push(x, "", false);
	if (r == 0)
		r = buf_add(&x->out, &head, sizeof(head));
	if (r < 0)
		fs_op_done(&x->op, -r, "", 0);
	else
		ev_task_queue(&a->ev, &x->op.task);
}
