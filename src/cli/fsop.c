/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Each operation is one stream: a request, what it answers (entries or data, as far as we gave
 * credit), and FS_DONE. Frames of a stream that is not the current one are a violation, for nothing
 * else is open; so is data that was not asked for, an entry whose strings are not terminated, a
 * list that never ends.
 */
#include "cli/fsop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

/* In force at most; half of it is given back at a time. Below brigd's own bound of 4 MiB. */
#define CREDIT (1024u * 1024u)
#define PIECE (128u * 1024u)
#define NAME_LEN_MAX 255u

void fs_node_done(struct fs_node *n)
{
	free(n->name);
	free(n->target);
	*n = (struct fs_node){ .name = NULL };
}

void fs_list_done(struct fs_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		fs_node_done(&l->v[i]);
	free(l->v);
	*l = (struct fs_list){ .v = NULL };
}

bool fsop_name_ok(const char *name)
{
	size_t n = strlen(name);
	return n >= 1 && n <= NAME_LEN_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static int violation(const char *what, struct brig_err *err)
{
	return brig_fail(err, BRIG_E_PROTOCOL, 0, "the sandbox broke the file protocol: %s", what);
}

static int out_of_memory(struct brig_err *err)
{
	return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
}

int fsop_open(struct fsop *f, const char *id, const char *user, json_t **ret_error,
	      struct brig_err *err)
{
	struct frame frame;
	json_t *ok = NULL;
	json_t *req = json_pack("{s:s,s:s,s:s*}", "op", "fs", "id", id, "user", user);
	if (!req)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.64s' is no name of a sandbox", id);
	int r = conn_open(&f->conn, CONN_EXISTING, err);
	if (r == 0)
		r = conn_request(&f->conn, req, NULL, 0, err);
	json_decref(req);
	if (r == 0)
		r = conn_next(&f->conn, &frame, err);
	if (r < 0)
		return -1;
	r = conn_reply(&frame, &ok, ret_error, err);
	json_decref(ok);
	conn_consume(&f->conn, &frame);
	return r;
}

void fsop_done(struct fsop *f)
{
	conn_done(&f->conn);
}

/* What an operation carries beside its strings. */
struct request {
	uint16_t type;
	uint32_t flags, credit;
	mode_t mode;
	uint64_t arg, arg2;
	const char *path, *path2; /* path2 NULL: one string */
};

static int request(struct fsop *f, const struct request *q, struct brig_err *err)
{
	struct buf payload = BUF_INIT(BRIG_FRAME_MAX);
	struct brig_fs_req m = { .flags = q->flags,
				 .mode = (uint32_t)q->mode & 07777,
				 .credit = q->credit,
				 .arg = q->arg,
				 .arg2 = q->arg2 };
	if (!q->path[0] || strlen(q->path) > FSOP_PATH_MAX ||
	    (q->path2 && (!q->path2[0] || strlen(q->path2) > FSOP_PATH_MAX)))
		return brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "'%.128s...' in the sandbox",
				 q->path);
	int r = buf_add(&payload, &m, sizeof(m));
	if (r == 0)
		r = buf_add_str(&payload, ""); /* the user: brigd puts it in */
	if (r == 0)
		r = buf_add_str(&payload, q->path);
	if (r == 0 && q->path2)
		r = buf_add_str(&payload, q->path2);
	/* A new number each time: an answer to an older operation cannot be taken for ours. */
	f->stream++;
	r = r < 0 ? out_of_memory(err)
		  : conn_send(&f->conn, q->type, 0, f->stream, buf_head(&payload),
			      buf_len(&payload), err);
	buf_done(&payload);
	return r;
}

/* Common checks of a frame; an END means that the sandbox or the server is going. */
static int frame_check(const struct fsop *f, const struct frame *frame, struct brig_err *err)
{
	json_t *end = NULL;
	if (frame->h.type == BRIG_CL_END && conn_json(frame, &end, err) == 0) {
		const json_t *error = json_object_get(end, "error");
		if (error)
			err_from_json(error, err);
		else
			brig_err_set(err, BRIG_E_STATE, 0, "the sandbox ended");
		json_decref(end);
		return -1;
	}
	if (frame->h.type == BRIG_CL_END)
		return -1;
	return frame->h.stream == f->stream ? 0 : violation("a frame of another operation", err);
}

/* FS_DONE: success, or the sandbox's errno as our error. */
static int done_check(const struct frame *frame, const char *path, struct brig_err *err)
{
	struct brig_fs_done m;
	const uint8_t *at = frame_struct(frame, &m, sizeof(m));
	const char *text = at ? frame_str(&at, frame->payload + frame->h.len) : NULL;
	if (!text || m.err < 0 || m.err > 4095)
		return violation("malformed FS_DONE", err);
	if (m.err == 0)
		return 0;
	enum brig_code code = m.err == ENOENT			   ? BRIG_E_NOT_FOUND
			      : m.err == EACCES || m.err == EPERM  ? BRIG_E_DENIED
			      : m.err == EEXIST			   ? BRIG_E_EXISTS
			      : m.err == ENOSPC || m.err == EDQUOT ? BRIG_E_EXHAUSTED
								   : BRIG_E_INVALID;
	return brig_fail(err, code, m.err, "'%.256s' in the sandbox", path);
}

/* Waits for FS_DONE where nothing else may come. */
static int finish(struct fsop *f, const char *path, struct brig_err *err)
{
	struct frame frame;
	if (conn_next(&f->conn, &frame, err) < 0 || frame_check(f, &frame, err) < 0)
		return -1;
	if (frame.h.type != BRIG_FS_DONE)
		return violation("a frame out of order", err);
	int r = done_check(&frame, path, err);
	conn_consume(&f->conn, &frame);
	return r;
}

static int node_parse(const struct frame *frame, struct fs_node *ret, struct brig_err *err)
{
	struct brig_fs_entry m;
	const uint8_t *end = frame->payload + frame->h.len;
	const uint8_t *at = frame_struct(frame, &m, sizeof(m));
	const char *s[4];
	for (int i = 0; i < 4; i++) {
		s[i] = at ? frame_str(&at, end) : NULL;
		if (!s[i])
			return violation("malformed FS_ENTRY", err);
	}
	if (at != end || m.mtime_nsec >= 1000000000u || strlen(s[1]) > FSOP_PATH_MAX)
		return violation("malformed FS_ENTRY", err);
	struct fs_node n = { .name = strdup(s[0]),
			     .target = strdup(s[1]),
			     .mode = (mode_t)m.mode,
			     .size = m.size,
			     .mtime_sec = m.mtime_sec,
			     .mtime_nsec = m.mtime_nsec };
	if (!n.name || !n.target) {
		fs_node_done(&n);
		return out_of_memory(err);
	}
	*ret = n;
	return 0;
}

int fsop_stat(struct fsop *f, const char *path, bool follow, struct fs_node *ret,
	      struct brig_err *err)
{
	const struct request q = { .type = BRIG_FS_STAT,
				   .flags = follow ? 0 : BRIG_FS_NOFOLLOW,
				   .path = path };
	struct frame frame;
	struct fs_node node = { .name = NULL };
	if (request(f, &q, err) < 0 || conn_next(&f->conn, &frame, err) < 0 ||
	    frame_check(f, &frame, err) < 0)
		return -1;
	int r;
	if (frame.h.type == BRIG_FS_DONE) {
		r = done_check(&frame, path, err);
		conn_consume(&f->conn, &frame);
		return r < 0 ? -1 : violation("no FS_ENTRY", err);
	}
	if (frame.h.type != BRIG_FS_ENTRY)
		return violation("a frame out of order", err);
	r = node_parse(&frame, &node, err);
	conn_consume(&f->conn, &frame);
	if (r == 0)
		r = finish(f, path, err);
	if (r < 0) {
		fs_node_done(&node);
		return -1;
	}
	*ret = node;
	return 0;
}

/* Gives credit back in pieces. */
static int regrant(struct fsop *f, uint32_t *used, uint32_t n, struct brig_err *err)
{
	if (n > CREDIT - *used)
		return violation("more data than was asked for", err);
	*used += n;
	if (*used < CREDIT / 2)
		return 0;
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = *used };
	*used = 0;
	return conn_send(&f->conn, BRIG_CREDIT, 0, f->stream, &m, sizeof(m), err);
}

static int list_add(struct fs_list *l, size_t max, const struct frame *frame, struct brig_err *err)
{
	if (l->n >= max)
		return brig_fail(err, BRIG_E_LIMIT, 0, "more than %zu files", max);
	if ((l->n & (l->n - 1)) == 0) {
		struct fs_node *v = reallocarray(l->v, l->n ? 2 * l->n : 1, sizeof(*v));
		if (!v)
			return out_of_memory(err);
		l->v = v;
	}
	if (node_parse(frame, &l->v[l->n], err) < 0)
		return -1;
	if (!fsop_name_ok(l->v[l->n++].name))
		return violation("an entry with a forbidden name", err);
	return 0;
}

int fsop_list(struct fsop *f, const char *path, size_t max, struct fs_list *ret,
	      struct brig_err *err)
{
	const struct request q = { .type = BRIG_FS_LIST, .credit = CREDIT, .arg = 1, .path = path };
	struct fs_list l = { .v = NULL };
	uint32_t used = 0;
	int r = request(f, &q, err);
	bool done = false;
	while (r == 0 && !done) {
		struct frame frame;
		r = conn_next(&f->conn, &frame, err);
		if (r == 0)
			r = frame_check(f, &frame, err);
		if (r < 0)
			break;
		done = frame.h.type == BRIG_FS_DONE;
		if (done)
			r = done_check(&frame, path, err);
		else if (frame.h.type != BRIG_FS_ENTRY)
			r = violation("a frame out of order", err);
		else
			r = list_add(&l, max, &frame, err);
		uint32_t n = frame.h.len;
		conn_consume(&f->conn, &frame);
		if (r == 0 && !done)
			r = regrant(f, &used, n, err);
	}
	if (r < 0) {
		fs_list_done(&l);
		return -1;
	}
	*ret = l;
	return 0;
}

/* The data that answers a request, to its end: at most `size` bytes of it. */
static int data_take(struct fsop *f, const struct request *q, uint64_t size, const char *what, int fd,
		     struct brig_err *err)
{
	uint32_t used = 0;
	bool eof = false;
	if (request(f, q, err) < 0)
		return -1;
	for (;;) {
		struct frame frame;
		if (conn_next(&f->conn, &frame, err) < 0 || frame_check(f, &frame, err) < 0)
			return -1;
		uint32_t n = frame.h.len;
		if (frame.h.type == BRIG_FS_DONE) {
			int r = done_check(&frame, q->path, err);
			conn_consume(&f->conn, &frame);
			return r == 0 && !eof ? violation("data without an end", err) : r;
		}
		if (frame.h.type != BRIG_FS_DATA || eof)
			return violation("a frame out of order", err);
		if (n > size)
			return violation(what, err);
		int w = fd_write_full(fd, frame.payload, n);
		if (w < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, -w, "write");
		size -= n;
		eof = frame.h.flags & BRIG_FF_EOF;
		conn_consume(&f->conn, &frame);
		if (regrant(f, &used, n, err) < 0)
			return -1;
	}
}

int fsop_read(struct fsop *f, const char *path, uint64_t size, int fd, struct brig_err *err)
{
	const struct request q = {
		.type = BRIG_FS_READ, .credit = CREDIT, .arg2 = size, .path = path
	};
	/* Zero would ask for everything. */
	return size ? data_take(f, &q, size, "a file larger than announced", fd, err) : 0;
}

int fsop_export(struct fsop *f, uint32_t flags, uint64_t max, int fd, struct brig_err *err)
{
	const struct request q = { .type = BRIG_FS_EXPORT, .flags = flags, .credit = CREDIT, .path = "/" };
	return data_take(f, &q, max, "more files than fit into its writable layer", fd, err);
}

/* Sends pieces of fd while there is credit and room. */
static int write_pieces(struct fsop *f, int fd, uint64_t *credit, bool *eof, struct brig_err *err)
{
	while (!*eof && *credit && buf_len(&f->conn.tx) < PIECE) {
		uint8_t *at;
		size_t room = *credit < PIECE ? (size_t)*credit : PIECE;
		int r = buf_reserve(&f->conn.tx, sizeof(struct brig_frame_hdr) + room, &at);
		if (r < 0)
			return out_of_memory(err);
		ssize_t n = read(fd, at + sizeof(struct brig_frame_hdr), room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "read");
		*eof = n == 0;
		struct brig_frame_hdr h = { .len = (uint32_t)n,
					    .type = BRIG_FS_DATA,
					    .flags = (uint16_t)(*eof ? BRIG_FF_EOF : 0),
					    .stream = f->stream };
		memcpy(at, &h, sizeof(h));
		buf_commit(&f->conn.tx, sizeof(h) + (size_t)n);
		*credit -= (uint64_t)n;
		if (conn_flush(&f->conn, err) < 0)
			return -1;
	}
	return 0;
}

int fsop_write(struct fsop *f, const char *path, mode_t mode, int fd, struct brig_err *err)
{
	/* Mode 0 would stand for the default: a file that nobody may read stays as close as can be.
	 */
	const struct request q = { .type = BRIG_FS_WRITE,
				   .mode = mode & 07777 ? mode : 0400,
				   .path = path };
	uint64_t credit = 0;
	bool eof = false;
	if (request(f, &q, err) < 0)
		return -1;
	for (;;) {
		struct frame frame;
		struct brig_credit m;
		if (write_pieces(f, fd, &credit, &eof, err) < 0)
			return -1;
		int r = eof || !credit ? conn_next(&f->conn, &frame, err)
				       : conn_frame_or_room(&f->conn, &frame, err);
		if (r < 0)
			return -1;
		if (r == 0 && !eof && credit)
			continue;
		if (frame_check(f, &frame, err) < 0)
			return -1;
		if (frame.h.type == BRIG_FS_DONE) {
			r = done_check(&frame, path, err);
			conn_consume(&f->conn, &frame);
			return r == 0 && !eof ? violation("an end before the data", err) : r;
		}
		if (frame.h.type != BRIG_CREDIT || !frame_struct(&frame, &m, sizeof(m)) ||
		    m.chan != BRIG_CHAN_FS || m.bytes > BRIG_CREDIT_MAX - credit)
			return violation("a frame out of order", err);
		credit += m.bytes;
		conn_consume(&f->conn, &frame);
	}
}

int fsop_mkdir(struct fsop *f, const char *path, mode_t mode, struct brig_err *err)
{
	const struct request q = { .type = BRIG_FS_MKDIR, .mode = mode, .path = path };
	return request(f, &q, err) < 0 ? -1 : finish(f, path, err);
}

int fsop_symlink(struct fsop *f, const char *target, const char *path, struct brig_err *err)
{
	const struct request q = { .type = BRIG_FS_SYMLINK, .path = target, .path2 = path };
	return request(f, &q, err) < 0 ? -1 : finish(f, path, err);
}

int fsop_remove(struct fsop *f, const char *path, struct brig_err *err)
{
	const struct request q = { .type = BRIG_FS_REMOVE, .path = path };
	return request(f, &q, err) < 0 ? -1 : finish(f, path, err);
}
