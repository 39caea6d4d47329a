/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nl.h: requests to the kernel over netlink, several in one message, and their acknowledgements.
 *
 * Written out because brig-jaild is a static program and Debian has libmnl and libnftables as shared
 * libraries only. Only what is needed to send fixed requests; the kernel is the only peer.
 */
#ifndef BRIG_LINK_NL_H
#define BRIG_LINK_NL_H

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define NL_SIZE 16384u

struct nl {
	uint32_t seq;	  /* of the last request */
	unsigned expects; /* acknowledgements to come */
	int full;	  /* it did not fit: nl_talk() says so */
	size_t n, at;	  /* bytes; where the last request begins */
	_Alignas(8) uint8_t buf[NL_SIZE];
};

/* A socket of a netlink family (NETLINK_ROUTE, ..) in the caller's network namespace. -errno. */
int nl_open(int family);
/* Forgets all requests. */
void nl_reset(struct nl *m);
/* Begins a request with a fixed part; flags as in nlmsghdr, NLM_F_REQUEST is added. A request with
 * NLM_F_ACK is waited for. */
void nl_request(struct nl *m, uint16_t type, uint16_t flags, const void *head, size_t n);
void nl_attr(struct nl *m, uint16_t type, const void *p, size_t n);
void nl_attr_str(struct nl *m, uint16_t type, const char *s);
void nl_attr_u32(struct nl *m, uint16_t type, uint32_t v); /* in host byte order */
void nl_attr_be32(struct nl *m, uint16_t type, uint32_t v);
void nl_attr_be64(struct nl *m, uint16_t type, uint64_t v);
/* Attributes within an attribute; nl_end() takes what nl_nest() returned. */
size_t nl_nest(struct nl *m, uint16_t type);
void nl_end(struct nl *m, size_t nest);
/* Appends bytes inside of an attribute that nl_nest() has begun. */
void nl_bytes(struct nl *m, const void *p, size_t n);

/*
 * Sends the requests and waits for their acknowledgements. 0, or the first error as -errno;
 * *ret_which (may be NULL) is the place of the request that failed, from 0. reply (may be NULL) takes
 * the first answer that is no acknowledgement, *reply_n its size before and after.
 */
int nl_talk(int fd, struct nl *m, unsigned *ret_which, void *reply, size_t *reply_n);

/* The attribute of this type among n bytes of attributes; NULL if there is none of at least `least`
 * bytes. */
static inline const void *nl_find(const void *attrs, size_t n, uint16_t type, size_t least,
				  size_t *ret_n)
{
	const uint8_t *p = attrs;
	while (n >= sizeof(struct nlattr)) {
		struct nlattr a;
		memcpy(&a, p, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > n)
			return NULL;
		if ((a.nla_type & NLA_TYPE_MASK) == type && a.nla_len - sizeof(a) >= least) {
			if (ret_n)
				*ret_n = a.nla_len - sizeof(a);
			return p + sizeof(a);
		}
		size_t step = NLA_ALIGN(a.nla_len);
		if (step > n)
			return NULL;
		p += step;
		n -= step;
	}
	return NULL;
}

#endif
