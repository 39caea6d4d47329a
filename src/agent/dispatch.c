/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One table says, for every frame that a host may send, its size and whether it belongs to the
 * channel or to a stream; dispatch_header() refuses what does not fit before a byte of payload is
 * waited for. A frame for a stream that is not open is dropped, not refused: the agent closes
 * streams on its own (a failed start, a finished file operation), and what the host sent before it
 * knew is still under way.
 */
#include <errno.h>
#include <string.h>

#include "agent/core.h"

enum target { TO_CHANNEL, TO_STREAM, OPENS };

struct rule {
	uint16_t type;
	uint8_t target;
	uint32_t min, max; /* payload bytes */
};

#define FIXED(n) (n), (n)
static const struct rule rules[] = {
	{ BRIG_ATTACH, TO_CHANNEL, FIXED(sizeof(struct brig_attach)) },
	{ BRIG_PING, TO_CHANNEL, 0, 64 },
	{ BRIG_SHUTDOWN, TO_CHANNEL, FIXED(0) },
	{ BRIG_CREDIT, TO_STREAM, FIXED(sizeof(struct brig_credit)) },
	{ BRIG_CLOSE, TO_STREAM, FIXED(0) },
	{ BRIG_EXEC, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_STDIN, TO_STREAM, 0, BRIG_FRAME_MAX },
	{ BRIG_SIGNAL, TO_STREAM, FIXED(4) },
	{ BRIG_RESIZE, TO_STREAM, FIXED(4) },
	{ BRIG_REATTACH, TO_STREAM, FIXED(sizeof(struct brig_reattach)) },
	{ BRIG_DETACH, TO_STREAM, FIXED(0) },
	{ BRIG_FS_STAT, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_LIST, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_READ, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_WRITE, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_MKDIR, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_MOVE, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_REMOVE, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_SYMLINK, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_WATCH, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_EXPORT, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_IMPORT, OPENS, 0, BRIG_FRAME_MAX },
	{ BRIG_FS_DATA, TO_STREAM, 0, BRIG_FRAME_MAX },
	{ BRIG_TCP_CONNECT, OPENS, FIXED(sizeof(struct brig_tcp)) },
	{ BRIG_TCP_DATA, TO_STREAM, 0, BRIG_FRAME_MAX },
};

static const struct rule *rule_find(uint16_t type)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].type == type)
			return &rules[i];
	return NULL;
}

bool dispatch_is_data(uint16_t type)
{
	return type == BRIG_STDIN || type == BRIG_FS_DATA || type == BRIG_TCP_DATA;
}

int dispatch_header(struct agent *a, const struct brig_frame_hdr *h)
{
	const struct rule *r = rule_find(h->type);
	if (!r || h->len < r->min || h->len > r->max)
		return -EPROTO;
	if (h->flags & (dispatch_is_data(h->type) ? ~BRIG_FF_EOF : ~0u))
		return -EPROTO;
	if ((r->target == TO_CHANNEL) != (h->stream == 0))
		return -EPROTO;
	/* The nonce comes first: nothing is answered to a host that is not there any more. */
	return a->attached || h->type == BRIG_ATTACH ? 0 : -EPROTO;
}

static void each_stream(struct agent *a, bool resume)
{
	for (unsigned i = 0; i < STREAM_BUCKETS; i++)
		for (struct stream *s = a->bucket[i], *next; s; s = next) {
			next = s->next;
			if (!resume)
				s->ops->orphan(s);
			else if (s->ops->resume)
				s->ops->resume(s);
		}
}

void dispatch_cut(struct agent *a)
{
	each_stream(a, false);
	/* After the streams, which may have had last words for the former host. */
	chan_cut(&a->chan);
	a->attached = false;
	a->taken_over = true;
}

static int rx_attach(struct agent *a, const struct frame *f)
{
	struct brig_attach m;
	frame_struct(f, &m, sizeof(m));
	if (m.magic != BRIG_ATTACH_MAGIC || m.reserved)
		return -EPROTO;
	/* A new host took the channel over. It granted nothing and knows no file operation;
	 * commands wait for its REATTACH. */
	if (a->attached)
		each_stream(a, false);
	a->attached = true;
	m.version = BRIG_AGENT_PROTO_VERSION;
	/* The first command often comes with it: one answer for both (loop.c). */
	chan_send_lazy(&a->chan, BRIG_ATTACHED, 0, &m, sizeof(m));
	if (a->taken_over)
		each_stream(a, true);
	a->taken_over = false;
	return 0;
}

int dispatch_frame(struct agent *a, const struct frame *f)
{
	const struct rule *r = rule_find(f->h.type);
	struct stream *s;
	switch (f->h.type) {
	case BRIG_ATTACH:
		return rx_attach(a, f);
	case BRIG_PING:
		chan_send(&a->chan, BRIG_PONG, 0, f->payload, f->h.len, NULL, 0);
		return 0;
	case BRIG_SHUTDOWN:
		agent_end(a, 0);
		return 0;
	case BRIG_EXEC:
		return a->open->exec(a, f);
	case BRIG_TCP_CONNECT:
		return a->open->tcp(a, f);
	default:
		break;
	}
	if (!r)
		return -EPROTO;
	if (r->target == OPENS)
		return a->open->fs(a, f);
	s = stream_find(a, f->h.stream);
	if (!s)
		return 0;
	if (f->h.type != BRIG_CLOSE)
		return s->ops->frame(s, f);
	s->ops->close(s);
	return 0;
}

int dispatch_data(struct agent *a, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		  bool last)
{
	struct stream *s = stream_find(a, h->stream);
	bool eof = last && (h->flags & BRIG_FF_EOF);
	if (!s || (n == 0 && !eof))
		return 0;
	return s->ops->data(s, h->type, p, n, eof);
}
