/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.c: see rules.h.
 *
 * Theory of operation: one table, loaded once when the gateway namespace is made. A lease is an element
 * of two sets and never a rule, so a packet costs the same with one sandbox and with a thousand. In the
 * words of nft(8):
 *
 *   set lease4 { iface_index . ether_addr . ipv4_addr }     set lease6 { .. . ipv6_addr }
 *   set peers { iface_index . ipv4_addr }                   links of one private network, both ways
 *   chain door {                      every packet that comes in from a link, before it is routed
 *     type filter hook prerouting priority mangle; policy drop
 *     iif lo accept
 *     meta nfproto ipv4 iif . ether saddr . ip saddr @lease4 goto from4
 *     meta nfproto ipv6 iif . ether saddr . ip6 saddr @lease6 goto from6
 *     ip6 daddr ff00::/8 drop         what a kernel says by itself when a link comes up; not a forgery
 *     update @forged { iif counter }
 *     update @sampled { iif limit rate 5/second } log group 1 prefix "forged" snaplen 96
 *   }
 *   chain from4 {
 *     iif . ip daddr @peers accept            to another link, over IPv4: names have no other addresses
 *     ip daddr 198.18.0.0/15 ip daddr != 198.18.0.0/24 goto refuse
 *     tcp flags & (fin|syn|rst|ack) == syn update @opens { iif limit rate over 500/second } goto refuse
 *     meta l4proto tcp tproxy ip to :1080 accept
 *     udp dport 53 tproxy ip to :53 accept
 *     goto refuse
 *   }
 *   chain from6 { the same, without peers }
 *   chain refuse {
 *     update @refused { iif counter }
 *     update @sampled { iif limit rate 5/second } log group 1 prefix "refused" snaplen 96
 *     update @answered { iif limit rate 50/second } reject with icmpx admin-prohibited
 *     drop
 *   }
 *   chain forward { type filter hook forward priority filter; policy drop; iif . ip daddr @peers accept }
 *
 * Connections are not tracked: tproxy gives a packet to the socket of its connection, or to the one that
 * listens, by itself. So there is no table that a flood could fill.
 *
 * ARP does not come here and is ignored: the ends of a link do not use it (pair.c). A frame with a VLAN
 * tag finds no device with that tag, and the kernel drops it before any rule.
 */
#include "engine/link/rules.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "brig/ids.h"
#include "brig/net.h"
#include "engine/link/nl.h"

#define TABLE "brig"
/* include/uapi/linux/netfilter.h, which cannot be had beside the C library's own netinet/in.h */
#define FAMILY_INET 1u
#define HOOK_PREROUTING 0u
#define HOOK_FORWARD 2u
#define DROP 0u
#define ACCEPT 1u
#define PRIORITY_MANGLE (-150)

/* Registers of 4 bytes: a key begins in the first. */
#define REG NFT_REG32_00
#define SPARE NFT_REG32_08

/* Types of a set's key, for nft(8) to print it (libnftables, enum datatypes). */
#define TYPE_IPADDR 7u
#define TYPE_IP6ADDR 8u
#define TYPE_ETHERADDR 9u
#define TYPE_IFINDEX 20u
#define CONCAT2(a, b) ((a) << 6 | (b))
#define CONCAT3(a, b, c) CONCAT2(CONCAT2(a, b), c)

/* ---- expressions: the rule is open, and so is its list of expressions ---- */

struct expr {
	size_t elem, data;
};

static struct expr expr_begin(struct nl *m, const char *name)
{
	struct expr e = { .elem = nl_nest(m, NFTA_LIST_ELEM) };
	nl_attr_str(m, NFTA_EXPR_NAME, name);
	e.data = nl_nest(m, NFTA_EXPR_DATA);
	return e;
}

static void expr_end(struct nl *m, struct expr e)
{
	nl_end(m, e.data);
	nl_end(m, e.elem);
}

static void load_meta(struct nl *m, uint32_t key, uint32_t reg)
{
	struct expr e = expr_begin(m, "meta");
	nl_attr_be32(m, NFTA_META_KEY, key);
	nl_attr_be32(m, NFTA_META_DREG, reg);
	expr_end(m, e);
}

static void load_payload(struct nl *m, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
	struct expr e = expr_begin(m, "payload");
	nl_attr_be32(m, NFTA_PAYLOAD_DREG, reg);
	nl_attr_be32(m, NFTA_PAYLOAD_BASE, base);
	nl_attr_be32(m, NFTA_PAYLOAD_OFFSET, offset);
	nl_attr_be32(m, NFTA_PAYLOAD_LEN, len);
	expr_end(m, e);
}

static void value(struct nl *m, uint16_t attr, const void *p, size_t n)
{
	size_t at = nl_nest(m, attr);
	nl_attr(m, NFTA_DATA_VALUE, p, n);
	nl_end(m, at);
}

static void compare(struct nl *m, uint32_t op, uint32_t reg, const void *p, size_t n)
{
	struct expr e = expr_begin(m, "cmp");
	nl_attr_be32(m, NFTA_CMP_SREG, reg);
	nl_attr_be32(m, NFTA_CMP_OP, op);
	value(m, NFTA_CMP_DATA, p, n);
	expr_end(m, e);
}

static void equals(struct nl *m, uint32_t reg, const void *p, size_t n)
{
	compare(m, NFT_CMP_EQ, reg, p, n);
}

static void verdict(struct nl *m, uint32_t code, const char *chain)
{
	struct expr e = expr_begin(m, "immediate");
	nl_attr_be32(m, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	size_t data = nl_nest(m, NFTA_IMMEDIATE_DATA), v = nl_nest(m, NFTA_DATA_VERDICT);
	nl_attr_be32(m, NFTA_VERDICT_CODE, code);
	if (chain)
		nl_attr_str(m, NFTA_VERDICT_CHAIN, chain);
	nl_end(m, v);
	nl_end(m, data);
	expr_end(m, e);
}

static void in_set(struct nl *m, const char *set)
{
	struct expr e = expr_begin(m, "lookup");
	nl_attr_str(m, NFTA_LOOKUP_SET, set);
	nl_attr_be32(m, NFTA_LOOKUP_SREG, REG);
	expr_end(m, e);
}

static void tproxy(struct nl *m, uint32_t family, uint16_t port)
{
	uint16_t p = htons(port);
	struct expr e = expr_begin(m, "immediate");
	nl_attr_be32(m, NFTA_IMMEDIATE_DREG, REG);
	value(m, NFTA_IMMEDIATE_DATA, &p, sizeof(p));
	expr_end(m, e);
	e = expr_begin(m, "tproxy");
	nl_attr_be32(m, NFTA_TPROXY_FAMILY, family);
	nl_attr_be32(m, NFTA_TPROXY_REG_PORT, REG);
	expr_end(m, e);
	verdict(m, ACCEPT, NULL);
}

static void masked(struct nl *m, const void *mask, uint32_t n)
{
	static const uint8_t zero[8];
	struct expr e = expr_begin(m, "bitwise");
	nl_attr_be32(m, NFTA_BITWISE_SREG, REG);
	nl_attr_be32(m, NFTA_BITWISE_DREG, REG);
	nl_attr_be32(m, NFTA_BITWISE_LEN, n);
	value(m, NFTA_BITWISE_MASK, mask, n);
	value(m, NFTA_BITWISE_XOR, zero, n);
	expr_end(m, e);
}

/* What a dynamic set does for the link a packet came from. over: goes on if the rate is exceeded. */
struct per_link {
	const char *set;
	uint64_t rate; /* a second; 0 = counts */
	uint32_t burst;
	int over;
};
static const struct per_link count_forged = { .set = "forged" }, count_refused = { .set = "refused" },
			     may_log = { .set = "sampled", .rate = 5, .burst = 10 },
			     may_answer = { .set = "answered", .rate = 50, .burst = 100 },
			     opens_too_much = { .set = "opens", .rate = 500, .burst = 1000, .over = 1 };

static void update(struct nl *m, const struct per_link *p)
{
	load_meta(m, NFT_META_IIF, REG);
	struct expr e = expr_begin(m, "dynset");
	nl_attr_str(m, NFTA_DYNSET_SET_NAME, p->set);
	nl_attr_be32(m, NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
	nl_attr_be32(m, NFTA_DYNSET_SREG_KEY, REG);
	size_t inner = nl_nest(m, NFTA_DYNSET_EXPR);
	nl_attr_str(m, NFTA_EXPR_NAME, p->rate ? "limit" : "counter");
	size_t data = nl_nest(m, NFTA_EXPR_DATA);
	if (p->rate) {
		nl_attr_be64(m, NFTA_LIMIT_RATE, p->rate);
		nl_attr_be64(m, NFTA_LIMIT_UNIT, 1);
		nl_attr_be32(m, NFTA_LIMIT_BURST, p->burst);
		nl_attr_be32(m, NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
		nl_attr_be32(m, NFTA_LIMIT_FLAGS, p->over ? NFT_LIMIT_F_INV : 0);
	}
	nl_end(m, data);
	nl_end(m, inner);
	expr_end(m, e);
}

static void log_packet(struct nl *m, const char *prefix)
{
	uint16_t group = htons(RULES_LOG_GROUP);
	struct expr e = expr_begin(m, "log");
	nl_attr_str(m, NFTA_LOG_PREFIX, prefix);
	nl_attr(m, NFTA_LOG_GROUP, &group, sizeof(group));
	nl_attr_be32(m, NFTA_LOG_SNAPLEN, 96);
	expr_end(m, e);
}

static void reject(struct nl *m)
{
	uint8_t code = NFT_REJECT_ICMPX_ADMIN_PROHIBITED;
	struct expr e = expr_begin(m, "reject");
	nl_attr_be32(m, NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
	nl_attr(m, NFTA_REJECT_ICMP_CODE, &code, sizeof(code));
	expr_end(m, e);
}

static void is_l4(struct nl *m, uint8_t proto)
{
	load_meta(m, NFT_META_L4PROTO, REG);
	equals(m, REG, &proto, sizeof(proto));
}

static void is_port(struct nl *m, uint16_t port)
{
	uint16_t p = htons(port);
	load_payload(m, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, REG);
	equals(m, REG, &p, sizeof(p));
}

static void is_family(struct nl *m, uint8_t family)
{
	load_meta(m, NFT_META_NFPROTO, REG);
	equals(m, REG, &family, sizeof(family));
}

static void is_open(struct nl *m)
{
	const uint8_t mask = 0x17, syn = 0x02; /* of FIN, SYN, RST, ACK: SYN alone */
	load_payload(m, NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, REG);
	masked(m, &mask, 1);
	equals(m, REG, &syn, 1);
}

/* ---- the batch ---- */

static void request(struct nl *m, uint16_t type, uint16_t flags)
{
	const struct nfgenmsg g = { .nfgen_family = FAMILY_INET, .version = NFNETLINK_V0 };
	nl_request(m, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &g, sizeof(g));
}

static void batch(struct nl *m, uint16_t type)
{
	const struct nfgenmsg g = { .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES) };
	nl_request(m, type, 0, &g, sizeof(g));
}

static void add_set(struct nl *m, uint32_t id, const char *name, uint32_t type, uint32_t len, int dynamic,
		    uint32_t size)
{
	request(m, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_ACK);
	nl_attr_str(m, NFTA_SET_TABLE, TABLE);
	nl_attr_str(m, NFTA_SET_NAME, name);
	nl_attr_be32(m, NFTA_SET_ID, id);
	nl_attr_be32(m, NFTA_SET_KEY_TYPE, type);
	nl_attr_be32(m, NFTA_SET_KEY_LEN, len);
	nl_attr_be32(m, NFTA_SET_FLAGS, dynamic ? NFT_SET_EVAL : 0);
	size_t desc = nl_nest(m, NFTA_SET_DESC);
	nl_attr_be32(m, NFTA_SET_DESC_SIZE, size);
	nl_end(m, desc);
}

static void add_chain(struct nl *m, const char *name, int hook, int priority)
{
	request(m, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK);
	nl_attr_str(m, NFTA_CHAIN_TABLE, TABLE);
	nl_attr_str(m, NFTA_CHAIN_NAME, name);
	if (hook < 0)
		return;
	size_t h = nl_nest(m, NFTA_CHAIN_HOOK);
	nl_attr_be32(m, NFTA_HOOK_HOOKNUM, (uint32_t)hook);
	nl_attr_be32(m, NFTA_HOOK_PRIORITY, (uint32_t)priority);
	nl_end(m, h);
	nl_attr_be32(m, NFTA_CHAIN_POLICY, DROP);
	nl_attr_str(m, NFTA_CHAIN_TYPE, "filter");
}

static size_t rule_begin(struct nl *m, const char *chain)
{
	request(m, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK);
	nl_attr_str(m, NFTA_RULE_TABLE, TABLE);
	nl_attr_str(m, NFTA_RULE_CHAIN, chain);
	return nl_nest(m, NFTA_RULE_EXPRESSIONS);
}

static void add_door(struct nl *m)
{
	const uint32_t lo = 1; /* of every namespace */
	const uint8_t multicast = 0xff;
	size_t r = rule_begin(m, "door");
	load_meta(m, NFT_META_IIF, REG);
	equals(m, REG, &lo, sizeof(lo));
	verdict(m, ACCEPT, NULL);
	nl_end(m, r);
	for (int six = 0; six < 2; six++) {
		r = rule_begin(m, "door");
		is_family(m, six ? AF_INET6 : AF_INET);
		load_meta(m, NFT_META_IIF, REG);
		load_payload(m, NFT_PAYLOAD_LL_HEADER, 6, 6, REG + 1);
		load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, six ? 8 : 12, six ? 16 : 4, REG + 3);
		in_set(m, six ? "lease6" : "lease4");
		verdict(m, (uint32_t)NFT_GOTO, six ? "from6" : "from4");
		nl_end(m, r);
	}
	r = rule_begin(m, "door");
	is_family(m, AF_INET6);
	load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, 24, 1, REG);
	equals(m, REG, &multicast, 1);
	verdict(m, DROP, NULL);
	nl_end(m, r);
	r = rule_begin(m, "door");
	update(m, &count_forged);
	nl_end(m, r);
	r = rule_begin(m, "door");
	update(m, &may_log);
	log_packet(m, RULES_FORGED);
	nl_end(m, r);
}

static void to_peer(struct nl *m, const char *chain)
{
	size_t r = rule_begin(m, chain);
	is_family(m, AF_INET);
	load_meta(m, NFT_META_IIF, REG);
	load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, 16, 4, REG + 1);
	in_set(m, "peers");
	verdict(m, ACCEPT, NULL);
	nl_end(m, r);
}

/* To another link without being its peer: the addresses of all but the gateway's own 198.18.0.0/24. */
static void to_strangers(struct nl *m)
{
	static const uint8_t wide[] = { 255, 254, 0, 0 }, all[] = { 198, 18, 0, 0 }, narrow[] = { 255, 255, 255, 0 };
	size_t r = rule_begin(m, "from4");
	load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, 16, 4, REG);
	masked(m, wide, sizeof(wide));
	equals(m, REG, all, sizeof(all));
	load_payload(m, NFT_PAYLOAD_NETWORK_HEADER, 16, 4, REG);
	masked(m, narrow, sizeof(narrow));
	compare(m, NFT_CMP_NEQ, REG, all, sizeof(all));
	verdict(m, (uint32_t)NFT_GOTO, "refuse");
	nl_end(m, r);
}

static void add_from(struct nl *m, const char *chain, uint32_t family)
{
	size_t r = rule_begin(m, chain);
	is_l4(m, 6);
	is_open(m);
	update(m, &opens_too_much);
	verdict(m, (uint32_t)NFT_GOTO, "refuse");
	nl_end(m, r);
	r = rule_begin(m, chain);
	is_l4(m, 6);
	tproxy(m, family, BRIG_NET_PORT);
	nl_end(m, r);
	r = rule_begin(m, chain);
	is_l4(m, 17);
	is_port(m, BRIG_NET_DNS_PORT);
	tproxy(m, family, BRIG_NET_DNS_PORT);
	nl_end(m, r);
	r = rule_begin(m, chain);
	verdict(m, (uint32_t)NFT_GOTO, "refuse");
	nl_end(m, r);
}

static void add_refuse(struct nl *m)
{
	size_t r = rule_begin(m, "refuse");
	update(m, &count_refused);
	nl_end(m, r);
	r = rule_begin(m, "refuse");
	update(m, &may_log);
	log_packet(m, RULES_REFUSED);
	nl_end(m, r);
	r = rule_begin(m, "refuse");
	update(m, &may_answer);
	reject(m);
	nl_end(m, r);
	r = rule_begin(m, "refuse");
	verdict(m, DROP, NULL);
	nl_end(m, r);
}

int rules_load(int nft, const char **ret_step)
{
	static struct nl m;
	static const char *const dynamic[] = { "forged", "refused", "sampled", "answered", "opens" };
	static const char *const chains[] = { "from4", "from6", "refuse" };
	unsigned which = 0;
	nl_reset(&m);
	batch(&m, NFNL_MSG_BATCH_BEGIN);
	request(&m, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
	nl_attr_str(&m, NFTA_TABLE_NAME, TABLE);
	add_set(&m, 1, "lease4", CONCAT3(TYPE_IFINDEX, TYPE_ETHERADDR, TYPE_IPADDR), 16, 0, 2 * BRIG_ID_SLOTS);
	add_set(&m, 2, "lease6", CONCAT3(TYPE_IFINDEX, TYPE_ETHERADDR, TYPE_IP6ADDR), 28, 0, 2 * BRIG_ID_SLOTS);
	add_set(&m, 3, "peers", CONCAT2(TYPE_IFINDEX, TYPE_IPADDR), 8, 0, 2 * RULES_PEERS_MAX);
	for (uint32_t i = 0; i < sizeof(dynamic) / sizeof(dynamic[0]); i++)
		add_set(&m, 4 + i, dynamic[i], TYPE_IFINDEX, 4, 1, 2 * BRIG_ID_SLOTS);
	add_chain(&m, "door", HOOK_PREROUTING, PRIORITY_MANGLE);
	add_chain(&m, "forward", HOOK_FORWARD, 0);
	for (unsigned i = 0; i < sizeof(chains) / sizeof(chains[0]); i++)
		add_chain(&m, chains[i], -1, 0);
	add_door(&m);
	to_peer(&m, "from4");
	to_strangers(&m);
	add_from(&m, "from4", AF_INET);
	add_from(&m, "from6", AF_INET6);
	add_refuse(&m);
	to_peer(&m, "forward");
	batch(&m, NFNL_MSG_BATCH_END);
	int r = nl_talk(nft, &m, &which, NULL, NULL);
	/* By the places above: the table, sets, chains, then rules. */
	*ret_step = which <= 1 ? "nftables" : which <= 9 ? "its sets" : which <= 14 ? "its chains" : "its rules (tproxy, reject, log, limit)";
	return r;
}

static void element(struct nl *m, uint16_t type, const char *set, const uint8_t *key, size_t n)
{
	request(m, type, (type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0) | NLM_F_ACK);
	nl_attr_str(m, NFTA_SET_ELEM_LIST_TABLE, TABLE);
	nl_attr_str(m, NFTA_SET_ELEM_LIST_SET, set);
	size_t list = nl_nest(m, NFTA_SET_ELEM_LIST_ELEMENTS), elem = nl_nest(m, NFTA_LIST_ELEM);
	value(m, NFTA_SET_ELEM_KEY, key, n);
	nl_end(m, elem);
	nl_end(m, list);
}

static void add_element(struct nl *m, const char *set, uint32_t lease, const uint8_t *addr, size_t n)
{
	uint8_t key[28] = { 0 };
	uint32_t ifindex = BRIG_NET_IFINDEX + lease;
	memcpy(key, &ifindex, sizeof(ifindex));
	brig_net_mac(lease, 0, key + 4);
	memcpy(key + 12, addr, n);
	element(m, NFT_MSG_NEWSETELEM, set, key, 12 + n);
}

int rules_peer(int nft, uint32_t a, uint32_t b, int on)
{
	static struct nl m;
	nl_reset(&m);
	batch(&m, NFNL_MSG_BATCH_BEGIN);
	for (int i = 0; i < 2; i++) {
		uint8_t key[8];
		uint32_t ifindex = BRIG_NET_IFINDEX + (i ? b : a);
		memcpy(key, &ifindex, sizeof(ifindex));
		brig_net_addr4(i ? a : b, key + 4);
		element(&m, on ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, "peers", key, sizeof(key));
	}
	batch(&m, NFNL_MSG_BATCH_END);
	return nl_talk(nft, &m, NULL, NULL, NULL);
}

int rules_peers_end(int nft)
{
	static struct nl m;
	nl_reset(&m);
	batch(&m, NFNL_MSG_BATCH_BEGIN);
	/* Without a list: every element. */
	request(&m, NFT_MSG_DELSETELEM, NLM_F_ACK);
	nl_attr_str(&m, NFTA_SET_ELEM_LIST_TABLE, TABLE);
	nl_attr_str(&m, NFTA_SET_ELEM_LIST_SET, "peers");
	batch(&m, NFNL_MSG_BATCH_END);
	return nl_talk(nft, &m, NULL, NULL, NULL);
}

int rules_admit(int nft, uint32_t lease)
{
	static struct nl m;
	uint8_t v4[4], v6[16];
	brig_net_addr4(lease, v4);
	brig_net_addr6(lease, v6);
	nl_reset(&m);
	batch(&m, NFNL_MSG_BATCH_BEGIN);
	/* Without NLM_F_EXCL: that it is there already is no error. */
	add_element(&m, "lease4", lease, v4, sizeof(v4));
	add_element(&m, "lease6", lease, v6, sizeof(v6));
	batch(&m, NFNL_MSG_BATCH_END);
	return nl_talk(nft, &m, NULL, NULL, NULL);
}

/* The packets of one element's counter, out of the answer to GETSETELEM. */
static uint64_t counter_of(const uint8_t *reply, size_t n)
{
	const void *p = n > sizeof(struct nfgenmsg) ? reply + sizeof(struct nfgenmsg) : NULL;
	static const uint16_t path[] = { NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_EXPR,
					 NFTA_EXPR_DATA, NFTA_COUNTER_PACKETS };
	uint64_t v = 0;
	n -= p ? sizeof(struct nfgenmsg) : 0;
	for (unsigned i = 0; p && i < sizeof(path) / sizeof(path[0]); i++)
		p = nl_find(p, n, path[i], i + 1 == sizeof(path) / sizeof(path[0]) ? 8 : 0, &n);
	if (!p)
		return 0;
	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static int read_count(int nft, const char *set, uint32_t lease, uint64_t *ret)
{
	static struct nl m;
	uint8_t reply[1024];
	size_t n = sizeof(reply);
	uint32_t ifindex = BRIG_NET_IFINDEX + lease;
	*ret = 0;
	nl_reset(&m);
	request(&m, NFT_MSG_GETSETELEM, NLM_F_ACK);
	nl_attr_str(&m, NFTA_SET_ELEM_LIST_TABLE, TABLE);
	nl_attr_str(&m, NFTA_SET_ELEM_LIST_SET, set);
	size_t list = nl_nest(&m, NFTA_SET_ELEM_LIST_ELEMENTS), elem = nl_nest(&m, NFTA_LIST_ELEM);
	value(&m, NFTA_SET_ELEM_KEY, &ifindex, sizeof(ifindex));
	nl_end(&m, elem);
	nl_end(&m, list);
	int r = nl_talk(nft, &m, NULL, reply, &n);
	if (r == -ENOENT) /* nothing was counted yet */
		return 0;
	if (r == 0)
		*ret = counter_of(reply, n);
	return r;
}

int rules_counts(int nft, uint32_t lease, struct rules_counts *ret)
{
	int r = read_count(nft, RULES_REFUSED, lease, &ret->refused);
	int s = read_count(nft, RULES_FORGED, lease, &ret->forged);
	return r < 0 ? r : s;
}
