/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h: the client's end of one operation (client_proto.h): a request, its reply, and the frames
 * of operations that stream.
 *
 * The socket is never switched to nonblocking mode: every transfer says MSG_DONTWAIT and every wait
 * is a poll(). Bytes from the server are checked like anybody else's; a frame that breaks the rules
 * is an error of the operation.
 */
#ifndef BRIG_CLI_CONN_H
#define BRIG_CLI_CONN_H

#include <stdbool.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/frame.h"
#include "brig/client_proto.h"
#include "cli/cli.h"
#include "cli/server.h"

enum conn_mode {
	CONN_EXISTING,	 /* a running server, or an error with code BRIG_E_NOT_FOUND */
	CONN_PRIVATE,	 /* a running server, else a private one */
	CONN_PRIVATE_NET, /* .. that can give its sandbox a network */
	CONN_BACKGROUND, /* a running server, else one is started that stays */
};

struct conn {
	int fd;
	struct buf rx, tx;
	struct server server; /* of CONN_PRIVATE */
	const char *tier; /* that a private one is asked for; NULL = container. Set before conn_open() */
	bool eof;
};
#define CONN_NONE                                                                   \
	{                                                                           \
		.fd = -1, .rx = BUF_INIT(CONN_RX_MAX), .tx = BUF_INIT(CONN_TX_MAX), \
		.server = SERVER_NONE                                               \
	}
#define CONN_RX_MAX (sizeof(struct brig_frame_hdr) + BRIG_FRAME_MAX)
#define CONN_TX_MAX (2u * 1024u * 1024u)
/* As much as brigd queues for one client (CONN_QUEUE_MAX of daemon/conn.h). */
#define CONN_ANSWER_MAX (32u * 1024u * 1024u)

int conn_open(struct conn *c, enum conn_mode mode, struct brig_err *err);
void conn_done(struct conn *c);

/* Queues REQ and sends what the socket takes at once; the descriptors go with the first byte and
 * stay the caller's. req is borrowed. */
int conn_request(struct conn *c, const json_t *req, const int *fds, unsigned nfds,
		 struct brig_err *err);
/* Queues a frame and sends what the socket takes. */
int conn_send(struct conn *c, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
	      size_t n, struct brig_err *err);
/* Sends what is queued, as far as the socket takes it now. */
int conn_flush(struct conn *c, struct brig_err *err);

/* Waits for the next frame. The payload is valid until conn_consume(). -1 also if the server is
 * gone. */
int conn_next(struct conn *c, struct frame *ret, struct brig_err *err);
/* The same, but returns 0 without a frame as soon as nothing is queued any more; 1 with a frame. */
int conn_frame_or_room(struct conn *c, struct frame *ret, struct brig_err *err);
void conn_consume(struct conn *c, const struct frame *f);

/* Decodes a JSON frame; *ret is a new reference to an object. */
int conn_json(const struct frame *f, json_t **ret, struct brig_err *err);
/* Decodes REP: *ret_ok is a new reference to the "ok" object. An error reply fills err, and
 * *ret_error, if not NULL, with a new reference to its object. */
int conn_reply(const struct frame *f, json_t **ret_ok, json_t **ret_error, struct brig_err *err);
/* "the connection to the server was lost", with what can be found out about why. */
int conn_lost(struct conn *c, struct brig_err *err);

/* If err says that there is no server, makes it say what that means for the sandbox asked about. */
void conn_absent(const char *id, struct brig_err *err);

/*
 * A whole simple operation on an existing server: request, reply, end. Steals req (NULL: out of
 * memory). Returns 0 with a new reference in *ret_ok, or an exit code after the error was printed.
 */
int conn_call(struct cli *cli, json_t *req, json_t **ret_ok);
/* The same without printing, for verbs that can do without a server. */
int conn_try(json_t *req, json_t **ret_ok, json_t **ret_error, struct brig_err *err);

#endif
