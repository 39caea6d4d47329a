/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway.c: the gateway namespace; see gateway.h. pair.c makes links.
 *
 * Every address is local in it ("local default dev lo"), so that a packet to anywhere is received and
 * never forwarded; only the leases have routes of their own, each to its link, and what goes from one to
 * another the rules let through for the two that are peers.
 */
#include "engine/link/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/link/nl.h"

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75 /* include/uapi/linux/in6.h */
#endif

#define LO 1
#define BACKLOG 4096

static const struct {
	const char *file, *value;
	int six;
} settings[] = {
	/* Between the links of a private network; everything else is dropped in the forward hook. */
	{ "net/ipv4/ip_forward", "1", 0 },
	/* The rules know better than a reverse path where a packet may come from. */
	{ "net/ipv4/conf/all/rp_filter", "0", 0 },
	{ "net/ipv4/conf/default/rp_filter", "0", 0 },
	{ "net/ipv4/conf/all/accept_redirects", "0", 0 },
	{ "net/ipv4/conf/default/accept_redirects", "0", 0 },
	/* Half-open connections cost their sender a cookie and us nothing. */
	{ "net/ipv4/tcp_syncookies", "1", 0 },
	/* Refusals are paced by the rules, for each link by itself. */
	{ "net/ipv4/icmp_ratelimit", "0", 0 },
	{ "net/ipv6/icmp/ratelimit", "0", 1 },
	{ "net/ipv6/conf/all/forwarding", "0", 1 },
	{ "net/ipv6/conf/default/accept_ra", "0", 1 },
	{ "net/ipv6/conf/default/accept_redirects", "0", 1 },
	{ "net/ipv6/conf/default/addr_gen_mode", "1", 1 },
	{ "net/ipv6/conf/default/dad_transmits", "0", 1 },
};

static int settings_write(void)
{
	for (unsigned i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		char path[96];
		snprintf(path, sizeof(path), "/proc/sys/%s", settings[i].file);
		int r = fd_spew_at(AT_FDCWD, path, settings[i].value);
		/* A kernel without IPv6 has none of its files; some have no per-namespace icmp_ratelimit. */
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static void local_default(struct nl *m, uint8_t family)
{
	struct rtmsg r = { .rtm_family = family,
			   .rtm_table = RT_TABLE_MAIN,
			   .rtm_protocol = RTPROT_STATIC,
			   .rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
			   .rtm_type = RTN_LOCAL };
	nl_request(m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_ACK, &r, sizeof(r));
	nl_attr_u32(m, RTA_OIF, LO);
}

static void own_address(struct nl *m, uint8_t family, const uint8_t *addr, size_t n)
{
	struct ifaddrmsg a = { .ifa_family = family,
			       .ifa_prefixlen = (uint8_t)(8 * n),
			       .ifa_flags = IFA_F_PERMANENT,
			       .ifa_index = LO };
	nl_request(m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_ACK, &a, sizeof(a));
	nl_attr(m, IFA_LOCAL, addr, n);
	nl_attr(m, IFA_ADDRESS, addr, n);
}

/* Loopback: up, with the gateway's addresses, and marked. */
static int loopback(struct gateway *g, const char *name)
{
	static struct nl m;
	char alias[64];
	uint8_t v4[4], v6[16];
	struct ifinfomsg up = { .ifi_index = LO, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	snprintf(alias, sizeof(alias), "brig-gateway-%s", name);
	brig_net_addr4(0, v4);
	brig_net_addr6(0, v6);
	nl_reset(&m);
	nl_request(&m, RTM_SETLINK, NLM_F_ACK, &up, sizeof(up));
	nl_attr(&m, IFLA_IFALIAS, alias, strlen(alias));
	own_address(&m, AF_INET, v4, sizeof(v4));
	local_default(&m, AF_INET);
	int r = nl_talk(g->rt, &m, NULL, NULL, NULL);
	if (r < 0)
		return r;
	nl_reset(&m);
	own_address(&m, AF_INET6, v6, sizeof(v6));
	local_default(&m, AF_INET6);
	r = nl_talk(g->rt, &m, NULL, NULL, NULL);
	/* Without IPv6 (ipv6.disable=1, or disabled for new namespaces) sandboxes have the other only. */
	g->six = r == 0;
	return r == -EOPNOTSUPP || r == -EACCES || r == -EAFNOSUPPORT ? 0 : r;
}

static int one_socket(int six, int type, uint16_t port)
{
	AUTO_FD fd = socket(six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1;
	if (fd < 0)
		return -errno;
	if (six ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0 ||
			  setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof(one)) < 0 ||
			  setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one)) < 0
		: setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one)) < 0 ||
			  setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)) < 0)
		return -errno;
	if (bind(fd, six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4, six ? sizeof(a6) : sizeof(a4)) <
		    0 ||
	    (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
		return -errno;
	return fd_steal(&fd);
}

static int sockets_open(struct gateway *g)
{
	static const struct {
		int six, type;
		uint16_t port;
	} want[BRIG_NET_SOCKETS] = {
		[BRIG_NET_TCP4] = { 0, SOCK_STREAM, BRIG_NET_PORT },
		[BRIG_NET_TCP6] = { 1, SOCK_STREAM, BRIG_NET_PORT },
		[BRIG_NET_UDP4] = { 0, SOCK_DGRAM, BRIG_NET_DNS_PORT },
		[BRIG_NET_UDP6] = { 1, SOCK_DGRAM, BRIG_NET_DNS_PORT },
	};
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++) {
		if (want[i].six && !g->six)
			continue;
		int fd = one_socket(want[i].six, want[i].type, want[i].port);
		if (fd < 0)
			return fd;
		g->sock[i] = fd;
	}
	return 0;
}

/* A listener for what the rules log. */
static int packets_open(struct gateway *g)
{
	static struct nl m;
	const struct nfgenmsg head = { .version = NFNETLINK_V0, .res_id = htons(RULES_LOG_GROUP) };
	const uint16_t type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
	const struct nfulnl_msg_config_cmd bind_cmd = { .command = NFULNL_CFG_CMD_BIND };
	const struct nfulnl_msg_config_mode mode = { .copy_range = htonl(96),
						     .copy_mode = NFULNL_COPY_PACKET };
	g->packets = nl_open(NETLINK_NETFILTER);
	if (g->packets < 0)
		return g->packets;
	nl_reset(&m);
	nl_request(&m, type, NLM_F_ACK, &head, sizeof(head));
	nl_attr(&m, NFULA_CFG_CMD, &bind_cmd, sizeof(bind_cmd));
	nl_request(&m, type, NLM_F_ACK, &head, sizeof(head));
	nl_attr(&m, NFULA_CFG_MODE, &mode, sizeof(mode));
	nl_request(&m, type, NLM_F_ACK, &head, sizeof(head));
	nl_attr_be32(&m, NFULA_CFG_QTHRESH, 1);
	int r = nl_talk(g->packets, &m, NULL, NULL, NULL);
	return r < 0 ? r : fd_set_nonblock(g->packets, 1);
}

/* In the new namespace. */
static int furnish(struct gateway *g, const char *name, const char **ret_step)
{
	int r;
	*ret_step = "settings";
	if ((r = settings_write()) < 0)
		return r;
	*ret_step = "netlink";
	if ((g->rt = nl_open(NETLINK_ROUTE)) < 0)
		return g->rt;
	if ((g->nft = nl_open(NETLINK_NETFILTER)) < 0)
		return g->nft;
	*ret_step = "loopback";
	if ((r = loopback(g, name)) < 0)
		return r;
	if ((r = rules_load(g->nft, ret_step)) < 0)
		return r;
	*ret_step = "sockets";
	if ((r = sockets_open(g)) < 0)
		return r;
	*ret_step = "a log of packets";
	return packets_open(g);
}

int gateway_make(struct gateway *g, int home, const char *name, struct brig_err *err)
{
	const char *step = "a namespace";
	*g = (struct gateway)GATEWAY_NONE;
	int r = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	if (r == 0) {
		g->netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		r = g->netns < 0 ? -errno : furnish(g, name, &step);
		if (setns(home, CLONE_NEWNET) < 0 && r == 0)
			r = -errno;
	}
	if (r == 0)
		return 0;
	gateway_done(g);
	brig_fail(err, BRIG_E_UNSUPPORTED, -r, "make a gateway for sandboxes' networks: %s", step);
	return brig_fix(err, "load nf_tables, nft_tproxy, nft_limit, nft_log, nft_reject_inet, "
			     "nfnetlink_log and veth (`brig doctor` tells what is missing)");
}

void gateway_done(struct gateway *g)
{
	fd_close(&g->rt);
	fd_close(&g->nft);
	fd_close(&g->packets);
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++)
		fd_close(&g->sock[i]);
	fd_close(&g->netns);
}

int gateway_resume(struct gateway *g, int home, int netns, int packets, int six)
{
	*g = (struct gateway)GATEWAY_NONE;
	g->netns = netns;
	g->packets = packets;
	g->six = six;
	int r = gateway_reopen(g, home);
	/* Which did was known to that process alone. */
	if (r == 0)
		r = rules_peers_end(g->nft);
	if (r < 0)
		gateway_done(g);
	return r;
}

int gateway_reopen(struct gateway *g, int home)
{
	fd_close(&g->rt);
	fd_close(&g->nft);
	if (setns(g->netns, CLONE_NEWNET) < 0)
		return -errno;
	g->rt = nl_open(NETLINK_ROUTE);
	g->nft = nl_open(NETLINK_NETFILTER);
	if (setns(home, CLONE_NEWNET) < 0)
		return -errno;
	return g->rt < 0 ? g->rt : g->nft < 0 ? g->nft : 0;
}
