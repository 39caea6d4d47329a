/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The stream of layer.h, applied to the sandbox's root. It was kept by somebody else and may hold
 * anything: every record is checked by layer_parse() before it is looked at, every path is resolved
 * by fs_beneath() from "/", never through a link and never onto another mount, and every file is
 * made new, so none that exists is written to. What it can do is what root inside can do to the
 * files of its own sandbox, and no more: the agent's capabilities end there.
 *
 * Data is kept as it comes and applied in slices; what was applied is granted to the host again. A
 * record that needs a directory out of its way begins its removal, is left where it is, and is
 * applied again when the removal is over; so is a list of names, which does nothing twice.
 *
 * Two errors do not end it: a name that is busy is the place of a volume of this sandbox, and
 * stays. An import that fails leaves the sandbox half changed; whoever asked for it drops the
 * sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/fs.h"
#include "agent/fs_tree.h"
#include "agent/layer.h"
#include "base/clock.h"
#include "base/fd.h"

#define WINDOW (1024u * 1024u)
#define GRANT_STEP (WINDOW / 4)
/* Of apply(): the record must be applied again when the removal has ended. */
#define AGAIN 1
#define LAST 2

struct layer_import {
	struct fs_op op; /* its credit is what the host may send */
	struct buf in;
	int root;
	bool headed, ended, eof;
	uint64_t moved;
	uint32_t owed;
	/* The directory in which entries are made. */
	char at[PATH_MAX];
	int at_fd;
	/* The FILE, or the DIR whose attributes may follow; -1 = none, or left out. */
	int open_fd;
	bool is_file;
	bool left_out; /* DATA and XATTR belong to a file that is not made */
	struct layer_rec file;
	uint64_t data_end;
	/* The DIR whose names are due. */
	bool naming;
	int dir_fd;
	struct layer_names have;
	char last[NAME_MAX + 1]; /* name of the record before */
	bool removing;
	struct fs_tree tree;
	char failed[PATH_MAX];
};

/* ---- names ---- */

/* Opens the directory of path and gives its last name. */
static int parent_open(struct layer_import *m, const char *path, const char **ret_name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	memcpy(dir, path, n);
	dir[n] = '\0';
	*ret_name = slash ? slash + 1 : path;
	if (m->at_fd >= 0 && strcmp(m->at, dir) == 0)
		return m->at_fd;
	int fd = fs_beneath(m->root, dir, O_PATH | O_DIRECTORY, true);
	if (fd < 0)
		return fd;
	fd_close(&m->at_fd);
	m->at_fd = fd;
	memcpy(m->at, dir, n + 1);
	return fd;
}

/* Removes a name. 0; AGAIN: the removal of a directory was begun; or -errno. */
static int name_remove(struct layer_import *m, int dir, const char *name)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	int r = fs_tree_begin(&m->tree, dir, name, true);
	/* What stands open may be a part of it. */
	fd_close(&m->at_fd);
	if (r < 0)
		return r == -EXDEV ? -EBUSY : r;
	m->removing = true;
	return AGAIN;
}

/* The parent of a new entry, whose name is free then. AGAIN is told by *ret_r. */
static int entry_place(struct layer_import *m, const char *path, const char **ret_name, int *ret_r)
{
	int dir = parent_open(m, path, ret_name);
	*ret_r = dir < 0 ? dir : name_remove(m, dir, *ret_name);
	return dir;
}

/* ---- files ---- */

static int times_set(int dir, const char *name, const struct layer_rec *h)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
				 { .tv_sec = h->mtime_sec, .tv_nsec = (long)h->mtime_nsec } };
	int r = name ? utimensat(dir, name, t, AT_SYMLINK_NOFOLLOW) : futimens(dir, t);
	return r < 0 ? -errno : 0;
}

/* Owner first: changing it clears set-id bits. */
static int attributes_set(int fd, const struct layer_rec *h)
{
	if (fchown(fd, h->uid, h->gid) < 0 || fchmod(fd, h->mode) < 0)
		return -errno;
	return times_set(fd, NULL, h);
}

/* Ends the file or directory at hand. */
static int current_end(struct layer_import *m)
{
	int r = m->open_fd >= 0 && m->is_file ? attributes_set(m->open_fd, &m->file) : 0;
	fd_close(&m->open_fd);
	m->is_file = m->left_out = false;
	return r;
}

static int apply_file(struct layer_import *m, const struct layer_item *it)
{
	const char *name;
	int r, dir = entry_place(m, it->path, &name, &r);
	if (r == -EBUSY) {
		m->left_out = true;
		return 0;
	}
	if (r != 0)
		return r;
	m->open_fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (m->open_fd < 0)
		return -errno;
	m->is_file = true;
	m->file = it->h;
	m->data_end = 0;
	return it->h.size && ftruncate(m->open_fd, (off_t)it->h.size) < 0 ? -errno : 0;
}

static int apply_data(struct layer_import *m, const struct layer_item *it)
{
	if (m->left_out)
		return 0;
	if (m->open_fd < 0 || !m->is_file || it->h.size < m->data_end ||
	    it->h.size + it->value_len > m->file.size)
		return -EINVAL;
	size_t done = 0;
	while (done < it->value_len) {
		ssize_t n = pwrite(m->open_fd, it->value + done, it->value_len - done,
				   (off_t)(it->h.size + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n < 0 ? 0 : (size_t)n;
	}
	m->data_end = it->h.size + it->value_len;
	return 0;
}

static int apply_xattr(struct layer_import *m, const struct layer_item *it)
{
	if (m->left_out)
		return 0;
	if (m->open_fd < 0)
		return -EINVAL;
	return fsetxattr(m->open_fd, it->path, it->value, it->value_len, 0) < 0 ? -errno : 0;
}

static int apply_link(struct layer_import *m, const struct layer_item *it)
{
	const char *name, *target = strrchr(it->target, '/');
	char from[PATH_MAX];
	size_t n = target ? (size_t)(target - it->target) : 0;
	int r, dir = entry_place(m, it->path, &name, &r);
	if (r != 0)
		return r == -EBUSY ? 0 : r;
	memcpy(from, it->target, n);
	from[n] = '\0';
	AUTO_FD fd = fs_beneath(m->root, from, O_PATH | O_DIRECTORY, true);
	if (fd < 0)
		return fd;
	return linkat(fd, target ? target + 1 : it->target, dir, name, 0) < 0 ? -errno : 0;
}

static int apply_symlink(struct layer_import *m, const struct layer_item *it)
{
	const char *name;
	int r, dir = entry_place(m, it->path, &name, &r);
	if (r != 0)
		return r == -EBUSY ? 0 : r;
	if (symlinkat(it->target, dir, name) < 0 ||
	    fchownat(dir, name, it->h.uid, it->h.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return times_set(dir, name, &it->h);
}

static int apply_fifo(struct layer_import *m, const struct layer_item *it)
{
	const char *name;
	int r, dir = entry_place(m, it->path, &name, &r);
	if (r != 0)
		return r == -EBUSY ? 0 : r;
	/* The agent's umask is 0: nothing needs to be changed by a name that may have been
	 * exchanged. */
	if (mkfifoat(dir, name, it->h.mode & 0777) < 0 ||
	    fchownat(dir, name, it->h.uid, it->h.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return times_set(dir, name, &it->h);
}

/* ---- directories ---- */

static int apply_dir(struct layer_import *m, const struct layer_item *it)
{
	struct stat st;
	if (it->path[0]) {
		const char *name;
		int dir = parent_open(m, it->path, &name);
		if (dir < 0)
			return dir;
		int r = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
		if (r == 0 && !S_ISDIR(st.st_mode)) {
			if (unlinkat(dir, name, 0) < 0)
				return -errno;
			r = -ENOENT;
		}
		/* Nobody's until its DIR_END. */
		if (r == -ENOENT && mkdirat(dir, name, 0700) < 0)
			return -errno;
		if (r < 0 && r != -ENOENT)
			return r;
	}
	AUTO_FD fd = fs_beneath(m->root, it->path, O_RDONLY | O_DIRECTORY, true);
	if (fd < 0)
		return fd;
	int r = layer_names_read(&m->have, fd);
	if (r < 0)
		return r;
	m->last[0] = '\0';
	m->naming = true;
	m->dir_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	m->open_fd = fd_steal(&fd);
	return m->dir_fd < 0 ? -errno : 0;
}

/* Removes the names at hand that come before `upto`; NULL: all that are left. */
static int names_drop(struct layer_import *m, const char *upto)
{
	const char *name;
	int r = 0;
	while (r == 0 && (name = layer_names_peek(&m->have)) && (!upto || strcmp(name, upto) < 0)) {
		m->have.next++;
		r = name_remove(m, m->dir_fd, name);
		r = r == -EBUSY ? 0 : r;
	}
	return r;
}

static int apply_names(struct layer_import *m, const struct layer_item *it)
{
	const char *name = (const char *)it->value, *end = name + it->value_len, *last = NULL;
	int r = 0;
	if (!m->naming || (it->value_len && strcmp(m->last, name) >= 0))
		return -EINVAL;
	for (; r == 0 && name < end; name += strlen(name) + 1) {
		r = names_drop(m, name);
		const char *have = layer_names_peek(&m->have);
		if (r == 0 && have && strcmp(have, name) == 0)
			m->have.next++;
		last = name;
	}
	if (r == 0 && !last) {
		r = names_drop(m, NULL);
		if (r != 0)
			return r;
		m->naming = false;
		fd_close(&m->dir_fd);
		layer_names_done(&m->have);
	}
	if (r == 0 && last)
		snprintf(m->last, sizeof(m->last), "%s", last);
	return r;
}

static int apply_dir_end(struct layer_import *m, const struct layer_item *it)
{
	AUTO_FD fd = fs_beneath(m->root, it->path, O_RDONLY | O_DIRECTORY, true);
	return fd < 0 ? fd : attributes_set(fd, &it->h);
}

/* ---- the stream ---- */

/* 0; AGAIN; LAST behind the END; or -errno. */
static int apply(struct layer_import *m, const struct layer_item *it)
{
	int r = 0;
	bool goes_on =
		it->h.type == LAYER_DATA || it->h.type == LAYER_XATTR || it->h.type == LAYER_NAMES;
	if (m->ended || (m->naming && it->h.type != LAYER_NAMES))
		return -EINVAL;
	if (!goes_on)
		r = current_end(m);
	if (r < 0)
		return r;
	if (it->path && it->h.type != LAYER_XATTR)
		snprintf(m->failed, sizeof(m->failed), "%s", it->path);
	switch (it->h.type) {
	case LAYER_DIR:
		return apply_dir(m, it);
	case LAYER_NAMES:
		return apply_names(m, it);
	case LAYER_FILE:
		return apply_file(m, it);
	case LAYER_DATA:
		return apply_data(m, it);
	case LAYER_LINK:
		return apply_link(m, it);
	case LAYER_SYMLINK:
		return apply_symlink(m, it);
	case LAYER_FIFO:
		return apply_fifo(m, it);
	case LAYER_XATTR:
		return apply_xattr(m, it);
	case LAYER_DIR_END:
		return apply_dir_end(m, it);
	case LAYER_GONE: /* its NAMES have said so */
		return 0;
	default:
		m->ended = true;
		return LAST;
	}
}

static void grant(struct layer_import *m, uint32_t bytes)
{
	struct brig_credit c = { .chan = BRIG_CHAN_FS, .bytes = bytes };
	m->op.credit += bytes;
	chan_send(&m->op.s.agent->chan, BRIG_CREDIT, m->op.s.id, &c, sizeof(c), NULL, 0);
}

static void consume(struct layer_import *m, size_t n)
{
	buf_consume(&m->in, n);
	m->moved += n;
	m->owed += (uint32_t)n;
	if (m->owed >= GRANT_STEP && !m->eof) {
		grant(m, m->owed);
		m->owed = 0;
	}
}

/* One record, or one step of a removal. 0; AGAIN: more bytes are needed; or -errno. */
static int import_step(struct layer_import *m)
{
	struct layer_item it;
	if (m->removing) {
		int r = fs_tree_step(&m->tree);
		if (r == 0)
			return 0;
		fs_tree_done(&m->tree);
		m->removing = false;
		/* Something of another mount is in it: it stays, as far as it must. */
		return r == 1 || r == -EBUSY || r == -EXDEV || r == -ENOTEMPTY ? 0 : r;
	}
	const uint8_t *p = m->in.mem + m->in.head;
	ptrdiff_t n = buf_len(&m->in) == 0 ? 0
		      : m->headed	   ? layer_parse(p, buf_len(&m->in), &it)
					   : layer_parse_head(p, buf_len(&m->in));
	if (n <= 0)
		return n < 0 ? (int)n : AGAIN;
	int r = m->headed ? apply(m, &it) : 0;
	m->headed = true;
	if (r < 0)
		return r;
	if (r != AGAIN)
		consume(m, (size_t)n);
	return 0;
}

static void import_slice(void *ctx)
{
	struct layer_import *m = ctx;
	uint64_t until = clock_now() + FS_SLICE_NS;
	int r = 0;
	if (m->op.s.id == 0)
		return;
	while (r == 0 && clock_now() < until)
		r = import_step(m);
	if (r == 0)
		ev_task_queue(&m->op.s.agent->ev, &m->op.task);
	else if (r < 0)
		fs_op_done(&m->op, -r, m->failed, m->moved);
	else if (m->eof && m->ended && buf_len(&m->in) == 0)
		fs_op_done(&m->op, 0, "", m->moved);
	else if (m->eof)
		fs_op_done(&m->op, EINVAL, "the data ends early", m->moved);
}

static int import_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof)
{
	struct layer_import *m = (struct layer_import *)s;
	if (type != BRIG_FS_DATA || n > m->op.credit || m->eof)
		return -EPROTO;
	m->op.credit -= (uint32_t)n;
	m->eof = eof;
	if (buf_add(&m->in, p, n) < 0) {
		fs_op_done(&m->op, ENOMEM, "", m->moved);
		return 0;
	}
	ev_task_queue(&s->agent->ev, &m->op.task);
	return 0;
}

static int import_frame(struct stream *s, const struct frame *f)
{
	(void)s;
	(void)f;
	return -EPROTO;
}

static void import_close(struct stream *s)
{
	struct layer_import *m = (struct layer_import *)s;
	s->agent->chan.bulk_streams--;
	fs_op_leave(&m->op);
	buf_done(&m->in);
	layer_names_done(&m->have);
	fs_tree_done(&m->tree);
	fd_close(&m->open_fd);
	fd_close(&m->dir_fd);
	fd_close(&m->at_fd);
	fd_close(&m->root);
}

static const struct stream_ops import_ops = {
	.frame = import_frame,
	.data = import_data,
	.close = import_close,
	.orphan = import_close,
};

void layer_import_open(struct agent *a, const struct fs_request *q)
{
	int r = 0;
	if (q->user.uid != 0)
		r = -EPERM;
	else if (strcmp(q->path, "/") != 0)
		r = -EINVAL;
	AUTO_FD root = r == 0 ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (r == 0 && root < 0)
		r = -errno;
	struct layer_import *m = r == 0 ? calloc(1, sizeof(*m)) : NULL;
	if (r == 0 && !m)
		r = -ENOMEM;
	if (r < 0) {
		fs_reply(a, q->id, -r, 0, 0, q->asked);
		return;
	}
	/* What may be under way, and a record of which a part has come. */
	m->in = (struct buf)BUF_INIT(WINDOW + sizeof(struct layer_rec) + LAYER_BODY_MAX);
	m->root = fd_steal(&root);
	m->at_fd = m->open_fd = m->dir_fd = -1;
	fs_tree_init(&m->tree);
	m->op.task = (struct ev_task){ .fn = import_slice, .ctx = m };
	fs_op_start(&m->op, a, q, &import_ops, m);
	m->op.credit = 0;
	a->chan.bulk_streams++;
	grant(m, WINDOW);
}
