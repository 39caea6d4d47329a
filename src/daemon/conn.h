/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h: one connection of a client (client_proto.h).
 *
 *   REQUEST  Waits for REQ, with a deadline; descriptors are collected. Leaves to WAIT or STREAM as
 * the operation decides, or to CLOSING. WAIT     The operation is under way and takes no frames.
 * Leaves to STREAM or CLOSING. STREAM   Frames go both ways through the role's conn_role. Leaves to
 * CLOSING. CLOSING  The last frame is queued. Whatever still comes is discarded, so that the client
 * reads its last frame before it sees the end. Leaves when the client closes or a deadline passes.
 *
 * A connection that is gone has no descriptor and no role; its memory is freed when the round ends,
 * so callers up the stack may still look at c->gone.
 */
#ifndef BRIG_DAEMON_CONN_H
#define BRIG_DAEMON_CONN_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/ev.h"
#include "brig/client_proto.h"
#include "brig/jail_proto.h"
#include "daemon/framer.h"

struct brigd;
struct conn;

enum conn_phase { CONN_REQUEST, CONN_WAIT, CONN_STREAM, CONN_CLOSING };

/* As many as brig-api may have operations at a time (LINK_OPS_MAX in src/api/link.h), and 1024 beside
 * them that only local clients get, so that a busy API locks no operator out. A connection is one
 * descriptor and about a kilobyte until it streams; where the hard limit of descriptors is lower,
 * accept() and the door fail for the newcomer only. */
#define CONNS_DOOR_MAX 4096u
#define CONNS_MAX (CONNS_DOOR_MAX + 1024u)
#define CONN_REQUEST_DEADLINE_MS 10000u
#define CONN_CLOSE_DEADLINE_MS 5000u
/* What may wait for a client that does not read; credit keeps an orderly one far below. */
#define CONN_QUEUE_MAX (32u * 1024u * 1024u)
#define CONN_QUEUE_HIGH (1024u * 1024u)

/* What an operation makes of its connection. All but gone may be NULL. A frame callback that fails
 * fills err; the client gets it in an END, and the connection closes. */
struct conn_role {
	/* As framer_ops.shape, for STREAM; NULL: every frame is a violation. */
	int (*shape)(struct conn *c, const struct brig_frame_hdr *h, enum framer_shape *ret,
		     struct brig_err *err);
	int (*frame)(struct conn *c, const struct frame *f, struct brig_err *err);
	int (*data)(struct conn *c, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		    bool last, struct brig_err *err);
	/* The queue ran empty. */
	void (*drained)(struct conn *c);
	/* 0 holds the client back: where its bytes go is full. */
	bool (*may_read)(struct conn *c);
	/* The client is gone, or broke the protocol: end what it started. Called once. */
	void (*gone)(struct conn *c);
};

struct conn {
	struct brigd *d;
	LIST_ENTRY(conn) all;
	LIST_ENTRY(conn) peer; /* list of its role: followers, waiters for rm */
	int fd;
	struct ev_io io;
	enum conn_phase phase;
	bool gone;
	bool shut; /* our side has been shut down */
	bool wants_room; /* drained() is to be called when the socket has room */
	struct framer in;
	struct buf tx;
	bool at_socket; /* came to the listening socket, and not through the door */
	uid_t uid;	/* then: of its process */
	char about[24]; /* id of the sandbox that its request is about, once known */
	int fds[JAIL_VOLUMES_MAX];
	unsigned nfds;
	struct ev_timer deadline;
	struct ev_task grave;
	const struct conn_role *role;
	void *op;	      /* the role's object */
	struct brig_err *err; /* of the read under way */
};

/* Frames on their way to one connection whose payload still lies in a read buffer. */
#define GATHER_MAX 64u
struct gather {
	struct conn *c;
	unsigned n;
	struct iovec iov[2 * GATHER_MAX];
	uint8_t head[GATHER_MAX][sizeof(struct brig_frame_hdr) + 8];
};

/* Takes over fd. NULL when out of memory (fd is closed). */
struct conn *conn_new(struct brigd *d, int fd);
/* Reads what is there: after conn_new, because the request often has come already. */
void conn_poll(struct conn *c);
/* Ends the connection now. */
void conn_drop(struct conn *c);
void conn_set_role(struct conn *c, enum conn_phase phase, const struct conn_role *role, void *op);

/* Queues a frame; it leaves at once if the socket has room. */
void conn_frame(struct conn *c, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
		size_t n);
/* As conn_frame for bulk data: p must stay valid until conn_gather_flush(). offset NULL: none. */
void conn_bulk(struct conn *c, uint16_t type, uint16_t flags, uint32_t stream,
	       const uint64_t *offset, const uint8_t *p, size_t n);
void conn_gather_flush(struct brigd *d);

/* {"ok": body}, body stolen; NULL body = {}. The connection stays. */
void conn_ok(struct conn *c, json_t *body);
/* The last frame of the connection. */
void conn_ok_last(struct conn *c, json_t *body);
void conn_error(struct conn *c, const struct brig_err *err);
/* Ends what the client started, and tells it why. */
void conn_abort(struct conn *c, const struct brig_err *err);
/* END with a STATUS or an error object; status stolen. */
void conn_end(struct conn *c, json_t *status);
void conn_end_error(struct conn *c, const struct brig_err *err);

static inline size_t conn_queued(const struct conn *c)
{
	return buf_len(&c->tx);
}
/* Bytes of the client, as read from its socket. */
void conn_feed(struct conn *c, const uint8_t *p, size_t n);
/* Nothing is queued, but the socket is full: drained() is called when it has room. */
void conn_await_room(struct conn *c);
/* Looks again whether the client may be read. */
void conn_update(struct conn *c);

#endif
