/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_conn.h: the inside of http.h, shared by http.c (server and connections), http_recv.c (the
 * way of a request), http_req.c (what it says), http_answer.c (what it is told) and http_linger.c
 * (connections that end before their client knows).
 */
#ifndef BRIG_API_HTTP_CONN_H
#define BRIG_API_HTTP_CONN_H

#include <arpa/inet.h>
#include <microhttpd.h>
#include <sys/queue.h>

#include "api/acceptor.h"
#include "api/http.h"
#include "api/http_target.h"
#include "api/tls.h"
#include "base/buf.h"

/* On a kept-alive connection, and for a client that does not read its answer. */
#define HTTP_IDLE_S 660u
/* Daemons of the library that share the connections of a listener. To resume one connection it
 * walks through all that it has put aside: some 125 us with 4000 streams in one daemon, of which a
 * shard has its share. */
#define HTTP_SHARDS 16u
/* Headers of one answer. */
#define HTTP_ANSWER_HEADERS_MAX 128u

/*
 * - LINE: the request line is there, headers are still coming. Leaves to BODY.
 *
 * - BODY: the handler is known; its body, if any, comes. Leaves to READY, or to ANSWER if the rest
 * is not to be read.
 *
 * - READY: the body is complete and the library waits for an answer. Leaves to ANSWER.
 *
 * - ANSWER: an answer was handed to the library. Leaves by the end of the request.
 *
 * - UPGRADED: the connection belongs to somebody else; the request is an empty shell that the
 * library still points to.
 */
enum http_phase { HTTP_LINE, HTTP_BODY, HTTP_READY, HTTP_ANSWER, HTTP_UPGRADED };

LIST_HEAD(http_req_list, http_req);
LIST_HEAD(http_upgrade_list, http_upgrade);
LIST_HEAD(http_linger_list, http_linger);

/* One daemon of the library, with the connections that were given to it. */
struct http_shard {
	struct http *h;
	struct MHD_Daemon *mhd;
	struct ev_io io; /* the library's epoll descriptor */
	struct ev_timer timer;
	struct ev_task task;
	unsigned nconns;
	unsigned idle; /* runs in a row that wanted another and made no call */
};

struct http {
	struct ev *ev;
	struct http_shard shard[HTTP_SHARDS];
	http_router route;
	void (*over)(void *ctx, const struct http_req *r, const struct http_facts *facts);
	void *ctx;
	struct acceptor acceptor;	/* in the clear */
	struct tls *tls;		/* or with TLS, else NULL */
	struct tls_conn *arriving;	/* of the connection that is just being added */
	struct http_shard *arriving_at; /* .. and where */
	struct http_req_list all;
	struct http_upgrade_list upgrades;
	struct http_linger_list lingers;
	unsigned nconns, nreqs, nlingers;
	unsigned head_ms, body_ms;
	uint64_t next_id;
	unsigned calls; /* of the library into us: whether a run got anywhere */
	unsigned tasks; /* of shards, still to come after the end */
	bool closing;
	bool local; /* listens on a unix socket */
};

struct http_conn {
	struct http *h;
	struct http_shard *shard;
	struct http_req *req; /* under way */
	int fd;		      /* the library's */
	struct ev_io watch;   /* for the client's end */
	struct ev_timer deadline;
	struct tls_conn *outer; /* NULL: in the clear, or its client has gone */
	bool early;		/* an answer was given before its request had been read */
	bool aborted;		/* by http_abort */
	char peer[INET6_ADDRSTRLEN];
};

struct http_answer_header {
	char *name, *value;
};

struct http_req {
	struct http *h;
	struct http_conn *conn;
	struct MHD_Connection *mc;
	LIST_ENTRY(http_req) all;
	const struct http_handler *handler; /* NULL: not routed, or gone */
	void *ctx;
	const struct http_observer *observer; /* NULL = none */
	void *observer_ctx;
	enum http_phase phase;
	char id[HTTP_ID_MAX];
	char key[HTTP_NOTE_MAX], box[HTTP_NOTE_MAX];
	uint64_t began_ns, sent; /* sent: of the answer's body */
	char method[24];
	char *line; /* target as it came, until it is parsed */
	struct http_target target;

	bool suspended; /* in the library */
	bool held;	/* by http_body_hold */
	bool broken;	/* the connection must end at the next chance */
	bool is_head;
	struct buf body; /* collected */
	uint64_t body_seen, body_discarded;

	struct http_answer_header headers[HTTP_ANSWER_HEADERS_MAX];
	unsigned nheaders;
	bool answered;	      /* an answer was chosen */
	bool ended;	      /* and nothing follows */
	bool streaming, mute; /* mute: of a kind that has no body */
	bool above;	      /* the queue was above HIGH */
	unsigned status;
	int64_t left;		       /* bytes the stream still owes, -1 = chunked */
	struct MHD_Response *response; /* until it is handed to the library */
	struct buf queue;
	http_upgraded upgraded;
	void *upgrade_ctx;
};

struct http_upgrade {
	LIST_ENTRY(http_upgrade) all;
	struct http *h; /* NULL: the server has ended, and the connection with it */
	struct http_shard *shard;
	struct MHD_UpgradeResponseHandle *handle;
};

/* ---- http.c ---- */

/* Something was queued for the library outside of its own run. */
void http_kick(struct http_shard *s);
/* Looks for the client's end, if that had been left alone. */
void http_conn_watch(struct http_conn *c);
/* Ends the connection, or the request under way on it, if nothing moves the deadline until then. */
void http_conn_deadline(struct http_conn *c, unsigned ms);

/* ---- http_recv.c ---- */

void *http_on_line(void *cls, const char *target, struct MHD_Connection *mc);
enum MHD_Result http_on_request(void *cls, struct MHD_Connection *mc, const char *url,
				const char *method, const char *version, const char *data,
				size_t *n, void **req_cls);
void http_on_completed(void *cls, struct MHD_Connection *mc, void **req_cls,
		       enum MHD_RequestTerminationCode code);
/* The library looks at the request again soon, if it had put it aside. */
void http_req_wake(struct http_req *r);
/* Puts the request aside until http_req_wake(). Only from within a callback of the library. */
void http_req_suspend(struct http_req *r);
/* Ends the connection; gone follows from the loop. */
void http_req_break(struct http_req *r);
/* Tells the handler that it is over, once. */
void http_req_gone(struct http_req *r);

/* ---- http_linger.c ---- */

/* The library is about to close fd: reads on for a while what its client sends. */
void http_linger(struct http *h, int fd);
void http_lingers_end(struct http *h);

#endif
