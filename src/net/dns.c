/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * RFC 1035. Names are compressed in answers of resolvers only; each jump goes backwards, so that a
 * walk ends. Nothing of a resolver's answer reaches a sandbox but addresses: no other section, no
 * other type, no name that was not asked for. A sandbox cannot hide anything in its question
 * either, since what goes to the resolver is written anew from the canonical name.
 */
#include "net/dns.h"

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint8_t *put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
	return put16(put16(p, v >> 16), v & 0xffffu);
}

/* The name at `at`: its end in *ret_end, its dotted text in out (as it is, not canonical; "" if it
 * has bytes that are no text, which is no error). -1: not a name. */
static int name_get(const uint8_t *p, size_t n, size_t at, bool jumps, size_t *ret_end,
		    char out[NET_NAME_MAX])
{
	size_t len = 0, floor = at;
	bool jumped = false, odd = false;
	for (;;) {
		if (at >= n)
			return -1;
		unsigned k = p[at];
		if (k >= 0xc0) {
			if (!jumps || at + 2 > n)
				return -1;
			size_t to = (size_t)(k & 0x3f) << 8 | p[at + 1];
			if (!jumped)
				*ret_end = at + 2;
			jumped = true;
			if (to >= floor)
				return -1;
			at = floor = to;
			continue;
		}
		if (k > 63 || at + 1 + k > n)
			return -1;
		if (k == 0) {
			if (!jumped)
				*ret_end = at + 1;
			break;
		}
		if (len + k + 1 >= NET_NAME_MAX + 1)
			return -1;
		if (len)
			out[len++] = '.';
		for (unsigned i = 0; i < k; i++) {
			uint8_t c = p[at + 1 + i];
			/* A dot inside a label would read as two labels. */
			odd |= c <= ' ' || c > '~' || c == '.';
			out[len++] = (char)c;
		}
		at += 1 + k;
	}
	out[odd ? 0 : len] = '\0';
	return 0;
}

static int name_canonical(const uint8_t *p, size_t n, size_t at, bool jumps, size_t *ret_end,
			  char out[NET_NAME_MAX])
{
	char text[NET_NAME_MAX + 2];
	struct net_addr addr;
	if (name_get(p, n, at, jumps, ret_end, text) < 0)
		return -1;
	if (net_name_read(text, strlen(text), out, &addr) != NET_NAME_HOST)
		out[0] = '\0';
	return 0;
}

enum dns_result dns_question_read(const uint8_t *p, size_t n, struct dns_question *ret,
				  unsigned *ret_rcode)
{
	size_t end = 0;
	*ret = (struct dns_question){ .len = 12 };
	if (n < 12 || n > DNS_QUESTION_MAX || p[2] & 0x80)
		return DNS_IGNORE;
	ret->id = (uint16_t)get16(p);
	ret->recurse = p[2] & 1;
	*ret_rcode = DNS_NOTIMP;
	if (p[2] & 0x78) /* another opcode than QUERY */
		return DNS_WRONG;
	*ret_rcode = DNS_FORMERR;
	if (get16(p + 4) != 1 || get16(p + 6) || get16(p + 8) || get16(p + 10) > 1 ||
	    name_canonical(p, n, 12, false, &end, ret->name) < 0 || n - end < 4)
		return DNS_WRONG;
	ret->type = (uint16_t)get16(p + end);
	ret->class = (uint16_t)get16(p + end + 2);
	size_t qend = end + 4;
	if (get16(p + 10) == 1) {
		/* The root, OPT, and the size of its options, which are not looked at. */
		if (n - qend < 11 || p[qend] != 0 || get16(p + qend + 1) != DNS_OPT ||
		    get16(p + qend + 9) != n - qend - 11)
			return DNS_WRONG;
		ret->edns = true;
	} else if (qend != n) {
		return DNS_WRONG;
	}
	ret->len = qend;
	return DNS_ASKED;
}

size_t dns_answer_write(const uint8_t *p, const struct dns_question *q, unsigned rcode,
			const struct net_addr *addrs, unsigned n, uint32_t ttl, const char *text,
			uint8_t out[512])
{
	uint8_t *w = out;
	bool asked = q->len > 12;
	unsigned size = q->type == DNS_A ? 4 : 16;
	memcpy(out, p, q->len);
	w = put16(w, q->id);
	w = put16(w, 0x8080u | (unsigned)q->recurse << 8 | rcode);
	w = put16(w, asked);
	w = put16(w, n);
	w = put16(w, 0);
	put16(w, q->edns);
	w = out + q->len;
	for (unsigned i = 0; i < n; i++) {
		w = put16(w, 0xc00c); /* the name of the question */
		w = put16(w, q->type);
		w = put16(w, 1);
		w = put32(w, ttl);
		w = put16(w, size);
		memcpy(w, addrs[i].b + 16 - size, size);
		w += size;
	}
	if (q->edns) {
		size_t k = text ? strnlen(text, DNS_TEXT_MAX) : 0;
		/* The longest question and the text together leave no room for it. */
		if ((size_t)(w - out) + 11 + 6 + k > 512)
			k = 0;
		*w++ = 0;
		w = put16(w, DNS_OPT);
		w = put16(w, DNS_QUESTION_MAX);
		w = put32(w, 0);
		w = put16(w, k ? (unsigned)(6 + k) : 0);
		if (k) {
			w = put16(w, 15); /* extended error */
			w = put16(w, (unsigned)(2 + k));
			w = put16(w, 17); /* filtered */
			memcpy(w, text, k);
			w += k;
		}
	}
	return (size_t)(w - out);
}

size_t dns_query_write(uint16_t id, const char *name, uint16_t type, uint8_t out[512])
{
	uint8_t *w = out;
	w = put16(w, id);
	w = put16(w, 0x0100); /* recursion desired */
	w = put16(w, 1);
	w = put16(w, 0);
	w = put16(w, 0);
	w = put16(w, 1);
	for (const char *s = name; *s;) {
		size_t k = strcspn(s, ".");
		*w++ = (uint8_t)k;
		memcpy(w, s, k);
		w += k;
		s += k + (s[k] == '.');
	}
	*w++ = 0;
	w = put16(w, type);
	w = put16(w, 1);
	*w++ = 0; /* OPT: larger answers over UDP */
	w = put16(w, DNS_OPT);
	w = put16(w, DNS_QUESTION_MAX);
	w = put32(w, 0);
	w = put16(w, 0);
	return (size_t)(w - out);
}

struct record {
	char name[NET_NAME_MAX];
	unsigned type, class, size;
	uint32_t ttl;
	size_t data; /* where */
};

static int record_get(const uint8_t *p, size_t n, size_t *at, struct record *r)
{
	size_t end = 0;
	if (name_canonical(p, n, *at, true, &end, r->name) < 0 || n - end < 10)
		return -1;
	r->type = get16(p + end);
	r->class = get16(p + end + 2);
	r->ttl = (uint32_t)get16(p + end + 4) << 16 | get16(p + end + 6);
	r->size = get16(p + end + 8);
	r->data = end + 10;
	if (n - r->data < r->size)
		return -1;
	*at = r->data + r->size;
	return 0;
}

#define RECORDS_MAX 256u

/* Follows one CNAME of the name in ret->last. 1: there was one, 0: none, -1: wrong. */
static int cname_follow(const uint8_t *p, size_t n, size_t at, unsigned count,
			struct dns_reply *ret)
{
	struct record r;
	size_t end = 0;
	for (unsigned i = 0; i < count; i++) {
		if (record_get(p, n, &at, &r) < 0)
			return -1;
		if (r.type != DNS_CNAME || r.class != 1 || strcmp(r.name, ret->last) != 0)
			continue;
		if (ret->hops == DNS_HOPS_MAX ||
		    name_canonical(p, n, r.data, true, &end, ret->last) < 0 || !ret->last[0])
			return -1;
		strcpy(ret->via[ret->hops++], ret->last);
		if (r.ttl < ret->ttl)
			ret->ttl = r.ttl;
		return 1;
	}
	return 0;
}

int dns_reply_read(const uint8_t *p, size_t n, uint16_t id, const char *name, uint16_t type,
		   struct dns_reply *ret)
{
	char asked[NET_NAME_MAX];
	size_t at = 0, size = type == DNS_A ? 4 : 16;
	struct record r;
	int more;
	memset(ret, 0, sizeof(*ret));
	ret->ttl = UINT32_MAX;
	if (n < 12 || get16(p) != id || !(p[2] & 0x80) || p[2] & 0x78 || get16(p + 4) != 1 ||
	    name_canonical(p, n, 12, false, &at, asked) < 0 || n - at < 4 ||
	    strcmp(asked, name) != 0 || get16(p + at) != type || get16(p + at + 2) != 1)
		return -1;
	at += 4;
	ret->rcode = p[3] & 15;
	ret->truncated = p[2] & 2;
	unsigned count = get16(p + 6);
	strcpy(ret->last, name);
	if (ret->truncated || (ret->rcode != DNS_OK && ret->rcode != DNS_NXDOMAIN))
		return 0;
	if (count > RECORDS_MAX)
		return -1;
	while ((more = cname_follow(p, n, at, count, ret)) == 1)
		continue;
	if (more < 0)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		if (record_get(p, n, &at, &r) < 0)
			return -1;
		if (r.type != type || r.class != 1 || r.size != size ||
		    strcmp(r.name, ret->last) != 0)
			continue;
		if (ret->naddrs == DNS_ADDRS_MAX)
			break;
		ret->addrs[ret->naddrs++] =
			type == DNS_A ? net_addr_v4(p + r.data) : net_addr_v6(p + r.data);
		if (r.ttl < ret->ttl)
			ret->ttl = r.ttl;
	}
	return 0;
}
