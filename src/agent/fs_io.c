/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * READ is a source of the channel: when its turn comes and there is credit, the next piece of the
 * file is read into a buffer of the operation and lent. WRITE takes the data as it arrives and
 * writes it at once; what was written is granted again. Both move the data with the credentials of
 * the user (a write clears set-id bits only if the writer may not keep them, and files under /proc
 * look at their reader).
 *
 * Only regular files are opened: a FIFO, socket or device could block, or do something, by being
 * opened. The name is looked at first and the descriptor again, because the tenant may exchange the
 * file in between; O_NONBLOCK keeps that from blocking.
 *
 * WRITE replaces the contents in place: a link, its owner and its mode stay. The file is incomplete
 * while data flows, and stays incomplete when the stream is closed before its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/fs.h"
#include "base/fd.h"

#define PIECE (BRIG_FRAME_MAX - 4096u)
#define WRITE_WINDOW (1024u * 1024u)
#define GRANT_STEP (WRITE_WINDOW / 4)

static int kind_refused(mode_t mode)
{
	if (S_ISREG(mode))
		return 0;
	return S_ISDIR(mode) ? -EISDIR : -ENXIO;
}

/* An open descriptor of a regular file, or -errno. Called with the user's credentials. */
static int regular_open(const char *path, int flags, mode_t mode, struct stat *ret_st)
{
	if (stat(path, ret_st) == 0 && kind_refused(ret_st->st_mode))
		return kind_refused(ret_st->st_mode);
	AUTO_FD fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	int r = kind_refused(ret_st->st_mode);
	return r < 0 ? r : fd_steal(&fd);
}

/* ---- READ ---- */

struct fs_read {
	struct fs_op op;
	struct source src;
	int fd;
	uint64_t at, left; /* left: bytes still asked for */
	uint64_t moved;
	bool ended; /* the last frame is under way, or its error is known */
	int err;
	uint8_t *buf;
};

static struct fs_read *read_of(struct source *s)
{
	return (struct fs_read *)((char *)s - offsetof(struct fs_read, src));
}

static ssize_t read_piece(struct fs_read *rd, size_t n)
{
	if (!rd->buf && !(rd->buf = malloc(PIECE)))
		return -ENOMEM;
	int r = fs_enter(&rd->op);
	if (r < 0)
		return r;
	ssize_t got = pread(rd->fd, rd->buf, n, (off_t)rd->at);
	if (got < 0)
		got = -errno;
	fs_leave(&rd->op);
	return got;
}

static int read_fill(struct source *s, struct data_frame *f)
{
	struct fs_read *rd = read_of(s);
	size_t n = rd->left < PIECE ? (size_t)rd->left : PIECE;
	ssize_t got = 0;
	if (rd->ended)
		return 0;
	/* Without credit only an end that needs none can be told. */
	if (n > rd->op.credit)
		n = rd->op.credit;
	if (n == 0 && rd->left)
		return 0;
	if (n)
		got = read_piece(rd, n);
	if (got < 0) {
		rd->ended = true;
		fs_op_done(&rd->op, (int)-got, "read", rd->moved);
		return 0;
	}
	rd->at += (uint64_t)got;
	rd->left -= (uint64_t)got;
	rd->moved += (uint64_t)got;
	rd->op.credit -= (uint32_t)got;
	rd->ended = got == 0 || rd->left == 0;
	f->type = BRIG_FS_DATA;
	f->flags = rd->ended ? BRIG_FF_EOF : 0;
	f->stream = rd->op.s.id;
	f->part[0] = (struct iovec){ .iov_base = rd->buf, .iov_len = (size_t)got };
	return 1;
}

static void read_sent(struct source *s, size_t n, bool done)
{
	struct fs_read *rd = read_of(s);
	(void)n;
	/* id 0: closed, and what was under way was copied. */
	if (done && rd->ended && rd->op.s.id)
		fs_op_done(&rd->op, 0, "", rd->moved);
}

static int read_frame(struct stream *s, const struct frame *f)
{
	struct fs_read *rd = (struct fs_read *)s;
	int r = fs_op_credit(&rd->op, f);
	if (r == 0)
		chan_offer(&s->agent->chan, &rd->src);
	return r;
}

static void read_close(struct stream *s)
{
	struct fs_read *rd = (struct fs_read *)s;
	fs_op_leave(&rd->op);
	rd->ended = true;
	chan_reclaim(&s->agent->chan, &rd->src, true);
	fd_close(&rd->fd);
	free(rd->buf);
	rd->buf = NULL;
}

static const struct stream_ops read_ops = {
	.frame = read_frame,
	.data = fs_op_no_data,
	.close = read_close,
	.orphan = read_close,
};

void fs_read_start(struct agent *a, const struct fs_request *q, int fd)
{
	struct fs_read *rd = calloc(1, sizeof(*rd));
	if (!rd) {
		fd_close(&fd);
		fs_reply(a, q->id, ENOMEM, 0, 0, q->asked);
		return;
	}
	rd->src = (struct source){ .fill = read_fill, .sent = read_sent };
	rd->fd = fd;
	rd->at = q->h.arg;
	rd->left = q->h.arg2 ? q->h.arg2 : UINT64_MAX;
	fs_op_start(&rd->op, a, q, &read_ops, rd);
	chan_offer(&a->chan, &rd->src);
}

void fs_read_open(struct agent *a, const struct fs_request *q)
{
	struct stat st;
	int fd = creds_enter(&a->self, &q->creds);
	if (fd == 0) {
		fd = q->h.arg > INT64_MAX ? -EINVAL : regular_open(q->path, O_RDONLY, 0, &st);
		creds_leave(&a->self);
	}
	if (fd < 0)
		fs_reply(a, q->id, -fd, 0, 0, q->asked);
	else
		fs_read_start(a, q, fd);
}

/* ---- WRITE ---- */

struct fs_write {
	struct fs_op op; /* its credit is what the host may send */
	int fd;
	uint32_t owed;
	uint64_t moved;
};

static void write_grant(struct fs_write *w, uint32_t bytes)
{
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = bytes };
	w->op.credit += bytes;
	chan_send(&w->op.s.agent->chan, BRIG_CREDIT, w->op.s.id, &m, sizeof(m), NULL, 0);
}

static int write_all(struct fs_write *w, const uint8_t *p, size_t n)
{
	/* Until the channel has handed over what it holds (rx_parse). */
	int r = creds_keep(&w->op.s.agent->self, &w->op.creds);
	return r < 0 ? r : fd_write_full(w->fd, p, n);
}

static int write_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof)
{
	struct fs_write *w = (struct fs_write *)s;
	if (type != BRIG_FS_DATA || n > w->op.credit)
		return -EPROTO;
	w->op.credit -= (uint32_t)n;
	int r = n ? write_all(w, p, n) : 0;
	if (r < 0) {
		fs_op_done(&w->op, -r, "write", w->moved);
		return 0;
	}
	w->moved += n;
	w->owed += (uint32_t)n;
	if (eof) {
		/* Some file systems tell a lack of space only here. */
		int fd = fd_steal(&w->fd);
		r = close(fd) < 0 && errno != EINTR ? errno : 0;
		fs_op_done(&w->op, r, r ? "close" : "", w->moved);
	} else if (w->owed >= GRANT_STEP) {
		write_grant(w, w->owed);
		w->owed = 0;
	}
	return 0;
}

static int write_frame(struct stream *s, const struct frame *f)
{
	(void)s;
	(void)f;
	return -EPROTO;
}

static void write_close(struct stream *s)
{
	struct fs_write *w = (struct fs_write *)s;
	creds_release(&s->agent->self); /* it is about to be freed */
	s->agent->chan.bulk_streams--;
	fd_close(&w->fd);
	fs_op_leave(&w->op);
}

static const struct stream_ops write_ops = {
	.frame = write_frame,
	.data = write_data,
	.close = write_close,
	.orphan = write_close,
};

void fs_write_start(struct agent *a, const struct fs_request *q, int fd)
{
	struct fs_write *w = calloc(1, sizeof(*w));
	if (!w) {
		fd_close(&fd);
		fs_reply(a, q->id, ENOMEM, 0, 0, q->asked);
		return;
	}
	w->fd = fd;
	fs_op_start(&w->op, a, q, &write_ops, w);
	w->op.credit = 0;
	a->chan.bulk_streams++;
	write_grant(w, WRITE_WINDOW);
}

/* With the user's credentials: the open file, or -errno. */
static int write_file_open(const struct fs_request *q)
{
	int flags = O_WRONLY | O_CREAT;
	struct stat st;
	bool meta = q->h.flags & BRIG_FS_XATTRS;
	flags |= q->h.flags & BRIG_FS_APPEND ? O_APPEND : meta ? 0 : O_TRUNC;
	flags |= q->h.flags & BRIG_FS_EXCL ? O_EXCL : 0;
	if (q->h.flags & BRIG_FS_PARENTS) {
		int r = fs_make_parents(q->path);
		if (r < 0)
			return r;
	}
	int fd = regular_open(q->path, flags, q->h.mode ? q->h.mode : 0644, &st);
	/* First what may fail, so that a file that cannot be written as asked keeps its data. */
	if (fd >= 0 && meta) {
		int r = fs_meta_set(fd, q->pairs, q->h.arg2);
		if (r == 0 && !(flags & O_APPEND) && ftruncate(fd, 0) < 0)
			r = -errno;
		if (r < 0) {
			close(fd);
			return r;
		}
	}
	/* A file that was there takes the mode that was asked for if it is the user's to change. */
	if (fd >= 0 && q->h.mode && (st.st_mode & 07777) != q->h.mode)
		(void)!fchmod(fd, q->h.mode);
	return fd;
}

void fs_write_open(struct agent *a, const struct fs_request *q)
{
	int fd = creds_enter(&a->self, &q->creds);
	if (fd == 0) {
		fd = write_file_open(q);
		creds_leave(&a->self);
	}
	if (fd < 0)
		fs_reply(a, q->id, -fd, 0, 0, q->asked);
	else
		fs_write_start(a, q, fd);
}
