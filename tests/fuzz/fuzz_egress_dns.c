/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the domain name system: what a sandbox sends, and what a resolver answers.
 *
 * Oracle: a question that was read has a canonical name or none, and its answer reads back as the
 * answer to exactly that question, with the same addresses, within 512 bytes; a question to a
 * resolver that is written from it reads back as itself. A reply that was read is to the name that
 * was asked, has bounded counts, and only canonical names in its chain.
 */
#include <stdlib.h>

#include "net/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void canonical(const char *name)
{
	char again[NET_NAME_MAX];
	struct net_addr a;
	must(strlen(name) < NET_NAME_MAX);
	must(net_name_read(name, strlen(name), again, &a) == NET_NAME_HOST);
	must(strcmp(name, again) == 0);
}

static void question(const uint8_t *p, size_t n)
{
	static struct dns_reply r;
	struct dns_question q, again;
	struct net_addr list[DNS_ADDRS_MAX];
	uint8_t out[512];
	unsigned rcode = 99;
	enum dns_result got = dns_question_read(p, n, &q, &rcode);
	if (got == DNS_IGNORE)
		return;
	must(q.len >= 12 && q.len <= n && q.len <= 12 + 255 + 4);
	if (got == DNS_WRONG) {
		must(rcode == DNS_FORMERR || rcode == DNS_NOTIMP);
		must(dns_answer_write(p, &q, rcode, NULL, 0, 0, NULL, out) <= 512);
		return;
	}
	unsigned addrs = q.type == DNS_A || q.type == DNS_AAAA ? DNS_ADDRS_MAX : 0;
	for (unsigned i = 0; i < DNS_ADDRS_MAX; i++) {
		memset(list[i].b, (int)i + 0x20, 16);
		if (q.type == DNS_A)
			list[i] = net_addr_v4(list[i].b);
	}
	size_t len = dns_answer_write(p, &q, DNS_OK, list, addrs, 60, "why it is not allowed", out);
	must(len <= 512);
	if (!q.name[0])
		return;
	canonical(q.name);
	if (addrs && q.class == 1) {
		must(dns_reply_read(out, len, q.id, q.name, q.type, &r) == 0);
		must(r.naddrs == addrs && r.ttl == 60 && r.hops == 0);
		must(memcmp(r.addrs, list, sizeof(list)) == 0);
	}
	len = dns_query_write(q.id, q.name, q.type, out);
	must(len <= 512 && dns_question_read(out, len, &again, &rcode) == DNS_ASKED);
	must(strcmp(again.name, q.name) == 0 && again.type == q.type && again.class == 1);
}

static void reply(const uint8_t *p, size_t n)
{
	static struct dns_reply r;
	static const uint16_t types[] = { DNS_A, DNS_AAAA };
	for (unsigned i = 0; i < 2 && n >= 2; i++) {
		if (dns_reply_read(p, n, (uint16_t)(p[0] << 8 | p[1]), "www.a.test", types[i], &r) <
		    0)
			continue;
		must(r.naddrs <= DNS_ADDRS_MAX && r.hops <= DNS_HOPS_MAX && r.rcode <= 15);
		for (unsigned k = 0; k < r.hops; k++)
			canonical(r.via[k]);
		for (unsigned k = 0; k < r.naddrs; k++)
			must(net_addr_is_v4(&r.addrs[k]) || types[i] == DNS_AAAA);
		must(strcmp(r.last, r.hops ? r.via[r.hops - 1] : "www.a.test") == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	question(data, size);
	reply(data, size);
	return 0;
}
