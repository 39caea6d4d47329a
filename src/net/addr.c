/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * IPv6 has one range of addresses that lead anywhere, 2000::/3; what is outside of it is protected,
 * whatever its use. An address that carries an IPv4 address for some translator (mapped,
 * compatible, NAT64, 6to4) is as protected as that one, because a host's translator would deliver
 * it there. Sources: IANA's registries of special-purpose addresses (RFC 6890), and the clouds'
 * documents for the metadata services.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

const char *net_protect_text(enum net_protect p)
{
	static const char *const names[] = {
#define X(name, text) [NET_PROTECT_##name] = text,
		NET_PROTECTS(X)
#undef X
	};
	return (unsigned)p < NET_PROTECT__N ? names[p] : "";
}

bool net_addr_in(const struct net_addr *a, const struct net_addr *net, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;
	if (memcmp(a->b, net->b, whole) != 0)
		return false;
	return rest == 0 || ((a->b[whole] ^ net->b[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}

bool net_addr_parse(const char *s, size_t n, struct net_addr *ret)
{
	char text[NET_ADDR_TEXT_MAX];
	uint8_t raw[16];
	if (n == 0 || n >= sizeof(text) || memchr(s, 0, n))
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	/* inet_pton takes no octal, no hexadecimal, no short form, no zone. */
	if (inet_pton(AF_INET, text, raw) == 1) {
		*ret = net_addr_v4(raw);
		return true;
	}
	if (inet_pton(AF_INET6, text, raw) == 1) {
		*ret = net_addr_v6(raw);
		return true;
	}
	return false;
}

bool net_prefix_parse(const char *s, size_t n, struct net_addr *ret, unsigned *ret_bits)
{
	const char *slash = n ? memchr(s, '/', n) : NULL;
	struct net_addr a;
	unsigned bits = 0;
	if (!net_addr_parse(s, slash ? (size_t)(slash - s) : n, &a))
		return false;
	/* ::ffff:0:0/96 would be every IPv4 address under another name. */
	bool dotted = !memchr(s, ':', n);
	if (!dotted && net_addr_is_v4(&a))
		return false;
	unsigned max = dotted ? 32 : 128;
	if (!slash) {
		*ret = a;
		*ret_bits = 128;
		return true;
	}
	size_t digits = n - (size_t)(slash + 1 - s);
	if (digits < 1 || digits > 3 || (digits > 1 && slash[1] == '0'))
		return false;
	for (size_t i = 0; i < digits; i++) {
		if (slash[1 + i] < '0' || slash[1 + i] > '9')
			return false;
		bits = bits * 10 + (unsigned)(slash[1 + i] - '0');
	}
	if (bits > max)
		return false;
	bits += 128 - max;
	for (unsigned i = bits; i < 128; i++)
		if (a.b[i / 8] & (0x80u >> (i % 8)))
			return false;
	*ret = a;
	*ret_bits = bits;
	return true;
}

const char *net_addr_text(const struct net_addr *a, char *out)
{
	if (net_addr_is_v4(a))
		snprintf(out, NET_ADDR_TEXT_MAX, "%u.%u.%u.%u", a->b[12], a->b[13], a->b[14],
			 a->b[15]);
	else if (!inet_ntop(AF_INET6, a->b, out, NET_ADDR_TEXT_MAX))
		out[0] = '\0';
	return out;
}

struct range {
	const char *prefix;
	unsigned bits;
	enum net_protect as;
};

/* The first that matches counts. */
static const struct range v4_ranges[] = {
	{ "169.254.169.254", 32, NET_PROTECT_METADATA }, /* most clouds */
	{ "169.254.170.2", 32, NET_PROTECT_METADATA },	 /* AWS ECS */
	{ "169.254.170.23", 32, NET_PROTECT_METADATA },	 /* AWS EKS */
	{ "168.63.129.16", 32, NET_PROTECT_METADATA },	 /* Azure's wire server */
	{ "100.100.100.200", 32, NET_PROTECT_METADATA }, /* Alibaba */
	{ "192.0.0.192", 32, NET_PROTECT_METADATA },	 /* Oracle */
	{ "127.0.0.0", 8, NET_PROTECT_LOOPBACK },
	{ "10.0.0.0", 8, NET_PROTECT_PRIVATE },
	{ "172.16.0.0", 12, NET_PROTECT_PRIVATE },
	{ "192.168.0.0", 16, NET_PROTECT_PRIVATE },
	{ "100.64.0.0", 10, NET_PROTECT_SHARED },
	{ "169.254.0.0", 16, NET_PROTECT_LINK_LOCAL },
	{ "224.0.0.0", 4, NET_PROTECT_MULTICAST },
	{ "0.0.0.0", 8, NET_PROTECT_RESERVED },
	{ "192.0.0.0", 24, NET_PROTECT_RESERVED },
	{ "192.0.2.0", 24, NET_PROTECT_RESERVED },
	{ "192.88.99.0", 24, NET_PROTECT_RESERVED },
	{ "198.18.0.0", 15, NET_PROTECT_RESERVED },
	{ "198.51.100.0", 24, NET_PROTECT_RESERVED },
	{ "203.0.113.0", 24, NET_PROTECT_RESERVED },
	{ "240.0.0.0", 4, NET_PROTECT_RESERVED }, /* with 255.255.255.255 */
};

static const struct range v6_ranges[] = {
	{ "fd00:ec2::254", 128, NET_PROTECT_METADATA },	     /* AWS */
	{ "fd00:ec2::23", 128, NET_PROTECT_METADATA },	     /* AWS EKS */
	{ "fd20:ce::254", 128, NET_PROTECT_METADATA },	     /* Google */
	{ "fd00:c1::a9fe:a9fe", 128, NET_PROTECT_METADATA }, /* Oracle */
	{ "fd00:42::42", 128, NET_PROTECT_METADATA },	     /* Scaleway */
	{ "::1", 128, NET_PROTECT_LOOPBACK },
	{ "fc00::", 7, NET_PROTECT_PRIVATE },
	{ "fec0::", 10, NET_PROTECT_PRIVATE }, /* site-local, as it was */
	{ "fe80::", 10, NET_PROTECT_LINK_LOCAL },
	{ "ff00::", 8, NET_PROTECT_MULTICAST },
	{ "2001::", 23, NET_PROTECT_RESERVED }, /* Teredo, ORCHID, benchmarks */
	{ "2001:db8::", 32, NET_PROTECT_RESERVED },
	{ "3fff::", 20, NET_PROTECT_RESERVED },
};

/* Where the IPv4 address is that a translator would deliver to; the rest of 2000::/3 has none. */
static const struct {
	struct range net;
	unsigned at;
	bool public_ok; /* may lead to a public IPv4 address */
} carriers[] = {
	{ { "64:ff9b::", 96, NET_PROTECT_NONE }, 12, true },
	{ { "::", 96, NET_PROTECT_NONE }, 12, false },
	{ { "::ffff:0:0:0", 96, NET_PROTECT_NONE }, 12, false },
	{ { "2002::", 16, NET_PROTECT_NONE }, 2, false },
};

static bool range_has(const struct range *r, const struct net_addr *a)
{
	struct net_addr net;
	bool v4 = !strchr(r->prefix, ':');
	return net_addr_parse(r->prefix, strlen(r->prefix), &net) &&
	       net_addr_in(a, &net, r->bits + (v4 ? 96 : 0));
}

enum net_protect net_addr_protect(const struct net_addr *a)
{
	if (net_addr_is_v4(a)) {
		for (size_t i = 0; i < sizeof(v4_ranges) / sizeof(*v4_ranges); i++)
			if (range_has(&v4_ranges[i], a))
				return v4_ranges[i].as;
		return NET_PROTECT_NONE;
	}
	for (size_t i = 0; i < sizeof(v6_ranges) / sizeof(*v6_ranges); i++)
		if (range_has(&v6_ranges[i], a))
			return v6_ranges[i].as;
	for (size_t i = 0; i < sizeof(carriers) / sizeof(*carriers); i++) {
		if (!range_has(&carriers[i].net, a))
			continue;
		struct net_addr inner = net_addr_v4(a->b + carriers[i].at);
		enum net_protect p = net_addr_protect(&inner);
		return p != NET_PROTECT_NONE || carriers[i].public_ok ? p : NET_PROTECT_RESERVED;
	}
	return (a->b[0] & 0xe0) == 0x20 ? NET_PROTECT_NONE : NET_PROTECT_RESERVED;
}

bool net_addr_from_sockaddr(const struct sockaddr_storage *ss, struct net_addr *ret,
			    uint16_t *ret_port)
{
	if (ss->ss_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, ss, sizeof(in));
		*ret = net_addr_v4((const uint8_t *)&in.sin_addr);
		*ret_port = ntohs(in.sin_port);
		return true;
	}
	if (ss->ss_family == AF_INET6) {
		struct sockaddr_in6 in;
		memcpy(&in, ss, sizeof(in));
		*ret = net_addr_v6((const uint8_t *)&in.sin6_addr);
		*ret_port = ntohs(in.sin6_port);
		return true;
	}
	return false;
}

socklen_t net_addr_to_sockaddr(const struct net_addr *a, uint16_t port,
			       struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (net_addr_is_v4(a)) {
		struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
		memcpy(&in.sin_addr, a->b + 12, 4);
		memcpy(ret, &in, sizeof(in));
		return sizeof(in);
	}
	struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	memcpy(&in.sin6_addr, a->b, 16);
	memcpy(ret, &in, sizeof(in));
	return sizeof(in);
}
