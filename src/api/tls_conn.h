/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_conn.h: the inside of tls.h, shared by tls.c (listener, handshakes, ends), tls_cert.c (what
 * is spoken) and tls_relay.c (bytes of a client that is served).
 */
#ifndef BRIG_API_TLS_CONN_H
#define BRIG_API_TLS_CONN_H

#include <openssl/ssl.h>
#include <sys/queue.h>

#include "api/acceptor.h"
#include "api/tls.h"
#include "base/buf.h"

/* One record at most. */
#define TLS_PIECE 16384u

/*
 * - HELLO: nothing was read yet. Leaves to SHAKING, to DRAIN if it is no TLS.
 *
 * - SHAKING: ssl is there. Leaves to OPEN, or to DRAIN when it failed.
 *
 * - OPEN: inside is there. Leaves to DRAIN when the inside has ended and all of it was sent.
 *
 * - DRAIN: our direction is shut; what the client still sends is thrown away, or a reset would make
 * it throw away what it has not read. Leaves by the client's end or its time.
 */
enum tls_state { TLS_HELLO, TLS_SHAKING, TLS_OPEN, TLS_DRAIN };

TAILQ_HEAD(tls_conn_queue, tls_conn);
LIST_HEAD(tls_conn_list, tls_conn);

struct tls {
	struct ev *ev;
	SSL_CTX *ctx;
	struct tls_options o;
	struct acceptor acceptor;
	struct ev_timer ticket_timer; /* new keys */
	struct tls_conn_list open;
	struct tls_conn_queue unserved; /* oldest first */
	unsigned nopen, nunserved;
};

struct tls_conn {
	struct tls *t;
	enum tls_state state;
	LIST_ENTRY(tls_conn) link;     /* OPEN */
	TAILQ_ENTRY(tls_conn) waiting; /* else */
	struct tls_conn **at;	       /* tls_conn_bind */
	SSL *ssl;
	int fd, inside;
	struct ev_io io, inside_io;
	struct ev_timer deadline;
	size_t budget; /* bytes that may be read from the client in this round, or until its end */
	struct sockaddr_storage peer;
	socklen_t peer_len;

	struct buf in;	/* decrypted, for the inside; only while it does not read */
	struct buf out; /* from the inside, to be encrypted; only while the client does not read */
	bool tunnel;
	bool client_eof;    /* nothing comes from the client any more */
	bool inside_eof;    /* nothing comes from the inside any more */
	bool inside_closed; /* and it reads no more */
	bool in_done;	    /* the inside knows of client_eof */
	bool out_done;	    /* the client knows of inside_eof */
	bool wants_write;   /* TLS has something to send before it goes on */
};

/* ---- tls.c ---- */

void tls_conn_free(struct tls_conn *c);
/* Nothing more is said to the client; frees when it has ended, or after a while. */
void tls_conn_drain(struct tls_conn *c);
/* 0, or -1 for want of memory. */
int tls_conn_deadline(struct tls_conn *c, unsigned ms);

/* ---- tls_cert.c ---- */

SSL_CTX *tls_ctx_new(const char *cert_pem, const char *key_pem, struct brig_err *err);
/* Tickets from before are not taken any more. */
void tls_ctx_rekey(SSL_CTX *ctx);
/* c->ssl, on c->fd. */
int tls_ssl_new(struct tls_conn *c);

/* ---- tls_relay.c ---- */

/* The handshake is done and c->inside is there. */
void tls_relay(struct tls_conn *c);
void tls_relay_client(struct tls_conn *c, uint32_t events);
void tls_relay_inside(void *ctx, uint32_t events);
/* True: something that the inside said is still to be sent. Frees nothing. */
bool tls_relay_flush(struct tls_conn *c);

#endif
