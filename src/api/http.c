/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * libmicrohttpd owns listening socket, connections and parser. It has no thread: its epoll descriptor
 * lies in our loop, and http_run() lets it work until it wants nothing more at once. Whatever
 * changes something for it outside of its run (an answer, bytes of a stream) resumes the request and
 * queues http_run() as a task, so that the bytes leave in the same round of the loop.
 *
 * The library calls on_request() several times for one request. Once when the headers are there (the
 * handler is chosen: request_head), for each piece of the body (request_body), and once more, and
 * again after each resume, when the body is complete (request_final); only there an answer is handed
 * over. An answer in the first call would be sent at once, but the library then closes the
 * connection: that is used where the rest of the request is not to be read.
 *
 * A request with nothing to do is suspended: the library takes its socket out of its set. So we
 * watch the socket for the client's end. An end of the client's sending direction (EPOLLRDHUP) while
 * it still waits for its answer counts as its disappearance: over TCP a closed client cannot be told
 * from a half-closed one until something is sent to it, and a command whose client has gone must end
 * now, not at its next output. A client must therefore keep its sending direction open until it has
 * its answer, as all HTTP libraries do.
 *
 * Every request ends in on_completed(), whatever ended it: that is the one place that calls gone and
 * frees (an upgrade calls gone earlier). http_abort() and the watch only make the library come by.
 *
 * Times: HEAD_MS for TLS handshake and headers, BODY_MS between two pieces of a body, COLLECT_MS for
 * a whole collected one, IDLE_S on a kept-alive connection and for a client that does not read.
 * Sizes: POOL bounds request line and headers.
 *
 * What the library accepts and we do not (check_head): Transfer-Encoding other than a single
 * "chunked", together with Content-Length, or in HTTP/1.0; two Content-Length or two Host; names of
 * headers with anything but token characters (the library takes "Content-Length " for another
 * header). Each is a way to make two parsers disagree about where a request ends.
 */
#include "api/http.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "api/http_conn.h"
#include "base/clock.h"
#include "base/fd.h"

#define POOL (64u * 1024u)
#define CONNS_MAX (HTTP_REQUESTS_MAX + 512u)
#define HEAD_MS 30000u
#define BODY_MS 60000u
#define COLLECT_MS 120000u
#define IDLE_S 660u
/* Of a body that nobody wants any more; beyond it the connection is broken. */
#define DISCARD_MAX (16u * 1024u * 1024u)
/* Runs of the library in one go, and those that may want another without having called us before
 * the wish is no longer believed (it spins on a chunk header longer than its buffer). */
#define RUNS 8u
#define IDLE_RUNS 64u
#define IDLE_WAIT_MS 20u

/* ---- running the library ---- */

static void http_run(void *ctx)
{
	struct http *h = ctx;
	for (unsigned i = 0;; i++) {
		MHD_UNSIGNED_LONG_LONG ms;
		h->calls = 0;
		MHD_run(h->mhd);
		if (MHD_get_timeout(h->mhd, &ms) != MHD_YES) {
			ev_timer_stop(h->ev, &h->timer);
			return;
		}
		h->idle = ms || h->calls ? 0 : h->idle + 1;
		if (h->idle > IDLE_RUNS)
			ms = IDLE_WAIT_MS;
		if (ms) {
			ev_timer_set(h->ev, &h->timer, clock_now() + ms * MS_NS);
			return;
		}
		if (i == RUNS) {
			ev_task_queue(h->ev, &h->task);
			return;
		}
	}
}

static void http_io(void *ctx, uint32_t events)
{
	(void)events;
	http_run(ctx);
}

void http_kick(struct http *h)
{
	if (!h->closing)
		ev_task_queue(h->ev, &h->task);
}

void http_req_wake(struct http_req *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	MHD_resume_connection(r->mc);
	http_kick(r->h);
}

void http_req_suspend(struct http_req *r)
{
	if (r->h->closing)
		return;
	MHD_suspend_connection(r->mc);
	r->suspended = true;
	if (ev_io_set(r->h->ev, r->conn->watch, EPOLLRDHUP) < 0)
		http_req_break(r);
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
	r->handler = NULL;
	r->broken = true;
	if (handler && handler->gone)
		handler->gone(r);
}

/* ---- connections ---- */

static void conn_event(void *ctx, uint32_t events)
{
	struct http_conn *c = ctx;
	struct http_req *r = c->req;
	(void)events;
	ev_io_set(c->h->ev, c->watch, 0);
	/* A complete answer may still reach a client that has shut down only its own direction. */
	if (r && !r->ended)
		http_req_break(r);
}

static void conn_expired(void *ctx)
{
	struct http_conn *c = ctx;
	if (c->req)
		http_req_break(c->req);
	else
		shutdown(c->fd, SHUT_RDWR);
}

static void conn_deadline(struct http_conn *c, unsigned ms)
{
	if (ev_timer_set(c->h->ev, &c->deadline, clock_now() + ms * MS_NS) < 0)
		conn_expired(c);
}

static void conn_peer(struct http_conn *c, struct MHD_Connection *mc)
{
	const union MHD_ConnectionInfo *ci =
		MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *sa = ci ? ci->client_addr : NULL;
	const void *addr = NULL;
	if (sa && sa->sa_family == AF_INET)
		addr = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	else if (sa && sa->sa_family == AF_INET6)
		addr = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	if (!addr || !inet_ntop(sa->sa_family, addr, c->peer, sizeof(c->peer)))
		snprintf(c->peer, sizeof(c->peer), "local");
}

static struct http_conn *conn_new(struct http *h, struct MHD_Connection *mc)
{
	const union MHD_ConnectionInfo *ci =
		MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct http_conn *c = calloc(1, sizeof(*c));
	if (!c || !ci) {
		free(c);
		return NULL;
	}
	c->h = h;
	c->fd = ci->connect_fd;
	c->deadline = (struct ev_timer){ .fn = conn_expired, .ctx = c };
	if (ev_io_add(h->ev, c->fd, 0, conn_event, c, &c->watch) < 0) {
		free(c);
		return NULL;
	}
	conn_peer(c, mc);
	/* A host that vanished without a word is noticed after some two minutes of silence. */
	int on = 1, idle_s = 60, every_s = 15, count = 4;
	setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	conn_deadline(c, HEAD_MS);
	return c;
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http *h = cls;
	struct http_conn *c = *socket_context;
	h->calls++;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_context = conn_new(h, mc);
	} else if (c) {
		/* The library closes the descriptor right after this. */
		ev_io_del(h->ev, &c->watch);
		ev_timer_stop(h->ev, &c->deadline);
		*socket_context = NULL;
		free(c);
	}
}

/* ---- the way of a request ---- */

/* 16 hexadecimal digits that differ for 2^64 requests; they are names, not secrets. */
static void id_make(struct http *h, char ret[17])
{
	uint64_t x = h->next_id++;
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	x ^= x >> 31;
	snprintf(ret, 17, "%016llx", (unsigned long long)x);
}

/* The request line is there. What is returned becomes *req_cls of on_request(). */
static void *on_line(void *cls, const char *target, struct MHD_Connection *mc)
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
	r->target.query = "";
	r->body = (struct buf)BUF_INIT(0);
	r->queue = (struct buf)BUF_INIT(HTTP_QUEUE_MAX);
	id_make(h, r->id);
	LIST_INSERT_HEAD(&h->all, r, all);
	h->nreqs++;
	c->req = r;
	conn_deadline(c, HEAD_MS);
	return r;
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **req_cls,
			 enum MHD_RequestTerminationCode code)
{
	struct http *h = cls;
	struct http_req *r = *req_cls;
	(void)mc;
	(void)code;
	h->calls++;
	*req_cls = NULL;
	if (!r)
		return;
	r->suspended = false;
	if (r->conn->req == r) {
		r->conn->req = NULL;
		ev_io_set(h->ev, r->conn->watch, 0);
		conn_deadline(r->conn, IDLE_S * 1000);
	}
	http_req_gone(r);
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

struct head {
	unsigned lengths, encodings, hosts;
	bool bad_name, chunked, expects;
	uint64_t length;
};

static enum MHD_Result head_look(void *cls, enum MHD_ValueKind kind, const char *name,
				 const char *value)
{
	struct head *d = cls;
	(void)kind;
	/* RFC 9110, 5.6.2: token */
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	value = value ? value : "";
	if (!name[0] || name[strspn(name, token)])
		d->bad_name = true;
	if (strcasecmp(name, "Content-Length") == 0) {
		d->lengths++;
		d->length = strtoull(value, NULL, 10); /* digits: the library saw to it */
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		d->encodings++;
		d->chunked = strcasecmp(value, "chunked") == 0;
	} else if (strcasecmp(name, "Host") == 0) {
		d->hosts++;
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
		return brig_fail(err, BRIG_E_BUSY, 0, "%u requests are under way",
				 HTTP_REQUESTS_MAX);
	if (d->bad_name)
		return brig_fail(err, BRIG_E_INVALID, 0, "the name of a header is malformed");
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
	if ((size_t)snprintf(r->method, sizeof(r->method), "%s", method) >= sizeof(r->method)) {
		r->handler = &refused;
		brig_err_set(&err, BRIG_E_UNSUPPORTED, 0, "unknown method");
		api_fail_as(r, 501, &err);
		return r->response ? answer_now(r) : MHD_NO;
	}
	MHD_get_connection_values(r->mc, MHD_HEADER_KIND, head_look, &d);
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
	if (r->ended && r->response && (d.length > DISCARD_MAX || (d.expects && (d.length || d.chunked))))
		return answer_now(r);
	conn_deadline(r->conn, r->handler->body ? BODY_MS : COLLECT_MS);
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
		conn_deadline(r->conn, BODY_MS);
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

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url,
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

/* ---- the server ---- */

/* Targets are decoded by http_target.c, and only there. */
static size_t no_unescape(void *cls, struct MHD_Connection *mc, char *s)
{
	(void)cls;
	(void)mc;
	return strlen(s);
}

static struct MHD_Daemon *daemon_start(struct http *h, const struct http_options *o)
{
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE;
	struct MHD_OptionItem tls[] = {
		{ MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)o->cert_pem },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)o->key_pem },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0,
		  (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" },
		{ MHD_OPTION_END, 0, NULL },
	};
	static const struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
	if (h->tls)
		flags |= MHD_USE_TLS;
	return MHD_start_daemon(
		flags, 0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, h->tls ? tls : none,
		MHD_OPTION_LISTEN_SOCKET, o->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_URI_LOG_CALLBACK, on_line,
		h, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL, MHD_OPTION_CONNECTION_LIMIT,
		CONNS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL,
		MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)16384, MHD_OPTION_CONNECTION_TIMEOUT,
		IDLE_S, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
}

int http_open(struct ev *ev, const struct http_options *o, struct http **ret, struct brig_err *err)
{
	AUTO_FD listen_fd = o->listen_fd;
	struct http *h = calloc(1, sizeof(*h));
	if (!h)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the HTTP listener");
	h->ev = ev;
	h->route = o->route;
	h->ctx = o->ctx;
	h->tls = o->cert_pem && o->key_pem;
	h->timer = (struct ev_timer){ .fn = http_run, .ctx = h };
	h->task = (struct ev_task){ .fn = http_run, .ctx = h };
	if (getrandom(&h->next_id, sizeof(h->next_id), 0) != (ssize_t)sizeof(h->next_id))
		h->next_id = clock_now();
	int r = fd_set_nonblock(listen_fd, 1);
	h->mhd = r < 0 ? NULL : daemon_start(h, o);
	if (!h->mhd) {
		brig_err_set(err, h->tls ? BRIG_E_INVALID : BRIG_E_INTERNAL, 0,
			     "start the HTTP listener%s", h->tls ? " with this certificate" : "");
		free(h);
		return -1;
	}
	fd_steal(&listen_fd);
	const union MHD_DaemonInfo *di = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	r = di ? ev_io_add(ev, di->epoll_fd, EPOLLIN, http_io, h, &h->io) : -EINVAL;
	if (r < 0) {
		MHD_stop_daemon(h->mhd);
		free(h);
		return brig_fail(err, BRIG_E_INTERNAL, -r, "watch the HTTP listener");
	}
	http_kick(h);
	*ret = h;
	return 0;
}

void http_quiesce(struct http *h)
{
	int fd = MHD_quiesce_daemon(h->mhd);
	fd_close(&fd);
}

unsigned http_requests(const struct http *h)
{
	return h->nreqs;
}

static void http_free(void *ctx)
{
	free(ctx);
}

void http_close(struct http *h)
{
	struct http_upgrade *u;
	struct http_req *r;
	if (!h)
		return;
	h->closing = true;
	/* The library may be stopped only when nothing is suspended but upgraded connections, which
	 * it ends itself. */
	LIST_FOREACH(r, &h->all, all)
	{
		if (r->suspended) {
			r->suspended = false;
			MHD_resume_connection(r->mc);
		}
	}
	MHD_run(h->mhd);
	while ((u = LIST_FIRST(&h->upgrades))) {
		LIST_REMOVE(u, all);
		u->h = NULL;
	}
	ev_io_del(h->ev, &h->io);
	ev_timer_stop(h->ev, &h->timer);
	MHD_stop_daemon(h->mhd);
	h->mhd = NULL;
	if (h->task.queued)
		h->task.fn = http_free;
	else
		free(h);
}
