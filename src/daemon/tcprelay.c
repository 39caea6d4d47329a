/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brigd connects to nothing itself: the agent does, in the sandbox's network namespace, and what it
 * says was checked by chan_rx.c. Bytes pass through, in both directions as far as the receiver has
 * granted.
 *
 * To the client: the agent is granted at most TCP_AHEAD, and no more while the client's queue is
 * above CONN_QUEUE_HIGH; what the client has granted beyond that is held here.
 *
 * To the agent: the client may be BRIG_CLIENT_CREDIT ahead from the start, the agent takes less.
 * The rest waits here, as it does while the channel of the sandbox is full, and is granted to the
 * client again as it leaves. So many uploads at once cannot flood an agent's channel.
 */
#include "daemon/tcprelay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/chan.h"
#include "daemon/daemon.h"
#include "daemon/sandbox.h"

#define OUT 3 /* of chan_grant() */
#define GRANT_STEP (TCP_AHEAD / 4)

struct tcp_relay {
	struct tcp_end end; /* first */
	struct conn *c;
	struct sandbox *sb;
	struct chan_stream *stream;
	uint16_t port;
	bool opened;
	bool client_ended; /* the client has no more to say */
	bool end_sent;	   /* .. and the agent knows */
	uint64_t held;	   /* granted by the client, not yet passed on */
	uint32_t window;   /* what the client may still send */
	uint32_t owed;	   /* what left and was not yet granted again */
	struct buf out;	   /* from the client, for the agent */
	struct ev_timer timer;
};

/* Takes the role off the connection. The stream is the caller's. */
static struct conn *relay_free(struct tcp_relay *r)
{
	struct conn *c = r->c;
	struct sandbox *sb = r->sb;
	ev_timer_stop(&sb->d->ev, &r->timer);
	LIST_REMOVE(c, peer);
	c->role = NULL;
	c->op = NULL;
	buf_done(&r->out);
	free(r);
	sandbox_resume(sb);
	return c;
}

/* The same, and ends the connection inside. */
static struct conn *relay_cut(struct tcp_relay *r)
{
	chan_close(&r->sb->chan, r->stream);
	sandbox_sent(r->sb, 0);
	return relay_free(r);
}

static void relay_fail(struct tcp_relay *r, bool cut, const struct brig_err *err)
{
	bool opened = r->opened;
	struct conn *c = cut ? relay_cut(r) : relay_free(r);
	if (opened)
		conn_end_error(c, err);
	else
		conn_error(c, err);
}

void tcp_break(struct conn *c, const struct brig_err *err)
{
	relay_fail(c->op, true, err);
}

static void open_expired(void *ctx)
{
	struct tcp_relay *r = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_UNAVAILABLE, ETIMEDOUT, "connect to port %u of sandbox '%s'",
		     r->port, r->sb->id);
	relay_fail(r, true, &err);
}

/* ---- to the client ---- */

static void relay_topup(struct tcp_relay *r)
{
	if (conn_queued(r->c) > CONN_QUEUE_HIGH)
		return;
	uint64_t have = r->stream->credit[OUT];
	uint64_t room = have < TCP_AHEAD ? TCP_AHEAD - have : 0;
	uint64_t n = r->held < room ? r->held : room;
	/* In steps, unless the agent is about to stand still. */
	if (n == 0 || (n < GRANT_STEP && have >= GRANT_STEP))
		return;
	r->held -= n;
	sandbox_sent(r->sb, chan_grant(&r->sb->chan, r->stream, OUT, (uint32_t)n));
}

static void on_data(struct tcp_end *e, const uint8_t *p, size_t n, bool eof)
{
	struct tcp_relay *r = (struct tcp_relay *)e;
	struct conn *c = r->c;
	conn_bulk(c, BRIG_TCP_DATA, eof ? BRIG_FF_EOF : 0, BRIG_CLIENT_STREAM, NULL, p, n);
	if (c->gone)
		return;
	if (conn_queued(c))
		sandbox_pause(r->sb);
	if (!eof)
		relay_topup(r);
}

static void on_done(struct tcp_end *end, int err)
{
	struct tcp_relay *r = (struct tcp_relay *)end;
	struct brig_err e = BRIG_ERR_INIT;
	if (!err) {
		conn_end(relay_free(r), json_object());
		return;
	}
	brig_err_set(&e, BRIG_E_UNAVAILABLE, err, "the connection to port %u of sandbox '%s' broke",
		     r->port, r->sb->id);
	relay_fail(r, false, &e);
}

/* ---- to the agent ---- */

static void out_moved(struct tcp_relay *r, size_t n)
{
	struct brig_credit m = { .chan = BRIG_CHAN_TCP };
	r->owed += (uint32_t)n;
	if (r->owed < GRANT_STEP || r->client_ended)
		return;
	m.bytes = r->owed;
	r->window += r->owed;
	r->owed = 0;
	conn_frame(r->c, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m));
}

/* Sends what waits, as far as the agent's credit and its channel go. The relay may be gone after.
 */
static void out_flush(struct tcp_relay *r)
{
	struct sandbox *sb = r->sb;
	struct conn *c = r->c;
	int e = 0;
	while (e == 0 && r->opened && buf_len(&r->out) && r->stream->may_send &&
	       sandbox_has_room(sb)) {
		size_t n = buf_len(&r->out);
		n = n < BRIG_FRAME_MAX ? n : BRIG_FRAME_MAX;
		n = n < r->stream->may_send ? n : (size_t)r->stream->may_send;
		e = chan_data(&sb->chan, r->stream, BRIG_TCP_DATA, buf_head(&r->out), n, false);
		buf_consume(&r->out, n);
		out_moved(r, n);
		if (c->gone)
			return;
	}
	if (e == 0 && r->opened && r->client_ended && !r->end_sent && buf_len(&r->out) == 0) {
		r->end_sent = true;
		e = chan_data(&sb->chan, r->stream, BRIG_TCP_DATA, NULL, 0, true);
	}
	sandbox_sent(sb, e);
}

void tcp_drained(struct conn *c)
{
	/* A failure of the channel in the one before ends all of a sandbox's connections. */
	if (c->op)
		out_flush(c->op);
}

static void on_credit(struct tcp_end *e)
{
	out_flush((struct tcp_relay *)e);
}

static void on_opened(struct tcp_end *e, const struct brig_tcp_opened *m)
{
	struct tcp_relay *r = (struct tcp_relay *)e;
	struct brig_err err = BRIG_ERR_INIT;
	if (m->err) {
		brig_err_set(&err, BRIG_E_UNAVAILABLE, m->err, "connect to port %u of sandbox '%s'",
			     r->port, r->sb->id);
		relay_fail(r, false, &err);
		return;
	}
	r->opened = true;
	ev_timer_stop(&r->sb->d->ev, &r->timer);
	struct conn *c = r->c;
	conn_ok(c, NULL);
	if (!c->gone)
		out_flush(r);
}

static const struct tcp_end_ops end_ops = {
	.opened = on_opened, .data = on_data, .credit = on_credit, .done = on_done
};

/* ---- from the client ---- */

static int role_shape(struct conn *c, const struct brig_frame_hdr *h, enum framer_shape *ret,
		      struct brig_err *err)
{
	(void)c;
	if (h->stream != BRIG_CLIENT_STREAM)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame on stream %u", h->stream);
	if (h->flags && h->type != BRIG_TCP_DATA)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame type %u with flags", h->type);
	if (h->type == BRIG_TCP_DATA)
		*ret = FRAMER_BULK;
	return 0;
}

static int role_frame(struct conn *c, const struct frame *f, struct brig_err *err)
{
	struct tcp_relay *r = c->op;
	struct brig_credit m;
	if (f->h.type == BRIG_CLOSE && f->h.len == 0) {
		bool opened = r->opened;
		relay_cut(r);
		if (opened)
			conn_end(c, json_object());
		else
			conn_drop(c);
		return 0;
	}
	if (f->h.type != BRIG_CREDIT)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame type %u in a connection",
				 f->h.type);
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m) || m.chan != BRIG_CHAN_TCP)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "malformed CREDIT");
	if (m.bytes > BRIG_CREDIT_MAX || r->held > BRIG_CREDIT_MAX - m.bytes)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREDIT beyond the maximum");
	r->held += m.bytes;
	relay_topup(r);
	return 0;
}

static int role_data(struct conn *c, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		     bool last, struct brig_err *err)
{
	struct tcp_relay *r = c->op;
	bool eof = last && (h->flags & BRIG_FF_EOF);
	/* The end of the operation and the last bytes of the client cross each other. */
	if (!r)
		return 0;
	if (r->client_ended && (n || eof))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "TCP_DATA after its end");
	if (n > r->window)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "TCP_DATA beyond its credit");
	r->window -= (uint32_t)n;
	if (buf_add(&r->out, p, n) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "relay a connection");
	r->client_ended = eof;
	out_flush(r);
	return 0;
}

static void role_drained(struct conn *c)
{
	struct tcp_relay *r = c->op;
	sandbox_resume(r->sb);
	relay_topup(r);
}

static void role_gone(struct conn *c)
{
	relay_cut(c->op);
}

static const struct conn_role tcp_role = {
	.shape = role_shape,
	.frame = role_frame,
	.data = role_data,
	.drained = role_drained,
	.gone = role_gone,
};

int tcp_serve(struct conn *c, struct sandbox *sb, uint16_t port, struct brig_err *err)
{
	struct brig_tcp m = { .port = port, .credit = TCP_AHEAD };
	struct tcp_relay *r = calloc(1, sizeof(*r));
	if (!r)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "connect to a port");
	r->end.ops = &end_ops;
	int e = chan_tcp(&sb->chan, &r->end, &m, &r->stream);
	if (e < 0) {
		free(r);
		if (e == -EMFILE)
			return brig_fail(err, BRIG_E_BUSY, 0, "%u streams are open in sandbox '%s'",
					 BRIG_STREAMS_MAX, sb->id);
		return brig_fail(err, BRIG_E_UNAVAILABLE, -e, "connect to a port of sandbox '%s'",
				 sb->id);
	}
	r->c = c;
	r->sb = sb;
	r->port = port;
	r->window = BRIG_CLIENT_CREDIT;
	r->held = BRIG_CLIENT_CREDIT - TCP_AHEAD;
	r->out = (struct buf)BUF_INIT(BRIG_CLIENT_CREDIT);
	r->timer = (struct ev_timer){ .fn = open_expired, .ctx = r };
	ev_timer_set(&sb->d->ev, &r->timer, clock_now() + TCP_OPEN_MS * MS_NS);
	conn_set_role(c, CONN_STREAM, &tcp_role, r);
	LIST_INSERT_HEAD(&sb->tcp_conns, c, peer);
	sandbox_sent(sb, 0);
	sandbox_resume(sb); /* one slow reader may hold back itself alone */
	return 0;
}
