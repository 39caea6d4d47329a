/* SPDX-License-Identifier: Apache-2.0 */
/*
 * addr.h: addresses of the internet as one kind: 16 bytes, IPv4 as ::ffff:a.b.c.d. Pure.
 */
#ifndef BRIG_NET_ADDR_H
#define BRIG_NET_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

struct net_addr {
	uint8_t b[16];
};

#define NET_ADDR_TEXT_MAX 48u

/* Why an address is protected: X(name, text) */
#define NET_PROTECTS(X)             \
	X(NONE, "")                 \
	X(LOOPBACK, "loopback")     \
	X(PRIVATE, "private")       \
	X(SHARED, "shared")         \
	X(LINK_LOCAL, "link_local") \
	X(METADATA, "metadata")     \
	X(MULTICAST, "multicast")   \
	X(RESERVED, "reserved")     \
	X(HOST, "host")             \
	X(SANDBOX, "sandbox")

enum net_protect {
#define X(name, text) NET_PROTECT_##name,
	NET_PROTECTS(X)
#undef X
		NET_PROTECT__N
};

const char *net_protect_text(enum net_protect p);

static inline struct net_addr net_addr_v4(const uint8_t *four)
{
	struct net_addr a = { .b = { [10] = 0xff, [11] = 0xff } };
	memcpy(a.b + 12, four, 4);
	return a;
}
static inline struct net_addr net_addr_v6(const uint8_t *sixteen)
{
	struct net_addr a;
	memcpy(a.b, sixteen, 16);
	return a;
}
static inline bool net_addr_is_v4(const struct net_addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	return memcmp(a->b, mapped, sizeof(mapped)) == 0;
}
static inline bool net_addr_eq(const struct net_addr *a, const struct net_addr *b)
{
	return memcmp(a->b, b->b, 16) == 0;
}
static inline bool net_addr_is_zero(const struct net_addr *a)
{
	static const struct net_addr zero;
	return net_addr_eq(a, &zero);
}
/* The first `bits` bits are the same; bits of the 16 bytes, so an IPv4 /24 is 120. */
bool net_addr_in(const struct net_addr *a, const struct net_addr *net, unsigned bits);

/* The usual form only: four decimal numbers without leading zeros, or IPv6 without a zone. */
bool net_addr_parse(const char *s, size_t n, struct net_addr *ret);
/* ADDRESS or ADDRESS/BITS, host bits 0; *ret_bits counts in the 16 bytes. */
bool net_prefix_parse(const char *s, size_t n, struct net_addr *ret, unsigned *ret_bits);
/* Returns out, of NET_ADDR_TEXT_MAX bytes. */
const char *net_addr_text(const struct net_addr *a, char *out);

/* What an address is protected as, by itself: without what only a running host knows. */
enum net_protect net_addr_protect(const struct net_addr *a);

/* IPv4 and IPv6 only; others: false. */
bool net_addr_from_sockaddr(const struct sockaddr_storage *ss, struct net_addr *ret,
			    uint16_t *ret_port);
/* As the family that it is; returns the length. */
socklen_t net_addr_to_sockaddr(const struct net_addr *a, uint16_t port,
			       struct sockaddr_storage *ret);

#endif
