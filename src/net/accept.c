/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The listeners are in another network namespace; what they accept is, too, and only what is said
 * over such a socket ever leaves it. Who it is, is the source address; where it wanted to go, the
 * kernel says. A sandbox over its limits is reset here, before anything is allocated for it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "net/flow.h"

/* linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h, which cannot stand beside
 * netinet/in.h. */
#define SO_ORIGINAL_DST 80
#define IP6T_SO_ORIGINAL_DST 80
#define ACCEPTS_MAX 64u /* in one round */
#define AGAIN_NS (50 * MS_NS)

static bool original_dst(int fd, const struct net_addr *source, struct net_addr *ret,
			 uint16_t *ret_port)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t n = sizeof(ss);
	int r = net_addr_is_v4(source)
			? getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, &ss, &n)
			: getsockopt(fd, IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST, &ss, &n);
	n = sizeof(ss);
	if (r < 0 && getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
		return false;
	return net_addr_from_sockaddr(&ss, ret, ret_port);
}

static void reset(int *fd)
{
	const struct linger hard = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(*fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	fd_close(fd);
}

/* In all; each may need six descriptors. */
#define FLOWS_MAX 8000u

/* One sandbox gets at most as many as half of what is free, so that a third is all that it can take
 * from the others. */
static bool rate_ok(struct net_lease *l)
{
	uint64_t now = clock_now();
	unsigned n = l->gw->nflows;
	uint64_t share = n < FLOWS_MAX ? (FLOWS_MAX - n) / 2 : 0;
	if (l->connections >= l->connections_max || l->connections >= share ||
	    !bucket_level(&l->connects, now, 1))
		return false;
	bucket_take(&l->connects, 1);
	return true;
}

static void accepted(struct gw *g, int fd, const struct sockaddr_storage *from)
{
	const int one = 1;
	struct net_addr source, dst = { .b = { 0 } };
	uint16_t port = 0, source_port = 0;
	if (!net_addr_from_sockaddr(from, &source, &source_port) ||
	    !original_dst(fd, &source, &dst, &port)) {
		reset(&fd);
		return;
	}
	struct net_lease *l = lease_of(g, &source);
	struct denial d = {
		.reason = EGRESS_R_UNKNOWN, .addr = &dst, .port = port, .source_port = source_port
	};
	if (!l || !rate_ok(l)) {
		if (l)
			d.reason = EGRESS_R_RATE;
		deny(g, l, &d, NULL);
		reset(&fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (port == 53)
		dnsd_tcp(g, l, fd, source_port);
	else
		flow_new(l, fd, &dst, port, source_port);
}

static void listen_events(struct gw *g, uint32_t events)
{
	for (int i = 0; i < 2; i++)
		if (g->tcp_fd[i] >= 0)
			(void)ev_io_set(&g->ev, g->tcp_io[i], events);
}

static void again(void *ctx)
{
	listen_events(ctx, EPOLLIN);
}

static void accept_from(struct gw *g, int listener)
{
	for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
		struct sockaddr_storage from;
		socklen_t n = sizeof(from);
		int fd = accept4(listener, (struct sockaddr *)&from, &n,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			accepted(g, fd, &from);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_line(&g->log, LOG_WARN, NULL, "accept: %s; waiting", strerror(errno));
			listen_events(g, 0);
			if (ev_timer_set(&g->ev, &g->accept_again, clock_now() + AGAIN_NS) < 0)
				listen_events(g, EPOLLIN);
		}
		if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static void event4(void *ctx, uint32_t events)
{
	struct gw *g = ctx;
	(void)events;
	accept_from(g, g->tcp_fd[0]);
}

static void event6(void *ctx, uint32_t events)
{
	struct gw *g = ctx;
	(void)events;
	accept_from(g, g->tcp_fd[1]);
}

int accept_open(struct gw *g, struct brig_err *err)
{
	g->accept_again = (struct ev_timer){ .fn = again, .ctx = g };
	for (int i = 0; i < 2; i++) {
		if (g->tcp_fd[i] < 0)
			continue;
		int r = fd_set_nonblock(g->tcp_fd[i], 1);
		if (r == 0)
			r = ev_io_add(&g->ev, g->tcp_fd[i], EPOLLIN, i ? event6 : event4, g,
				      &g->tcp_io[i]);
		if (r < 0)
			return brig_fail(err, BRIG_E_INTERNAL, -r, "the gateway's listener");
	}
	return 0;
}

void accept_done(struct gw *g)
{
	ev_timer_stop(&g->ev, &g->accept_again);
	for (int i = 0; i < 2; i++)
		ev_io_del(&g->ev, &g->tcp_io[i]);
}
