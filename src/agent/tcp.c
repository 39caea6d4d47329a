/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A stream is a socket of the agent that is connected to a server of the tenant; no other process
 * gets it. From the server: when the stream's turn in the channel's line comes and the host has
 * granted credit, what the socket holds is read into the piece that all connections share, and
 * lent. To the server: what its socket does not take at once is kept, at most TCP_WINDOW bytes, and
 * granted to the host again as it leaves. So neither a server that does not read nor a host that
 * does not costs more than that, or delays anybody else.
 *
 * The socket is watched edge by edge: a connection that has broken would otherwise be reported in
 * every round while the credit to read its last bytes is missing.
 *
 * The server is searched on 127.0.0.1 and then on ::1, because programs that bind to "localhost"
 * take the one or the other. The first refusal is the one that is told.
 *
 * A write that fails does not end the stream at once: the server may have answered before it broke
 * the connection, and its answer is still to be read.
 */
#include "agent/tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/clock.h"
#include "base/fd.h"

#define GRANT_STEP (TCP_WINDOW / 4)

struct tcp {
	struct stream s;
	struct grave grave;
	struct source src;
	int fd;
	struct ev_io io;
	struct ev_timer timer; /* of the connect */
	uint16_t port;
	int refused;	 /* errno of the first address */
	bool second;	 /* at ::1 */
	bool opened;	 /* TCP_OPENED was sent */
	bool readable;	 /* the socket may hold something */
	bool in_ended;	 /* the server's end of file is under way, or was sent */
	bool out_ended;	 /* the host has no more to say */
	bool out_shut;	 /* .. and the server was told */
	int out_err;	 /* the server takes no more */
	uint32_t credit; /* what we may still send */
	uint32_t window; /* what the host may */
	uint32_t owed;	 /* what left and was not yet granted again */
	struct buf out;
};

static struct tcp *tcp_of(struct source *s)
{
	return (struct tcp *)((char *)s - offsetof(struct tcp, src));
}

static struct agent *agent_of(struct tcp *t)
{
	return t->s.agent;
}

static void socket_close(struct tcp *t)
{
	ev_io_del(&agent_of(t)->ev, &t->io);
	fd_close(&t->fd);
}

static void tcp_close(struct stream *s)
{
	struct tcp *t = (struct tcp *)s;
	struct agent *a = s->agent;
	ev_timer_stop(&a->ev, &t->timer);
	socket_close(t);
	stream_remove(s);
	t->s.id = 0;
	if (t->opened)
		a->chan.bulk_streams--;
	chan_reclaim(&a->chan, &t->src, true);
	buf_done(&t->out);
	if (--a->tcp.n == 0) {
		free(a->tcp.piece);
		a->tcp.piece = NULL;
	}
	agent_bury(a, &t->grave, t);
}

static void opened_send(struct agent *a, uint32_t id, int err, uint32_t credit)
{
	struct brig_tcp_opened m = { .err = err, .credit = credit };
	chan_send(&a->chan, BRIG_TCP_OPENED, id, &m, sizeof(m), NULL, 0);
}

static void tcp_done(struct tcp *t, int err)
{
	struct brig_tcp_done m = { .err = err };
	chan_send(&agent_of(t)->chan, BRIG_TCP_DONE, t->s.id, &m, sizeof(m), NULL, 0);
	tcp_close(&t->s);
}

/* Ends the stream when nothing can come or go any more. */
static bool ended(struct tcp *t)
{
	if (!t->in_ended || !(t->out_shut || t->out_err))
		return false;
	tcp_done(t, t->out_err);
	return true;
}

/* ---- from the server ---- */

static int tcp_fill(struct source *s, struct data_frame *f)
{
	struct tcp *t = tcp_of(s);
	struct agent *a = agent_of(t);
	size_t n = t->credit < TCP_PIECE ? t->credit : TCP_PIECE;
	if (!t->opened || !t->readable || t->in_ended || n == 0)
		return 0;
	if (!a->tcp.piece && !(a->tcp.piece = malloc(TCP_PIECE))) {
		tcp_done(t, ENOMEM);
		return 0;
	}
	ssize_t got = recv(t->fd, a->tcp.piece, n, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
		t->readable = errno == EINTR;
		return 0;
	}
	if (got < 0) {
		tcp_done(t, errno);
		return 0;
	}
	t->credit -= (uint32_t)got;
	t->in_ended = got == 0;
	f->type = BRIG_TCP_DATA;
	f->flags = got == 0 ? BRIG_FF_EOF : 0;
	f->stream = t->s.id;
	f->part[0] = (struct iovec){ .iov_base = a->tcp.piece, .iov_len = (size_t)got };
	return 1;
}

static void tcp_sent(struct source *s, size_t n, bool done)
{
	struct tcp *t = tcp_of(s);
	(void)n;
	/* id 0: closed, and what was under way was copied. */
	if (done && t->s.id)
		ended(t);
}

static void look(struct tcp *t)
{
	t->readable = true;
	chan_offer(&agent_of(t)->chan, &t->src);
}

/* ---- to the server ---- */

static void out_moved(struct tcp *t, size_t n)
{
	struct brig_credit m = { .chan = BRIG_CHAN_TCP };
	t->owed += (uint32_t)n;
	if (t->owed < GRANT_STEP || t->out_ended)
		return;
	m.bytes = t->owed;
	t->window += t->owed;
	t->owed = 0;
	chan_send(&agent_of(t)->chan, BRIG_CREDIT, t->s.id, &m, sizeof(m), NULL, 0);
}

/* The server takes no more: what was meant for it is dropped. */
static void out_broken(struct tcp *t, int err)
{
	size_t n = buf_len(&t->out);
	t->out_err = err;
	buf_done(&t->out);
	out_moved(t, n);
	look(t);
}

static void out_flush(struct tcp *t)
{
	while (!t->out_err && buf_len(&t->out)) {
		ssize_t n = buf_write_fd(&t->out, t->fd);
		if (n == -EAGAIN)
			return;
		if (n < 0)
			out_broken(t, (int)-n);
		else
			out_moved(t, (size_t)n);
	}
	if (t->out_ended && !t->out_shut && !t->out_err) {
		if (shutdown(t->fd, SHUT_WR) < 0)
			out_broken(t, errno);
		t->out_shut = true;
	}
}

static int tcp_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof)
{
	struct tcp *t = (struct tcp *)s;
	if (type != BRIG_TCP_DATA || n > t->window || t->out_ended)
		return -EPROTO;
	t->window -= (uint32_t)n;
	if (t->out_err) {
		out_moved(t, n);
	} else if (n) {
		ssize_t put = 0;
		if (buf_len(&t->out) == 0)
			put = send(t->fd, p, n, MSG_NOSIGNAL);
		if (put < 0 && errno != EAGAIN && errno != EINTR) {
			out_broken(t, errno);
			out_moved(t, n);
		} else {
			put = put < 0 ? 0 : put;
			if (put)
				out_moved(t, (size_t)put);
			if (buf_add(&t->out, p + put, n - (size_t)put) < 0) {
				tcp_done(t, ENOMEM);
				return 0;
			}
		}
	}
	if (eof) {
		t->out_ended = true;
		out_flush(t);
	}
	ended(t);
	return 0;
}

static int tcp_frame(struct stream *s, const struct frame *f)
{
	struct tcp *t = (struct tcp *)s;
	struct brig_credit m;
	if (f->h.type != BRIG_CREDIT)
		return -EPROTO;
	frame_struct(f, &m, sizeof(m));
	int r = m.chan == BRIG_CHAN_TCP ? credit_add(&t->credit, m.bytes) : -EPROTO;
	if (r == 0)
		chan_offer(&s->agent->chan, &t->src);
	return r;
}

static const struct stream_ops tcp_ops = {
	.frame = tcp_frame,
	.data = tcp_data,
	.close = tcp_close,
	.orphan = tcp_close,
};

/* ---- the start ---- */

static void connected(struct tcp *t)
{
	struct agent *a = agent_of(t);
	int one = 1;
	ev_timer_stop(&a->ev, &t->timer);
	/* Whoever is at the other end decides what belongs together; it works without, too. */
	(void)!setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	t->opened = true;
	t->window = TCP_WINDOW;
	a->chan.bulk_streams++;
	opened_send(a, t->s.id, 0, TCP_WINDOW);
	look(t);
}

static void failed(struct tcp *t, int err)
{
	opened_send(agent_of(t), t->s.id, err, 0);
	tcp_close(&t->s);
}

static void socket_event(void *ctx, uint32_t events);

/* Begins to connect to the next address. 0, or -errno: that one cannot be had. */
static int address_try(struct tcp *t)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET,
				  .sin_port = htons(t->port),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons(t->port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	const struct sockaddr *to = t->second ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
	t->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return -errno;
	int r = connect(t->fd, to, t->second ? sizeof(v6) : sizeof(v4)) < 0 ? -errno : 0;
	if (r == 0 || r == -EINPROGRESS)
		r = ev_io_add(&agent_of(t)->ev, t->fd,
			      EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET, socket_event, t,
			      &t->io);
	if (r < 0)
		fd_close(&t->fd);
	return r;
}

static void address_next(struct tcp *t)
{
	int r = address_try(t);
	while (r < 0 && !t->second) {
		t->refused = -r;
		t->second = true;
		r = address_try(t);
	}
	if (r < 0)
		failed(t, t->refused ? t->refused : -r);
}

/* Where nobody listens, a socket that was given the very port it asks for connects to itself. */
static bool is_itself(const struct tcp *t)
{
	struct sockaddr_in6 own; /* the port of both families is in one place */
	socklen_t len = sizeof(own);
	return getsockname(t->fd, (struct sockaddr *)&own, &len) == 0 &&
	       own.sin6_port == htons(t->port);
}

static void socket_event(void *ctx, uint32_t events)
{
	struct tcp *t = ctx;
	if (t->opened) {
		if (events & EPOLLOUT) {
			out_flush(t);
			if (ended(t))
				return;
		}
		if (events & ~(uint32_t)EPOLLOUT)
			look(t);
		return;
	}
	int err = 0;
	socklen_t len = sizeof(err);
	if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err == 0 && (events & EPOLLOUT) && is_itself(t))
		err = ECONNREFUSED;
	if (err == 0 && (events & EPOLLOUT)) {
		connected(t);
		return;
	}
	if (err == 0)
		return;
	socket_close(t);
	if (t->second) {
		failed(t, t->refused);
		return;
	}
	t->refused = err;
	t->second = true;
	address_next(t);
}

static void connect_expired(void *ctx)
{
	failed(ctx, ETIMEDOUT);
}

int tcp_open(struct agent *a, const struct frame *f)
{
	struct brig_tcp m;
	int r = stream_check(a, f->h.stream);
	if (r == -EEXIST)
		return -EPROTO;
	frame_struct(f, &m, sizeof(m));
	if (r == 0 && (m.port == 0 || m.port > UINT16_MAX || m.credit > BRIG_CREDIT_MAX))
		r = -EINVAL;
	if (r == 0 && a->tcp.n >= BRIG_TCP_MAX)
		r = -EMFILE;
	struct tcp *t = r == 0 ? calloc(1, sizeof(*t)) : NULL;
	if (!t) {
		opened_send(a, f->h.stream, r ? -r : ENOMEM, 0);
		return 0;
	}
	t->fd = -1;
	t->port = (uint16_t)m.port;
	t->credit = m.credit;
	t->src = (struct source){ .fill = tcp_fill, .sent = tcp_sent };
	t->timer = (struct ev_timer){ .fn = connect_expired, .ctx = t };
	t->out = (struct buf)BUF_INIT(TCP_WINDOW);
	stream_add(a, &t->s, f->h.stream, &tcp_ops);
	a->tcp.n++;
	if (ev_timer_set(&a->ev, &t->timer, clock_now() + TCP_CONNECT_MS * MS_NS) < 0)
		failed(t, ENOMEM);
	else
		address_next(t);
	return 0;
}
