/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of servers inside: one reading, however the bytes are cut, or none; and which headers
 * pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/http_response.h"
#include "api/proxy.h"

/* "<status>body." or "!" */
struct reading {
	char text[8192];
	size_t n, rest; /* rest: bytes behind the end */
};

static void put(struct reading *t, const void *p, size_t n)
{
	assert_true(t->n + n < sizeof(t->text));
	memcpy(t->text + t->n, p, n);
	t->n += n;
	t->text[t->n] = '\0';
}

/* False: over. */
static bool steps(struct response *h, struct buf *in, bool eof, struct reading *t)
{
	struct brig_err err = BRIG_ERR_INIT;
	char status[16];
	size_t n = 0;
	for (;;) {
		switch (response_next(h, in, eof, &n, &err)) {
		case RESPONSE_HEAD:
			put(t, status, (size_t)snprintf(status, sizeof(status), "<%u>", h->status));
			break;
		case RESPONSE_DATA:
			n = n > 1 ? n / 2 : n;
			put(t, buf_head(in), n);
			response_took(h, in, n);
			break;
		case RESPONSE_MORE:
			assert_false(eof);
			return true;
		case RESPONSE_END:
			put(t, ".", 1);
			t->rest = buf_len(in);
			return false;
		case RESPONSE_BAD:
			put(t, "!", 1);
			return false;
		}
	}
}

static void read_cut(const char *text, size_t cut, bool head, bool upgrade, struct reading *t)
{
	struct response h;
	struct buf in = BUF_INIT(1 << 20);
	size_t n = strlen(text);
	response_init(&h);
	h.no_body = head;
	h.may_upgrade = upgrade;
	t->n = 0;
	t->text[0] = '\0';
	assert_int_equal(buf_add(&in, text, cut), 0);
	if (steps(&h, &in, false, t)) {
		assert_int_equal(buf_add(&in, text + cut, n - cut), 0);
		steps(&h, &in, true, t);
	}
	response_done(&h);
	buf_done(&in);
}

static const struct {
	const char *text, *want;
} good[] = {
	{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "<200>hello." },
	{ "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "<200>." },
	{ "HTTP/1.0 404 Not Found\r\n\r\nuntil the end", "<404>until the end." },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	  "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
	  "<200>abc0123456789." },
	{ "HTTP/1.1 200 OK\r\ntransfer-encoding:\tChunked \r\n\r\n0\r\n\r\n", "<200>." },
	{ "HTTP/1.1 204 No Content\r\n\r\n", "<204>." },
	{ "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", "<304>." },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 200 OK\r\n"
	  "Content-Length: 1\r\n\r\nx",
	  "<200>x." },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "<200>x." },
};

static void an_answer_is_read_the_same_wherever_it_is_cut(void **state)
{
	struct reading t;
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		for (size_t cut = 0; cut <= strlen(good[i].text); cut++) {
			read_cut(good[i].text, cut, false, false, &t);
			/* Until the end of the connection: a cut there shows nothing. */
			assert_string_equal(t.text, good[i].want);
		}
}

static void what_can_be_read_in_two_ways_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.1  200 OK\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 600 OK\r\n\r\n",
		"\r\n\r\n",
		"HTTP/1.1 101 Switching\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: "
		"chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\n Content-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\nc\r\n\r\n",
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
		"chunked\r\n\r\n0\r\n\r\n",
	};
	static const char *const broken[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
	};
	struct reading t;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (size_t cut = 0; cut <= strlen(bad[i]); cut++) {
			read_cut(bad[i], cut, false, false, &t);
			assert_string_equal(t.text, "!");
		}
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		read_cut(broken[i], strlen(broken[i]), false, false, &t);
		assert_memory_equal(t.text, "<200>", 5);
		assert_true(t.text[t.n - 1] == '!');
	}
}

static void the_request_decides_whether_there_is_a_body(void **state)
{
	struct reading t;
	(void)state;
	read_cut("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 3, true, false, &t);
	assert_string_equal(t.text, "<200>.");
	read_cut("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\nrest", 42, false, true, &t);
	assert_string_equal(t.text, "<101>.");
	assert_int_equal(t.rest, 4);
}

static void an_endless_head_is_refused(void **state)
{
	struct response h;
	struct brig_err err = BRIG_ERR_INIT;
	struct buf in = BUF_INIT(1 << 20);
	size_t n;
	(void)state;
	response_init(&h);
	buf_add(&in, "HTTP/1.1 200 OK\r\n", 17);
	for (unsigned i = 0; i < RESPONSE_HEADERS_MAX + 1; i++)
		buf_add(&in, "a: b\r\n", 6);
	assert_int_equal(response_next(&h, &in, false, &n, &err), RESPONSE_MORE);
	buf_add(&in, "\r\n", 2);
	assert_int_equal(response_next(&h, &in, false, &n, &err), RESPONSE_BAD);
	response_done(&h);
	buf_done(&in);
	response_init(&h);
	in = (struct buf)BUF_INIT(1 << 20);
	for (unsigned i = 0; i < RESPONSE_HEAD_MAX; i++)
		buf_add(&in, "x", 1);
	assert_int_equal(response_next(&h, &in, false, &n, &err), RESPONSE_BAD);
	buf_done(&in);
}

static void interim_answers_are_counted(void **state)
{
	struct reading t;
	char text[2048] = "";
	(void)state;
	for (int i = 0; i < 20; i++)
		strcat(text, "HTTP/1.1 100 Continue\r\n\r\n");
	read_cut(text, strlen(text), false, false, &t);
	assert_string_equal(t.text, "!");
}

static void no_key_and_no_route_of_ours_goes_inside(void **state)
{
	static const char *const kept_out[] = {
		"x-api-key",
		"X-Access-Token",
		"E2b-Sandbox-Id",
		"e2b-traffic-access-token",
		"X-Forwarded-For",
		"Forwarded",
		"Connection",
		"Transfer-Encoding",
		"Content-Length",
		"Host",
		"Proxy-Authorization",
		"Keep-Alive",
		"X-Hop",
		"TE",
		"Upgrade",
		"Expect",
	};
	static const char *const passed[] = { "Accept", "Cookie", "X-Anything", "Content-Type",
					      "Sec-WebSocket-Key" };
	(void)state;
	for (size_t i = 0; i < sizeof(kept_out) / sizeof(kept_out[0]); i++)
		assert_false(proxy_request_header(kept_out[i], "v", "close, x-hop"));
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		assert_true(proxy_request_header(passed[i], "v", "close, x-hop"));
	assert_true(proxy_request_header("Authorization", "Bearer theirs", NULL));
	assert_false(proxy_request_header("Authorization", "Bearer e2b_0123", NULL));
	assert_true(proxy_answer_header("Set-Cookie", NULL));
	assert_false(proxy_answer_header("Transfer-Encoding", NULL));
	assert_false(proxy_answer_header("X-Hop", "x-hop"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_is_read_the_same_wherever_it_is_cut),
		cmocka_unit_test(what_can_be_read_in_two_ways_is_refused),
		cmocka_unit_test(the_request_decides_whether_there_is_a_body),
		cmocka_unit_test(an_endless_head_is_refused),
		cmocka_unit_test(interim_answers_are_counted),
		cmocka_unit_test(no_key_and_no_route_of_ours_goes_inside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
