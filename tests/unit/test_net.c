/* SPDX-License-Identifier: Apache-2.0 */
/* What a network policy means, and what the gateway reads of a sandbox's bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/control.h"
#include "net/dns.h"
#include "net/head.h"
#include "net/hello.h"
#include "net/policy.h"

static struct net_addr addr(const char *s)
{
	struct net_addr a = { .b = { 0 } };
	assert_true(net_addr_parse(s, strlen(s), &a));
	return a;
}

/* ---- addresses and names ---- */

static void test_addresses_have_one_form(void **state)
{
	static const char *const bad[] = { "",		 "1.2.3",     "1.2.3.04",  "0x7f.0.0.1",
					   "2130706433", "127.1",     "1.2.3.4.",  "1.2.3.256",
					   " 1.2.3.4",	 "fe80::1%1", "::1::",	   "[::1]",
					   "1.2.3.4/8",	 "::ffff:1",  "0177.0.0.1" };
	struct net_addr a;
	char out[NET_ADDR_TEXT_MAX];
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (net_addr_parse(bad[i], strlen(bad[i]), &a) && strcmp(bad[i], "::ffff:1") != 0)
			fail_msg("'%s' is an address", bad[i]);
	a = addr("::ffff:1.2.3.4");
	assert_true(net_addr_is_v4(&a));
	assert_string_equal(net_addr_text(&a, out), "1.2.3.4");
	a = addr("2001:DB8:0::1");
	assert_string_equal(net_addr_text(&a, out), "2001:db8::1");
}

static void test_protected_addresses(void **state)
{
	static const struct {
		const char *a;
		enum net_protect as;
	} rows[] = {
		{ "8.8.8.8", NET_PROTECT_NONE },
		{ "127.255.0.1", NET_PROTECT_LOOPBACK },
		{ "10.0.0.0", NET_PROTECT_PRIVATE },
		{ "172.15.255.255", NET_PROTECT_NONE },
		{ "172.16.0.0", NET_PROTECT_PRIVATE },
		{ "172.31.255.255", NET_PROTECT_PRIVATE },
		{ "172.32.0.0", NET_PROTECT_NONE },
		{ "192.168.1.1", NET_PROTECT_PRIVATE },
		{ "100.63.255.255", NET_PROTECT_NONE },
		{ "100.64.0.1", NET_PROTECT_SHARED },
		{ "100.128.0.0", NET_PROTECT_NONE },
		{ "100.100.100.200", NET_PROTECT_METADATA },
		{ "169.254.169.254", NET_PROTECT_METADATA },
		{ "169.254.1.1", NET_PROTECT_LINK_LOCAL },
		{ "168.63.129.16", NET_PROTECT_METADATA },
		{ "0.0.0.0", NET_PROTECT_RESERVED },
		{ "255.255.255.255", NET_PROTECT_RESERVED },
		{ "224.0.0.251", NET_PROTECT_MULTICAST },
		{ "198.19.0.1", NET_PROTECT_RESERVED },
		{ "::ffff:127.0.0.1", NET_PROTECT_LOOPBACK },
		{ "::1", NET_PROTECT_LOOPBACK },
		{ "::", NET_PROTECT_RESERVED },
		{ "::7f00:1", NET_PROTECT_LOOPBACK },
		{ "64:ff9b::a9fe:a9fe", NET_PROTECT_METADATA },
		{ "64:ff9b::808:808", NET_PROTECT_NONE },
		{ "64:ff9b:1::808:808", NET_PROTECT_RESERVED },
		{ "2002:a9fe:a9fe::1", NET_PROTECT_METADATA },
		{ "2002:808:808::1", NET_PROTECT_RESERVED },
		{ "2001::1", NET_PROTECT_RESERVED },
		{ "2606:4700::1", NET_PROTECT_NONE },
		{ "fd00:ec2::254", NET_PROTECT_METADATA },
		{ "fd00::1", NET_PROTECT_PRIVATE },
		{ "fe80::1", NET_PROTECT_LINK_LOCAL },
		{ "ff02::1", NET_PROTECT_MULTICAST },
		{ "4000::1", NET_PROTECT_RESERVED },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct net_addr a = addr(rows[i].a);
		if (net_addr_protect(&a) != rows[i].as)
			fail_msg("%s is '%s'", rows[i].a, net_protect_text(net_addr_protect(&a)));
	}
}

static void test_names_have_one_form(void **state)
{
	static const struct {
		const char *in;
		enum net_name_kind kind;
		const char *out;
	} rows[] = {
		{ "Example.COM", NET_NAME_HOST, "example.com" },
		{ "example.com.", NET_NAME_HOST, "example.com" },
		{ "example.com..", NET_NAME_BAD, NULL },
		{ ".example.com", NET_NAME_BAD, NULL },
		{ "a..b", NET_NAME_BAD, NULL },
		{ "", NET_NAME_BAD, NULL },
		{ ".", NET_NAME_BAD, NULL },
		{ "xn--bcher-kva.example", NET_NAME_HOST, "xn--bcher-kva.example" },
		{ "b\xc3\xbc"
		  "cher.example",
		  NET_NAME_BAD, NULL },
		{ "-x.example", NET_NAME_BAD, NULL },
		{ "_srv.example", NET_NAME_HOST, "_srv.example" },
		{ "a b.example", NET_NAME_BAD, NULL },
		{ "1.2.3.4", NET_NAME_ADDR, NULL },
		{ "[::1]", NET_NAME_ADDR, NULL },
		{ "::1", NET_NAME_ADDR, NULL },
		{ "[1.2.3.4]", NET_NAME_BAD, NULL },
		{ "1.2.3.4.", NET_NAME_BAD, NULL },
		{ "2130706433", NET_NAME_BAD, NULL },
		{ "127.1", NET_NAME_BAD, NULL },
		{ "0x7f.1", NET_NAME_BAD, NULL },
		{ "0x7f000001", NET_NAME_BAD, NULL },
		{ "a.0xff", NET_NAME_BAD, NULL },
		{ "0177.0.0.01", NET_NAME_BAD, NULL },
		{ "4.in-addr.arpa", NET_NAME_HOST, "4.in-addr.arpa" },
		{ "localhost", NET_NAME_HOST, "localhost" },
	};
	char out[NET_NAME_MAX], label[300];
	struct net_addr a;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		enum net_name_kind k = net_name_read(rows[i].in, strlen(rows[i].in), out, &a);
		if (k != rows[i].kind || (rows[i].out && strcmp(out, rows[i].out) != 0))
			fail_msg("'%s': %d '%s'", rows[i].in, k, out);
	}
	memset(label, 'a', sizeof(label));
	assert_int_equal(net_name_read(label, 63, out, &a), NET_NAME_HOST);
	assert_int_equal(net_name_read(label, 64, out, &a), NET_NAME_BAD);
	for (size_t i = 50; i < sizeof(label); i += 50)
		label[i] = '.';
	assert_int_equal(net_name_read(label, 253, out, &a), NET_NAME_HOST);
	assert_int_equal(net_name_read(label, 254, out, &a), NET_NAME_BAD);
}

static void test_what_a_tunnel_looks_like(void **state)
{
	static const char *const hosts[] = {
		"www.example.com",
		"r4---sn-4g5e6nze.example.com",
		"ec2-52-1-2-3.compute-1.example.com",
		"my-bucket-with-a-long-name-2024-production.example.com",
		"k8s-default-ingress-0a1b2c3d4e-1234567890.us-west-2.elb.example.com",
	};
	static const char *const tunnels[] = {
		"a9x4k2m8q7w1z5v3b6n0c9d8f.7g6h5j4k3l2p1o0r9t8y7u6i5.q2w4e6r8t0.example.com",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com",
		"a.b.c.d.e.f.g.example.com",
		"nbswy3dpeb3w64tmmqqho2lunbswy3dpeb3w64tmmqqho2l.x7mzq9w1k3b5.mq5p.e4.example.com",
	};
	size_t keep = strlen(".example.com");
	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++)
		if (net_name_tunnel(hosts[i], keep))
			fail_msg("%s", hosts[i]);
	for (size_t i = 0; i < sizeof(tunnels) / sizeof(*tunnels); i++)
		if (!net_name_tunnel(tunnels[i], keep))
			fail_msg("%s", tunnels[i]);
	assert_false(net_name_tunnel(tunnels[0], strlen(tunnels[0])));
}

/* ---- policies ---- */

static struct net_policy *policy(const char *text)
{
	struct net_policy *p = NULL;
	struct brig_err err = BRIG_ERR_INIT;
	if (net_policy_parse(text, strlen(text), &p, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	return p;
}

static void test_policies_decide(void **state)
{
	static const struct {
		const char *text, *name, *addr;
		uint16_t port;
		bool allowed;
		enum egress_reason reason;
	} rows[] = {
		{ "net none\nallow *\n", "a.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net deny\n", "a.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net public\n", "a.test", NULL, 80, true, 0 },
		{ "net deny\nallow a.test\n", "a.test", NULL, 80, true, 0 },
		{ "net deny\nallow A.Test.\n", "a.test", NULL, 80, true, 0 },
		{ "net deny\nallow a.test\n", "x.a.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net deny\nallow a.test\n", "xa.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net deny\nallow *.a.test\n", "x.y.a.test", NULL, 80, true, 0 },
		{ "net deny\nallow *.a.test\n", "a.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net deny\nallow *.a.test\n", "xa.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net deny\nallow a.test:443\n", "a.test", NULL, 80, false, EGRESS_R_POLICY },
		{ "net deny\nallow a.test:80-90\n", "a.test", NULL, 90, true, 0 },
		{ "net deny\nallow *\n", NULL, "8.8.8.8", 1, true, 0 },
		{ "net deny\nallow *:53\n", NULL, "8.8.8.8", 54, false, EGRESS_R_POLICY },
		{ "net deny\nallow 8.8.0.0/16\n", NULL, "8.8.200.1", 1, true, 0 },
		{ "net deny\nallow 8.8.0.0/16\n", NULL, "8.9.0.1", 1, false, EGRESS_R_POLICY },
		{ "net deny\nallow 0.0.0.0/0\n", NULL, "2606::1", 1, false, EGRESS_R_POLICY },
		{ "net deny\nallow ::/0\n", NULL, "2606::1", 1, true, 0 },
		{ "net deny\nallow [2606::/16]:443\n", NULL, "2606::1", 443, true, 0 },
		{ "net deny\nallow [2606::/16]:443\n", NULL, "2606::1", 80, false,
		  EGRESS_R_POLICY },
		{ "net deny\nallow 8.8.8.8:53\n", NULL, "8.8.8.8", 53, true, 0 },
		{ "net public\ndeny a.test\n", "a.test", NULL, 80, false, EGRESS_R_RULE },
		{ "net deny\nallow *.test\ndeny a.test\n", "a.test", NULL, 80, false,
		  EGRESS_R_RULE },
		{ "net deny\nprefer allow\ndeny 0.0.0.0/0\nallow a.test\n", "a.test", "8.8.8.8", 80,
		  true, 0 },
		{ "net deny\nprefer deny\ndeny 0.0.0.0/0\nallow a.test\n", "a.test", "8.8.8.8", 80,
		  false, EGRESS_R_RULE },
		{ "net deny\ngrant a.test\n", "a.test", NULL, 80, false, EGRESS_R_POLICY },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct net_policy *p = policy(rows[i].text);
		struct net_addr a;
		if (rows[i].addr)
			a = addr(rows[i].addr);
		struct net_verdict v =
			net_policy_judge(p, rows[i].name, rows[i].addr ? &a : NULL, rows[i].port);
		if (v.allowed != rows[i].allowed || (!v.allowed && v.reason != rows[i].reason))
			fail_msg("row %zu: %s", i, rows[i].text);
		net_policy_free(p);
	}
}

static void test_what_is_resolved_granted_and_passed_without_a_name(void **state)
{
	struct net_policy *p =
		policy("net deny\nallow a.test:443\ndeny b.a.test:80\ndeny c.a.test\n"
		       "allow *.a.test:22\ngrant a.test\ngrant 169.254.169.254:80\n");
	struct net_addr pub = addr("8.8.8.8"), priv = addr("10.1.1.1"),
			meta = addr("169.254.169.254");
	(void)state;
	assert_true(net_policy_resolves(p, "a.test").allowed);
	assert_true(net_policy_resolves(p, "b.a.test").allowed);
	assert_false(net_policy_resolves(p, "c.a.test").allowed);
	assert_false(net_policy_resolves(p, "d.test").allowed);
	assert_true(net_policy_grants(p, "a.test", &priv, 443, NET_PROTECT_PRIVATE));
	assert_false(net_policy_grants(p, "b.a.test", &priv, 443, NET_PROTECT_PRIVATE));
	assert_false(net_policy_grants(p, "a.test", &meta, 443, NET_PROTECT_METADATA));
	assert_true(net_policy_grants(p, NULL, &meta, 80, NET_PROTECT_METADATA));
	assert_false(net_policy_grants(p, "a.test", &priv, 443, NET_PROTECT_LOOPBACK));
	assert_true(net_policy_grants_any_port(p, NULL, &meta, NET_PROTECT_METADATA));
	assert_non_null(net_policy_unnamed(p, "x.a.test", &pub, 22));
	assert_null(net_policy_unnamed(p, "a.test", &pub, 22));
	assert_null(net_policy_unnamed(p, "a.test", &pub, 443));
	assert_null(net_policy_unnamed(p, "c.a.test", &pub, 22));
	assert_true(net_policy_names_matter(p, 443, false));
	assert_false(net_policy_names_matter(p, 25, false));
	assert_true(net_policy_names_matter(p, 25, true)); /* deny c.a.test */
	assert_int_equal(net_policy_fixed(p, "x.y.a.test"), strlen(".a.test"));
	assert_int_equal(net_policy_fixed(p, "a.test"), strlen("a.test"));
	assert_int_equal(net_policy_fixed(p, "z.test"), 0);
	net_policy_free(p);
}

static void test_hosts_are_found_by_name_and_by_nothing_else(void **state)
{
	static const char text[] = "net deny\nhost db 198.18.1.7\nhost DB.internal 198.18.1.8\nhost a.b 198.18.1.9\n";
	static const struct {
		const char *name;
		unsigned n;
		uint8_t last;
	} rows[] = { { "db", 2, 7 },		     { "db.internal", 2, 7 }, { "a.b", 1, 9 },
		     { "a.b.internal", 1, 9 },	     { "a", 0, 0 },	      { "internal", 0, 0 },
		     { "db.internal.internal", 0, 0 }, { "xdb", 0, 0 },	      { "db.example", 0, 0 } };
	struct net_policy *p = NULL;
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	assert_int_equal(net_policy_parse(text, sizeof(text) - 1, &p, &err), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct net_addr found[4];
		assert_int_equal(net_policy_hosts(p, rows[i].name, found, 4), rows[i].n);
		if (rows[i].n)
			assert_int_equal(found[0].b[15], rows[i].last);
	}
	/* They allow nothing by themselves. */
	assert_false(net_policy_resolves(p, "db").allowed);
	net_policy_free(p);
}

static void test_texts_that_are_no_policy(void **state)
{
	static const char *const bad[] = {
		"net deny\nhost\n",
		"net deny\nhost db\n",
		"net deny\nhost db 198.18.1.7 \n",
		"net deny\nhost db fd00::1\n",
		"net deny\nhost 1.2.3.4 198.18.1.7\n",
		"net deny\nhost -x 198.18.1.7\n",
		"",
		"net deny",
		"net\n",
		"net all\n",
		"allow a\n",
		"net deny\n\n",
		"net deny\nallow\n",
		"net deny\nallow \n",
		"net deny\nallow a b\n",
		"net deny\nallow a:\n",
		"net deny\nallow a:0\n",
		"net deny\nallow a:65536\n",
		"net deny\nallow a:9-8\n",
		"net deny\nallow 10.0.0.1/8\n",
		"net deny\nallow 1.2.3.4/33\n",
		"net deny\nallow 2130706433\n",
		"net deny\nallow 0x7f.1\n",
		"net deny\nallow *a.test\n",
		"net deny\nallow *.*.test\n",
		"net deny\nallow *.1.2.3.4\n",
		"net deny\nallow ::ffff:1.2.3.4\n",
		"net deny\nallow [::1\n",
		"net deny\nallow [::1]x\n",
		"net deny\nprefer\n",
		"net deny\nallow a\nprefer allow\n",
		"net deny\nprefer denyx\n",
		"net deny\r\n",
		"net deny\nallow http://a/\n",
		"net deny\nallow 1.2.3.4/08\n",
		"net deny\nallow *.\n",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct net_policy *p = NULL;
		struct brig_err err = BRIG_ERR_INIT;
		if (net_policy_parse(bad[i], strlen(bad[i]), &p, &err) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_true(err.msg[0]);
	}
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(net_dest_check("a.test:443", &err), 0);
	assert_int_equal(net_dest_check("a.test:x", &err), -1);
	assert_non_null(strstr(err.remedy, "HOST[:PORT]"));
	char many[EGRESS_RULES_MAX * 10 + 100] = "net deny\n";
	for (unsigned i = 0; i <= EGRESS_RULES_MAX; i++)
		strcat(many, "allow a\n");
	struct net_policy *p = NULL;
	assert_int_equal(net_policy_parse(many, strlen(many), &p, &err), -1);
	assert_int_equal(net_policy_parse(many, strlen(many) - strlen("allow a\n"), &p, &err), 0);
	assert_int_equal(p->nrules, EGRESS_RULES_MAX);
	net_policy_free(p);
}

/* ---- HTTP ---- */

static enum head_result head(const char *s, struct head *h)
{
	enum head_result whole = head_read((const uint8_t *)s, strlen(s), h);
	/* Cut anywhere it is undecided, or decided alike. */
	for (size_t n = 0; n < strlen(s); n++) {
		struct head part;
		enum head_result r = head_read((const uint8_t *)s, n, &part);
		if (r != HEAD_MORE && r != whole)
			fail_msg("%zu bytes of '%s': %d, not %d", n, s, r, whole);
	}
	return whole;
}

static void test_heads(void **state)
{
	static const struct {
		const char *text;
		enum head_result want;
	} rows[] = {
		{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_OK },
		{ "GET / HTTP/1.0\r\n\r\n", HEAD_OK },
		{ "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_OK },
		{ "GET / HTTP/1.1\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost:\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", HEAD_BAD },
		{ "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\nHost: a\n\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		  HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		  HEAD_BAD },
		{ "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n", HEAD_BAD },
		{ "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "GET a HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "GET / HTTP/1.9\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "GET / http/1.1\r\nHost: a\r\n\r\n", HEAD_BAD },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HEAD_OTHER },
		{ "GET /\r\n", HEAD_OTHER },
		{ "SSH-2.0-OpenSSH_9.2\r\n", HEAD_OTHER },
		{ "EHLO a\r\n", HEAD_OTHER },
		{ " \x01\x02", HEAD_OTHER },
		{ "\x16\x03\x01", HEAD_OTHER },
		{ "x", HEAD_MORE },
		{ "abcdefghijklmnopqrstuvwxyz0123456789", HEAD_MORE },
		{ "abcdefghijklmnopqrstuvwxyz0123456789 / HTTP/1.1\r\n", HEAD_BAD },
		{ "GET\t/ HTTP/1.1\r\n", HEAD_BAD },
		{ "G\xac / HTTP/1.1\r\n", HEAD_OTHER },
	};
	struct head h;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (head(rows[i].text, &h) != rows[i].want)
			fail_msg("row %zu: %s", i, rows[i].text);
	assert_int_equal(head("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nxyz", &h),
			 HEAD_OK);
	assert_true(h.connect && h.target_port == 443 && h.target_len == 6 && h.host_len == 6);
	assert_int_equal(head("GET http://A.test:81?x HTTP/1.1\r\nhOST: [::1]:9\r\n\r\n", &h),
			 HEAD_OK);
	assert_true(h.absolute && h.target_port == 81 && h.target_len == 6 && h.host_len == 5);
	assert_int_equal(head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n", &h),
			 HEAD_OK);
	assert_true(h.body == HEAD_BODY_LENGTH && h.length == 12);
	assert_int_equal(head("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", &h),
			 HEAD_OK);
	assert_true(h.upgrade && h.websocket);
	assert_int_equal(head("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, websocket\r\n\r\n", &h),
			 HEAD_OK);
	assert_true(h.upgrade && !h.websocket);
}

static void test_chunks(void **state)
{
	static const struct {
		const char *text;
		long want; /* -1 = refused, 0 = not yet at its end */
	} rows[] = {
		{ "0\r\n\r\nGET", 5 },
		{ "3\r\nabc\r\n0\r\n\r\n", 13 },
		{ "3;x=y\r\nabc\r\n00\r\nT: v\r\n\r\n", 24 },
		{ "A\r\n0123456789\r\n0\r\n\r\n", 20 },
		{ "3\r\nabcd", -1 },
		{ "3\nabc\n0\n\n", -1 },
		{ "\r\n", -1 },
		{ "-1\r\n", -1 },
		{ "0x3\r\n", -1 },
		{ "1234567890123456\r\n", -1 },
		{ "3\r\nab", 0 },
		{ "0\r\n x\r\n\r\n", -1 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		for (size_t cut = 0; cut <= strlen(rows[i].text); cut++) {
			struct head_chunks c = { .state = 0 };
			const uint8_t *p = (const uint8_t *)rows[i].text;
			bool end = false;
			long a = head_chunks_feed(&c, p, cut, &end), b = 0;
			if (a >= 0 && !end)
				b = head_chunks_feed(&c, p + cut, strlen(rows[i].text) - cut, &end);
			long got = a < 0 || b < 0 ? -1 : end ? a + b : 0;
			if (got != rows[i].want)
				fail_msg("row %zu, cut at %zu: %ld", i, cut, got);
		}
	}
}

/* ---- TLS ---- */

/* A hello with these extensions; returns its length. */
static size_t hello_make(uint8_t *out, const uint8_t *ext, size_t n)
{
	size_t body = 2 + 32 + 1 + 4 + 2 + 2 + n, at = 0;
	const uint8_t head_[] = { 22,
				  3,
				  1,
				  (uint8_t)((body + 4) >> 8),
				  (uint8_t)(body + 4),
				  1,
				  0,
				  (uint8_t)(body >> 8),
				  (uint8_t)body,
				  3,
				  3 };
	memcpy(out, head_, sizeof(head_));
	at = sizeof(head_);
	memset(out + at, 7, 32);
	at += 32;
	const uint8_t mid[] = { 0, 0, 2, 0x13, 1, 1, 0, (uint8_t)(n >> 8), (uint8_t)n };
	memcpy(out + at, mid, sizeof(mid));
	memcpy(out + at + sizeof(mid), ext, n);
	return at + sizeof(mid) + n;
}

static void test_hellos(void **state)
{
	static const uint8_t sni[] = "\0\0\0\x0b\0\x09\0\0\x06"
				     "a.test";
	static const uint8_t twice[] = "\0\0\0\x0b\0\x09\0\0\x06"
				       "a.test\0\0\0\x0b\0\x09\0\0\x06"
				       "b.test";
	static const uint8_t two[] = "\0\0\0\x14\0\x12\0\0\x06"
				     "a.test\0\0\x06"
				     "b.test";
	static const uint8_t type[] = "\0\0\0\x0b\0\x09\x01\0\x06"
				      "a.test";
	static const uint8_t empty[] = "\0\0\0\x05\0\x03\0\0\0";
	static const uint8_t longer[] = "\0\0\0\x0c\0\x09\0\0\x06"
					"a.test";
	static const uint8_t ech[] = "\xfe\x0d\0\x01\0\0\0\0\x0b\0\x09\0\0\x06"
				     "a.test";
	static uint8_t scratch[HELLO_BYTES_MAX], raw[1024], cut[8192];
	struct hello h;
	size_t n = hello_make(raw, sni, sizeof(sni) - 1);
	(void)state;
	assert_int_equal(hello_read(raw, n, scratch, &h), HELLO_OK);
	assert_int_equal(h.sni_len, 6);
	assert_memory_equal(h.sni, "a.test", 6);
	assert_false(h.ech);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(hello_read(raw, i, scratch, &h), HELLO_MORE);
	/* One byte a record. */
	for (size_t i = 5; i < n; i++)
		memcpy(cut + 6 * (i - 5), (const uint8_t[]){ 22, 3, 1, 0, 1, raw[i] }, 6);
	assert_int_equal(hello_read(cut, 6 * (n - 5), scratch, &h), HELLO_OK);
	assert_int_equal(h.sni_len, 6);
	assert_int_equal(hello_read(cut, 6 * (n - 5) - 1, scratch, &h), HELLO_MORE);
	n = hello_make(raw, ech, sizeof(ech) - 1);
	assert_int_equal(hello_read(raw, n, scratch, &h), HELLO_OK);
	assert_true(h.ech);
	n = hello_make(raw, sni, 0);
	assert_int_equal(hello_read(raw, n, scratch, &h), HELLO_OK);
	assert_null(h.sni);
	static const struct {
		const uint8_t *p;
		size_t n;
	} bad[] = { { twice, sizeof(twice) - 1 },   { two, sizeof(two) - 1 },
		    { type, sizeof(type) - 1 },	    { empty, sizeof(empty) - 1 },
		    { longer, sizeof(longer) - 1 }, { sni, 5 } };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		n = hello_make(raw, bad[i].p, bad[i].n);
		if (hello_read(raw, n, scratch, &h) != HELLO_BAD)
			fail_msg("row %zu", i);
	}
	assert_int_equal(hello_read((const uint8_t *)"\x17\x03\x01", 3, scratch, &h), HELLO_BAD);
	assert_int_equal(hello_read((const uint8_t *)"\x16\x03\x01\x00\x00", 5, scratch, &h),
			 HELLO_BAD);
	assert_int_equal(hello_read((const uint8_t *)"\x16\x03\x01\x00\x04\x02", 6, scratch, &h),
			 HELLO_BAD);
}

/* ---- DNS ---- */

static void test_questions_and_answers(void **state)
{
	uint8_t q[512], a[512];
	struct dns_question got;
	struct dns_reply r;
	struct net_addr list[DNS_ADDRS_MAX];
	unsigned rcode = 0;
	(void)state;
	size_t n = dns_query_write(0x1234, "www.a.test", DNS_A, q);
	assert_int_equal(dns_question_read(q, n, &got, &rcode), DNS_ASKED);
	assert_string_equal(got.name, "www.a.test");
	assert_true(got.id == 0x1234 && got.type == DNS_A && got.class == 1 && got.edns &&
		    got.recurse);
	for (unsigned i = 0; i < DNS_ADDRS_MAX; i++)
		list[i] = net_addr_v4((const uint8_t[]){ 8, 8, 8, (uint8_t)i });
	size_t m = dns_answer_write(q, &got, DNS_OK, list, DNS_ADDRS_MAX, 77, "x", a);
	assert_int_equal(dns_reply_read(a, m, 0x1234, "www.a.test", DNS_A, &r), 0);
	assert_true(r.naddrs == DNS_ADDRS_MAX && r.ttl == 77 && net_addr_eq(&r.addrs[3], &list[3]));
	assert_int_equal(dns_reply_read(a, m, 0x1235, "www.a.test", DNS_A, &r), -1);
	assert_int_equal(dns_reply_read(a, m, 0x1234, "www.b.test", DNS_A, &r), -1);
	assert_int_equal(dns_reply_read(a, m, 0x1234, "www.a.test", DNS_AAAA, &r), -1);
	for (size_t i = 0; i < m; i++)
		(void)dns_reply_read(a, i, 0x1234, "www.a.test", DNS_A, &r);
	/* The longest name and the most addresses fit. */
	char longest[NET_NAME_MAX];
	memset(longest, 'a', 253);
	longest[253] = '\0';
	for (size_t i = 50; i < 253; i += 50)
		longest[i] = '.';
	n = dns_query_write(1, longest, DNS_AAAA, q);
	assert_int_equal(dns_question_read(q, n, &got, &rcode), DNS_ASKED);
	assert_string_equal(got.name, longest);
	for (unsigned i = 0; i < DNS_ADDRS_MAX; i++)
		list[i] = addr("2606::1");
	m = dns_answer_write(q, &got, DNS_OK, list, DNS_ADDRS_MAX, 1, "a text that finds no room",
			     a);
	assert_true(m <= 512);
	assert_int_equal(dns_reply_read(a, m, 1, longest, DNS_AAAA, &r), 0);
	assert_int_equal(r.naddrs, DNS_ADDRS_MAX);
}

static void test_messages_that_are_wrong(void **state)
{
	uint8_t q[512];
	struct dns_question got;
	unsigned rcode = 0;
	(void)state;
	size_t n = dns_query_write(7, "a.test", DNS_A, q);
	for (size_t i = 0; i < n; i++)
		assert_int_not_equal(dns_question_read(q, i, &got, &rcode), DNS_ASKED);
	q[2] |= 0x80;
	assert_int_equal(dns_question_read(q, n, &got, &rcode), DNS_IGNORE);
	q[2] = 0x28; /* UPDATE */
	assert_int_equal(dns_question_read(q, n, &got, &rcode), DNS_WRONG);
	assert_int_equal(rcode, DNS_NOTIMP);
	q[2] = 1;
	q[12] = 0xc0; /* a pointer in a question */
	assert_int_equal(dns_question_read(q, n, &got, &rcode), DNS_WRONG);
	assert_int_equal(rcode, DNS_FORMERR);
	/* A label with a dot in it is not two labels. */
	n = dns_query_write(7, "a-b.test", DNS_A, q);
	q[14] = '.';
	assert_int_equal(dns_question_read(q, n, &got, &rcode), DNS_ASKED);
	assert_string_equal(got.name, "");
}

/* A reply to a.test A: CNAME b.test, CNAME loop back, and so on; from raw bytes. */
static void test_chains(void **state)
{
	static const uint8_t rest[] =
		"\xc0\x0c\0\5\0\1\0\0\0\x0a\0\x08\1b\4test\0"	  /* a.test CNAME b.test, at 24 */
		"\xc0\x24\0\1\0\1\0\0\0\x05\0\4\x08\x08\x08\x08"  /* b.test A */
		"\xc0\x0c\0\1\0\1\0\0\0\x01\0\4\x09\x09\x09\x09"; /* a.test A: not what the chain
								     leads to */
	uint8_t m[512];
	struct dns_reply r;
	(void)state;
	size_t n = dns_query_write(7, "a.test", DNS_A, m) - 11;
	m[2] = 0x81;
	m[7] = 3;
	m[11] = 0;
	assert_int_equal(n, 24);
	memcpy(m + n, rest, sizeof(rest) - 1);
	assert_int_equal(dns_reply_read(m, n + sizeof(rest) - 1, 7, "a.test", DNS_A, &r), 0);
	assert_true(r.hops == 1 && r.naddrs == 1 && r.addrs[0].b[15] == 8 && r.ttl == 5);
	assert_string_equal(r.via[0], "b.test");
	/* b.test leads to itself. */
	static const uint8_t loop[] = "\xc0\x0c\0\5\0\1\0\0\0\x0a\0\2\xc0\x0c";
	m[7] = 1;
	memcpy(m + n, loop, sizeof(loop) - 1);
	assert_int_equal(dns_reply_read(m, n + sizeof(loop) - 1, 7, "a.test", DNS_A, &r), -1);
	/* A pointer to itself. */
	static const uint8_t self[] = "\xc0\x18\0\1\0\1\0\0\0\x0a\0\4\1\1\1\1";
	memcpy(m + n, self, sizeof(self) - 1);
	assert_int_equal(dns_reply_read(m, n + sizeof(self) - 1, 7, "a.test", DNS_A, &r), -1);
}

/* ---- the control channel ---- */

static void test_requests_are_checked(void **state)
{
	union {
		struct egress_lease m;
		uint8_t bytes[sizeof(struct egress_lease) + 9];
	} u = { .m = { .h = { .verb = EGRESS_LEASE, .seq = 1 },
		       .id = "abc",
		       .tenant = "t",
		       .generation = 1,
		       .connections_max = 1,
		       .connects_per_second = EGRESS_NO_LIMIT,
		       .rate_out_bps = EGRESS_NO_LIMIT,
		       .rate_in_bps = 1024,
		       .text_len = 9 } };
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	assert_int_equal(control_check(u.bytes, sizeof(u.m) + 9, &err), 0);
	assert_int_equal(control_check(u.bytes, sizeof(u.m) + 8, &err), -1);
	assert_int_equal(control_check(u.bytes, 3, &err), -1);
	u.m.id[10] = 'x';
	assert_int_equal(control_check(u.bytes, sizeof(u.m) + 9, &err), -1);
	u.m.id[10] = 0;
	u.m.rate_in_bps = 1;
	assert_int_equal(control_check(u.bytes, sizeof(u.m) + 9, &err), -1);
	u.m.rate_in_bps = 1024;
	u.m.h.seq = 0;
	assert_int_equal(control_check(u.bytes, sizeof(u.m) + 9, &err), -1);
	struct egress_ref ref = { .h = { .verb = EGRESS_ASK, .seq = 1 }, .id = "abc" };
	assert_int_equal(control_check(&ref, sizeof(ref), &err), 0);
	ref.h.verb = EGRESS_DENIAL;
	assert_int_equal(control_check(&ref, sizeof(ref), &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_have_one_form),
		cmocka_unit_test(test_protected_addresses),
		cmocka_unit_test(test_names_have_one_form),
		cmocka_unit_test(test_what_a_tunnel_looks_like),
		cmocka_unit_test(test_policies_decide),
		cmocka_unit_test(test_what_is_resolved_granted_and_passed_without_a_name),
		cmocka_unit_test(test_hosts_are_found_by_name_and_by_nothing_else),
		cmocka_unit_test(test_texts_that_are_no_policy),
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_hellos),
		cmocka_unit_test(test_questions_and_answers),
		cmocka_unit_test(test_messages_that_are_wrong),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_requests_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
