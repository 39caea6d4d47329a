/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Two directions, each with at most one record in our hands. A record that the other side does not
 * take stays in c->in or c->out, and nothing more is read on that way until it has left: what
 * piles up then is the senders' business.
 *
 * Ends. The client's (close_notify or FIN) is handed on as a shutdown of the inside, behind all
 * bytes; only where the inside does not read and the connection is no tunnel, it overtakes them, as
 * it would on a plain connection (http.c: a client that has gone is noticed while its body waits).
 * An end of the inside becomes a close_notify and a shutdown towards the client, behind all bytes.
 * When both have happened the connection is over; when the inside has closed, too, what the client
 * still sends is thrown away (TLS_DRAIN).
 *
 * A client that does not read is waited for as long as the inside is there, which has deadlines of
 * its own. After that it has FLUSH_MS for every piece that it takes.
 *
 * EPOLLHUP and EPOLLERR cannot be switched off: a descriptor that shows one is taken out of the
 * loop, and what is left of its bytes is read when the other side has room.
 */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <unistd.h>

#include "api/tls_conn.h"

#define FLUSH_MS 60000u
/* Of the client's bytes, and pieces of the inside, in one round. */
#define ROUND_BYTES (256u * 1024u)
#define ROUND_PIECES 16u

static uint8_t piece[TLS_PIECE]; /* nothing in it outlives a function */

/* What an SSL_read or SSL_write that did not work asks for: 0 to wait, 1 the client's orderly end,
 * -1 the connection is broken. */
static int ssl_wish(struct tls_conn *c, int r)
{
	switch (SSL_get_error(c->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return 0;
	case SSL_ERROR_WANT_WRITE:
		c->wants_write = true;
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return 1;
	default:
		return -1;
	}
}

/* ---- from the client ---- */

/* The inside reads no more. */
static void in_refused(struct tls_conn *c)
{
	c->inside_closed = true;
	buf_done(&c->in);
}

/* Hands c->in on: whether all of it has left. */
static bool in_send(struct tls_conn *c)
{
	while (buf_len(&c->in)) {
		ssize_t n = send(c->inside, buf_head(&c->in), buf_len(&c->in),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (n < 0) {
			in_refused(c);
			return false;
		}
		buf_consume(&c->in, (size_t)n);
	}
	buf_done(&c->in);
	return true;
}

/* A piece that was just decrypted; kept where it finds no room. */
static int in_piece(struct tls_conn *c, size_t n)
{
	ssize_t k = send(c->inside, piece, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (k < 0 && errno != EAGAIN && errno != EINTR) {
		in_refused(c);
		return 0;
	}
	size_t sent = k > 0 ? (size_t)k : 0;
	return sent < n ? buf_add(&c->in, piece + sent, n - sent) : 0;
}

/* -1: the connection is broken. */
static int relay_in(struct tls_conn *c)
{
	/* Outside of the loop nobody calls again for what is left. */
	c->budget = c->io.gen ? ROUND_BYTES : SIZE_MAX;
	while (!c->client_eof && !c->inside_closed && in_send(c)) {
		ERR_clear_error();
		int n = SSL_read(c->ssl, piece, sizeof(piece));
		if (n > 0) {
			if (in_piece(c, (size_t)n) < 0)
				return -1;
			continue;
		}
		int wish = ssl_wish(c, n);
		if (wish <= 0)
			return wish;
		c->client_eof = true;
	}
	if (c->client_eof && !c->in_done && in_send(c)) {
		c->in_done = true;
		shutdown(c->inside, SHUT_WR);
	}
	return 0;
}

/* The client has ended while the inside does not read. */
static void in_overtake(struct tls_conn *c)
{
	c->client_eof = true;
	c->in_done = true;
	buf_done(&c->in);
	shutdown(c->inside, SHUT_WR);
}

/* ---- from the inside ---- */

/* Offers bytes to the client: how many it took, 0 if it must be waited for, -1 broken. */
static int out_offer(struct tls_conn *c, const void *p, size_t n)
{
	ERR_clear_error();
	int w = SSL_write(c->ssl, p, (int)n);
	if (w > 0)
		return w;
	return ssl_wish(c, w) == 0 ? 0 : -1;
}

/* Sends what is left in c->out: 1 if all of it has left, 0, -1. */
static int out_send(struct tls_conn *c)
{
	while (buf_len(&c->out)) {
		int w = out_offer(c, buf_head(&c->out), buf_len(&c->out));
		if (w <= 0)
			return w;
		buf_consume(&c->out, (size_t)w);
		if (c->inside_closed && tls_conn_deadline(c, FLUSH_MS) < 0)
			return -1;
	}
	buf_done(&c->out);
	return 1;
}

static int out_end(struct tls_conn *c)
{
	ERR_clear_error();
	int r = SSL_shutdown(c->ssl);
	if (r < 0)
		return ssl_wish(c, r) == 0 ? 0 : -1;
	c->out_done = true;
	shutdown(c->fd, SHUT_WR);
	return 0;
}

/* -1: the connection is broken. */
static int relay_out(struct tls_conn *c, unsigned pieces)
{
	/* What a closed inside has left is little, and nobody calls again for it. */
	for (unsigned i = 0; i < pieces || c->inside_closed; i++) {
		int r = out_send(c);
		if (r <= 0)
			return r;
		if (c->inside_eof)
			return c->out_done ? 0 : out_end(c);
		ssize_t n = recv(c->inside, piece, sizeof(piece), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0) {
			/* Also a reset: the inside closed with bytes of the client unread. */
			c->inside_eof = true;
			continue;
		}
		int w = out_offer(c, piece, (size_t)n);
		if (w < 0 || (w < n && buf_add(&c->out, piece + w, (size_t)(n - w)) < 0))
			return -1;
	}
	return 0;
}

/* ---- both ---- */

/* What is waited for next. -1: it cannot be. */
static int relay_watch(struct tls_conn *c)
{
	uint32_t client = 0, inside = 0;
	bool blocked = buf_len(&c->out) || (c->inside_eof && !c->out_done);
	if (!c->client_eof && !c->inside_closed) {
		if (buf_len(&c->in) == 0)
			client |= EPOLLIN;
		else if (!c->tunnel)
			client |= EPOLLRDHUP;
	}
	if (blocked || c->wants_write)
		client |= EPOLLOUT;
	if (buf_len(&c->in))
		inside |= EPOLLOUT;
	if (!blocked && !c->inside_eof)
		inside |= EPOLLIN;
	if (c->io.gen && ev_io_set(c->t->ev, c->io, client) < 0)
		return -1;
	return c->inside_io.gen && ev_io_set(c->t->ev, c->inside_io, inside) < 0 ? -1 : 0;
}

void tls_relay(struct tls_conn *c)
{
	c->wants_write = false;
	if (relay_in(c) < 0 || relay_out(c, ROUND_PIECES) < 0)
		tls_conn_free(c);
	else if (c->out_done && (c->in_done || c->inside_closed))
		tls_conn_drain(c);
	else if (relay_watch(c) < 0)
		tls_conn_free(c);
}

void tls_relay_client(struct tls_conn *c, uint32_t events)
{
	if (events & EPOLLERR) {
		tls_conn_free(c);
		return;
	}
	if (events & EPOLLHUP)
		ev_io_del(c->t->ev, &c->io);
	if (events & (EPOLLHUP | EPOLLRDHUP) && buf_len(&c->in) && !c->tunnel)
		in_overtake(c);
	tls_relay(c);
}

void tls_relay_inside(void *ctx, uint32_t events)
{
	struct tls_conn *c = ctx;
	if (events & (EPOLLHUP | EPOLLERR)) {
		ev_io_del(c->t->ev, &c->inside_io);
		in_refused(c);
		if (tls_conn_deadline(c, FLUSH_MS) < 0) {
			tls_conn_free(c);
			return;
		}
	}
	tls_relay(c);
}

bool tls_relay_flush(struct tls_conn *c)
{
	/* What failed is seen again by the next event. */
	return relay_out(c, UINT_MAX) == 0 && relay_watch(c) == 0 && buf_len(&c->out) > 0;
}
