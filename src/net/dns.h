/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns.h: messages of the domain name system, as far as a gateway needs them: questions of sandboxes
 * and answers to them, questions to a resolver and its answers. Pure.
 */
#ifndef BRIG_NET_DNS_H
#define BRIG_NET_DNS_H

#include "net/addr.h"
#include "net/name.h"

#define DNS_A 1u
#define DNS_CNAME 5u
#define DNS_AAAA 28u
#define DNS_OPT 41u

#define DNS_OK 0u
#define DNS_FORMERR 1u
#define DNS_SERVFAIL 2u
#define DNS_NXDOMAIN 3u
#define DNS_NOTIMP 4u
#define DNS_REFUSED 5u

/* So that every answer of ours fits 512 bytes, and none needs TCP. */
#define DNS_ADDRS_MAX 8u
#define DNS_QUESTION_MAX 1232u
#define DNS_MESSAGE_MAX 4096u /* of a resolver over UDP; over TCP up to 65535 are read */
#define DNS_TEXT_MAX 200u     /* of an extended error */

struct dns_question {
	uint16_t id, type, class;
	char name[NET_NAME_MAX]; /* canonical; "" = no name of a host (the root, odd characters) */
	bool recurse, edns;
	size_t len; /* of the header and the question itself, which an answer repeats */
};

enum dns_result {
	DNS_IGNORE, /* no question at all: nothing is answered */
	DNS_WRONG,  /* answer FORMERR or NOTIMP: *ret_rcode; id is set, and len, at least 12 */
	DNS_ASKED,
};

/* A question of a sandbox. */
enum dns_result dns_question_read(const uint8_t *p, size_t n, struct dns_question *ret,
				  unsigned *ret_rcode);
/* The answer to the question at p: its header and question again, then addresses of its type, all
 * of the asked name. text: why (RFC 8914, "filtered"), told where the question allows it; NULL =
 * none. out: 512 bytes. Returns the length. */
size_t dns_answer_write(const uint8_t *p, const struct dns_question *q, unsigned rcode,
			const struct net_addr *addrs, unsigned n, uint32_t ttl, const char *text,
			uint8_t out[512]);

/* A question to a resolver, for A or AAAA of a canonical name; out: 512 bytes. Returns the length.
 */
size_t dns_query_write(uint16_t id, const char *name, uint16_t type, uint8_t out[512]);

struct dns_reply {
	unsigned rcode;
	bool truncated;
	char last[NET_NAME_MAX]; /* where the chain of CNAMEs ends */
	unsigned hops;
	unsigned naddrs; /* of that name */
	struct net_addr addrs[DNS_ADDRS_MAX];
	uint32_t ttl; /* the least of all records that were used; UINT32_MAX = none was */
	/* Every name that the chain went through, to be judged: hops of them. */
	char via[16][NET_NAME_MAX];
};
#define DNS_HOPS_MAX 16u

/* 0 if p is the answer to exactly that question and could be read, else -1. */
int dns_reply_read(const uint8_t *p, size_t n, uint16_t id, const char *name, uint16_t type,
		   struct dns_reply *ret);

#endif
