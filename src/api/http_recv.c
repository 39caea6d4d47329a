/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The library calls http_on_request() several times for one request. Once when the headers are
 * there (the handler is chosen: request_head), for each piece of the body (request_body), and once
 * more, and again after each resume, when the body is complete (request_final); only there an
 * answer is handed over. An answer in the first call would be sent at once, but the library then
 * closes the connection: that is used where the rest of the request is not to be read.
 *
 * Every request ends in http_on_completed(), whatever ended it: that is the one place that calls
 * gone and frees (an upgrade calls gone earlier). http_abort() and the watch only make the library
 * come by.
 *
 * What the library accepts and we do not (check_head): Transfer-Encoding other than a single
 * "chunked", together with Content-Length, or in HTTP/1.0; two Content-Length or two Host; names of
 * headers with anything but token characters (the library takes "Content-Length " for another
 * header), and values with control characters (it ends a line at LF only, so a CR may stand in a
 * value). Each is a way to make two parsers disagree about where a request ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/api.h"
#include "api/http_conn.h"
#include "base/clock.h"

/* A whole collected body may take this many times what one piece may. */
#define COLLECT_FACTOR 2u
/* Of a body that nobody wants any more; beyond it the connection is broken. */
#define DISCARD_MAX (16u * 1024u * 1024u)

void http_req_wake(struct http_req *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	MHD_resume_connection(r->mc);
	http_kick(r->conn->shard);
}

void http_req_suspend(struct http_req *r)
{
	if (r->h->closing)
		return;
	MHD_suspend_connection(r->mc);
	r->suspended = true;
	http_conn_watch(r->conn);
}

void http_req_break(struct http_req *r)
{
	if (r->broken || r->phase == HTTP_UPGRADED)
		return;
	r->broken = true;
	if (r->suspended)
		http_req_wake(r);
	else
		shutdown(r->conn->fd, SHUT_RDWR); /* the library sees it as the client's end */
}

void http_req_gone(struct http_req *r)
{
	const struct http_handler *handler = r->handler;
	const struct http_observer *observer = r->observer;
	r->handler = NULL;
	r->observer = NULL;
	r->broken = true;
	if (observer)
		observer->gone(r->observer_ctx, r);
	if (handler && handler->gone)
		handler->gone(r);
}

/* 16 hexadecimal digits that differ for 2^64 requests; they are names, not secrets. */
static void id_make(struct http *h, char ret[HTTP_ID_MAX])
{
	uint64_t x = h->next_id++;
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	x ^= x >> 31;
	snprintf(ret, HTTP_ID_MAX, "%016llx", (unsigned long long)x);
}

/* One of the client's own, which names the request through several servers. Anything else would
 * let it write into headers and logs what it likes. */
static bool id_ok(const char *id)
{
	size_t n = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	return n >= 1 && n < HTTP_ID_MAX && !id[n];
}

/* The request line is there. What is returned becomes *req_cls of http_on_request(). */
void *http_on_line(void *cls, const char *target, struct MHD_Connection *mc)
{
	struct http *h = cls;
	const union MHD_ConnectionInfo *ci =
		MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_conn *c = ci ? ci->socket_context : NULL;
	h->calls++;
	if (!c)
		return NULL;
	struct http_req *r = calloc(1, sizeof(*r));
	char *line = strdup(target ? target : "");
	if (!r || !line) {
		free(r);
		free(line);
		return NULL;
	}
	r->h = h;
	r->conn = c;
	r->mc = mc;
	r->line = line;
	r->left = -1;
	r->began_ns = clock_now();
	r->target.query = "";
	r->body = (struct buf)BUF_INIT(0);
	r->queue = (struct buf)BUF_INIT(HTTP_QUEUE_MAX);
	id_make(h, r->id);
	LIST_INSERT_HEAD(&h->all, r, all);
	h->nreqs++;
	c->req = r;
	http_conn_watch(c); /* an end may have been seen while there was more to read */
	http_conn_deadline(c, h->head_ms);
	return r;
}

void http_on_completed(void *cls, struct MHD_Connection *mc, void **req_cls,
		       enum MHD_RequestTerminationCode code)
{
	struct http *h = cls;
	struct http_req *r = *req_cls;
	(void)mc;
	h->calls++;
	*req_cls = NULL;
	if (!r)
		return;
	r->suspended = false;
	if (r->conn->req == r) {
		r->conn->req = NULL;
		http_conn_watch(r->conn);
		http_conn_deadline(r->conn, HTTP_IDLE_S * 1000);
	}
	if (h->over) {
		const struct http_facts f = {
			.line = r->line,
			.method = r->method,
			.key = r->key,
			.box = r->box,
			.began_ns = r->began_ns,
			.bytes_in = r->body_seen,
			.bytes_out = r->sent,
			.whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK,
		};
		h->over(h->ctx, r, &f);
	}
	bool lost = r->upgraded && r->phase != HTTP_UPGRADED;
	http_req_gone(r);
	if (lost)
		r->upgraded(r->upgrade_ctx, -1, NULL, 0, NULL);
	if (r->response)
		MHD_destroy_response(r->response);
	for (unsigned i = 0; i < r->nheaders; i++) {
		free(r->headers[i].name);
		free(r->headers[i].value);
	}
	http_target_done(&r->target);
	buf_done(&r->body);
	buf_done(&r->queue);
	free(r->line);
	LIST_REMOVE(r, all);
	h->nreqs--;
	free(r);
}

/* RFC 9110, 5.6.2 */
static bool is_token(const char *s)
{
	static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	return s[0] && !s[strspn(s, chars)];
}

struct head {
	unsigned lengths, encodings, hosts, ids;
	const char *id;
	bool malformed, chunked, expects;
	uint64_t length;
};

static enum MHD_Result head_look(void *cls, enum MHD_ValueKind kind, const char *name,
				 const char *value)
{
	struct head *d = cls;
	(void)kind;
	value = value ? value : "";
	if (!is_token(name))
		d->malformed = true;
	for (const char *p = value; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			d->malformed = true;
	if (strcasecmp(name, "Content-Length") == 0) {
		d->lengths++;
		d->length = strtoull(value, NULL, 10); /* digits: the library saw to it */
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		d->encodings++;
		d->chunked = strcasecmp(value, "chunked") == 0;
	} else if (strcasecmp(name, "Host") == 0) {
		d->hosts++;
	} else if (strcasecmp(name, "X-Request-Id") == 0) {
		d->ids++;
		d->id = value;
	} else if (strcasecmp(name, "Expect") == 0) {
		d->expects = true;
	}
	return MHD_YES;
}

static int check_head(const struct http_req *r, const struct head *d, const char *version,
		      struct brig_err *err)
{
	bool old = strcmp(version, "HTTP/1.1") != 0;
	if (r->h->nreqs > HTTP_REQUESTS_MAX)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "%u requests are under way",
				 HTTP_REQUESTS_MAX);
	if (d->malformed)
		return brig_fail(err, BRIG_E_INVALID, 0, "the method or a header is malformed");
	if (d->encodings && d->lengths)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "Transfer-Encoding and Content-Length in one request");
	if (d->encodings && (d->encodings > 1 || !d->chunked || old))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the Transfer-Encoding is not a single 'chunked'");
	if (d->lengths > 1)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than one Content-Length");
	if (d->hosts > 1)
		return brig_fail(err, BRIG_E_INVALID, 0, "more than one Host");
	return 0;
}

/* Hands the chosen answer over. */
static enum MHD_Result answer_now(struct http_req *r)
{
	struct MHD_Response *response = r->response;
	r->response = NULL;
	r->conn->early = r->phase == HTTP_BODY;
	r->phase = HTTP_ANSWER;
	enum MHD_Result ret = MHD_queue_response(r->mc, r->status, response);
	MHD_destroy_response(response);
	return ret;
}

static size_t body_max(const struct http_req *r)
{
	return r->handler->body_max ? r->handler->body_max : HTTP_BODY_MAX;
}

static void body_too_large(struct http_req *r)
{
	struct brig_err err = BRIG_ERR_INIT;
	brig_err_set(&err, BRIG_E_LIMIT, 0, "the body is larger than %zu bytes", body_max(r));
	api_fail_as(r, 413, &err);
}

static enum MHD_Result request_head(struct http_req *r, const char *method, const char *version)
{
	static const struct http_handler refused = { 0 };
	struct brig_err err = BRIG_ERR_INIT;
	struct head d = { 0 };
	r->phase = HTTP_BODY;
	r->is_head = strcmp(method, "HEAD") == 0;
	MHD_get_connection_values(r->mc, MHD_HEADER_KIND, head_look, &d);
	if (d.ids == 1 && id_ok(d.id))
		snprintf(r->id, sizeof(r->id), "%s", d.id);
	size_t n = strlen(method);
	if (n >= sizeof(r->method) || !is_token(method))
		d.malformed = true;
	else
		memcpy(r->method, method, n + 1);
	if (check_head(r, &d, version, &err) < 0 ||
	    http_target_parse(&r->target, r->line, &err) < 0) {
		r->handler = &refused;
		api_fail(r, &err);
		return r->response ? answer_now(r) : MHD_NO;
	}
	void *ctx = NULL;
	r->handler = r->h->route(r->h->ctx, r, &ctx);
	if (ctx)
		r->ctx = ctx;
	r->body.max = body_max(r) + 1; /* a NUL follows */
	if (r->handler->begin)
		r->handler->begin(r);
	if (!r->answered && !r->handler->body && d.length > body_max(r))
		body_too_large(r);
	if (r->broken)
		return MHD_NO;
	/* Rather than to read what is not wanted, the connection ends behind the answer. */
	if (r->ended && r->response &&
	    (d.length > DISCARD_MAX || (d.expects && (d.length || d.chunked))))
		return answer_now(r);
	http_conn_watch(r->conn); /* .. still more */
	http_conn_deadline(r->conn, (r->handler->body ? 1 : COLLECT_FACTOR) * r->h->body_ms);
	return MHD_YES;
}

static enum MHD_Result request_body(struct http_req *r, const char *p, size_t *n)
{
	size_t k = *n;
	if (r->held && !r->ended) {
		ev_timer_stop(r->h->ev, &r->conn->deadline);
		http_req_suspend(r);
		return MHD_YES;
	}
	*n = 0;
	r->body_seen += k;
	if (r->ended) {
		r->body_discarded += k;
		return r->body_discarded > DISCARD_MAX ? MHD_NO : MHD_YES;
	}
	if (r->handler->body) {
		http_conn_deadline(r->conn, r->h->body_ms);
		r->handler->body(r, p, k);
	} else if (buf_len(&r->body) + k > body_max(r)) {
		buf_done(&r->body);
		if (r->answered)
			http_req_break(r); /* a stream has begun that cannot say it any more */
		else
			body_too_large(r);
	} else if (buf_add(&r->body, p, k) < 0) {
		struct brig_err err = BRIG_ERR_INIT;
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "collect the body");
		api_fail(r, &err);
	}
	return r->broken ? MHD_NO : MHD_YES;
}

static enum MHD_Result request_final(struct http_req *r)
{
	if (r->phase == HTTP_BODY) {
		static const char nul = '\0';
		r->phase = HTTP_READY;
		ev_timer_stop(r->h->ev, &r->conn->deadline);
		if (!r->handler->body && buf_add(&r->body, &nul, 1) < 0)
			return MHD_NO;
		if (!r->ended && r->handler->ready)
			r->handler->ready(r);
	}
	if (r->broken)
		return MHD_NO;
	if (r->response)
		return answer_now(r);
	http_req_suspend(r);
	return MHD_YES;
}

enum MHD_Result http_on_request(void *cls, struct MHD_Connection *mc, const char *url,
				const char *method, const char *version, const char *data,
				size_t *n, void **req_cls)
{
	struct http *h = cls;
	struct http_req *r = *req_cls;
	(void)mc;
	(void)url;
	h->calls++;
	if (!r || r->broken || h->closing)
		return MHD_NO;
	if (r->phase == HTTP_LINE)
		return request_head(r, method, version);
	if (*n)
		return request_body(r, data, n);
	return request_final(r);
}
