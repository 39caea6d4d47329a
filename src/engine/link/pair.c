/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.c: the link of one sandbox; see gateway.h.
 *
 * Neither end asks for the other's address or answers who asks (IFF_NOARP, and no link-local address):
 * each has the one neighbour it will ever have written in. There is nothing to forge, and nothing is sent
 * when a link comes up.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "engine/link/gateway.h"
#include "engine/link/nl.h"

/* Behind loopback, in a namespace that has nothing else. */
#define INSIDE 2

struct ends {
	uint32_t lease;
	uint8_t own4[4], own6[16], gw4[4], gw6[16], mac[2][6]; /* mac: inside, outside */
};

static void create(struct nl *m, const struct gateway *g, const struct ends *e)
{
	struct ifinfomsg inside = { .ifi_index = INSIDE };
	struct ifinfomsg outside = { .ifi_index = (int)(BRIG_NET_IFINDEX + e->lease) };
	char name[IFNAMSIZ];
	snprintf(name, sizeof(name), "bg%u", e->lease);
	nl_request(m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &inside, sizeof(inside));
	nl_attr_str(m, IFLA_IFNAME, "eth0");
	nl_attr(m, IFLA_ADDRESS, e->mac[0], 6);
	nl_attr_u32(m, IFLA_MTU, BRIG_NET_MTU);
	size_t info = nl_nest(m, IFLA_LINKINFO);
	nl_attr_str(m, IFLA_INFO_KIND, "veth");
	size_t data = nl_nest(m, IFLA_INFO_DATA), peer = nl_nest(m, VETH_INFO_PEER);
	nl_bytes(m, &outside, sizeof(outside));
	nl_attr_str(m, IFLA_IFNAME, name);
	nl_attr(m, IFLA_ADDRESS, e->mac[1], 6);
	nl_attr_u32(m, IFLA_MTU, BRIG_NET_MTU);
	nl_attr_u32(m, IFLA_NET_NS_FD, (uint32_t)g->netns);
	nl_end(m, peer);
	nl_end(m, data);
	nl_end(m, info);
}

static void up(struct nl *m, int ifindex)
{
	struct ifinfomsg i = { .ifi_index = ifindex,
			       .ifi_flags = IFF_UP | IFF_NOARP,
			       .ifi_change = IFF_UP | IFF_NOARP };
	nl_request(m, RTM_SETLINK, NLM_F_ACK, &i, sizeof(i));
}

static void neighbour(struct nl *m, int ifindex, uint8_t family, const uint8_t *addr, const uint8_t mac[6])
{
	struct ndmsg n = { .ndm_family = family, .ndm_ifindex = ifindex, .ndm_state = NUD_PERMANENT };
	nl_request(m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, &n, sizeof(n));
	nl_attr(m, NDA_DST, addr, family == AF_INET ? 4 : 16);
	nl_attr(m, NDA_LLADDR, mac, 6);
}

/* to NULL: everything, by way of the gateway; else this address, on the link itself. from: the own
 * address to speak with. */
static void route(struct nl *m, int ifindex, uint8_t family, const uint8_t *to, const uint8_t *via,
		  const uint8_t *from)
{
	size_t n = family == AF_INET ? 4 : 16;
	struct rtmsg r = { .rtm_family = family,
			   .rtm_dst_len = (uint8_t)(to ? 8 * n : 0),
			   .rtm_table = RT_TABLE_MAIN,
			   .rtm_protocol = RTPROT_STATIC,
			   .rtm_scope = to && family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
			   .rtm_type = RTN_UNICAST,
			   .rtm_flags = via ? RTNH_F_ONLINK : 0 };
	nl_request(m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_ACK, &r, sizeof(r));
	nl_attr_u32(m, RTA_OIF, (uint32_t)ifindex);
	if (to)
		nl_attr(m, RTA_DST, to, n);
	if (via)
		nl_attr(m, RTA_GATEWAY, via, n);
	if (from)
		nl_attr(m, RTA_PREFSRC, from, n);
}

static void address(struct nl *m, uint8_t family, const uint8_t *addr)
{
	size_t n = family == AF_INET ? 4 : 16;
	struct ifaddrmsg a = { .ifa_family = family,
			       .ifa_prefixlen = (uint8_t)(8 * n),
			       .ifa_flags = IFA_F_PERMANENT | IFA_F_NODAD,
			       .ifa_index = INSIDE };
	nl_request(m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_ACK, &a, sizeof(a));
	nl_attr(m, IFA_LOCAL, addr, n);
	nl_attr(m, IFA_ADDRESS, addr, n);
}

static int inside(int rt, const struct gateway *g, const struct ends *e, int six)
{
	static struct nl m;
	nl_reset(&m);
	create(&m, g, e);
	address(&m, AF_INET, e->own4);
	if (six)
		address(&m, AF_INET6, e->own6);
	up(&m, INSIDE);
	neighbour(&m, INSIDE, AF_INET, e->gw4, e->mac[1]);
	route(&m, INSIDE, AF_INET, NULL, e->gw4, NULL);
	if (six) {
		neighbour(&m, INSIDE, AF_INET6, e->gw6, e->mac[1]);
		route(&m, INSIDE, AF_INET6, e->gw6, NULL, NULL);
		route(&m, INSIDE, AF_INET6, NULL, e->gw6, NULL);
	}
	return nl_talk(rt, &m, NULL, NULL, NULL);
}

static int outside(const struct gateway *g, const struct ends *e, int six)
{
	static struct nl m;
	int ifindex = (int)(BRIG_NET_IFINDEX + e->lease);
	nl_reset(&m);
	up(&m, ifindex);
	neighbour(&m, ifindex, AF_INET, e->own4, e->mac[0]);
	route(&m, ifindex, AF_INET, e->own4, NULL, e->gw4);
	if (six) {
		neighbour(&m, ifindex, AF_INET6, e->own6, e->mac[0]);
		route(&m, ifindex, AF_INET6, e->own6, NULL, e->gw6);
	}
	return nl_talk(g->rt, &m, NULL, NULL, NULL);
}

int gateway_link(const struct gateway *g, uint32_t lease)
{
	/* Before the link is there: a new one takes these. */
	static const char *const files[][2] = {
		{ "/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1" },
		{ "/proc/sys/net/ipv6/conf/default/accept_ra", "0" },
		{ "/proc/sys/net/ipv6/conf/default/accept_redirects", "0" },
		{ "/proc/sys/net/ipv6/conf/default/dad_transmits", "0" },
		{ "/proc/sys/net/ipv4/conf/default/accept_redirects", "0" },
	};
	struct ends e = { .lease = lease };
	int six = g->six;
	AUTO_FD rt = nl_open(NETLINK_ROUTE);
	if (rt < 0)
		return rt;
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int r = fd_spew_at(AT_FDCWD, files[i][0], files[i][1]);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	brig_net_addr4(lease, e.own4);
	brig_net_addr6(lease, e.own6);
	brig_net_addr4(0, e.gw4);
	brig_net_addr6(0, e.gw6);
	brig_net_mac(lease, 0, e.mac[0]);
	brig_net_mac(lease, 1, e.mac[1]);
	int r = rules_admit(g->nft, lease);
	if (r == 0)
		r = inside(rt, g, &e, six);
	return r < 0 ? r : outside(g, &e, six);
}
