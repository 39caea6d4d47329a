/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Questions over TCP: one at a time, the next when the last has its answer, and an end when nothing
 * has come for a while.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "net/dnsd.h"

#define CONNS_MAX 16u /* of one sandbox */
#define CONN_NS (10 * SEC_NS)

struct dns_conn {
	struct dns_conn *next, **pprev;
	struct net_lease *l;
	int fd;
	struct ev_io io;
	struct ev_timer timer;
	uint16_t source_port;
	size_t have;
	bool waiting; /* one question at a time */
	uint8_t in[2 + DNS_QUESTION_MAX];
};

static void conn_close(struct dns_conn *c)
{
	struct gw *g = c->l->gw;
	dnsd_drop(c->l, c);
	ev_io_del(&g->ev, &c->io);
	ev_timer_stop(&g->ev, &c->timer);
	fd_close(&c->fd);
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	c->l->nconns--;
	c->l->connections--;
	free(c);
}

void dnsd_tcp_send(struct dns_conn *c, uint8_t *out, size_t n)
{
	out[0] = (uint8_t)(n >> 8);
	out[1] = (uint8_t)n;
	/* An answer at a time fits the send buffer, unless they are not read. */
	if (send(c->fd, out, n + 2, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n + 2)
		shutdown(c->fd, SHUT_RDWR);
	c->waiting = false;
}

void dnsd_tcp_wait(struct dns_conn *c)
{
	c->waiting = true;
}

void dnsd_tcp_forget(struct net_lease *l)
{
	while (l->conns)
		conn_close(l->conns);
}

static void conn_timeout(void *ctx)
{
	conn_close(ctx);
}

/* Whole questions that have come, one after the other. */
void dnsd_tcp_more(struct dns_conn *c)
{
	for (;;) {
		size_t want = c->have < 2 ? 2 : 2 + ((size_t)c->in[0] << 8 | c->in[1]);
		struct dns_way w = { .udp = -1, .conn = c, .source_port = c->source_port };
		if (want > sizeof(c->in)) {
			conn_close(c);
			return;
		}
		if (c->waiting || c->have < 2 || c->have < want)
			break;
		if (!dnsd_question(c->l, &w, c->in + 2, want - 2)) {
			conn_close(c);
			return;
		}
		c->have -= want;
		memmove(c->in, c->in + want, c->have);
	}
	if (ev_io_set(&c->l->gw->ev, c->io, c->waiting ? 0 : EPOLLIN) < 0)
		conn_close(c);
}

static void conn_event(void *ctx, uint32_t events)
{
	struct dns_conn *c = ctx;
	ssize_t n = -1;
	errno = EIO;
	if (!(events & EPOLLERR) && c->have < sizeof(c->in))
		n = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || ev_timer_set(&c->l->gw->ev, &c->timer, clock_now() + CONN_NS) < 0) {
		conn_close(c);
		return;
	}
	c->have += (size_t)n;
	dnsd_tcp_more(c);
}

void dnsd_tcp(struct gw *g, struct net_lease *l, int fd, uint16_t source_port)
{
	struct dns_conn *c = l->nconns < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c || ev_io_add(&g->ev, fd, EPOLLIN, conn_event, c, &c->io) < 0) {
		free(c);
		fd_close(&fd);
		return;
	}
	c->l = l;
	c->fd = fd;
	c->source_port = source_port;
	c->timer = (struct ev_timer){ .fn = conn_timeout, .ctx = c };
	c->next = l->conns;
	c->pprev = &l->conns;
	if (c->next)
		c->next->pprev = &c->next;
	l->conns = c;
	l->nconns++;
	l->connections++;
	if (ev_timer_set(&g->ev, &c->timer, clock_now() + CONN_NS) < 0)
		conn_close(c);
}
