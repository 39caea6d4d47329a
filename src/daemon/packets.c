/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/packets.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <string.h>

#include "brig/ids.h"
#include "brig/net.h"
#include "engine/link/nl.h"
#include "engine/link/rules.h"

static uint16_t be16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Protocols whose header begins with two ports. */
static bool has_ports(uint8_t proto)
{
	return proto == 6 || proto == 17 || proto == 33 || proto == 132 || proto == 136;
}

static void parse_ip4(const uint8_t *p, size_t n, struct packet_seen *s)
{
	size_t head = (size_t)(p[0] & 15) * 4;
	if (n < 20 || head < 20)
		return;
	s->known = true;
	s->proto = p[9];
	s->dest[10] = s->dest[11] = 0xff;
	memcpy(s->dest + 12, p + 16, 4);
	/* A later fragment has no ports. */
	if (has_ports(s->proto) && n >= head + 4 && !(be16_at(p + 6) & 0x1fff))
		s->port = be16_at(p + head + 2);
}

static void parse_ip6(const uint8_t *p, size_t n, struct packet_seen *s)
{
	if (n < 40)
		return;
	s->known = true;
	s->proto = p[6];
	memcpy(s->dest, p + 24, 16);
	/* Behind extension headers nobody looks: the first one's number is told as the protocol. */
	if (has_ports(s->proto) && n >= 44)
		s->port = be16_at(p + 42);
}

static bool parse_one(const uint8_t *attrs, size_t n, struct packet_seen *s)
{
	size_t len = 0;
	const uint8_t *in = nl_find(attrs, n, NFULA_IFINDEX_INDEV, 4, NULL);
	const char *prefix = nl_find(attrs, n, NFULA_PREFIX, 1, &len);
	if (!in || !prefix)
		return false;
	uint32_t index = (uint32_t)be16_at(in) << 16 | be16_at(in + 2);
	if (index <= BRIG_NET_IFINDEX || index >= BRIG_NET_IFINDEX + BRIG_ID_SLOTS)
		return false;
	s->lease = index - BRIG_NET_IFINDEX;
	s->forged = len >= sizeof(RULES_FORGED) && memcmp(prefix, RULES_FORGED, sizeof(RULES_FORGED)) == 0;
	const uint8_t *p = nl_find(attrs, n, NFULA_PAYLOAD, 1, &len);
	if (p && p[0] >> 4 == 4)
		parse_ip4(p, len, s);
	else if (p && p[0] >> 4 == 6)
		parse_ip6(p, len, s);
	return true;
}

void packets_parse(const void *data, size_t n, void (*fn)(void *ctx, const struct packet_seen *s), void *ctx)
{
	const uint8_t *p = data;
	const size_t skip = NLMSG_HDRLEN + sizeof(struct nfgenmsg);
	while (n >= NLMSG_HDRLEN) {
		struct nlmsghdr h;
		memcpy(&h, p, sizeof(h));
		if (h.nlmsg_len < NLMSG_HDRLEN || h.nlmsg_len > n)
			return;
		struct packet_seen s = { .lease = 0 };
		if (h.nlmsg_type == (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET) && h.nlmsg_len >= skip &&
		    parse_one(p + skip, h.nlmsg_len - skip, &s))
			fn(ctx, &s);
		size_t step = NLMSG_ALIGN(h.nlmsg_len);
		if (step > n)
			return;
		p += step;
		n -= step;
	}
}
