/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h: brig-api's side of client_proto.h: operations of brigd, asynchronously.
 *
 * One operation is one connection, as for any client. brig-api may not open brigd's socket by name
 * (it has an id of its own and no path to it); it makes a socket pair and hands one end to brigd
 * through the "door", a seqpacket socket that both got from `brig serve`. Each message on it
 * carries one descriptor and one byte, and brigd treats that descriptor as a client that connected.
 *
 * Callbacks come from the event loop, never from within link_start() or link_send(). After
 * failed(), end(), or the reply() of an operation without a stream, the operation is over and must
 * not be used when that callback has returned; after link_cancel() no callback comes. Cancelling a
 * run or exec in the foreground ends its command, as a client's death does.
 */
#ifndef BRIG_API_LINK_H
#define BRIG_API_LINK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/ev.h"
#include "base/frame.h"
#include "brig/client_proto.h"

struct link;
struct link_op;

/* Operations at a time, streams of commands included. */
#define LINK_OPS_MAX 4096u
#define LINK_QUEUE_HIGH (1024u * 1024u)
#define LINK_QUEUE_MAX (16u * 1024u * 1024u)

/* Any may be NULL. */
struct link_ops {
	/* REP {"ok":..}: borrowed. An operation without a stream is over with it. */
	void (*reply)(void *ctx, json_t *ok);
	/* REP {"error":..}, END with an error object only, or the connection was lost before its
	 * end (then made up: code "unavailable"). Borrowed. Last. */
	void (*failed)(void *ctx, json_t *error);
	/* A frame between REP and END; payload valid during the call. */
	void (*frame)(void *ctx, const struct frame *f);
	/* END with a STATUS. Borrowed. Last. */
	void (*end)(void *ctx, json_t *status);
	/* What link_send() queued fell below half of LINK_QUEUE_HIGH after it was above. */
	void (*room)(void *ctx);
};

int link_open(struct ev *ev, int door_fd, struct link **ret, struct brig_err *err);
void link_close(struct link *l);
/* What brigd says of operations at its own socket (door_proto.h): of each, may() is asked first; if
 * not, it stays where it is, and is asked again within LINK_NOTES_MS. n: one datagram, any bytes. */
#define LINK_NOTES_MS 500u
struct link_notes {
	bool (*may)(void *ctx);
	void (*note)(void *ctx, const void *p, size_t n);
	void *ctx;
};
void link_notes(struct link *l, const struct link_notes *notes);
/* brigd has closed the door: it has ended. */
bool link_lost(const struct link *l);

/* Starts an operation. req is stolen (NULL: out of memory). streams: frames and END follow REP. -1
 * with err if it could not be started; then no callback comes. */
int link_start(struct link *l, json_t *req, bool streams, const struct link_ops *ops, void *ctx,
	       struct link_op **ret, struct brig_err *err);
/* With a descriptor, which stays the caller's; -1 = none. */
int link_start_fd(struct link *l, json_t *req, int fd, bool streams, const struct link_ops *ops, void *ctx,
		  struct link_op **ret, struct brig_err *err);
/* 0, -ENOBUFS when LINK_QUEUE_MAX is queued, -EMSGSIZE beyond one frame, -EPIPE after the end. */
int link_send(struct link_op *op, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
	      size_t n);
size_t link_queued(const struct link_op *op);
/* For an operation that moves much and lives briefly: its queue keeps its memory while it lives. */
void link_bulk(struct link_op *op);
/* While held nothing is read: brigd, and the sandbox behind it, is pushed back (credit). */
void link_hold(struct link_op *op, bool hold);
void link_cancel(struct link_op *op);

#endif
