/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * libmicrohttpd owns connections and parser. Clients are accepted by us, or by tls.c, and shared
 * out among several daemons of it, the shards (HTTP_SHARDS says why). It has no thread: its epoll
 * descriptors lie in our loop, and shard_run() lets a shard work until it wants nothing more at
 * once. Whatever changes something for it outside of its run (an answer, bytes of a stream) resumes
 * the request and queues shard_run() as a task, so that the bytes leave in the same round of the
 * loop, and what became ready in one round is resumed together.
 *
 * A request with nothing to do is suspended: the library takes its socket out of its set. And it
 * misses an end of the client that comes together with other bytes: it takes a short read for the
 * last one, and its edge-triggered set says nothing more. So we watch every socket for the client's
 * end ourselves. An end of the client's sending direction (EPOLLRDHUP) while it still waits for its
 * answer counts as its disappearance: over TCP a closed client cannot be told from a half-closed
 * one until something is sent to it, and a command whose client has gone must end now, not at its
 * next output. A client must therefore keep its sending direction open until it has its answer, as
 * all HTTP libraries do.
 *
 * Times: HEAD_MS for the headers and, before them, at most SHAKE_MS for the handshake of TLS,
 * BODY_MS between two pieces of a body, HTTP_IDLE_S on a kept-alive connection and for a client
 * that does not read. Sizes: POOL bounds request line and headers.
 */
#include "api/http.h"

#include <errno.h>
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
#define SHAKE_MS 10000u
#define BODY_MS 60000u
/* Runs of the library in one go, and those that may want another without having called us before
 * the wish is no longer believed (it spins on a chunk header longer than its buffer). */
#define RUNS 8u
#define IDLE_RUNS 64u
#define IDLE_WAIT_MS 20u

/* ---- running the library ---- */

static void shard_run(void *ctx)
{
	struct http_shard *s = ctx;
	struct http *h = s->h;
	for (unsigned i = 0;; i++) {
		MHD_UNSIGNED_LONG_LONG ms;
		h->calls = 0;
		MHD_run(s->mhd);
		if (MHD_get_timeout(s->mhd, &ms) != MHD_YES) {
			ev_timer_stop(h->ev, &s->timer);
			return;
		}
		s->idle = ms || h->calls ? 0 : s->idle + 1;
		if (s->idle > IDLE_RUNS)
			ms = IDLE_WAIT_MS;
		if (ms) {
			ev_timer_set(h->ev, &s->timer, clock_now() + ms * MS_NS);
			return;
		}
		if (i == RUNS) {
			ev_task_queue(h->ev, &s->task);
			return;
		}
	}
}

static void shard_io(void *ctx, uint32_t events)
{
	(void)events;
	shard_run(ctx);
}

void http_kick(struct http_shard *s)
{
	if (!s->h->closing)
		ev_task_queue(s->h->ev, &s->task);
}

/* ---- connections ---- */

/* The client has ended, or shut down its sending direction. Looks again when the request under way
 * is over, or is put aside. */
static void conn_event(void *ctx, uint32_t events)
{
	struct http_conn *c = ctx;
	struct http_req *r = c->req;
	char unread;
	(void)events;
	ev_io_set(c->h->ev, c->watch, 0);
	/* A complete answer may still reach it; so may one to a request that is still to be read.
	 */
	if (r && r->ended)
		return;
	if ((!r || r->phase == HTTP_LINE) && recv(c->fd, &unread, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		return;
	if (r)
		http_req_break(r);
	else
		shutdown(c->fd, SHUT_RDWR);
}

void http_conn_watch(struct http_conn *c)
{
	if (ev_io_set(c->h->ev, c->watch, EPOLLRDHUP) < 0)
		shutdown(c->fd, SHUT_RDWR);
}

static void conn_expired(void *ctx)
{
	struct http_conn *c = ctx;
	if (c->req)
		http_req_break(c->req);
	else
		shutdown(c->fd, SHUT_RDWR);
}

void http_conn_deadline(struct http_conn *c, unsigned ms)
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
	if (c->h->local)
		snprintf(c->peer, sizeof(c->peer), "unix");
	else if (!addr || !inet_ntop(sa->sa_family, addr, c->peer, sizeof(c->peer)))
		snprintf(c->peer, sizeof(c->peer), "unknown");
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
	c->shard = h->arriving_at;
	c->fd = ci->connect_fd;
	c->deadline = (struct ev_timer){ .fn = conn_expired, .ctx = c };
	if (ev_io_add(h->ev, c->fd, EPOLLRDHUP, conn_event, c, &c->watch) < 0) {
		free(c);
		return NULL;
	}
	conn_peer(c, mc);
	if (h->arriving)
		tls_conn_bind(h->arriving, &c->outer);
	else if (!h->local)
		fd_keepalive(c->fd);
	http_conn_deadline(c, h->head_ms);
	c->shard->nconns++;
	return c;
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http *h = cls;
	struct http_conn *c = *socket_context;
	h->calls++;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		h->nconns++;
		*socket_context = conn_new(h, mc);
		return;
	}
	h->nconns--;
	acceptor_resume(&h->acceptor);
	if (c) {
		c->shard->nconns--;
		/* The library closes the descriptor right after this. */
		char unread;
		ev_io_del(h->ev, &c->watch);
		if (c->outer)
			tls_conn_bind(c->outer, NULL); /* it lingers by itself */
		else if (!c->aborted && !h->closing && !h->tls &&
			 (c->early || recv(c->fd, &unread, 1, MSG_PEEK | MSG_DONTWAIT) == 1))
			http_linger(h, c->fd);
		ev_timer_stop(h->ev, &c->deadline);
		*socket_context = NULL;
		free(c);
	}
}

/* ---- the server ---- */

/* Targets are decoded by http_target.c, and only there. */
static size_t no_unescape(void *cls, struct MHD_Connection *mc, char *s)
{
	(void)cls;
	(void)mc;
	return strlen(s);
}

/* As the library's argument lists want them: a function and its closure in one item. */
#define PAIR(option, fn, ctx)                 \
	{                                     \
		option, (intptr_t)(fn), (ctx) \
	}
#define NUMBER(option, n)                   \
	{                                   \
		option, (intptr_t)(n), NULL \
	}

static int shard_open(struct http *h, struct http_shard *s)
{
	const struct MHD_OptionItem options[] = {
		PAIR(MHD_OPTION_NOTIFY_CONNECTION, on_connection, h),
		PAIR(MHD_OPTION_URI_LOG_CALLBACK, http_on_line, h),
		PAIR(MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, h),
		PAIR(MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL),
		NUMBER(MHD_OPTION_CONNECTION_LIMIT, CONNS_MAX),
		NUMBER(MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL),
		NUMBER(MHD_OPTION_CONNECTION_MEMORY_INCREMENT, POOL / 4),
		NUMBER(MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S),
		NUMBER(MHD_OPTION_STRICT_FOR_CLIENT, 1),
		NUMBER(MHD_OPTION_END, 0),
	};
	s->h = h;
	s->timer = (struct ev_timer){ .fn = shard_run, .ctx = s };
	s->task = (struct ev_task){ .fn = shard_run, .ctx = s };
	s->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
					  MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE,
				  0, NULL, NULL, http_on_request, h, MHD_OPTION_ARRAY, options,
				  MHD_OPTION_END);
	const union MHD_DaemonInfo *di =
		s->mhd ? MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	return di ? ev_io_add(h->ev, di->epoll_fd, EPOLLIN, shard_io, s, &s->io) : -EINVAL;
}

static void shards_close(struct http *h)
{
	for (unsigned i = 0; i < HTTP_SHARDS; i++) {
		struct http_shard *s = &h->shard[i];
		ev_io_del(h->ev, &s->io);
		ev_timer_stop(h->ev, &s->timer);
		if (s->mhd)
			MHD_stop_daemon(s->mhd);
		s->mhd = NULL;
	}
}

static bool room(void *ctx)
{
	const struct http *h = ctx;
	return h->nconns < CONNS_MAX;
}

/* A client: on_connection() comes from within. */
static void on_plain(void *ctx, int fd, const struct sockaddr *peer, socklen_t n)
{
	struct http *h = ctx;
	struct http_shard *s = &h->shard[0];
	for (unsigned i = 1; i < HTTP_SHARDS; i++)
		if (h->shard[i].nconns < s->nconns)
			s = &h->shard[i];
	h->arriving_at = s;
	/* On failure it closes the socket. */
	if (MHD_add_connection(s->mhd, fd, peer, n) == MHD_YES)
		http_kick(s);
	h->arriving_at = NULL;
}

static void on_tls(void *ctx, int inside, const struct sockaddr *peer, socklen_t n,
		   struct tls_conn *c)
{
	struct http *h = ctx;
	h->arriving = c;
	on_plain(h, inside, peer, n);
	h->arriving = NULL;
}

static int listener_open(struct http *h, const struct http_options *o, struct brig_err *err)
{
	const struct tls_options to = { .listen_fd = o->listen_fd,
					.cert_pem = o->cert_pem,
					.key_pem = o->key_pem,
					.handshake_ms =
						h->head_ms < SHAKE_MS ? h->head_ms : SHAKE_MS,
					.conns_max = CONNS_MAX,
					.accepted = on_tls,
					.ctx = h };
	if (o->cert_pem)
		return tls_open(h->ev, &to, &h->tls, err);
	int r = acceptor_open(&h->acceptor, h->ev, o->listen_fd);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "watch the HTTP listener") : 0;
}

int http_open(struct ev *ev, const struct http_options *o, struct http **ret, struct brig_err *err)
{
	AUTO_FD listen_fd = o->listen_fd;
	struct http *h = calloc(1, sizeof(*h));
	if (!h)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the HTTP listener");
	h->ev = ev;
	h->route = o->route;
	h->over = o->over;
	h->ctx = o->ctx;
	h->head_ms = o->head_ms ? o->head_ms : HEAD_MS;
	h->body_ms = o->body_ms ? o->body_ms : BODY_MS;
	h->acceptor = (struct acceptor){ .fd = -1, .room = room, .accepted = on_plain, .ctx = h };
	if (getrandom(&h->next_id, sizeof(h->next_id), 0) != (ssize_t)sizeof(h->next_id))
		h->next_id = clock_now();
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);
	h->local = getsockopt(listen_fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
		   domain == AF_UNIX;
	int r = fd_set_nonblock(listen_fd, 1);
	for (unsigned i = 0; i < HTTP_SHARDS && r == 0; i++)
		r = shard_open(h, &h->shard[i]);
	if (r < 0)
		(void)brig_fail(err, BRIG_E_INTERNAL, -r, "start the HTTP listener");
	if (r < 0 || listener_open(h, o, err) < 0) {
		shards_close(h);
		free(h);
		return -1;
	}
	fd_steal(&listen_fd);
	*ret = h;
	return 0;
}

void http_quiesce(struct http *h)
{
	if (h->tls)
		tls_quiesce(h->tls);
	acceptor_close(&h->acceptor);
}

unsigned http_requests(const struct http *h)
{
	/* An answer that the library is done with may still be on its way through TLS. */
	return h->nreqs || !h->tls ? h->nreqs : tls_flush(h->tls);
}

bool http_upgrades(const struct http *h)
{
	return !LIST_EMPTY(&h->upgrades);
}

/* In the place of shard_run() where a shard is still to be run after the end. */
static void shard_over(void *ctx)
{
	struct http_shard *s = ctx;
	if (--s->h->tasks == 0)
		free(s->h);
}

void http_close(struct http *h)
{
	struct http_upgrade *u;
	struct http_req *r;
	if (!h)
		return;
	h->closing = true;
	http_quiesce(h);
	/* The library may be stopped only when nothing is suspended but upgraded connections, which
	 * it ends itself. */
	LIST_FOREACH(r, &h->all, all)
	{
		if (r->suspended) {
			r->suspended = false;
			MHD_resume_connection(r->mc);
		}
	}
	for (unsigned i = 0; i < HTTP_SHARDS; i++)
		MHD_run(h->shard[i].mhd);
	while ((u = LIST_FIRST(&h->upgrades))) {
		LIST_REMOVE(u, all);
		u->h = NULL;
	}
	http_lingers_end(h);
	shards_close(h);
	tls_close(h->tls);
	for (unsigned i = 0; i < HTTP_SHARDS; i++) {
		if (h->shard[i].task.queued) {
			h->shard[i].task.fn = shard_over;
			h->tasks++;
		}
	}
	if (h->tasks == 0)
		free(h);
}
