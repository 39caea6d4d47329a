/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.h: one HTTP request to a port inside a box, and what becomes of it when both sides agree on
 * another protocol (WebSocket).
 */
#ifndef BRIG_API_PROXY_H
#define BRIG_API_PROXY_H

#include "api/api.h"
#include "api/http_response.h"

/* Not sent yet, in either direction; above it the sender is held back. */
#define PROXY_HIGH (256u * 1024u)

/* Lives as long as its request; an upgraded one until either side has ended. */
struct tunnel {
	struct box *b;
	struct http_req *r; /* NULL: upgraded */
	unsigned port;
	struct box_user box_user;
	bool used;
	struct box_waker *waker;
	struct link_op *op; /* to the port; NULL: over */
	uint32_t credit;    /* bytes that may go inside */
	uint32_t owed;	    /* bytes from inside to be granted again */
	bool connected;
	bool inside_eof;   /* nothing more comes from inside */
	struct buf tx, rx; /* to the inside; from there */

	/* the request */
	bool chunked, wants_upgrade, body_held;
	struct response response;

	/* an upgrade */
	bool upgrading;
	int fd;
	struct ev_io io;
	struct http_upgrade *token;
	bool client_eof, eof_sent, shut;
};

/* Sends tx as far as the credit reaches. */
void tunnel_pump(struct tunnel *t);
/* Grants what is owed. */
void tunnel_grant(struct tunnel *t);
void tunnel_free(struct tunnel *t);

/* ---- proxy_head.c ---- */
/* Request line and headers for the inside. -1: no memory, or larger than PROXY_HEAD_MAX. */
#define PROXY_HEAD_MAX (256u * 1024u)
int proxy_head(struct tunnel *t, const char *client_scheme);
/* Whether a header of a client may go inside: not those between two hops, nor what is ours. */
bool proxy_request_header(const char *name, const char *value, const char *connection);
/* Whether a header from inside may go to the client. */
bool proxy_answer_header(const char *name, const char *connection);

/* ---- proxy_upgrade.c ---- */
/* The answer from inside was 101: its headers are on the answer already. */
void tunnel_upgrade(struct tunnel *t);
/* Of an upgraded one: something came from inside, or more may go there. */
void tunnel_relay(struct tunnel *t);

#endif
