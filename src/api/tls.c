/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * TLS ends here and not in libmicrohttpd, for two reasons. Its 0.9.75 gives a connection that was
 * upgraded over its own TLS a relay of a few bytes a call, which makes a WebSocket slow and the
 * process busy. And its handshakes count as connections: half of one holds a place until its time
 * is over. The price is a copy of the bytes through a socket pair, small beside their encryption.
 *
 * A client costs a descriptor and this struct until it has sent its first byte, which must be that
 * of a handshake record; who speaks HTTP in the clear is told so. Then it has HELLO_BYTES and
 * handshake_ms for its handshake. Clients that are not served wait in one queue, oldest first, of
 * TLS_UNSERVED_MAX: more throw out the oldest, so that those who never finish cannot keep out those
 * who do. Ends wait there, too (tls_conn.h, DRAIN).
 *
 * When it is served its bytes are relayed (tls_relay.c); all other times are the inside's.
 */
#include "api/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/tls_conn.h"
#include "base/clock.h"
#include "base/fd.h"

/* All that a client sends for its handshake; a ClientHello is 0.3 to 2 KiB. */
#define HELLO_BYTES 16384u
#define DRAIN_MS 3000u
#define DRAIN_BYTES (64u * 1024u * 1024u)
#define DRAIN_READS_PER_ROUND 16
/* Two of these times is how long a ticket is good at most (tls_cert.c). */
#define TICKET_KEY_MS (2u * 3600u * 1000u)

/* RFC 8446, 5.1: handshake. */
#define RECORD_HANDSHAKE 22

/* ---- connections ---- */

static void unserved_add(struct tls_conn *c)
{
	struct tls *t = c->t;
	if (t->nunserved == TLS_UNSERVED_MAX)
		tls_conn_free(TAILQ_FIRST(&t->unserved));
	TAILQ_INSERT_TAIL(&t->unserved, c, waiting);
	t->nunserved++;
}

/* Out of the list that its state says. */
static void conn_unlist(struct tls_conn *c)
{
	struct tls *t = c->t;
	if (c->state != TLS_OPEN) {
		TAILQ_REMOVE(&t->unserved, c, waiting);
		t->nunserved--;
		return;
	}
	LIST_REMOVE(c, link);
	t->nopen--;
	acceptor_resume(&t->acceptor);
}

void tls_conn_bind(struct tls_conn *c, struct tls_conn **at)
{
	c->at = at;
	if (at)
		*at = c;
}

/* The inside ends, and whoever is there is not bothered any more. */
static void conn_part(struct tls_conn *c)
{
	ev_io_del(c->t->ev, &c->inside_io);
	fd_close(&c->inside);
	if (c->at)
		*c->at = NULL;
	c->at = NULL;
	SSL_free(c->ssl);
	c->ssl = NULL;
	buf_done(&c->in);
	buf_done(&c->out);
}

void tls_conn_free(struct tls_conn *c)
{
	struct tls *t = c->t;
	conn_part(c);
	conn_unlist(c);
	ev_timer_stop(t->ev, &c->deadline);
	ev_io_del(t->ev, &c->io);
	fd_close(&c->fd);
	free(c);
}

static void conn_expired(void *ctx)
{
	tls_conn_free(ctx);
}

int tls_conn_deadline(struct tls_conn *c, unsigned ms)
{
	return ev_timer_set(c->t->ev, &c->deadline, clock_now() + ms * MS_NS) < 0 ? -1 : 0;
}

void tls_conn_abort(struct tls_conn *c)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	tls_conn_free(c);
}

void tls_conn_tunnel(struct tls_conn *c)
{
	c->tunnel = true;
}

static void drain(struct tls_conn *c)
{
	static char junk[65536];
	/* Outside of the loop (tls_relay.c) nobody calls again. */
	for (int i = 0; i < DRAIN_READS_PER_ROUND || !c->io.gen; i++) {
		ssize_t n = recv(c->fd, junk, sizeof(junk), MSG_DONTWAIT);
		if (n > 0 && (size_t)n <= c->budget) {
			c->budget -= (size_t)n;
			continue;
		}
		if (n < 0 && errno == EAGAIN && c->io.gen)
			return;
		tls_conn_free(c);
		return;
	}
}

void tls_conn_drain(struct tls_conn *c)
{
	conn_part(c);
	conn_unlist(c);
	c->state = TLS_DRAIN;
	c->budget = DRAIN_BYTES;
	unserved_add(c);
	shutdown(c->fd, SHUT_WR);
	if (tls_conn_deadline(c, DRAIN_MS) < 0 ||
	    (c->io.gen && ev_io_set(c->t->ev, c->io, EPOLLIN) < 0))
		tls_conn_free(c);
	else
		drain(c);
}

/* ---- handshakes ---- */

/* Who comes without TLS, and seems to speak HTTP. */
static void tell_plain(struct tls_conn *c)
{
	static const char text[] = "HTTP/1.1 400 Bad Request\r\n"
				   "Content-Type: text/plain\r\n"
				   "Content-Length: 42\r\n"
				   "Connection: close\r\n"
				   "\r\n"
				   "This port speaks TLS: ask it by https://.\n";
	(void)send(c->fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	tls_conn_drain(c);
}

static void shake(struct tls_conn *c);

static void hello(struct tls_conn *c)
{
	unsigned char first;
	ssize_t n = recv(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1 && first >= 'A' && first <= 'Z') {
		tell_plain(c);
		return;
	}
	if (n != 1 || first != RECORD_HANDSHAKE || tls_ssl_new(c) < 0) {
		tls_conn_free(c);
		return;
	}
	c->state = TLS_SHAKING;
	c->budget = HELLO_BYTES;
	shake(c);
}

/* The handshake is done: makes the inside and hands it on. */
static void serve(struct tls_conn *c)
{
	struct tls *t = c->t;
	int pair[2];
	if (t->nopen >= t->o.conns_max ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		tls_conn_free(c);
		return;
	}
	AUTO_FD other = pair[1];
	c->inside = pair[0];
	if (ev_io_add(t->ev, c->inside, EPOLLIN, tls_relay_inside, c, &c->inside_io) < 0) {
		tls_conn_free(c);
		return;
	}
	ev_timer_stop(t->ev, &c->deadline);
	conn_unlist(c);
	c->state = TLS_OPEN;
	LIST_INSERT_HEAD(&t->open, c, link);
	t->nopen++;
	t->o.accepted(t->o.ctx, fd_steal(&other), (const struct sockaddr *)&c->peer, c->peer_len,
		      c);
	tls_relay(c);
}

static void shake(struct tls_conn *c)
{
	ERR_clear_error();
	int r = SSL_accept(c->ssl);
	if (r == 1) {
		serve(c);
		return;
	}
	int why = SSL_get_error(c->ssl, r);
	if ((why == SSL_ERROR_WANT_READ && c->budget) || why == SSL_ERROR_WANT_WRITE) {
		uint32_t events = why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
		if (ev_io_set(c->t->ev, c->io, events) < 0)
			tls_conn_free(c);
		return;
	}
	/* The client gets to read the alert that says why. */
	if (why == SSL_ERROR_SSL)
		tls_conn_drain(c);
	else
		tls_conn_free(c);
}

static void client_event(void *ctx, uint32_t events)
{
	struct tls_conn *c = ctx;
	if (c->state == TLS_OPEN)
		tls_relay_client(c, events);
	else if (events & EPOLLERR)
		tls_conn_free(c);
	else if (c->state == TLS_HELLO)
		hello(c);
	else if (c->state == TLS_SHAKING)
		shake(c);
	else
		drain(c);
}

/* ---- the listener ---- */

static bool room(void *ctx)
{
	const struct tls *t = ctx;
	return t->nopen < t->o.conns_max;
}

static void conn_new(void *ctx, int client, const struct sockaddr *peer, socklen_t n)
{
	struct tls *t = ctx;
	AUTO_FD fd = client;
	struct tls_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->t = t;
	c->inside = -1;
	c->peer_len = n < sizeof(c->peer) ? n : sizeof(c->peer);
	memcpy(&c->peer, peer, c->peer_len);
	c->in = (struct buf)BUF_INIT(TLS_PIECE);
	c->out = (struct buf)BUF_INIT(TLS_PIECE);
	c->deadline = (struct ev_timer){ .fn = conn_expired, .ctx = c };
	c->fd = fd_steal(&fd);
	unserved_add(c);
	fd_keepalive(c->fd);
	int on = 1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (ev_io_add(t->ev, c->fd, EPOLLIN, client_event, c, &c->io) < 0 ||
	    tls_conn_deadline(c, t->o.handshake_ms) < 0)
		tls_conn_free(c);
}

static void rekey(void *ctx)
{
	struct tls *t = ctx;
	tls_ctx_rekey(t->ctx);
	/* Without memory for the timer the keys stay. */
	(void)ev_timer_set(t->ev, &t->ticket_timer, clock_now() + TICKET_KEY_MS * MS_NS);
}

int tls_open(struct ev *ev, const struct tls_options *o, struct tls **ret, struct brig_err *err)
{
	struct tls *t = calloc(1, sizeof(*t));
	if (!t)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "set up TLS");
	t->ev = ev;
	t->o = *o;
	t->o.cert_pem = t->o.key_pem = NULL;
	t->acceptor = (struct acceptor){ .fd = -1, .room = room, .accepted = conn_new, .ctx = t };
	t->ticket_timer = (struct ev_timer){ .fn = rekey, .ctx = t };
	LIST_INIT(&t->open);
	TAILQ_INIT(&t->unserved);
	t->ctx = tls_ctx_new(o->cert_pem, o->key_pem, err);
	if (!t->ctx) {
		free(t);
		return -1;
	}
	int r = acceptor_open(&t->acceptor, ev, o->listen_fd);
	if (r < 0) {
		SSL_CTX_free(t->ctx);
		free(t);
		return brig_fail(err, BRIG_E_INTERNAL, -r, "watch the TLS listener");
	}
	rekey(t);
	*ret = t;
	return 0;
}

void tls_quiesce(struct tls *t)
{
	acceptor_close(&t->acceptor);
}

unsigned tls_flush(struct tls *t)
{
	struct tls_conn *c;
	unsigned left = 0;
	LIST_FOREACH(c, &t->open, link)
	{
		left += tls_relay_flush(c);
	}
	return left;
}

void tls_close(struct tls *t)
{
	if (!t)
		return;
	tls_flush(t);
	tls_quiesce(t);
	while (!LIST_EMPTY(&t->open))
		tls_conn_free(LIST_FIRST(&t->open));
	while (!TAILQ_EMPTY(&t->unserved))
		tls_conn_free(TAILQ_FIRST(&t->unserved));
	ev_timer_stop(t->ev, &t->ticket_timer);
	SSL_CTX_free(t->ctx);
	free(t);
}
