/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Each try is a socket of its own, connected to one resolver: a fresh source port and a random
 * number make an answer that was guessed unlikely, and connected sockets take no other's. An answer
 * that is not to exactly our question is passed over. A truncated one is asked again over TCP. A
 * chain of CNAMEs that ends without an address is asked for at its end, as often as LEGS_MAX.
 */
#include "net/query.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define TRIES_MAX 4u
#define TRY_NS (1500 * MS_NS)
#define LEGS_MAX 4u

struct name_query {
	struct gw *gw;
	char name[NET_NAME_MAX]; /* of this leg */
	uint16_t type, id;
	unsigned tries, legs, server;
	uint32_t ttl; /* the least of former legs */
	int fd;
	struct ev_io io;
	struct ev_timer timer;
	bool (*judge)(void *ctx, const char *via);
	query_fn done;
	void *ctx;
	/* Over TCP: the length and the message, as it comes. */
	bool tcp, sent;
	size_t have;
	uint8_t *stream;
};

static void leg_begin(struct name_query *q);

static void socket_end(struct name_query *q)
{
	ev_io_del(&q->gw->ev, &q->io);
	fd_close(&q->fd);
	free(q->stream);
	q->stream = NULL;
	q->have = 0;
	q->sent = false;
}

void query_cancel(struct name_query *q)
{
	if (!q)
		return;
	socket_end(q);
	ev_timer_stop(&q->gw->ev, &q->timer);
	q->gw->nqueries--;
	free(q);
}

static void finish(struct name_query *q, enum name_state state, const struct dns_reply *r)
{
	query_fn done = q->done;
	void *ctx = q->ctx;
	query_cancel(q);
	done(ctx, state, r);
}

static void try_failed(struct name_query *q)
{
	socket_end(q);
	q->tcp = false;
	if (++q->tries >= TRIES_MAX) {
		finish(q, NAME_FAILED, NULL);
		return;
	}
	q->server = (q->server + 1) % q->gw->nresolvers;
	leg_begin(q);
}

/* False: q is gone. */
static void reply(struct name_query *q, struct dns_reply *r)
{
	if (r->truncated) {
		if (q->tcp) {
			try_failed(q);
			return;
		}
		socket_end(q);
		q->tcp = true;
		leg_begin(q);
		return;
	}
	if (r->rcode != DNS_OK && r->rcode != DNS_NXDOMAIN) {
		try_failed(q);
		return;
	}
	for (unsigned i = 0; i < r->hops; i++) {
		if (!q->judge(q->ctx, r->via[i])) {
			finish(q, NAME_NONE, r);
			return;
		}
	}
	if (r->ttl < q->ttl)
		q->ttl = r->ttl;
	r->ttl = q->ttl;
	if (r->naddrs) {
		finish(q, NAME_FOUND, r);
	} else if (r->rcode == DNS_OK && r->hops && ++q->legs < LEGS_MAX) {
		strcpy(q->name, r->last);
		socket_end(q);
		q->tcp = false;
		leg_begin(q);
	} else {
		finish(q, NAME_NONE, r);
	}
}

static void udp_event(struct name_query *q)
{
	static uint8_t msg[DNS_MESSAGE_MAX];
	static struct dns_reply r;
	ssize_t n;
	while ((n = recv(q->fd, msg, sizeof(msg), 0)) >= 0) {
		if (dns_reply_read(msg, (size_t)n, q->id, q->name, q->type, &r) == 0) {
			reply(q, &r);
			return;
		}
	}
	if (errno != EAGAIN && errno != EINTR)
		try_failed(q);
}

#define STREAM_MAX (2u + 65535u)

static void tcp_event(struct name_query *q, uint32_t events)
{
	static struct dns_reply r;
	if (!q->sent) {
		uint8_t msg[2 + 512];
		size_t n = dns_query_write(q->id, q->name, q->type, msg + 2);
		msg[0] = (uint8_t)(n >> 8);
		msg[1] = (uint8_t)n;
		/* An empty send buffer takes so little at once, or the connection failed. */
		if (events & EPOLLERR || send(q->fd, msg, n + 2, MSG_NOSIGNAL) != (ssize_t)n + 2 ||
		    ev_io_set(&q->gw->ev, q->io, EPOLLIN) < 0) {
			try_failed(q);
			return;
		}
		q->sent = true;
		return;
	}
	ssize_t n = recv(q->fd, q->stream + q->have, STREAM_MAX - q->have, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		try_failed(q);
		return;
	}
	q->have += (size_t)n;
	size_t want = q->have < 2 ? 2 : 2 + ((size_t)q->stream[0] << 8 | q->stream[1]);
	if (q->have < 2 || q->have < want)
		return;
	if (dns_reply_read(q->stream + 2, want - 2, q->id, q->name, q->type, &r) == 0)
		reply(q, &r);
	else
		try_failed(q);
}

static void event(void *ctx, uint32_t events)
{
	struct name_query *q = ctx;
	if (q->tcp)
		tcp_event(q, events);
	else
		udp_event(q);
}

static void timeout(void *ctx)
{
	struct name_query *q = ctx;
	try_failed(q);
}

static int leg_open(struct name_query *q)
{
	struct gw *g = q->gw;
	struct sockaddr_storage *to = &g->resolver[q->server];
	q->fd = socket(to->ss_family,
		       (q->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (q->fd < 0)
		return -errno;
	if (q->tcp && !(q->stream = malloc(STREAM_MAX)))
		return -ENOMEM;
	if (getrandom(&q->id, sizeof(q->id), 0) != sizeof(q->id))
		return -EIO;
	if (connect(q->fd, (struct sockaddr *)to, g->resolver_len[q->server]) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	if (!q->tcp) {
		uint8_t msg[512];
		size_t n = dns_query_write(q->id, q->name, q->type, msg);
		if (send(q->fd, msg, n, MSG_NOSIGNAL) != (ssize_t)n)
			return -errno;
	}
	return ev_io_add(&g->ev, q->fd, q->tcp ? EPOLLOUT : EPOLLIN, event, q, &q->io);
}

static void leg_begin(struct name_query *q)
{
	struct gw *g = q->gw;
	uint64_t wait = TRY_NS;
	if (leg_open(q) < 0) {
		/* The next try comes from the timer: nothing is called from query_new. */
		socket_end(q);
		wait = 10 * MS_NS;
	}
	/* It was armed before: there is room for it. */
	(void)ev_timer_set(&g->ev, &q->timer, clock_now() + wait);
}

struct name_query *query_new(struct gw *g, const char *name, uint16_t type,
			     bool (*judge)(void *ctx, const char *via), query_fn done, void *ctx)
{
	struct name_query *q = NULL;
	if (g->nresolvers == 0 || g->nqueries >= QUERIES_MAX || !(q = calloc(1, sizeof(*q))))
		return NULL;
	*q = (struct name_query){ .gw = g,
				  .type = type,
				  .fd = -1,
				  .ttl = UINT32_MAX,
				  .timer = { .fn = timeout, .ctx = q },
				  .judge = judge,
				  .done = done,
				  .ctx = ctx };
	strcpy(q->name, name);
	if (ev_timer_set(&g->ev, &q->timer, clock_now() + TRY_NS) < 0) {
		free(q);
		return NULL;
	}
	g->nqueries++;
	leg_begin(q);
	return q;
}
