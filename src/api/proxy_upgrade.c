/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * After a 101 both directions are bytes. From the client is read only while there is credit and the
 * queue towards brigd is short; from inside is granted only what the client's socket has taken.
 * Each direction ends by itself (FF_EOF one way, shutdown the other); when both have, or the
 * connection inside is over and everything of it was written, or the client's socket failed, all is
 * closed.
 *
 * The library tells once whether the upgrade came about (http.h): until then bytes from inside
 * wait.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/proxy.h"

#define READ_PIECE 65536u

static void relay_close(struct tunnel *t)
{
	ev_io_del(&t->b->api->ev, &t->io);
	http_upgrade_close(t->token);
	tunnel_free(t);
}

/* From the client to the inside. -1: the client is gone. */
static int relay_in(struct tunnel *t)
{
	static uint8_t piece[READ_PIECE];
	while (!t->client_eof && t->op && buf_len(&t->tx) < PROXY_HIGH) {
		ssize_t n = recv(t->fd, piece, sizeof(piece), MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		if (n == 0)
			t->client_eof = true;
		else if (buf_add(&t->tx, piece, (size_t)n) < 0)
			return -1;
		tunnel_pump(t);
	}
	return 0;
}

/* From the inside to the client. -1: the client is gone. */
static int relay_out(struct tunnel *t)
{
	while (buf_len(&t->rx)) {
		ssize_t n =
			send(t->fd, buf_head(&t->rx), buf_len(&t->rx), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		buf_consume(&t->rx, (size_t)n);
	}
	tunnel_grant(t);
	if (t->inside_eof && !t->shut) {
		t->shut = true;
		shutdown(t->fd, SHUT_WR);
	}
	return 0;
}

static void relay_watch(struct tunnel *t)
{
	uint32_t events = 0;
	if (!t->client_eof && t->op && buf_len(&t->tx) < PROXY_HIGH)
		events |= EPOLLIN;
	if (buf_len(&t->rx))
		events |= EPOLLOUT;
	ev_io_set(&t->b->api->ev, t->io, events);
}

void tunnel_relay(struct tunnel *t)
{
	if (t->fd < 0)
		return;
	tunnel_pump(t);
	if (relay_in(t) < 0 || relay_out(t) < 0) {
		relay_close(t);
		return;
	}
	if (t->client_eof && !t->eof_sent && t->op && buf_len(&t->tx) == 0) {
		t->eof_sent = true;
		link_send(t->op, BRIG_TCP_DATA, BRIG_FF_EOF, BRIG_CLIENT_STREAM, NULL, 0);
	}
	/* Over: what came from inside is written, and nothing can go there any more. */
	if (t->shut && (!t->op || t->eof_sent)) {
		relay_close(t);
		return;
	}
	relay_watch(t);
}

static void relay_event(void *ctx, uint32_t events)
{
	struct tunnel *t = ctx;
	/* A reset shows in the next read or write; but with neither wanted nothing would happen. */
	if ((events & (EPOLLERR | EPOLLHUP)) && (t->client_eof || buf_len(&t->tx) >= PROXY_HIGH)) {
		relay_close(t);
		return;
	}
	tunnel_relay(t);
}

static void upgraded(void *ctx, int fd, const void *early, size_t n, struct http_upgrade *token)
{
	struct tunnel *t = ctx;
	t->token = token;
	t->r = NULL;
	if (fd < 0 || (n && buf_add(&t->tx, early, n) < 0) ||
	    ev_io_add(&t->b->api->ev, fd, 0, relay_event, t, &t->io) < 0) {
		relay_close(t);
		return;
	}
	t->fd = fd;
	tunnel_relay(t);
}

void tunnel_upgrade(struct tunnel *t)
{
	const char *to = response_header(&t->response, "Upgrade");
	http_answer_header(t->r, "Upgrade", to ? to : "websocket");
	t->upgrading = true;
	http_reply_upgrade(t->r, upgraded, t);
}
