/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Every byte here was written by a process that may be the tenant's. The rules of agent_proto.h are
 * checked before anything is believed: direction, size, stream, order, offset, credit. A broken
 * rule ends the channel with a text made of our own words and numbers only. Nothing in here
 * allocates in proportion to what the agent says, except the framer's carry of one frame.
 *
 * Frames without effect (an empty output, a credit of nothing) cost the agent little and us a
 * dispatch; more than CHAN_EMPTY_MAX of them in a row are a violation. So is a silent flood before
 * ATTACHED. A frame that begins and never ends holds one carry buffer and no time.
 */
#include "daemon/chan_rx.h"

#include <errno.h>
#include <string.h>

/* Strings of FS_ENTRY and friends: a path, a link target, names. */
#define FS_PATH_TEXT_MAX 8192u

#define violation(c, ...) brig_fail((c)->err, BRIG_E_PROTOCOL, 0, __VA_ARGS__)

static struct chan_stream *stream_get(const struct chan *c, uint32_t id)
{
	return id >= 1 && id <= c->nstreams ? c->streams[id - 1] : NULL;
}

static const char *type_name(unsigned type)
{
	const char *name = frame_name(type);
	return name ? name : "unknown";
}

static int progress(struct chan *c, bool made)
{
	if (made)
		c->empty = 0;
	else if (++c->empty > CHAN_EMPTY_MAX)
		return violation(c, "%u frames in a row that carry nothing", c->empty);
	return 0;
}

/* Kinds of stream on which a frame of the agent may come. */
static enum stream_kind kind_of(uint16_t type)
{
	switch (type) {
	case BRIG_STARTED:
	case BRIG_STDOUT:
	case BRIG_STDERR:
	case BRIG_EXIT:
		return STREAM_EXEC;
	case BRIG_FS_DATA:
	case BRIG_FS_ENTRY:
	case BRIG_FS_EVENT:
	case BRIG_FS_DONE:
		return STREAM_FS;
	case BRIG_TCP_OPENED:
	case BRIG_TCP_DATA:
	case BRIG_TCP_DONE:
		return STREAM_TCP;
	default:
		return STREAM_FREE; /* any */
	}
}

static int rx_shape(void *ctx, const struct brig_frame_hdr *h, enum framer_shape *ret,
		    uint32_t *ret_prefix)
{
	struct chan *c = ctx;
	if (!(frame_dir(h->type) & FRAME_DIR_A))
		return violation(c, "frame type %u (%s) is not the agent's to send", h->type,
				 type_name(h->type));
	if (h->flags && h->type != BRIG_FS_DATA && h->type != BRIG_TCP_DATA)
		return violation(c, "%s with flags 0x%x", type_name(h->type), h->flags);
	bool on_channel = h->type == BRIG_PONG || h->type == BRIG_ATTACHED;
	if (on_channel != (h->stream == 0))
		return violation(c, "%s on stream %u", type_name(h->type), h->stream);
	if (h->type == BRIG_STDOUT || h->type == BRIG_STDERR) {
		*ret = FRAMER_BULK;
		*ret_prefix = 8;
		if (h->len < 8)
			return violation(c, "%s of %u bytes has no offset", type_name(h->type),
					 h->len);
	} else if (h->type == BRIG_FS_DATA || h->type == BRIG_TCP_DATA) {
		*ret = FRAMER_BULK;
		*ret_prefix = 0;
	}
	if (h->type == BRIG_RESUMED && (!c->taking || h->stream > BRIG_STREAMS_MAX))
		return violation(c, "RESUMED on stream %u that nobody asked for", h->stream);
	if (on_channel || h->type == BRIG_RESUMED)
		return 0;
	const struct chan_stream *s = stream_get(c, h->stream);
	if (!s)
		return violation(c, "%s on stream %u, which is not open", type_name(h->type),
				 h->stream);
	enum stream_kind kind = kind_of(h->type);
	if (s->kind != STREAM_CLOSING && kind != STREAM_FREE && kind != s->kind)
		return violation(c, "%s on stream %u of another kind", type_name(h->type),
				 h->stream);
	return 0;
}

static int rx_open_output(struct chan *c, struct chan_stream *s, const struct brig_frame_hdr *h,
			  const uint8_t *prefix)
{
	int out = h->type == BRIG_STDERR;
	uint64_t offset, n = h->len - 8;
	memcpy(&offset, prefix, sizeof(offset));
	if (s->phase != PHASE_STARTED)
		return violation(c, "%s on stream %u %s", type_name(h->type), h->stream,
				 s->phase == PHASE_ASKED ? "before STARTED" : "after EXIT");
	if (offset != s->offset[out] && !(s->gaps && offset > s->offset[out]))
		return violation(c, "%s offset %llu where %llu was due", type_name(h->type),
				 (unsigned long long)offset, (unsigned long long)s->offset[out]);
	if (n > s->credit[out])
		return violation(c, "%s of %llu bytes with %llu bytes of credit",
				 type_name(h->type), (unsigned long long)n,
				 (unsigned long long)s->credit[out]);
	/* The frame is paid for at its head, and the offset moves as its bytes come. */
	s->credit[out] -= n;
	s->offset[out] = offset;
	if (offset > UINT64_MAX - n)
		return violation(c, "%s offset overflows", type_name(h->type));
	return progress(c, n > 0);
}

static int rx_open(void *ctx, const struct brig_frame_hdr *h, const uint8_t *prefix)
{
	struct chan *c = ctx;
	struct chan_stream *s = stream_get(c, h->stream);
	if (!s)
		return violation(c, "%s on a closed stream", type_name(h->type));
	if (s->kind == STREAM_CLOSING)
		return 0;
	if (h->type != BRIG_FS_DATA && h->type != BRIG_TCP_DATA)
		return rx_open_output(c, s, h, prefix);
	bool tcp = h->type == BRIG_TCP_DATA;
	uint64_t *credit = &s->credit[tcp ? 3 : 2];
	if (!tcp && s->fs_type != BRIG_FS_READ && s->fs_type != BRIG_FS_EXPORT)
		return violation(c, "FS_DATA on a stream that reads nothing");
	if (tcp && s->phase == PHASE_ASKED)
		return violation(c, "TCP_DATA before TCP_OPENED");
	if (s->phase == PHASE_EXITED)
		return violation(c, "%s after its end", type_name(h->type));
	if (h->len > *credit)
		return violation(c, "%s of %u bytes with %llu bytes of credit", type_name(h->type),
				 h->len, (unsigned long long)*credit);
	*credit -= h->len;
	return progress(c, h->len > 0);
}

static int rx_data(void *ctx, const struct brig_frame_hdr *h, const uint8_t *p, size_t n, bool last)
{
	struct chan *c = ctx;
	/* The stream may have been closed, and even freed, while its frame was under way. */
	struct chan_stream *s = stream_get(c, h->stream);
	if (!s || s->kind == STREAM_CLOSING)
		return 0;
	if (h->type == BRIG_FS_DATA || h->type == BRIG_TCP_DATA) {
		bool eof = last && (h->flags & BRIG_FF_EOF);
		if (eof)
			s->phase = PHASE_EXITED;
		if (h->type == BRIG_FS_DATA)
			c->ops->fs_data(c->ctx, s, p, n, eof);
		else
			c->ops->tcp_data(c->ctx, s, p, n, eof);
	} else if (n) {
		int out = h->type == BRIG_STDERR;
		uint64_t at = s->offset[out];
		s->offset[out] += n;
		c->ops->output(c->ctx, s, out, at, p, n);
	}
	return c->failed ? -ECANCELED : 0;
}

static int rx_started(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_started m;
	const uint8_t *rest = frame_struct(f, &m, sizeof(m));
	if (!rest || f->h.len != sizeof(m))
		return violation(c, "STARTED of %u bytes", f->h.len);
	if (s->phase != PHASE_ASKED)
		return violation(c, "STARTED twice on stream %u", s->id);
	if (m.err < 0 || m.err > 4095 || m.step > BRIG_STEP_EXEC ||
	    m.stdin_credit > BRIG_CREDIT_MAX)
		return violation(c, "STARTED with err %d, step %u, credit %u", m.err, m.step,
				 m.stdin_credit);
	s->phase = m.err ? PHASE_EXITED : PHASE_STARTED;
	s->may_send = m.err ? 0 : m.stdin_credit;
	c->ops->started(c->ctx, s, &m);
	return 0;
}

/* A command that goes on. One that nobody here knows is ended. */
static int rx_resumed(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_resumed m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m))
		return violation(c, "RESUMED of %u bytes", f->h.len);
	if ((m.flags & ~BRIG_RESUMED_STARTED) || m.reserved || m.stdin_credit > BRIG_CREDIT_MAX)
		return violation(c, "RESUMED with flags 0x%x, credit %u", m.flags, m.stdin_credit);
	if (!s) {
		s = chan_put(c, f->h.stream, NULL, false);
		if (!s)
			return violation(c, "out of memory for a stream");
		chan_close(c, s);
		return 0;
	}
	if (s->kind == STREAM_CLOSING)
		return 0; /* ended while this was under way */
	if (s->kind != STREAM_EXEC || s->resumed)
		return violation(c, "RESUMED twice on stream %u", f->h.stream);
	s->resumed = true;
	s->phase = m.flags & BRIG_RESUMED_STARTED ? PHASE_STARTED : PHASE_ASKED;
	s->may_send = m.stdin_credit;
	c->ops->resumed(c->ctx, s, &m);
	return 0;
}

/* All that goes on was told: the rest of what was put here does not. */
static void taken(struct chan *c)
{
	c->taking = false;
	for (uint32_t i = 0; i < c->nstreams && !c->failed; i++) {
		struct chan_stream *s = c->streams[i];
		if (s && s->kind == STREAM_EXEC && s->owner && !s->resumed && s->put)
			c->ops->resumed(c->ctx, s, NULL);
	}
	if (!c->failed)
		c->ops->taken(c->ctx);
}

static int rx_exit(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_exit m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m))
		return violation(c, "EXIT of %u bytes", f->h.len);
	if (s->phase != PHASE_STARTED)
		return violation(c, "EXIT %s on stream %u",
				 s->phase == PHASE_ASKED ? "without STARTED" : "twice", s->id);
	bool signaled = m.flags & BRIG_EXIT_SIGNALED;
	const unsigned known = BRIG_EXIT_SIGNALED | BRIG_EXIT_CORE | BRIG_EXIT_DISK_FULL |
			       BRIG_EXIT_INODES_FULL | BRIG_EXIT_NOFILE | BRIG_EXIT_OOM;
	if ((m.flags & ~known) || m.code > (signaled ? 64u : 255u) || (signaled && m.code == 0))
		return violation(c, "EXIT with flags 0x%x, code %u", m.flags, m.code);
	if (m.stdout_bytes < s->offset[0] || m.stderr_bytes < s->offset[1])
		return violation(c, "EXIT counts fewer output bytes than were sent");
	/* Whoever reads an output without DROP has been sent all of it before EXIT. */
	if (!s->gaps && (m.stdout_bytes != s->offset[0] || m.stderr_bytes != s->offset[1]))
		return violation(c, "EXIT counts more output bytes than were sent");
	s->phase = PHASE_EXITED;
	c->ops->exited(c->ctx, s, &m);
	return 0;
}

static int rx_credit(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_credit m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m))
		return violation(c, "CREDIT of %u bytes", f->h.len);
	bool fits;
	if (s->kind == STREAM_FS)
		fits = m.chan == BRIG_CHAN_FS &&
		       (s->fs_type == BRIG_FS_WRITE || s->fs_type == BRIG_FS_IMPORT);
	else
		fits = s->phase != PHASE_ASKED &&
		       m.chan == (s->kind == STREAM_EXEC ? BRIG_CHAN_STDIN : BRIG_CHAN_TCP);
	if (!fits)
		return violation(c, "CREDIT for channel %u on stream %u", m.chan, s->id);
	if (m.bytes > BRIG_CREDIT_MAX || s->may_send > BRIG_CREDIT_MAX - m.bytes)
		return violation(c, "CREDIT beyond the maximum on stream %u", s->id);
	s->may_send += m.bytes;
	/* A command that ended while its stdin was being granted: late, and of no use. */
	if (m.bytes && (s->phase != PHASE_EXITED || s->kind == STREAM_TCP))
		c->ops->credit(c->ctx, s, m.bytes);
	return progress(c, m.bytes > 0);
}

/* The connection is over: its stream is free, unless its owner has closed it in the callback. */
static void tcp_over(struct chan *c, struct chan_stream *s, uint32_t id)
{
	if (!c->failed && stream_get(c, id) == s && s->kind != STREAM_CLOSING)
		chan_stream_free(c, s);
}

static int rx_tcp_opened(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_tcp_opened m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m))
		return violation(c, "TCP_OPENED of %u bytes", f->h.len);
	if (s->phase != PHASE_ASKED)
		return violation(c, "TCP_OPENED twice on stream %u", s->id);
	if (m.err < 0 || m.err > 4095 || m.credit > BRIG_CREDIT_MAX)
		return violation(c, "TCP_OPENED with err %d, credit %u", m.err, m.credit);
	s->phase = m.err ? PHASE_EXITED : PHASE_STARTED;
	s->may_send = m.err ? 0 : m.credit;
	c->ops->tcp_opened(c->ctx, s, &m);
	if (m.err)
		tcp_over(c, s, f->h.stream);
	return 0;
}

static int rx_tcp_done(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_tcp_done m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m))
		return violation(c, "TCP_DONE of %u bytes", f->h.len);
	if (s->phase == PHASE_ASKED)
		return violation(c, "TCP_DONE without TCP_OPENED");
	if (m.err < 0 || m.err > 4095)
		return violation(c, "TCP_DONE with err %d", m.err);
	c->ops->tcp_done(c->ctx, s, m.err);
	tcp_over(c, s, f->h.stream);
	return 0;
}

/* A fixed struct, then exactly `strings` terminated strings, and then at most `pairs` pairs of
 * them. */
static int fs_layout(struct chan *c, const struct frame *f, size_t fixed, unsigned strings,
		     unsigned pairs)
{
	const uint8_t *at = f->payload + fixed, *end = f->payload + f->h.len;
	size_t most =
		fixed + strings * FS_PATH_TEXT_MAX + (pairs ? BRIG_FS_META_MAX + 2 * pairs : 0);
	if (f->h.len < fixed || f->h.len > most)
		return violation(c, "%s of %u bytes", type_name(f->h.type), f->h.len);
	while (strings--)
		if (!frame_str(&at, end))
			return violation(c, "%s lacks a string", type_name(f->h.type));
	while (pairs-- && at != end)
		if (!frame_str(&at, end) || !frame_str(&at, end))
			return violation(c, "%s lacks a value", type_name(f->h.type));
	if (at != end)
		return violation(c, "%s has bytes after its strings", type_name(f->h.type));
	return 0;
}

static int fs_spend(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	if (f->h.len > s->credit[2])
		return violation(c, "%s of %u bytes with %llu bytes of credit",
				 type_name(f->h.type), f->h.len, (unsigned long long)s->credit[2]);
	s->credit[2] -= f->h.len;
	return 0;
}

static int rx_fs_entry(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	if (s->fs_type != BRIG_FS_STAT && s->fs_type != BRIG_FS_LIST)
		return violation(c, "FS_ENTRY on a stream that lists nothing");
	if (fs_layout(c, f, sizeof(struct brig_fs_entry), 4, s->meta ? BRIG_FS_META_PAIRS : 0) < 0)
		return -1;
	if (s->fs_type == BRIG_FS_LIST && fs_spend(c, s, f) < 0)
		return -1;
	if (s->fs_type == BRIG_FS_STAT && s->phase != PHASE_ASKED)
		return violation(c, "FS_ENTRY twice for one FS_STAT");
	if (s->fs_type == BRIG_FS_STAT)
		s->phase = PHASE_STARTED;
	c->ops->fs_frame(c->ctx, s, f);
	return 0;
}

static int rx_fs_event(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_fs_event m;
	if (s->fs_type != BRIG_FS_WATCH || !s->watching)
		return violation(c, "FS_EVENT on a stream that watches nothing");
	if (fs_layout(c, f, sizeof(m), 1, 0) < 0 || fs_spend(c, s, f) < 0)
		return -1;
	frame_struct(f, &m, sizeof(m));
	if (m.kind < BRIG_FS_EV_CREATE || m.kind > BRIG_FS_EV_OVERFLOW)
		return violation(c, "FS_EVENT of unknown kind %u", m.kind);
	c->ops->fs_frame(c->ctx, s, f);
	return 0;
}

static int rx_fs_done(struct chan *c, struct chan_stream *s, const struct frame *f)
{
	struct brig_fs_done m;
	if (fs_layout(c, f, sizeof(m), 1, 0) < 0)
		return -1;
	frame_struct(f, &m, sizeof(m));
	bool open = m.flags & BRIG_FS_DONE_OPEN;
	if (m.err < 0 || m.err > 4095 || (m.flags & ~BRIG_FS_DONE_OPEN))
		return violation(c, "FS_DONE with err %d, flags 0x%x", m.err, m.flags);
	if (open && (s->fs_type != BRIG_FS_WATCH || s->watching || m.err))
		return violation(c, "FS_DONE leaves a stream open that must end");
	c->ops->fs_frame(c->ctx, s, f);
	/* The owner may have closed the stream in the callback: then its PONG frees it. */
	if (c->failed || stream_get(c, f->h.stream) != s || s->kind == STREAM_CLOSING)
		return 0;
	if (open)
		s->watching = true;
	else
		chan_stream_free(c, s);
	return 0;
}

/* The answer to the PING that followed a CLOSE: the stream's number is free again. */
static int rx_pong(struct chan *c, const struct frame *f)
{
	uint32_t mark[2];
	const uint32_t all[2] = CHAN_TAKEN_MARK;
	if (c->taking && frame_struct(f, mark, sizeof(mark)) && f->h.len == sizeof(mark) &&
	    memcmp(mark, all, sizeof(all)) == 0) {
		taken(c);
		return 0;
	}
	if (!frame_struct(f, mark, sizeof(mark)) || f->h.len != sizeof(mark) || mark[1] != 0)
		return violation(c, "PONG of %u bytes that nobody asked for", f->h.len);
	struct chan_stream *s = stream_get(c, mark[0]);
	if (!s || s->kind != STREAM_CLOSING)
		return violation(c, "PONG that nobody asked for");
	chan_stream_free(c, s);
	return 0;
}

static int rx_frame(void *ctx, const struct frame *f)
{
	struct chan *c = ctx;
	struct chan_stream *s = stream_get(c, f->h.stream);
	int r;
	if (f->h.type == BRIG_PONG) {
		r = rx_pong(c, f);
	} else if (f->h.type == BRIG_RESUMED) {
		r = rx_resumed(c, s, f);
	} else if (!s) {
		r = violation(c, "%s twice on one channel", type_name(f->h.type)); /* ATTACHED */
	} else if (s->kind == STREAM_CLOSING) {
		r = progress(c, f->h.type != BRIG_CREDIT);
	} else {
		switch (f->h.type) {
		case BRIG_STARTED:
			r = rx_started(c, s, f);
			break;
		case BRIG_EXIT:
			r = rx_exit(c, s, f);
			break;
		case BRIG_CREDIT:
			r = rx_credit(c, s, f);
			break;
		case BRIG_TCP_OPENED:
			r = rx_tcp_opened(c, s, f);
			break;
		case BRIG_TCP_DONE:
			r = rx_tcp_done(c, s, f);
			break;
		case BRIG_FS_ENTRY:
			r = rx_fs_entry(c, s, f);
			break;
		case BRIG_FS_EVENT:
			r = rx_fs_event(c, s, f);
			break;
		case BRIG_FS_DONE:
			r = rx_fs_done(c, s, f);
			break;
		default:
			r = violation(c, "frame type %u", f->h.type);
			break;
		}
	}
	if (r < 0)
		return r;
	return c->failed ? -ECANCELED : 0;
}

const struct framer_ops chan_rx_ops = {
	.shape = rx_shape, .frame = rx_frame, .open = rx_open, .data = rx_data
};

/*
 * Looks for the magic and our nonce in the bytes before ATTACHED. Returns the bytes of p up to and
 * with them, 0 if they have not come yet, or -1.
 */
static ssize_t attach_find(struct chan *c, const uint8_t *p, size_t n)
{
	uint8_t mark[24];
	const uint64_t magic = BRIG_ATTACH_MAGIC;
	memcpy(mark, &magic, 8);
	memcpy(mark + 8, c->nonce, 16);
	for (size_t i = 0; i < n; i++) {
		if (c->tail_len == sizeof(c->tail)) {
			memmove(c->tail, c->tail + 1, sizeof(c->tail) - 1);
			c->tail_len--;
		}
		c->tail[c->tail_len++] = p[i];
		if (p[i] == mark[23] && c->tail_len == sizeof(mark) &&
		    memcmp(c->tail, mark, sizeof(mark)) == 0)
			return (ssize_t)i + 1;
		if (++c->garbage > (c->taking ? CHAN_LEFT_MAX : CHAN_GARBAGE_MAX))
			return violation(c, "%zu bytes before ATTACHED", c->garbage);
	}
	return 0;
}

/* The last 8 bytes of ATTACHED, collected in tail. Returns bytes used, or -1. */
static ssize_t attach_finish(struct chan *c, const uint8_t *p, size_t n)
{
	size_t k = 8 - c->tail_len < n ? 8 - c->tail_len : n;
	memcpy(c->tail + c->tail_len, p, k);
	c->tail_len += k;
	if (c->tail_len < 8)
		return (ssize_t)k;
	uint32_t version;
	memcpy(&version, c->tail, sizeof(version));
	if (version != BRIG_AGENT_PROTO_VERSION)
		return violation(c, "the agent speaks version %u of the protocol, not %u", version,
				 BRIG_AGENT_PROTO_VERSION);
	c->attached = true;
	c->ops->attached(c->ctx);
	return (ssize_t)k;
}

int chan_feed(struct chan *c, const uint8_t *p, size_t n, struct brig_err *err)
{
	c->err = err;
	err->code = BRIG_E_OK;
	while (n && !c->attached && !c->failed) {
		ssize_t used;
		if (c->nonce_seen) {
			used = attach_finish(c, p, n);
		} else {
			used = attach_find(c, p, n);
			if (used == 0)
				return 0;
			c->nonce_seen = used > 0;
			c->tail_len = 0;
		}
		if (used < 0)
			return -1;
		p += used;
		n -= (size_t)used;
	}
	if (!n || c->failed)
		return 0;
	int r = framer_feed(&c->in, p, n);
	if (r >= 0 || r == -ECANCELED)
		return 0;
	if (err->code == BRIG_E_OK)
		brig_err_set(err, BRIG_E_PROTOCOL, 0,
			     r == -ENOMEM ? "out of memory for a frame" : "malformed frame header");
	return -1;
}

size_t chan_output_due(const struct chan *c, struct chan_stream **ret, int *ret_out,
		       size_t *ret_frame)
{
	const struct brig_frame_hdr *h = &c->in.h;
	uint32_t left = framer_bulk_left(&c->in);
	if (!left || c->failed || (h->type != BRIG_STDOUT && h->type != BRIG_STDERR))
		return 0;
	/* The rest of a stream that was closed is fed, and dropped there. */
	struct chan_stream *s = stream_get(c, h->stream);
	if (!s || s->kind != STREAM_EXEC)
		return 0;
	*ret = s;
	*ret_out = h->type == BRIG_STDERR;
	*ret_frame = h->len;
	return left;
}

void chan_skip(struct chan *c, size_t n)
{
	struct chan_stream *s = stream_get(c, c->in.h.stream);
	framer_skip(&c->in, (uint32_t)n);
	if (s && s->kind == STREAM_EXEC)
		s->offset[c->in.h.type == BRIG_STDERR] += n;
}
