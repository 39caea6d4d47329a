/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * An operation is one stream: the request, data in one direction under credit, FS_DONE. Everything
 * that comes is a sandbox's and may be hostile: a frame out of order, data beyond the credit or
 * beyond the bound that the caller set, ends the operation with an error; the connection is then
 * closed, so that nothing late can be taken for an answer to the next one.
 */
#include "api/fsio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define CREDIT 1048576u
#define PIECE 131072u
/* An export is on its way to the disk while it comes, so that the last sync is short. */
#define WRITEBACK 8388608ull

struct fsio {
	struct api *a;
	struct link_op *op; /* NULL: closed by an error */
	bool open;
	char path[64]; /* shortened, for messages */
	/* the operation under way; done NULL = none */
	fsio_done done;
	void *ctx;
	uint16_t type;
	uint32_t flags;
	uint64_t size_asked;
	char *name; /* path as sent */
	uint32_t stream;
	const uint8_t *from; /* source; NULL: data comes */
	int to_fd;
	struct buf *to;
	uint64_t size, moved, max, credit; /* size, credit: of a source */
	uint32_t taken;			   /* received since the last grant */
	bool eof;
	struct ev_timer late; /* tells an error that was known at once */
};

static void finish(struct fsio *f, const struct brig_err *err)
{
	fsio_done done = f->done;
	f->done = NULL;
	free(f->name);
	f->name = NULL;
	if (done)
		done(f->ctx, err);
}

/* After an error nothing on this connection can be trusted to be in order. */
static void break_off(struct fsio *f, enum brig_code code, const char *what)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (f->op)
		link_cancel(f->op);
	f->op = NULL;
	brig_err_set(&err, code, 0, "'%s' in the sandbox: %s", f->path, what);
	finish(f, &err);
}

static void late_fired(void *ctx)
{
	struct fsio *f = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "'%s' in the sandbox cannot be reached", f->path);
	finish(f, &err);
}

static int send_request(struct fsio *f)
{
	struct buf b = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_fs_req m = { .flags = f->flags, .arg2 = f->size_asked };
	if (!f->from)
		m.credit = CREDIT;
	int r = buf_add(&b, &m, sizeof(m));
	if (r == 0)
		r = buf_add_str(&b, ""); /* the user: brigd puts it in */
	if (r == 0 && f->name)
		r = buf_add_str(&b, f->name);
	f->stream++;
	if (r == 0)
		r = link_send(f->op, f->type, 0, f->stream, buf_head(&b), buf_len(&b));
	buf_done(&b);
	return r;
}

static void push(struct fsio *f)
{
	while (f->done && !f->eof && f->credit && link_queued(f->op) < LINK_QUEUE_HIGH) {
		uint64_t left = f->size - f->moved;
		size_t n = left < PIECE ? (size_t)left : PIECE;
		n = n < f->credit ? n : (size_t)f->credit;
		f->eof = f->moved + n == f->size;
		if (link_send(f->op, BRIG_FS_DATA, f->eof ? BRIG_FF_EOF : 0, f->stream,
			      f->from + f->moved, n) < 0) {
			break_off(f, BRIG_E_UNAVAILABLE, "it takes no data");
			return;
		}
		f->moved += n;
		f->credit -= n;
	}
}

static int keep(struct fsio *f, const uint8_t *p, size_t n)
{
	if (f->to)
		return buf_add(f->to, p, n);
	for (size_t at = 0; at < n;) {
		ssize_t w = pwrite(f->to_fd, p + at, n - at, (off_t)(f->moved + at));
		if (w < 0)
			return -errno;
		at += (size_t)w;
	}
	uint64_t end = f->moved + n;
	if (end / WRITEBACK != f->moved / WRITEBACK) {
		uint64_t from = f->moved / WRITEBACK * WRITEBACK;
		(void)sync_file_range(f->to_fd, (off_t)from, WRITEBACK, SYNC_FILE_RANGE_WRITE);
	}
	return 0;
}

static void data_came(struct fsio *f, const struct frame *fr)
{
	uint32_t n = fr->h.len;
	if (f->from || f->eof || n > CREDIT - f->taken) {
		break_off(f, BRIG_E_PROTOCOL, "data that was not asked for");
		return;
	}
	if (n > f->max - f->moved) {
		break_off(f, BRIG_E_LIMIT, "it is larger than what is taken");
		return;
	}
	int r = keep(f, fr->payload, n);
	if (r < 0) {
		break_off(f, BRIG_E_EXHAUSTED, strerror(-r));
		return;
	}
	f->moved += n;
	f->taken += n;
	f->eof = fr->h.flags & BRIG_FF_EOF;
	if (f->taken < CREDIT / 2)
		return;
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = f->taken };
	f->taken = 0;
	if (link_send(f->op, BRIG_CREDIT, 0, f->stream, &m, sizeof(m)) < 0)
		break_off(f, BRIG_E_UNAVAILABLE, "the connection is gone");
}

static enum brig_code code_of(int sys)
{
	switch (sys) {
	case ENOENT:
		return BRIG_E_NOT_FOUND;
	case EACCES:
	case EPERM:
		return BRIG_E_DENIED;
	case EEXIST:
		return BRIG_E_EXISTS;
	case ENOSPC:
	case EDQUOT:
		return BRIG_E_LIMIT;
	default:
		return BRIG_E_INVALID;
	}
}

static void done_came(struct fsio *f, const struct frame *fr)
{
	struct brig_fs_done m;
	struct brig_err err = BRIG_ERR_INIT;
	const uint8_t *at = frame_struct(fr, &m, sizeof(m));
	const char *text = at ? frame_str(&at, fr->payload + fr->h.len) : NULL;
	if (!text || m.err < 0 || m.err > 4095 || (m.err == 0 && !f->eof)) {
		break_off(f, BRIG_E_PROTOCOL, "it ended before its data");
		return;
	}
	if (m.err)
		brig_err_set(&err, code_of(m.err), m.err, "'%s' in the sandbox%s%.100s", f->path,
			     text[0] ? ": " : "", text);
	finish(f, m.err ? &err : NULL);
}

static void on_frame(void *ctx, const struct frame *fr)
{
	struct fsio *f = ctx;
	struct brig_credit m;
	if (!f->done || fr->h.stream != f->stream) {
		break_off(f, BRIG_E_PROTOCOL, "a frame of no operation");
		return;
	}
	switch (fr->h.type) {
	case BRIG_FS_DATA:
		data_came(f, fr);
		return;
	case BRIG_FS_DONE:
		done_came(f, fr);
		return;
	case BRIG_CREDIT:
		if (frame_struct(fr, &m, sizeof(m)) && m.chan == BRIG_CHAN_FS &&
		    m.bytes <= BRIG_CREDIT_MAX - f->credit) {
			f->credit += m.bytes;
			push(f);
			return;
		}
		break;
	default:
		break;
	}
	break_off(f, BRIG_E_PROTOCOL, "a frame out of order");
}

static void on_reply(void *ctx, json_t *ok)
{
	struct fsio *f = ctx;
	(void)ok;
	f->open = true;
	if (f->done && send_request(f) < 0)
		break_off(f, BRIG_E_UNAVAILABLE, "the request cannot be sent");
}

static void on_failed(void *ctx, json_t *error)
{
	struct fsio *f = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	f->op = NULL;
	api_err_from(error, &err);
	finish(f, &err);
}

static void on_end(void *ctx, json_t *status)
{
	struct fsio *f = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	(void)status;
	f->op = NULL;
	brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "the sandbox ended");
	finish(f, &err);
}

static void on_room(void *ctx)
{
	push(ctx);
}

static const struct link_ops ops = {
	.reply = on_reply, .failed = on_failed, .frame = on_frame, .end = on_end, .room = on_room
};

int fsio_open(struct api *a, const char *id, const char *user, struct fsio **ret,
	      struct brig_err *err)
{
	struct fsio *f = calloc(1, sizeof(*f));
	if (!f)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	f->a = a;
	f->to_fd = -1;
	f->late = (struct ev_timer){ .fn = late_fired, .ctx = f };
	json_t *req =
		json_pack("{s:s,s:s,s:s*}", "op", "fs", "id", id, "user", user[0] ? user : NULL);
	if (link_start(a->link, req, true, &ops, f, &f->op, err) < 0) {
		free(f);
		return brig_ctx(err, "open the files of sandbox '%s'", id);
	}
	*ret = f;
	return 0;
}

void fsio_close(struct fsio *f)
{
	if (!f)
		return;
	if (f->op)
		link_cancel(f->op);
	ev_timer_stop(&f->a->ev, &f->late);
	free(f->name);
	free(f);
}

static void begin(struct fsio *f, uint16_t type, const char *path, fsio_done done, void *ctx)
{
	f->type = type;
	f->done = done;
	f->ctx = ctx;
	f->moved = f->credit = f->taken = 0;
	f->eof = false;
	f->flags = 0;
	f->size_asked = 0;
	snprintf(f->path, sizeof(f->path), "%s", path);
	f->name = strdup(path);
}

/* Sends the request if the connection stands already. */
static void go(struct fsio *f)
{
	if (f->op && f->name && (!f->open || send_request(f) == 0))
		return;
	(void)ev_timer_set(&f->a->ev, &f->late, clock_now());
}

void fsio_write(struct fsio *f, const char *path, const void *p, size_t n, fsio_done done,
		void *ctx)
{
	f->from = p;
	f->to_fd = -1;
	f->to = NULL;
	f->size = n;
	begin(f, BRIG_FS_WRITE, path, done, ctx);
	f->flags = BRIG_FS_PARENTS;
	go(f);
}

void fsio_read(struct fsio *f, const char *path, struct buf *into, size_t max, fsio_done done,
	       void *ctx)
{
	f->from = NULL;
	f->to_fd = -1;
	f->to = into;
	f->max = max;
	begin(f, BRIG_FS_READ, path, done, ctx);
	f->size_asked = max + 1; /* one more tells that there is more */
	go(f);
}

void fsio_export(struct fsio *f, int fd, uint64_t max, fsio_done done, void *ctx)
{
	f->from = NULL;
	f->to_fd = fd;
	f->to = NULL;
	f->max = max;
	begin(f, BRIG_FS_EXPORT, "/", done, ctx);
	go(f);
}

uint64_t fsio_bytes(const struct fsio *f)
{
	return f->moved;
}
