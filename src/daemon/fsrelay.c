/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brigd never opens a file of a sandbox: it checks the shape of a request (flags, number of
 * strings, lengths), puts in the user, and hands it to the agent, which does the work with that
 * user's rights. What the client may cost here is bounded by FS_STREAMS_MAX streams and
 * FS_CREDIT_MAX bytes of credit each, and by its connection's queue.
 *
 * A frame for a stream that has just ended crosses its FS_DONE on the way and is dropped.
 */
#include "daemon/fsrelay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/chan.h"
#include "daemon/sandbox.h"

#define FS_PATH_MAX 4095u
#define FS_CREDIT_MAX (4u * 1024u * 1024u)

struct fs_stream {
	struct fs_relay *relay;
	uint32_t id; /* the client's */
	struct chan_stream *chan;
	bool write_eof;
};

struct fs_relay {
	struct conn *c;
	struct sandbox *sb;
	unsigned n;
	struct fs_stream *streams[FS_STREAMS_MAX];
	char user[80];
};

static struct fs_stream *stream_find(struct fs_relay *r, uint32_t id)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->streams[i]->id == id)
			return r->streams[i];
	return NULL;
}

static void stream_free(struct fs_stream *s)
{
	struct fs_relay *r = s->relay;
	for (unsigned i = 0; i < r->n; i++) {
		if (r->streams[i] == s) {
			r->streams[i] = r->streams[--r->n];
			break;
		}
	}
	free(s);
}

static void send_done(struct conn *c, uint32_t id, int error, const char *text)
{
	struct {
		struct brig_fs_done m;
		char text[64];
	} out = { .m = { .err = error } };
	size_t n = strlen(text) + 1;
	memcpy(out.text, text, n);
	conn_frame(c, BRIG_FS_DONE, 0, id, &out, sizeof(out.m) + n);
}

/* What each request may carry: flags of brig_fs_req, and paths behind the user. */
static bool request_rules(uint16_t type, uint32_t *flags, unsigned *paths)
{
	*paths = 1;
	switch (type) {
	case BRIG_FS_STAT:
		*flags = BRIG_FS_NOFOLLOW | BRIG_FS_META | BRIG_FS_RESOLVE;
		return true;
	case BRIG_FS_LIST:
		*flags = BRIG_FS_META | BRIG_FS_RESOLVE;
		return true;
	case BRIG_FS_EXPORT:
		*flags = BRIG_FS_HEADS;
		return true;
	case BRIG_FS_READ:
	case BRIG_FS_IMPORT:
		*flags = 0;
		return true;
	case BRIG_FS_WRITE:
		*flags = BRIG_FS_PARENTS | BRIG_FS_APPEND | BRIG_FS_EXCL | BRIG_FS_XATTRS;
		return true;
	case BRIG_FS_MKDIR:
		*flags = BRIG_FS_PARENTS | BRIG_FS_EXCL;
		return true;
	case BRIG_FS_REMOVE:
	case BRIG_FS_WATCH:
		*flags = BRIG_FS_RECURSIVE;
		return true;
	case BRIG_FS_MOVE:
	case BRIG_FS_SYMLINK:
		*flags = BRIG_FS_PARENTS;
		*paths = 2;
		return true;
	default:
		return false;
	}
}

/* The pairs of FS_XATTRS, behind the paths. */
static int request_pairs(const uint8_t **at, const uint8_t *end, uint64_t pairs, struct buf *out,
			 struct brig_err *err)
{
	size_t all = 0;
	if (pairs > BRIG_FS_META_PAIRS)
		return brig_fail(err, BRIG_E_INVALID, 0, "a file has more than %u attributes",
				 BRIG_FS_META_PAIRS);
	while (pairs--) {
		const char *key = frame_str(at, end);
		const char *value = key ? frame_str(at, end) : NULL;
		if (!value)
			return brig_fail(err, BRIG_E_PROTOCOL, 0, "a file request lacks a pair");
		all += strlen(key) + strlen(value);
		if (!key[0] || strlen(key) > BRIG_FS_META_KEY_MAX || all > BRIG_FS_META_MAX)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "the name of an attribute has 1 to %u bytes, all of a "
					 "file's attributes at most %u",
					 BRIG_FS_META_KEY_MAX, BRIG_FS_META_MAX);
		if (buf_add_str(out, key) < 0 || buf_add_str(out, value) < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "relay a file request");
	}
	return 0;
}

/* Checks the strings and appends them to out. */
static int request_strings(const struct frame *f, const uint8_t *at, unsigned paths, uint64_t pairs,
			   struct buf *out, struct brig_err *err)
{
	const uint8_t *end = f->payload + f->h.len;
	const char *user = frame_str(&at, end);
	if (!user || user[0])
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "the user of a file request must be empty");
	while (paths--) {
		const char *path = frame_str(&at, end);
		if (!path)
			return brig_fail(err, BRIG_E_PROTOCOL, 0, "a file request lacks a path");
		if (!path[0] || strlen(path) > FS_PATH_MAX)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "a path is empty or longer than %u bytes", FS_PATH_MAX);
		if (buf_add_str(out, path) < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "relay a file request");
	}
	if (request_pairs(&at, end, pairs, out, err) < 0)
		return -1;
	if (at != end)
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "a file request has bytes after its strings");
	return 0;
}

static int request_open(struct fs_relay *r, const struct frame *f, const struct buf *payload,
			struct brig_err *err)
{
	/* What the agent holds as the writable layer is that in memory, which has nothing then. */
	if ((f->h.type == BRIG_FS_EXPORT || f->h.type == BRIG_FS_IMPORT) && spec_root_volume(&r->sb->spec)) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "what sandbox '%s' writes lies in a volume, and is no part of a snapshot of it", r->sb->id);
		return brig_fix(err, "copy the volume: brig volume snapshot");
	}
	struct fs_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "relay a file request");
	s->relay = r;
	s->id = f->h.stream;
	int e = chan_fs(&r->sb->chan, s, f->h.type, payload->mem + payload->head, buf_len(payload),
			&s->chan);
	if (e < 0) {
		free(s);
		send_done(r->c, f->h.stream, -e, "too many streams are open");
		sandbox_sent(r->sb, e == -EMFILE ? 0 : e);
		return 0;
	}
	r->streams[r->n++] = s;
	sandbox_sent(r->sb, 0);
	sandbox_resume(r->sb);
	return 0;
}

/* What such a sandbox writes is in a volume, which is kept and copied as one: the layer that the agent knows is
 * empty, and a snapshot of it would be one of nothing. */
static bool layer_is_a_volume(const struct sandbox *sb)
{
	for (unsigned i = 0; i < sb->spec.nvolumes; i++)
		if (strcmp(sb->spec.volumes[i].guest, "/") == 0)
			return true;
	return false;
}

static int relay_request(struct fs_relay *r, const struct frame *f, struct brig_err *err)
{
	struct brig_fs_req req;
	uint32_t flags;
	unsigned paths;
	const uint8_t *at = frame_struct(f, &req, sizeof(req));
	if (!at || !request_rules(f->h.type, &flags, &paths))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "malformed file request of type %u",
				 f->h.type);
	if (stream_find(r, f->h.stream))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "stream %u is open already", f->h.stream);
	if ((req.flags & ~flags) || req.mode > 07777 || req.credit > FS_CREDIT_MAX || req.reserved)
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "a file request with flags 0x%x, mode 0%o, "
				 "credit %u",
				 req.flags, req.mode, req.credit);
	if ((f->h.type == BRIG_FS_EXPORT || f->h.type == BRIG_FS_IMPORT) && layer_is_a_volume(r->sb)) {
		send_done(r->c, f->h.stream, EOPNOTSUPP, "the writable layer is a volume");
		return 0;
	}
	if (r->n == FS_STREAMS_MAX) {
		send_done(r->c, f->h.stream, EMFILE, "too many requests at once");
		return 0;
	}
	struct buf payload = BUF_INIT(BRIG_FRAME_MAX);
	int e = buf_add(&payload, &req, sizeof(req));
	if (e == 0)
		e = buf_add_str(&payload, r->user);
	if (e < 0)
		e = brig_fail(err, BRIG_E_EXHAUSTED, -e, "relay a file request");
	else if (request_strings(f, at, paths, req.flags & BRIG_FS_XATTRS ? req.arg2 : 0, &payload,
				 err) < 0)
		e = -1;
	else
		e = request_open(r, f, &payload, err);
	buf_done(&payload);
	return e;
}

static int relay_credit(struct fs_relay *r, struct fs_stream *s, const struct frame *f,
			struct brig_err *err)
{
	struct brig_credit m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m) || m.chan != BRIG_CHAN_FS ||
	    m.bytes > FS_CREDIT_MAX)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "malformed CREDIT");
	if (!s)
		return 0;
	if (s->chan->credit[2] + m.bytes > FS_CREDIT_MAX)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREDIT beyond %u bytes", FS_CREDIT_MAX);
	sandbox_sent(r->sb, chan_grant(&r->sb->chan, s->chan, 2, m.bytes));
	return 0;
}

static int role_shape(struct conn *c, const struct brig_frame_hdr *h, enum framer_shape *ret,
		      struct brig_err *err)
{
	(void)c;
	if (h->stream == 0)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "file request on stream 0");
	if (h->flags && h->type != BRIG_FS_DATA)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame type %u with flags", h->type);
	if (h->type == BRIG_FS_DATA)
		*ret = FRAMER_BULK;
	return 0;
}

static int role_frame(struct conn *c, const struct frame *f, struct brig_err *err)
{
	struct fs_relay *r = c->op;
	struct fs_stream *s = stream_find(r, f->h.stream);
	switch (f->h.type) {
	case BRIG_CREDIT:
		return relay_credit(r, s, f, err);
	case BRIG_CLOSE:
		if (s) {
			chan_close(&r->sb->chan, s->chan);
			sandbox_sent(r->sb, 0);
			stream_free(s);
		}
		return 0;
	default:
		return relay_request(r, f, err);
	}
}

static int role_data(struct conn *c, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		     bool last, struct brig_err *err)
{
	struct fs_relay *r = c->op;
	struct fs_stream *s = stream_find(r, h->stream);
	bool eof = last && (h->flags & BRIG_FF_EOF);
	if (!s || (n == 0 && !eof))
		return 0;
	if ((s->chan->fs_type != BRIG_FS_WRITE && s->chan->fs_type != BRIG_FS_IMPORT) ||
	    s->write_eof)
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "FS_DATA on a stream that writes nothing");
	s->write_eof = eof;
	int e = chan_data(&r->sb->chan, s->chan, BRIG_FS_DATA, p, n, eof);
	if (e == -EAGAIN)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "FS_DATA beyond its credit");
	sandbox_sent(r->sb, e);
	return 0;
}

static bool role_may_read(struct conn *c)
{
	const struct fs_relay *r = c->op;
	return sandbox_has_room(r->sb);
}

static void role_drained(struct conn *c)
{
	const struct fs_relay *r = c->op;
	sandbox_resume(r->sb);
}

void fs_detach(struct conn *c)
{
	struct fs_relay *r = c->op;
	while (r->n) {
		struct fs_stream *s = r->streams[r->n - 1];
		chan_close(&r->sb->chan, s->chan);
		stream_free(s);
	}
	sandbox_sent(r->sb, 0);
	LIST_REMOVE(c, peer);
	c->role = NULL;
	c->op = NULL;
	sandbox_resume(r->sb);
	free(r);
}

static const struct conn_role fs_role = {
	.shape = role_shape,
	.frame = role_frame,
	.data = role_data,
	.drained = role_drained,
	.may_read = role_may_read,
	.gone = fs_detach,
};

void fs_serve(struct conn *c, struct sandbox *sb, const char *user)
{
	struct fs_relay *r = calloc(1, sizeof(*r));
	if (!r) {
		struct brig_err err = BRIG_ERR_INIT;
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "relay files");
		conn_error(c, &err);
		return;
	}
	r->c = c;
	r->sb = sb;
	memcpy(r->user, user, strlen(user) + 1);
	conn_set_role(c, CONN_STREAM, &fs_role, r);
	LIST_INSERT_HEAD(&sb->fs_conns, c, peer);
	conn_ok(c, NULL);
}

void fs_on_frame(struct fs_stream *s, const struct frame *f)
{
	struct conn *c = s->relay->c;
	struct brig_fs_done done;
	uint32_t id = s->id;
	if (f->h.type == BRIG_FS_DONE && frame_struct(f, &done, sizeof(done)) &&
	    !(done.flags & BRIG_FS_DONE_OPEN)) {
		s->chan->owner = NULL; /* the channel frees its half after this */
		stream_free(s);
	}
	conn_frame(c, f->h.type, 0, id, f->payload, f->h.len);
}

void fs_on_data(struct fs_stream *s, const uint8_t *p, size_t n, bool eof)
{
	struct conn *c = s->relay->c;
	conn_bulk(c, BRIG_FS_DATA, eof ? BRIG_FF_EOF : 0, s->id, NULL, p, n);
	if (!c->gone && conn_queued(c))
		sandbox_pause(s->relay->sb);
}

void fs_on_credit(struct fs_stream *s, uint32_t bytes)
{
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = bytes };
	conn_frame(s->relay->c, BRIG_CREDIT, 0, s->id, &m, sizeof(m));
}
