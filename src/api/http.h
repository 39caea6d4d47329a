/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h: HTTP/1.1 towards clients: requests, answers, streams in both directions, upgrades.
 *
 * Theory of operation
 * -------------------
 * libmicrohttpd parses; it runs without threads inside our event loop (ev.h), woken through its
 * epoll descriptor and for its timeouts. Everything here happens on the one thread of brig-api. A
 * request that waits (for brigd, for a command's output) is suspended in the library; its socket is
 * watched by us for the client's disappearance, because the library does not look at a suspended
 * one.
 *
 * A request lives from the moment its headers are there until its answer has left or its client has
 * gone. Its handler sees this order:
 *
 *     begin -> body* (only with .body) -> ready -> gone
 *
 * begin may answer at once (an error: the body is then discarded, within limits). Otherwise the
 * answer may come at any time from begin on until gone: from within a callback or later from the
 * loop. gone is always the last call, once, also when the handler answered in begin; r->ctx is
 * released there.
 *
 * Gone is also a client that has shut down only its sending direction while it waits: over TCP that
 * cannot be told from a closed one. The answer itself begins to leave when the request's body has
 * been read: until then a stream is queued, and body and ready still come behind
 * http_stream_begin(). After a complete answer (or http_stream_end) neither comes any more; what is
 * left of the body is read and thrown away.
 *
 * Answers: either one http_reply*(), or http_stream_begin() .. http_stream_end(). A second answer,
 * or writing after the end, is dropped: a handler need not know whether its client is still there.
 */
#ifndef BRIG_API_HTTP_H
#define BRIG_API_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ev.h"

struct http;	 /* the server: one listening address */
struct http_req; /* one request */

/* Requests at a time, suspended ones included; one more is answered with 503. */
#define HTTP_REQUESTS_MAX 4096u
/* A collected body (JSON). Streams have no bound. */
#define HTTP_BODY_MAX (8u * 1024u * 1024u)
/* What may be queued for a client that does not read: http_stream_write() never refuses, but a
 * producer must stop above HIGH and is called back (drained) at LOW. At MAX the client is dropped.
 */
#define HTTP_QUEUE_HIGH (1024u * 1024u)
#define HTTP_QUEUE_LOW (256u * 1024u)
#define HTTP_QUEUE_MAX (32u * 1024u * 1024u)

struct http_handler {
	void (*begin)(struct http_req *r); /* may be NULL */
	/* A piece of the request's body as it comes. NULL: it is collected instead, at most
	 * body_max bytes (0 = HTTP_BODY_MAX), beyond which 413 is answered. */
	void (*body)(struct http_req *r, const void *p, size_t n);
	size_t body_max;
	/* The body is complete; a collected one is http_body(). */
	void (*ready)(struct http_req *r);
	/* The queue of a streamed answer fell below HTTP_QUEUE_LOW after it was above HIGH. */
	void (*drained)(struct http_req *r);
	/* The answer has left, or the client has gone. May be NULL. */
	void (*gone)(struct http_req *r);
};

/* Chooses the handler, called when the headers of a request are there; ctx is what http_open() got.
 * Never NULL: an unknown path gets a handler that answers 404. It may set *ret_ctx, which becomes
 * http_ctx() before begin. */
typedef const struct http_handler *(*http_router)(void *ctx, struct http_req *r, void **ret_ctx);

/* How a request went, for the log; strings are valid as long as the request. */
struct http_facts {
	const char *line;      /* target as it came, also of a request that could not be parsed */
	const char *method;    /* "" if the headers never came */
	const char *key, *box; /* http_note(); "" = none */
	uint64_t began_ns;     /* CLOCK_MONOTONIC */
	uint64_t bytes_in, bytes_out; /* of the bodies; not what an upgraded connection carries */
	bool whole;		      /* the answer left, all of it */
};

struct http_options {
	int listen_fd;			/* bound and listening; taken over */
	const char *cert_pem, *key_pem; /* contents, both or none: TLS; not used after http_open() */
	http_router route;
	/* The request is over: called once for each, before gone. May be NULL. */
	void (*over)(void *ctx, const struct http_req *r, const struct http_facts *facts);
	void *ctx;
	unsigned head_ms; /* for the headers, 0 = 30 s; a handshake has that at most, too */
	unsigned body_ms; /* between two pieces of a body, 0 = 60 s; twice that for a collected one
			   */
};
int http_open(struct ev *ev, const struct http_options *o, struct http **ret, struct brig_err *err);
/* Ends all connections abruptly; each request gets its gone before this returns. Not from within a
 * callback. Descriptors of upgrades are closed by it, tokens still want http_upgrade_close(). */
void http_close(struct http *h);
/* No new connections; existing requests go on. */
void http_quiesce(struct http *h);
/* Requests, and answers that have not left; 0: nothing is under way. */
unsigned http_requests(const struct http *h);
/* Whether connections live on behind an upgrade. */
bool http_upgrades(const struct http *h);

/* ---- the request; strings are valid until gone ---- */
const char *http_method(const struct http_req *r); /* "GET" */
/* Percent-decoded path without the query, at least "/". Never contains NUL; may contain "..". */
const char *http_path(const struct http_req *r);
/* As it came: path, '?', query. */
const char *http_target(const struct http_req *r);
/* First value of a header (any case of the name), or NULL. */
const char *http_header(const struct http_req *r, const char *name);
/* Calls fn for every header; stops when it returns non-zero. */
void http_headers(const struct http_req *r,
		  int (*fn)(void *ctx, const char *name, const char *value), void *ctx);
/* Percent-decoded (and '+' = space) query argument, "" if it has no value, NULL if absent. */
const char *http_query(const struct http_req *r, const char *name);
/* The query as it came, without '?'; "" if none. */
const char *http_query_raw(const struct http_req *r);
/* The collected body (NUL behind its end). */
const char *http_body(const struct http_req *r, size_t *ret_n);
/* The collected body as one JSON value: nesting bounded, duplicate keys and trailing bytes refused.
 * An empty body is an empty object. On failure err says what is wrong. New reference. */
int http_body_json(const struct http_req *r, json_t **ret, struct brig_err *err);
/* Overwrites the collected body, which is not asked for any more. */
void http_body_wipe(struct http_req *r);
void *http_ctx(const struct http_req *r);
void http_set_ctx(struct http_req *r, void *ctx);
/* The client's X-Request-Id if it sent one of 1 to 64 characters of A-Z a-z 0-9 . _ -, else 16
 * hexadecimal digits of ours: in the log line and every error of this request, and answered as
 * X-Request-Id. */
#define HTTP_ID_MAX 65u
const char *http_id(const struct http_req *r);
/* Client's address as text ("127.0.0.1"), or "unix" where the listener is a unix socket: that is
 * the operator's, who needs no key. Only then: it depends on the listener, not on the client. */
const char *http_peer(const struct http_req *r);
struct http *http_of(const struct http_req *r);
/* What the log says about the request beside: the id (never the secret) of the key that it had, and
 * the sandbox that it was about. The last word counts; cut at HTTP_NOTE_MAX - 1. */
#define HTTP_NOTE_MAX 32u
void http_note_key(struct http_req *r, const char *key_id);
void http_note_box(struct http_req *r, const char *box_id);
/* The user at the other end of a unix socket, -1 where that is none. */
int64_t http_peer_uid(const struct http_req *r);

/* Who watches a request beside its handler; one per request, from routing on. */
struct http_observer {
	/* An answer was chosen; nothing of it has left. */
	void (*answered)(void *ctx, struct http_req *r, unsigned status);
	void (*gone)(void *ctx, struct http_req *r); /* last, before the handler's; releases ctx */
};
void http_observe(struct http_req *r, const struct http_observer *o, void *ctx);
/* Its ctx, or NULL if it is not o that watches. */
void *http_observed(const struct http_req *r, const struct http_observer *o);

/* While held, no further body() calls come and the client is pushed back. */
void http_body_hold(struct http_req *r, bool hold);

/* ---- answers ---- */
/* Adds a header to the answer that follows; before http_reply or http_stream_begin. Names and
 * values with control characters are dropped. */
void http_answer_header(struct http_req *r, const char *name, const char *value);
void http_reply(struct http_req *r, unsigned status, const char *type, const void *body, size_t n);
void http_reply_json(struct http_req *r, unsigned status, json_t *body); /* steals; NULL = 500 */
/* body stays the caller's; its text is overwritten when it was sent. */
void http_reply_secret(struct http_req *r, unsigned status, const json_t *body);
void http_reply_empty(struct http_req *r, unsigned status); /* Content-Length: 0 or 204 */
bool http_answered(const struct http_req *r);
/* Of the answer that was chosen, 0 if none was. */
unsigned http_status(const struct http_req *r);

/* A streamed answer (chunked, or with size >= 0 exactly so many bytes). */
void http_stream_begin(struct http_req *r, unsigned status, const char *type, int64_t size);
void http_stream_write(struct http_req *r, const void *p, size_t n);
size_t http_stream_queued(const struct http_req *r);
void http_stream_end(struct http_req *r);
/* Breaks the connection without an orderly end, what is queued included. Also before an answer. */
void http_abort(struct http_req *r);

/*
 * 101: the answer's headers (http_answer_header, `Upgrade` among them) are sent, then the
 * connection belongs to fn: fd is a nonblocking stream socket (of TLS the inside), and `early`
 * what the client had sent already, valid during the call. fn must call http_upgrade_close(token)
 * when done, never close(fd). gone precedes fn. fn is called once in any case: with fd -1 and no
 * token if the client left before, or is too old for an upgrade.
 */
struct http_upgrade;
typedef void (*http_upgraded)(void *ctx, int fd, const void *early, size_t n,
			      struct http_upgrade *token);
void http_reply_upgrade(struct http_req *r, http_upgraded fn, void *ctx);
/* NULL is allowed. */
void http_upgrade_close(struct http_upgrade *token);

#endif
