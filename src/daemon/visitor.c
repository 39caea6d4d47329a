/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Nothing is said to a visitor by brigd: what he sends goes to the agent's connection, what comes back goes
 * to him, and what ends the one ends the other. He is read only as far as the agent takes, and the agent is
 * granted only what he has taken, so a visitor costs at most VISITOR_AHEAD here, however slow he is.
 *
 * A refusal inside is a reset outside: he was accepted before anybody knew.
 */
#include "daemon/visitor.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "daemon/sandbox.h"
#include "daemon/tcprelay.h"

#define OUT 3 /* of chan_grant() */
#define VISITOR_AHEAD (256u * 1024u)
#define GRANT_STEP (VISITOR_AHEAD / 4)
#define PIECE (64u * 1024u)
/* The server inside is done, and he does not take its last bytes. */
#define LAST_NS (60 * SEC_NS)

struct visitor {
	struct tcp_end end; /* first */
	LIST_ENTRY(visitor) link;
	struct visitors *vs;
	struct sandbox *sb;
	struct chan_stream *stream; /* NULL: the agent is done with it */
	int fd;
	struct ev_io io;
	bool opened;
	bool said_all;	/* he has no more to say, and the agent knows */
	bool heard_all; /* the server has no more to say */
	bool shut;	/* .. and he knows */
	uint32_t owed;	/* he took it, and it was not granted again */
	struct buf out; /* for him */
	struct ev_timer timer;
	struct ev_task grave;
};

static struct visitor *of(struct tcp_end *e)
{
	return (struct visitor *)e;
}

static void visitor_free(void *ctx)
{
	struct visitor *v = ctx;
	buf_done(&v->out);
	free(v);
}

static void gone(struct visitor *v, bool reset)
{
	const struct linger hard = { .l_onoff = 1, .l_linger = 0 };
	struct ev *ev = &v->sb->d->ev;
	struct chan_stream *s = v->stream;
	if (v->fd < 0)
		return;
	if (reset)
		setsockopt(v->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	ev_io_del(ev, &v->io);
	ev_timer_stop(ev, &v->timer);
	fd_close(&v->fd);
	v->stream = NULL;
	if (s) {
		chan_close(&v->sb->chan, s);
		sandbox_sent(v->sb, 0);
	}
	LIST_REMOVE(v, link);
	v->vs->n--;
	v->sb->d->nvisitors--;
	v->vs->left(v->vs->ctx);
	ev_task_queue(ev, &v->grave);
}

/* What he is waited for now. */
static void watch(struct visitor *v)
{
	bool read = v->opened && v->stream && !v->said_all && v->stream->may_send && sandbox_has_room(v->sb);
	uint32_t events = (read ? EPOLLIN : 0u) | (buf_len(&v->out) ? EPOLLOUT : 0u);
	if (ev_io_set(&v->sb->d->ev, v->io, events) < 0)
		gone(v, true);
}

/* ---- to him ---- */

static void took(struct visitor *v, size_t n)
{
	v->owed += (uint32_t)n;
	if (!v->stream || v->heard_all || v->owed < GRANT_STEP)
		return;
	sandbox_sent(v->sb, chan_grant(&v->sb->chan, v->stream, OUT, v->owed));
	v->owed = 0;
}

static void flush(struct visitor *v)
{
	while (buf_len(&v->out)) {
		ssize_t n = send(v->fd, buf_head(&v->out), buf_len(&v->out), MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			gone(v, true);
			return;
		}
		buf_consume(&v->out, (size_t)n);
		took(v, (size_t)n);
	}
	if (buf_len(&v->out) == 0 && v->heard_all && !v->shut) {
		v->shut = true;
		shutdown(v->fd, SHUT_WR);
	}
	if (buf_len(&v->out) == 0 && !v->stream)
		gone(v, false);
	else
		watch(v);
}

static void on_opened(struct tcp_end *e, const struct brig_tcp_opened *m)
{
	struct visitor *v = of(e);
	if (m->err) {
		v->stream = NULL; /* the channel frees it */
		gone(v, true);
		return;
	}
	v->opened = true;
	ev_timer_stop(&v->sb->d->ev, &v->timer);
	watch(v);
}

static void on_data(struct tcp_end *e, const uint8_t *p, size_t n, bool eof)
{
	struct visitor *v = of(e);
	v->heard_all = eof;
	if (buf_add(&v->out, p, n) < 0)
		gone(v, true);
	else
		flush(v);
}

static void on_credit(struct tcp_end *e)
{
	watch(of(e));
}

static void on_done(struct tcp_end *e, int err)
{
	struct visitor *v = of(e);
	v->stream = NULL; /* the channel frees it */
	if (err) {
		gone(v, true);
		return;
	}
	v->heard_all = true;
	if (ev_timer_set(&v->sb->d->ev, &v->timer, clock_now() + LAST_NS) < 0)
		gone(v, true);
	else
		flush(v);
}

static const struct tcp_end_ops end_ops = {
	.opened = on_opened, .data = on_data, .credit = on_credit, .done = on_done
};

/* ---- from him ---- */

static void hear(struct visitor *v)
{
	struct sandbox *sb = v->sb;
	while (v->stream && !v->said_all && v->stream->may_send && sandbox_has_room(sb)) {
		size_t n = v->stream->may_send < PIECE ? (size_t)v->stream->may_send : PIECE;
		ssize_t got = recv(v->fd, sb->d->scratch, n, 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (got < 0) {
			gone(v, true);
			return;
		}
		v->said_all = got == 0;
		sandbox_sent(sb, chan_data(&sb->chan, v->stream, BRIG_TCP_DATA, sb->d->scratch, (size_t)got,
					   v->said_all));
		/* A failure of the channel has ended all of them. */
		if (v->fd < 0)
			return;
	}
	watch(v);
}

static void event(void *ctx, uint32_t events)
{
	struct visitor *v = ctx;
	if (events & EPOLLERR) {
		gone(v, true);
		return;
	}
	if (events & EPOLLOUT)
		flush(v);
	if (v->fd >= 0 && (events & EPOLLIN))
		hear(v);
	/* Both directions of his are over, and there is nothing that he waits for. */
	if (v->fd >= 0 && (events & EPOLLHUP) && !(events & EPOLLIN))
		gone(v, true);
}

static void expired(void *ctx)
{
	gone(ctx, true);
}

void visitor_new(struct visitors *vs, struct sandbox *sb, int fd, uint16_t port)
{
	const int one = 1;
	const struct brig_tcp m = { .port = port, .credit = VISITOR_AHEAD };
	struct visitor *v = calloc(1, sizeof(*v));
	if (!v) {
		fd_close(&fd);
		return;
	}
	*v = (struct visitor){ .end = { &end_ops }, .vs = vs, .sb = sb, .fd = fd };
	v->out = (struct buf)BUF_INIT(VISITOR_AHEAD);
	v->timer = (struct ev_timer){ .fn = expired, .ctx = v };
	v->grave = (struct ev_task){ .fn = visitor_free, .ctx = v };
	LIST_INSERT_HEAD(&vs->all, v, link);
	vs->n++;
	sb->d->nvisitors++;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fd_keepalive(fd);
	if (ev_io_add(&sb->d->ev, fd, 0, event, v, &v->io) < 0 ||
	    ev_timer_set(&sb->d->ev, &v->timer, clock_now() + TCP_OPEN_MS * MS_NS) < 0 ||
	    chan_tcp(&sb->chan, &v->end, &m, &v->stream) < 0) {
		gone(v, true);
		return;
	}
	sandbox_sent(sb, 0);
	sandbox_resume(sb); /* one slow reader may hold back itself alone */
}

void visitors_reset(struct visitors *vs)
{
	while (!LIST_EMPTY(&vs->all))
		gone(LIST_FIRST(&vs->all), true);
}

void visitors_drained(struct visitors *vs)
{
	struct visitor *v, *next;
	for (v = LIST_FIRST(&vs->all); v; v = next) {
		next = LIST_NEXT(v, link);
		watch(v);
	}
}
