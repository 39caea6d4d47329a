/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Every address of this host, on every interface, as the kernel tells it: a dump at the start, and
 * each change as it comes. When changes were lost (ENOBUFS) everything is read again, and until
 * then nothing is taken away. While the table is full, or not yet read, the kernel is asked for
 * each address instead (local_route): a socket that is connected to an address of this host has the
 * same address as its own. That is asked in any case, since a local route may cover whole prefixes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "net/gw.h"

static void host_add(struct gw *g, const struct net_addr *a)
{
	for (unsigned i = 0; i < g->nhost; i++)
		if (net_addr_eq(&g->host[i], a))
			return;
	if (g->nhost == GW_HOST_ADDRS_MAX)
		return;
	g->host[g->nhost++] = *a;
}

static void host_del(struct gw *g, const struct net_addr *a)
{
	for (unsigned i = 0; i < g->nhost; i++)
		if (net_addr_eq(&g->host[i], a))
			g->host[i--] = g->host[--g->nhost];
}

static int dump(struct gw *g)
{
	const struct {
		struct nlmsghdr h;
		struct ifaddrmsg m;
	} ask = { .h = { .nlmsg_len = sizeof(ask),
			 .nlmsg_type = RTM_GETADDR,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			 .nlmsg_seq = 1 },
		  .m = { .ifa_family = AF_UNSPEC } };
	return send(g->route_fd, &ask, sizeof(ask), 0) == sizeof(ask) ? 0 : -errno;
}

static void address(struct gw *g, struct nlmsghdr *h)
{
	struct ifaddrmsg *m = NLMSG_DATA(h);
	size_t n = h->nlmsg_len - NLMSG_LENGTH(sizeof(*m));
	size_t size = m->ifa_family == AF_INET ? 4 : m->ifa_family == AF_INET6 ? 16 : 0;
	struct rtattr *a = IFA_RTA(m);
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) || !size)
		return;
	for (; RTA_OK(a, n); a = RTA_NEXT(a, n)) {
		/* LOCAL is the own one of a point-to-point link, BROADCAST a way to all. */
		if ((a->rta_type != IFA_ADDRESS && a->rta_type != IFA_LOCAL &&
		     a->rta_type != IFA_BROADCAST) ||
		    RTA_PAYLOAD(a) != size)
			continue;
		struct net_addr x = size == 4 ? net_addr_v4(RTA_DATA(a)) : net_addr_v6(RTA_DATA(a));
		if (h->nlmsg_type == RTM_NEWADDR)
			host_add(g, &x);
		else
			host_del(g, &x);
	}
}

/* True: nothing more now. */
static bool messages(struct gw *g)
{
	static union {
		struct nlmsghdr h;
		uint8_t bytes[32768];
	} in;
	struct sockaddr_nl from = { .nl_pid = 0 };
	socklen_t len = sizeof(from);
	ssize_t got =
		recvfrom(g->route_fd, in.bytes, sizeof(in), 0, (struct sockaddr *)&from, &len);
	if (got < 0 && errno == ENOBUFS) {
		if (dump(g) < 0)
			g->quit = true; /* better nobody than somebody unchecked */
		return false;
	}
	if (got <= 0 || from.nl_pid != 0)
		return got <= 0;
	unsigned n = (unsigned)got;
	for (struct nlmsghdr *h = &in.h; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
		if (h->nlmsg_type == RTM_NEWADDR || h->nlmsg_type == RTM_DELADDR)
			address(g, h);
	return false;
}

static void event(void *ctx, uint32_t events)
{
	(void)events;
	while (!messages(ctx))
		continue;
}

int host_open(struct gw *g, struct brig_err *err)
{
	struct sockaddr_nl me = { .nl_family = AF_NETLINK,
				  .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
	g->route_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (g->route_fd < 0 || bind(g->route_fd, (struct sockaddr *)&me, sizeof(me)) < 0 ||
	    dump(g) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "ask for the host's addresses");
	/* The kernel writes a dump's first part at once, and the others as they are read. */
	event(g, 0);
	int r = ev_io_add(&g->ev, g->route_fd, EPOLLIN, event, g, &g->route_io);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "watch the host's addresses") : 0;
}

void host_done(struct gw *g)
{
	ev_io_del(&g->ev, &g->route_io);
	fd_close(&g->route_fd);
}

static bool local_route(const struct net_addr *a)
{
	struct sockaddr_storage to, own;
	struct net_addr mine;
	uint16_t port;
	socklen_t len = sizeof(own), n = net_addr_to_sockaddr(a, 9, &to);
	AUTO_FD fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* Where no route leads nothing can be reached either. */
	return fd >= 0 && connect(fd, (struct sockaddr *)&to, n) == 0 &&
	       getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
	       net_addr_from_sockaddr(&own, &mine, &port) && net_addr_eq(&mine, a);
}

static bool routed(const char *text)
{
	struct net_addr a;
	struct sockaddr_storage to;
	if (!net_addr_parse(text, strlen(text), &a))
		return false;
	socklen_t n = net_addr_to_sockaddr(&a, 9, &to);
	AUTO_FD fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && connect(fd, (struct sockaddr *)&to, n) == 0; /* sends nothing */
}

#define SIX_NS (2 * SEC_NS)

bool gw_has_six(struct gw *g)
{
	uint64_t now = clock_now();
	if (!g->six_at || now - g->six_at > SIX_NS) {
		/* Some public address, and some private one, that a grant may name. */
		g->six = routed("2001:4860:4860::8888") || routed("fd00::1");
		g->six_at = now;
	}
	return g->six;
}

enum net_protect gw_protect(struct gw *g, const struct net_addr *addr)
{
	enum net_protect p = net_addr_protect(addr);
	/* What a sandbox has as its own address is no neighbour's, whatever range that is in. */
	if (lease_of(g, addr))
		return NET_PROTECT_SANDBOX;
	for (unsigned i = 0; i < g->nsandbox_nets; i++)
		if (net_addr_in(addr, &g->sandbox_net[i], g->sandbox_bits[i]))
			return NET_PROTECT_SANDBOX;
	if (p == NET_PROTECT_LOOPBACK || p == NET_PROTECT_METADATA)
		return p;
	for (unsigned i = 0; i < g->nhost; i++)
		if (net_addr_eq(&g->host[i], addr))
			return NET_PROTECT_HOST;
	if (p == NET_PROTECT_MULTICAST || p == NET_PROTECT_LINK_LOCAL)
		return p;
	return local_route(addr) ? NET_PROTECT_HOST : p;
}
