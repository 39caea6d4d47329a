/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h: a listener that ends TLS and hands on plain connections.
 *
 * For each client that completes a handshake a socket pair is made: `inside` of it is what the
 * client says and hears, as if it had connected in the clear, and belongs to whom it was given. A
 * client's end (close_notify or FIN) is an end of file there, an end of the inside becomes a
 * close_notify and a FIN. All work is done in the event loop, and what is held for a connection is
 * bounded: a side that does not read pushes the other one back.
 */
#ifndef BRIG_API_TLS_H
#define BRIG_API_TLS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/ev.h"

struct tls;	 /* one listening socket */
struct tls_conn; /* one client */

/* Clients that are not served: before the end of their handshake, or after the end of all. Beyond
 * it the oldest of them is dropped. */
#define TLS_UNSERVED_MAX 1024u

struct tls_options {
	int listen_fd; /* bound, listening, nonblocking; taken over, not on error */
	const char *cert_pem, *key_pem; /* contents; not used after tls_open() */
	unsigned handshake_ms;
	unsigned conns_max; /* served at a time; then no more are accepted until one ends */
	/* A client is there: inside (nonblocking) is the callee's. c lives until the client is
	 * gone, whoever ends first: tls_conn_bind() keeps a pointer to it. */
	void (*accepted)(void *ctx, int inside, const struct sockaddr *peer, socklen_t n,
			 struct tls_conn *c);
	void *ctx;
};
/* BRIG_E_INVALID for a certificate or key that cannot be used. */
int tls_open(struct ev *ev, const struct tls_options *o, struct tls **ret, struct brig_err *err);
/* Ends all; what the inside has said already is sent as far as the client's socket takes it. */
void tls_close(struct tls *t);
/* No new clients. */
void tls_quiesce(struct tls *t);
/* Moves what can be moved; clients to whom something of the inside is still to be sent. */
unsigned tls_flush(struct tls *t);

/* *at becomes c, and NULL when c has ended. One place at a time; NULL: none any more. */
void tls_conn_bind(struct tls_conn *c, struct tls_conn **at);
/* Ends it with a reset, without a word of what is queued. */
void tls_conn_abort(struct tls_conn *c);
/* From now on the client's end waits behind its bytes also where the inside does not read: the
 * connection is a tunnel. Before, it is told at once, and what is unread is dropped. */
void tls_conn_tunnel(struct tls_conn *c);

#endif
