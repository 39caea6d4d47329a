/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A request to port P of a box becomes a connection to P on the loopback of the sandbox (brigd's op
 * "connect"), one per request. The request's head is written anew (proxy_head.c), its body passes
 * as it came, in chunks or of a known length. The answer is parsed strictly (http_response.c),
 * because what is inside may send anything, and sent on as an answer of ours: so a sandbox can
 * choose status, headers and body of its own pages, and not where an answer ends on the client's
 * connection.
 *
 * Towards the inside we send as far as brigd grants and hold the client back beyond PROXY_HIGH
 * bytes; from there we take as far as we grant, which is what the client has taken.
 *
 * No redirect is followed, nothing is retried. The connection leads to the sandbox's own loopback
 * and nowhere else, so the sandbox reaches neither us nor the host through it.
 */
#include "api/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/envd.h"

#define RX_MAX (BRIG_CLIENT_CREDIT + RESPONSE_HEAD_MAX + BRIG_FRAME_MAX)
#define TX_MAX (8u * 1024u * 1024u)

/* ---- answers of our own ---- */

static void fail_port(struct tunnel *t, const char *message)
{
	api_fail_box(t->r, 502, t->b->id, t->port, message);
}

/* ---- life ---- */

void tunnel_free(struct tunnel *t)
{
	struct box *b = t->b;
	if (t->waker)
		box_wake_cancel(t->waker);
	link_cancel(t->op);
	if (t->used)
		box_unuse(&t->box_user);
	response_done(&t->response);
	buf_done(&t->tx);
	buf_done(&t->rx);
	free(t);
	box_unref(b);
}

/* The answer is complete, or will not be. */
static void tunnel_over(struct tunnel *t)
{
	link_cancel(t->op);
	t->op = NULL;
	buf_consume(&t->tx, buf_len(&t->tx));
	http_body_hold(t->r, false);
}

void tunnel_pump(struct tunnel *t)
{
	size_t n;
	while (t->op && (n = buf_len(&t->tx)) && t->credit &&
	       link_queued(t->op) < LINK_QUEUE_HIGH) {
		n = n < t->credit ? n : t->credit;
		n = n < BRIG_FRAME_MAX ? n : BRIG_FRAME_MAX;
		link_send(t->op, BRIG_TCP_DATA, 0, BRIG_CLIENT_STREAM, buf_head(&t->tx), n);
		buf_consume(&t->tx, n);
		t->credit -= (uint32_t)n;
	}
}

void tunnel_grant(struct tunnel *t)
{
	struct brig_credit m = { .chan = BRIG_CHAN_TCP, .bytes = t->owed };
	if (!t->op || !t->owed)
		return;
	t->owed = 0;
	link_send(t->op, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m));
}

/* ---- the answer ---- */

static void answer_begin(struct tunnel *t)
{
	const struct response *h = &t->response;
	const char *connection = response_header(h, "Connection");
	for (unsigned i = 0; i < h->nheaders; i++)
		if (proxy_answer_header(h->headers[i].name, connection))
			http_answer_header(t->r, h->headers[i].name, h->headers[i].value);
	if (h->status == 101) {
		tunnel_upgrade(t);
		return;
	}
	http_stream_begin(t->r, h->status, NULL, h->length);
}

static void answer_bad(struct tunnel *t, const struct brig_err *err)
{
	tunnel_over(t);
	if (http_answered(t->r))
		http_abort(t->r);
	else
		fail_port(t, err->msg);
}

/* Takes what came from inside. */
static void answer_read(struct tunnel *t)
{
	struct brig_err err = BRIG_ERR_INIT;
	size_t n = 0;
	for (;;) {
		switch (response_next(&t->response, &t->rx, t->inside_eof, &n, &err)) {
		case RESPONSE_HEAD:
			answer_begin(t);
			if (t->upgrading)
				return;
			break;
		case RESPONSE_DATA:
			http_stream_write(t->r, buf_head(&t->rx), n);
			response_took(&t->response, &t->rx, n);
			break;
		case RESPONSE_MORE:
			if (http_stream_queued(t->r) <= HTTP_QUEUE_HIGH)
				tunnel_grant(t);
			return;
		case RESPONSE_END:
			tunnel_over(t);
			http_stream_end(t->r);
			return;
		case RESPONSE_BAD:
			answer_bad(t, &err);
			return;
		}
	}
}

/* ---- from brigd ---- */

static void inside_ended(struct tunnel *t)
{
	t->inside_eof = true;
	if (t->upgrading)
		tunnel_relay(t);
	else
		answer_read(t);
}

static void link_reply(void *ctx, json_t *ok)
{
	struct tunnel *t = ctx;
	(void)ok;
	t->connected = true;
	t->credit = BRIG_CLIENT_CREDIT;
	const char *scheme = strncmp(t->b->api->base_url, "https", 5) == 0 ? "https" : "http";
	if (proxy_head(t, scheme) < 0) {
		tunnel_over(t);
		api_fail_e2b_text(t->r, 431, "the request's headers are too large");
		return;
	}
	response_init(&t->response);
	t->response.no_body = strcmp(http_method(t->r), "HEAD") == 0;
	t->response.may_upgrade = t->wants_upgrade;
	tunnel_pump(t);
	http_body_hold(t->r, false);
}

static void link_failed(void *ctx, json_t *error)
{
	struct tunnel *t = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	t->op = NULL;
	api_err_from(error, &err);
	if (t->connected) {
		inside_ended(t);
		return;
	}
	http_body_hold(t->r, false);
	if (err.code == BRIG_E_NOT_FOUND)
		plane_dead(t->r, t->b->id);
	else
		fail_port(t, "The sandbox is running but port is not open");
}

static void link_end(void *ctx, json_t *status)
{
	struct tunnel *t = ctx;
	(void)status;
	t->op = NULL;
	inside_ended(t);
}

static void link_frame(void *ctx, const struct frame *f)
{
	struct tunnel *t = ctx;
	struct brig_credit m;
	if (f->h.type == BRIG_CREDIT && frame_struct(f, &m, sizeof(m)) && m.chan == BRIG_CHAN_TCP) {
		t->credit += m.bytes;
		tunnel_pump(t);
		if (t->upgrading)
			tunnel_relay(t);
		else if (t->body_held && buf_len(&t->tx) < PROXY_HIGH / 2) {
			t->body_held = false;
			http_body_hold(t->r, false);
		}
		return;
	}
	if (f->h.type != BRIG_TCP_DATA)
		return;
	t->owed += f->h.len;
	t->inside_eof = f->h.flags & BRIG_FF_EOF;
	if (buf_add(&t->rx, f->payload, f->h.len) < 0)
		t->inside_eof =
			true; /* more than was granted: what is there is all that is taken */
	if (t->upgrading)
		tunnel_relay(t);
	else
		answer_read(t);
}

static void link_room(void *ctx)
{
	struct tunnel *t = ctx;
	tunnel_pump(t);
	if (t->upgrading)
		tunnel_relay(t);
}

static const struct link_ops proxy_link_ops = {
	.reply = link_reply,
	.failed = link_failed,
	.frame = link_frame,
	.end = link_end,
	.room = link_room,
};

/* ---- from the client ---- */

static void woken(void *ctx, const struct brig_err *why)
{
	struct tunnel *t = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	t->waker = NULL;
	if (why || t->b->state == BOX_DEAD) {
		plane_dead(t->r, t->b->id);
		return;
	}
	json_t *req =
		json_pack("{s:s,s:s,s:i}", "op", "connect", "id", t->b->id, "port", (int)t->port);
	if (link_start(t->b->api->link, req, true, &proxy_link_ops, t, &t->op, &err) < 0) {
		t->op = NULL;
		api_fail_e2b(t->r, 0, &err);
	}
}

static void tunnel_killed(struct box_user *u)
{
	struct tunnel *t = (struct tunnel *)((char *)u - offsetof(struct tunnel, box_user));
	box_unuse(u);
	t->used = false;
	link_cancel(t->op);
	t->op = NULL;
	if (!t->upgrading) {
		http_abort(t->r);
		return;
	}
	buf_consume(&t->rx, buf_len(&t->rx));
	t->inside_eof = true;
	tunnel_relay(t);
}

static void proxy_begin(struct http_req *r)
{
	struct tunnel *t = http_ctx(r);
	/* Until the port has answered. */
	http_body_hold(r, true);
	box_use(t->b, &t->box_user);
	t->used = true;
	struct box_waker *w = box_wake(t->b, false, woken, t);
	if (w)
		t->waker = w;
}

static void tx_add(struct tunnel *t, const void *p, size_t n)
{
	if (t->op && buf_add(&t->tx, p, n) < 0) {
		tunnel_over(t);
		http_abort(t->r);
	}
}

static void proxy_body(struct http_req *r, const void *p, size_t n)
{
	struct tunnel *t = http_ctx(r);
	char size[24];
	if (!t->op)
		return;
	if (t->chunked)
		tx_add(t, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", n));
	tx_add(t, p, n);
	if (t->chunked)
		tx_add(t, "\r\n", 2);
	tunnel_pump(t);
	if (t->op && buf_len(&t->tx) > PROXY_HIGH) {
		t->body_held = true;
		http_body_hold(r, true);
	}
}

static void proxy_ready(struct http_req *r)
{
	struct tunnel *t = http_ctx(r);
	if (t->op && t->chunked)
		tx_add(t, "0\r\n\r\n", 5);
	tunnel_pump(t);
}

static void proxy_drained(struct http_req *r)
{
	tunnel_grant(http_ctx(r));
}

static void proxy_gone(struct http_req *r)
{
	struct tunnel *t = http_ctx(r);
	if (t->upgrading)
		t->r = NULL; /* its other end follows */
	else
		tunnel_free(t);
}

static const struct http_handler proxy_handler = {
	.begin = proxy_begin,
	.body = proxy_body,
	.ready = proxy_ready,
	.drained = proxy_drained,
	.gone = proxy_gone,
};

static void no_memory_begin(struct http_req *r)
{
	api_fail_e2b_text(r, 503, "out of memory");
}

static void box_gone(struct http_req *r)
{
	box_unref(http_ctx(r));
}

static const struct http_handler no_memory = { .begin = no_memory_begin, .gone = box_gone };

const struct http_handler *proxy_route(struct box *b, unsigned port, struct http_req *r,
				       void **ret_ctx)
{
	struct tunnel *t = calloc(1, sizeof(*t));
	*ret_ctx = b;
	if (!t)
		return &no_memory;
	t->b = b;
	t->r = r;
	t->port = port;
	t->fd = -1;
	t->box_user.killed = tunnel_killed;
	t->tx = (struct buf)BUF_INIT(TX_MAX);
	t->rx = (struct buf)BUF_INIT(RX_MAX);
	*ret_ctx = t;
	return &proxy_handler;
}
