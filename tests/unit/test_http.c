/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: how they are read, refused, answered, and what happens when their client leaves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "api/http_target.h"
#include "base/clock.h"
#include "base/fd.h"
#include "http_driver.h"

static struct buf head = BUF_INIT(REPLY_MAX), body = BUF_INIT(REPLY_MAX);

static void expect_body(const char *text)
{
	assert_int_equal(buf_len(&body), strlen(text));
	assert_memory_equal(buf_head(&body), text, strlen(text));
}

static unsigned ask(int fd, const char *text)
{
	client_text(fd, text);
	return client_answer(fd, &head, &body);
}

/* Sends text on a connection of its own and returns the status. */
static unsigned ask_once(const char *text)
{
	int fd = client_open();
	unsigned status = ask(fd, text);
	client_close(fd);
	return status;
}

/* ---- answers ---- */

static void a_connection_serves_request_after_request(void **state)
{
	(void)state;
	int fd = client_open();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ask(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
		expect_body("hello");
		assert_non_null(strstr((char *)buf_head(&head), "X-Test: yes"));
		assert_non_null(strstr((char *)buf_head(&head), "X-Request-Id: "));
		assert_non_null(strstr((char *)buf_head(&head), "Content-Length: 5"));
		assert_null(strstr((char *)buf_head(&head), "chunked"));
		assert_null(strstr((char *)buf_head(&head), "X-Bad"));
	}
	client_close(fd);
	until(http_requests(drv->h) == 0);
	assert_int_equal(drv->gone, 3);
}

static void id_of(char ret[HTTP_ID_MAX])
{
	const char *at = strstr((char *)buf_head(&head), "X-Request-Id: ");
	assert_non_null(at);
	assert_null(strstr(at + 1, "X-Request-Id: "));
	at += strlen("X-Request-Id: ");
	assert_true(strcspn(at, "\r") < HTTP_ID_MAX);
	snprintf(ret, HTTP_ID_MAX, "%.*s", (int)strcspn(at, "\r"), at);
}

#define DIGITS_60 "012345678901234567890123456789012345678901234567890123456789"

static void a_client_may_name_its_request(void **state)
{
	static const char longest[] = DIGITS_60 "0123", too_long[] = DIGITS_60 "01234";
	static const char *const good[] = { "a", "trace-1.2_Z", longest };
	static const char *const bad[] = { "", "a b", "a\"b", "x\xffy", "../a", "a,b", too_long };
	char text[512], id[HTTP_ID_MAX];
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		snprintf(text, sizeof(text),
			 "GET /nope HTTP/1.1\r\nHost: x\r\nx-request-id: %s\r\n\r\n", good[i]);
		assert_int_equal(ask_once(text), 404);
		id_of(id);
		assert_string_equal(id, good[i]);
		/* It is the same in the error. */
		json_t *v = json_loadb((char *)buf_head(&body), buf_len(&body), 0, NULL);
		assert_string_equal(json_string_value(json_object_get(v, "request_id")), good[i]);
		json_decref(v);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "GET /hello HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n\r\n", bad[i]);
		assert_int_equal(ask_once(text), 200);
		id_of(id);
		assert_int_equal(strlen(id), 16);
		assert_int_equal(strspn(id, "0123456789abcdef"), 16);
	}
	/* Of two, none is the right one. */
	assert_int_equal(ask_once("GET /hello HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\n"
				  "X-Request-Id: b\r\n\r\n"),
			 200);
	id_of(id);
	assert_int_equal(strlen(id), 16);
}

static void every_error_says_what_to_do(void **state)
{
	static const unsigned statuses[] = { 400, 401, 403, 404, 405, 408, 409, 413, 415,
					     422, 429, 499, 500, 501, 502, 503, 504, 507 };
	(void)state;
	for (unsigned i = 0; i < BRIG_E__N_CODES + 1u; i++) {
		struct brig_err err = { .code = (enum brig_code)i };
		assert_true(strlen(api_remedy(&err)) > 10);
		brig_err_remedy(&err, "mine");
		assert_string_equal(api_remedy(&err), "mine");
	}
	for (unsigned i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		struct brig_err err = { .code = api_code(statuses[i]) };
		assert_true(err.code != BRIG_E_OK && err.code < BRIG_E__N_CODES);
		/* A fault of ours is not told as the client's, nor the other way. */
		assert_int_equal(api_status(err.code) >= 500 || err.code == BRIG_E_UNSUPPORTED,
				 statuses[i] >= 500);
	}
	/* In both shapes, where the place that failed says nothing. */
	assert_int_equal(ask_once("GET /e2b?text=1 HTTP/1.1\r\nHost: x\r\n\r\n"), 401);
	assert_non_null(memmem(buf_head(&body), buf_len(&body), "\"remediation\":\"use a key", 24));
	assert_int_equal(ask_once("GET /nope HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
	assert_non_null(memmem(buf_head(&body), buf_len(&body), "\"remediation\":\"check the", 24));
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\noneGET /hello "
			"HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: "
			"x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\nGET /nope "
			"HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	expect_body("one");
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	expect_body("hello");
	assert_int_equal(client_answer(fd, NULL, &body), 200);
	expect_body("two");
	assert_int_equal(client_answer(fd, NULL, &body), 404);
	client_close(fd);
	until(drv->gone == 4);
}

static void an_answer_may_come_later(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	assert_int_equal(drv->gone, 0);
	assert_false(http_answered(drv->last));
	http_reply(drv->last, 201, "text/plain", "done", 4);
	assert_true(http_answered(drv->last));
	http_reply(drv->last, 500, "text/plain", "again", 5);
	assert_int_equal(client_answer(fd, NULL, &body), 201);
	expect_body("done");
	until(drv->gone == 1);
	assert_int_equal(ask(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
	client_close(fd);
}

static void an_answer_leaves_in_the_round_that_gave_it(void **state)
{
	(void)state;
	int fd = client_open();
	struct buf b = BUF_INIT(REPLY_MAX);
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	http_reply(drv->last, 200, "text/plain", "now", 3);
	driver_round();
	assert_true(client_pull(fd, &b) > 0);
	assert_non_null(memmem(buf_head(&b), buf_len(&b), "\r\n\r\nnow", 7));
	buf_done(&b);
	client_close(fd);
}

static void a_head_request_gets_no_body(void **state)
{
	(void)state;
	int fd = client_open();
	struct buf b = BUF_INIT(REPLY_MAX);
	client_text(fd, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->gone == 1);
	assert_true(client_pull(fd, &b) > 0);
	assert_non_null(memmem(buf_head(&b), buf_len(&b), "Content-Length: 5", 17));
	assert_memory_equal(buf_head(&b) + buf_len(&b) - 4, "\r\n\r\n", 4);
	buf_done(&b);
	/* Nothing is left over that would be taken for the next answer. */
	assert_int_equal(ask(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
	client_close(fd);
}

static void errors_are_json_with_the_request_id(void **state)
{
	(void)state;
	assert_int_equal(ask_once("GET /nope\xff HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
	json_t *v = json_loadb((char *)buf_head(&body), buf_len(&body), 0, NULL);
	assert_string_equal(json_string_value(json_object_get(v, "code")), "not_found");
	assert_string_equal(json_string_value(json_object_get(v, "message")),
			    "nothing is at '/nope?'");
	assert_true(json_is_false(json_object_get(v, "retryable")));
	const char *id = json_string_value(json_object_get(v, "request_id"));
	assert_int_equal(strlen(id), 16);
	assert_non_null(strstr((char *)buf_head(&head), id));
	json_decref(v);
}

static void errors_for_e2b_have_the_status_in_them(void **state)
{
	(void)state;
	assert_int_equal(ask_once("GET /e2b HTTP/1.1\r\nHost: x\r\n\r\n"), 429);
	assert_non_null(strstr((char *)buf_head(&head), "\r\nRetry-After: 1\r\n"));
	json_t *v = json_loadb((char *)buf_head(&body), buf_len(&body), 0, NULL);
	assert_int_equal(json_integer_value(json_object_get(v, "code")), 429);
	assert_string_equal(json_string_value(json_object_get(v, "error_code")), "busy");
	assert_string_equal(json_string_value(json_object_get(v, "cause")), strerror(EAGAIN));
	assert_string_equal(json_string_value(json_object_get(v, "remediation")), "do wait");
	assert_true(json_is_true(json_object_get(v, "retryable")));
	json_decref(v);
	assert_int_equal(ask_once("GET /e2b?text HTTP/1.1\r\nHost: x\r\n\r\n"), 401);
	v = json_loadb((char *)buf_head(&body), buf_len(&body), 0, NULL);
	assert_int_equal(json_integer_value(json_object_get(v, "code")), 401);
	assert_string_equal(json_string_value(json_object_get(v, "error_code")),
			    "permission_denied");
	assert_string_equal(json_string_value(json_object_get(v, "message")), "no key 'x?'");
	json_decref(v);
}

static void what_a_request_says_is_told(void **state)
{
	(void)state;
	assert_int_equal(ask_once("DELETE /show%20it?a=1&q=%41+b%2B&q=2 HTTP/1.1\r\nHost: "
				  "x\r\nX-SHOW: v w\r\n\r\n"),
			 200);
	json_t *v = json_loadb((char *)buf_head(&body), buf_len(&body), 0, NULL);
	json_t *want =
		json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "method", "DELETE", "path", "/show it",
			  "target", "/show%20it?a=1&q=%41+b%2B&q=2", "raw", "a=1&q=%41+b%2B&q=2",
			  "q", "A b+", "header", "v w", "peer", "127.0.0.1");
	assert_true(json_equal(v, want));
	json_decref(v);
	json_decref(want);
}

/* ---- bodies ---- */

static void a_body_may_be_cut_at_every_byte(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		"4;ext=1\r\nabcd\r\na\r\nefghijklmn\r\n0\r\nTrailer: t\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\nabcdefghijklmn",
	};
	for (size_t t = 0; t < 2; t++) {
		int fd = client_open();
		for (size_t cut = 1; cut < strlen(texts[t]); cut++) {
			client_send(fd, texts[t], cut);
			driver_round();
			driver_round();
			client_text(fd, texts[t] + cut);
			assert_int_equal(client_answer(fd, NULL, &body), 200);
			expect_body("abcdefghijklmn");
		}
		for (size_t i = 0; texts[t][i]; i++) {
			client_send(fd, texts[t] + i, 1);
			driver_round();
		}
		assert_int_equal(client_answer(fd, NULL, &body), 200);
		expect_body("abcdefghijklmn");
		client_close(fd);
	}
}

static void a_body_beyond_the_maximum_is_413(void **state)
{
	(void)state;
	int fd = client_open();
	assert_int_equal(ask(fd, "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: "
				 "10\r\n\r\n0123456789"),
			 200);
	assert_int_equal(ask(fd, "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: "
				 "11\r\n\r\n0123456789a"),
			 413);
	assert_non_null(memmem(buf_head(&body), buf_len(&body), "limit_out_of_range", 18));
	assert_int_equal(ask(fd, "POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
				 "chunked\r\n\r\na\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n"),
			 413);
	/* What was refused was read, so the connection goes on. */
	assert_int_equal(ask(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
	assert_int_equal(drv->ready, 1);
	client_close(fd);
}

static void a_huge_body_is_refused_before_it_comes(void **state)
{
	(void)state;
	int fd = client_open();
	assert_int_equal(ask(fd, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: "
				 "100000000000\r\n\r\n"),
			 401);
	assert_int_equal(client_end(fd), 0);
	until(drv->gone == 1);
	assert_int_equal(drv->ready, 0);
}

static void a_refused_client_reads_its_answer_while_it_still_sends(void **state)
{
	(void)state;
	static char junk[65536];
	int fd = client_open();
	client_text(fd, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n");
	for (int i = 0; i < 40; i++) {
		/* A reset would make this fail, and on some systems lose the answer. */
		assert_true(send(fd, junk, sizeof(junk), MSG_NOSIGNAL) > 0 || errno == EAGAIN);
		driver_round();
	}
	assert_int_equal(client_answer(fd, NULL, &body), 401);
	expect_body("no");
	client_close(fd);
	until(http_requests(drv->h) == 0);
}

static void an_early_answer_waits_for_a_body_of_some_size(void **state)
{
	(void)state;
	int fd = client_open();
	assert_int_equal(
		ask(fd, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"), 401);
	assert_int_equal(ask(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
	assert_int_equal(drv->ready, 0);
	client_close(fd);
}

static void expect_100_is_answered(void **state)
{
	(void)state;
	int fd = client_open();
	struct buf b = BUF_INIT(REPLY_MAX);
	client_text(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: "
			"100-continue\r\n\r\n");
	until(client_pull(fd, &b) > 0);
	assert_memory_equal(buf_head(&b), "HTTP/1.1 100 Continue\r\n\r\n", buf_len(&b));
	assert_int_equal(ask(fd, "ok"), 200);
	expect_body("ok");
	client_close(fd);
	/* One that is refused need not send its body. */
	fd = client_open();
	assert_int_equal(ask(fd, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: "
				 "100-continue\r\n\r\n"),
			 401);
	assert_int_equal(client_end(fd), 0);
	buf_done(&b);
}

static void a_held_body_pushes_the_client_back(void **state)
{
	(void)state;
	static char block[256 * 1024];
	const size_t total = 16u * 1024 * 1024;
	size_t sent = 0;
	int fd = client_open();
	memset(block, 'x', sizeof(block));
	drv->hold_after = 100000;
	client_text(fd, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n");
	until(drv->last != NULL);
	for (int quiet = 0; quiet < 50;) {
		ssize_t n = send(fd, block, sizeof(block), MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		quiet = n > 0 ? 0 : quiet + 1;
		ev_round(&drv->ev, 1);
	}
	assert_true(sent < total);
	assert_true(buf_len(&drv->got) >= 100000 && buf_len(&drv->got) < 300000);
	drv->hold_after = 0;
	http_body_hold(drv->last, false);
	while (sent < total) {
		size_t n = total - sent < sizeof(block) ? total - sent : sizeof(block);
		client_send(fd, block, n);
		sent += n;
	}
	assert_int_equal(client_answer(fd, NULL, &body), 204);
	assert_int_equal(buf_len(&drv->got), total);
	client_close(fd);
}

static void json_bodies_are_checked(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		unsigned status;
	} cases[] = {
		{ "{\"a\":[1,2.5,null,\"\\u00e4\"]}", 200 },
		{ "", 200 },
		{ "7", 200 },
		{ "{\"a\":1,\"a\":2}", 400 },
		{ "{} x", 400 },
		{ "{\"a\"", 400 },
		{ "\"\xff\"", 400 },
	};
	int fd = client_open();
	char text[4096], deep[2048];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
			 "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
			 strlen(cases[i].text), cases[i].text);
		assert_int_equal(ask(fd, text), cases[i].status);
	}
	for (int ok = 0; ok < 2; ok++) {
		size_t n = ok ? 64 : 65;
		memset(deep, '[', n);
		memset(deep + n, ']', n);
		deep[2 * n] = '\0';
		snprintf(text, sizeof(text),
			 "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", 2 * n,
			 deep);
		assert_int_equal(ask(fd, text), ok ? 200 : 400);
	}
	client_close(fd);
}

/* ---- refusals ---- */

static void requests_that_two_parsers_would_cut_differently_are_refused(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Host: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"Host: x\r\nTransfer-Encoding: identity\r\n\r\n",
		"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
		"Host: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
		"Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
		"Host: x\r\nContent-Length: +5\r\n\r\nabcde",
		"Host: x\r\nContent-Length: -5\r\n\r\nabcde",
		"Host: x\r\nContent-Length: 5, 5\r\n\r\nabcde",
		"Host: x\r\nContent-Length: 0x5\r\n\r\nabcde",
		"Host: x\r\nContent-Length: 5 6\r\n\r\nabcde",
		"Host: x\r\nContent-Length: \r\n\r\nabcde",
		"Host: x\r\nContent-Length : 5\r\n\r\nabcde",
		"Host: x\r\nX y: 5\r\n\r\n",
		"Host: x\r\nX: a\rContent-Length: 5\r\n\r\nabcde",
		"Host: x\r\nX: a\x01\r\n\r\n",
		"Host: x\r\nHost: y\r\n\r\n",
		"X: y\r\n\r\n",
		"Host: x\r\nno colon\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[512];
		int fd = client_open();
		snprintf(text, sizeof(text), "POST /echo HTTP/1.1\r\n%s", texts[i]);
		unsigned status = ask(fd, text);
		if (status != 400)
			print_message("case %zu\n", i);
		assert_int_equal(status, 400);
		(void)client_end(fd); /* and nothing behind it is read as a request */
	}
	assert_int_equal(ask_once("G\rT /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
	assert_int_equal(ask_once("G(T /hello HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
	assert_int_equal(ask_once("ABCDEFGHIJKLMNOPQRSTUVWX /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
			 400);
	int fd = client_open();
	client_text(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: "
			"99999999999999999999999\r\n\r\n");
	assert_int_equal(client_answer(fd, NULL, NULL), 413);
	(void)client_end(fd);
	assert_int_equal(drv->begun, 0);
}

static void broken_chunks_end_the_request(void **state)
{
	(void)state;
	static const char *const texts[] = { "x\r\n",	    "5\r\nabcdefg\r\n0\r\n\r\n",
					     "-1\r\na\r\n", "fffffffffffffffff\r\na\r\n",
					     "\r\n",	    " 5\r\nabcde\r\n" };
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = client_open();
		client_text(fd,
			    "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
		client_text(fd, texts[i]);
		unsigned status = client_answer(fd, NULL, NULL);
		assert_true(status == 400 || status == 413);
		(void)client_end(fd);
	}
	assert_int_equal(drv->ready, 0);
	assert_int_equal(drv->gone, 6);
}

static void targets_are_refused_that_mean_two_things(void **state)
{
	(void)state;
	static const char *const targets[] = { "/a%00b", "/a%", "/a%4",	 "/a%zz",   "http://h/a",
					       "*",	 "a",	"/a\tb", "/?a=%00", "//\x7f" };
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		char text[256];
		snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", targets[i]);
		assert_int_equal(ask_once(text), 400);
	}
	assert_int_equal(drv->begun, 0);
}

static void targets_are_taken_apart(void **state)
{
	(void)state;
	struct http_target t;
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(http_target_parse(&t, "/%2e%2E/%C3%a4?x=100%&&y&=z&a%3Db=%26&x=2", &err),
			 0);
	assert_string_equal(t.path, "/../\xc3\xa4");
	assert_string_equal(http_target_arg(&t, "x"), "100%");
	assert_string_equal(http_target_arg(&t, "y"), "");
	assert_string_equal(http_target_arg(&t, ""), "z");
	assert_string_equal(http_target_arg(&t, "a=b"), "&");
	assert_null(http_target_arg(&t, "z"));
	http_target_done(&t);
	assert_int_equal(http_target_parse(&t, "/?", &err), 0);
	assert_string_equal(t.query, "");
	http_target_done(&t);
	char many[1024] = "/?";
	memset(many + 2, '&', HTTP_TARGET_ARGS_MAX - 1);
	assert_int_equal(http_target_parse(&t, many, &err), 0);
	http_target_done(&t);
	many[2 + HTTP_TARGET_ARGS_MAX - 1] = '&';
	assert_int_equal(http_target_parse(&t, many, &err), -1);
	http_target_done(&t);
}

static void headers_have_a_bound(void **state)
{
	(void)state;
	static char big[200000];
	memset(big, 'a', sizeof(big) - 1);
	int fd = client_open();
	client_text(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nX: ");
	client_text(fd, big);
	assert_int_equal(client_answer(fd, NULL, NULL), 431);
	(void)client_end(fd);
	fd = client_open();
	client_text(fd, "GET /");
	client_text(fd, big);
	unsigned status = client_answer(fd, NULL, NULL);
	assert_int_equal(status, 414);
	(void)client_end(fd);
}

/* ---- slow clients ---- */

static int setup_hasty(void **state)
{
	(void)state;
	driver_head_ms = driver_body_ms = 50;
	driver_start(NULL, NULL);
	driver_head_ms = driver_body_ms = 0;
	return 0;
}

static int setup_spin(void **state)
{
	(void)state;
	driver_body_ms = 300;
	driver_start(NULL, NULL);
	driver_body_ms = 0;
	return 0;
}

static void a_client_has_its_time_for_the_headers(void **state)
{
	(void)state;
	static const char *const texts[] = { "", "GET", "GET /later HTTP/1.1\r\n",
					     "GET /later HTTP/1.1\r\nHost: x\r\nX" };
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = client_open();
		uint64_t begin = clock_now();
		client_text(fd, texts[i]);
		assert_int_equal(client_end(fd), 0);
		assert_true(clock_now() - begin >= 45 * MS_NS);
	}
	/* One that dribbles has no more of it. */
	int fd = client_open();
	struct buf b = BUF_INIT(4096);
	ssize_t n;
	client_text(fd, "GET /later HTTP/1.1\r\nX: ");
	uint64_t deadline = driver_deadline();
	while ((n = client_pull(fd, &b)) == -EAGAIN) {
		(void)send(fd, "y", 1, MSG_NOSIGNAL);
		driver_wait(deadline, "the end of a client that dribbles", __FILE__, __LINE__);
	}
	assert_true(n <= 0);
	client_close(fd);
	buf_done(&b);
	assert_int_equal(drv->begun, 0);
}

static void a_client_has_its_time_for_the_body(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
		"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
		"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
	};
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = client_open();
		client_text(fd, texts[i]);
		(void)client_end(fd);
		until(drv->gone == i + 1);
	}
	assert_int_equal(drv->ready, 0);
	/* A held one is not to blame. */
	drv->hold_after = 1;
	int fd = client_open();
	client_text(fd, texts[1]);
	until(drv->pieces == 2);
	client_text(fd, "cd");
	uint64_t until_ns = clock_now() + 150 * MS_NS;
	while (clock_now() < until_ns)
		ev_round(&drv->ev, 10);
	assert_non_null(drv->last);
	http_body_hold(drv->last, false);
	(void)client_end(fd);
	until(drv->gone == 4);
}

static void a_chunk_header_without_end_does_not_spin(void **state)
{
	(void)state;
	static char junk[300000];
	int fd = client_open();
	unsigned rounds = 0;
	memset(junk, 'x', sizeof(junk));
	client_text(fd, "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;");
	while (send(fd, junk, sizeof(junk), MSG_NOSIGNAL) > 0)
		driver_round();
	for (int i = 0; i < 100; i++)
		driver_round();
	uint64_t until_ns = clock_now() + 150 * MS_NS;
	for (; clock_now() < until_ns; rounds++)
		ev_round(&drv->ev, 150);
	assert_true(rounds < 30);
	/* It cannot go on for ever: the body has its time. */
	(void)client_end(fd);
	until(drv->gone == 1);
}

/* ---- clients that leave ---- */

static void a_client_may_leave_in_every_phase(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		"GET /la",
		"GET /later HTTP/1.1\r\n",
		"GET /later HTTP/1.1\r\nHost: x\r\nX: y",
		"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
		"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
		"POST /later HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"POST /later HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX",
		"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
		"GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
	};
	for (int reset = 0; reset < 2; reset++) {
		for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
			unsigned begun = drv->begun;
			struct linger l = { .l_onoff = 1, .l_linger = 0 };
			int fd = client_open();
			client_text(fd, texts[i]);
			for (int k = 0; k < 5; k++)
				driver_round();
			if (reset)
				setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
			client_close(fd);
			until(http_requests(drv->h) == 0 && drv->gone == drv->begun);
			assert_true(drv->begun - begun <= 1);
		}
	}
}

static void a_client_that_leaves_is_noticed_at_once(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	client_close(fd);
	driver_round();
	driver_round();
	assert_int_equal(drv->gone, 1);
}

static void a_client_that_leaves_a_held_body_is_noticed(void **state)
{
	(void)state;
	int fd = client_open();
	drv->hold_after = 1;
	client_text(fd, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab");
	until(drv->pieces == 1);
	client_text(fd, "cd");
	for (int k = 0; k < 5; k++)
		driver_round();
	assert_int_equal(drv->gone, 0);
	client_close(fd);
	until(drv->gone == 1);
	assert_int_equal(drv->pieces, 1);
}

static void a_client_that_leaves_with_a_piece_of_its_body_is_noticed(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab");
	client_close(fd); /* one event for both */
	for (int k = 0; k < 5; k++)
		driver_round();
	assert_int_equal(drv->begun, 1);
	assert_int_equal(drv->gone, 1);
}

/* The end comes in one event with all else that the client ever sends. */
static void an_end_together_with_a_request_is_seen(void **state)
{
	(void)state;
	static const char *const texts[] = { "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n",
					     "GET /hello HTTP/1.1\r\nHost: x\r\n",
					     "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /he", "GE",
					     "" };
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = client_open();
		client_text(fd, texts[i]);
		shutdown(fd, SHUT_WR);
		/* The answer that needs no waiting comes, and then the end of the connection. */
		if (i % 2 == 0 && i < 4) {
			assert_int_equal(client_answer(fd, NULL, &body), 200);
			expect_body("hello");
		}
		assert_int_equal(client_end(fd), 0);
		until(http_requests(drv->h) == 0);
	}
	assert_int_equal(drv->gone, 2);
}

static void an_answer_for_a_client_that_has_gone_is_dropped(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	client_close(fd);
	http_reply(drv->last, 200, "text/plain", "late", 4);
	until(drv->gone == 1);
}

static void closing_the_server_ends_every_request(void **state)
{
	(void)state;
	int fd[6];
	for (int i = 0; i < 6; i++)
		fd[i] = client_open();
	client_text(fd[0], "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	client_text(fd[1], "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	client_text(fd[2], "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
	client_text(fd[3], "POST /echo HTTP/1.1\r\nHost: x\r\n");
	drv->hold_after = 1;
	client_text(fd[4], "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab");
	until(drv->begun == 4 && drv->ready == 2 && drv->pieces == 1);
	client_text(fd[4], "cd");
	driver_round();
	driver_round();
	driver_stop(); /* checks that each has gone */
	for (int i = 0; i < 6; i++)
		close(fd[i]);
	driver_start(NULL, NULL);
}

static int setup_unix(void **state)
{
	(void)state;
	driver_unix = true;
	driver_start(NULL, NULL);
	driver_unix = false;
	return 0;
}

static void a_unix_socket_serves_as_well(void **state)
{
	(void)state;
	int fd = client_open();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask(fd, "GET /show%20it HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
		assert_non_null(memmem(buf_head(&body), buf_len(&body), "\"peer\":\"unix\"", 13));
	}
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	client_close(fd);
	driver_round();
	driver_round();
	assert_int_equal(drv->gone, 3);
}

static void a_quiet_server_takes_no_connections_but_serves_its_own(void **state)
{
	(void)state;
	int fd = client_open();
	client_text(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	until(drv->last && drv->ready == 1);
	http_quiesce(drv->h);
	driver_round();
	http_reply_empty(drv->last, 204);
	assert_int_equal(client_answer(fd, NULL, NULL), 204);
	client_close(fd);
}

static void statuses_of_codes(void **state)
{
	(void)state;
	for (int code = 1; code < BRIG_E__N_CODES; code++) {
		unsigned status = api_status((enum brig_code)code);
		assert_true(status >= 400 && status < 600);
		/* What may be tried again says so by its status, too. */
		assert_int_equal(brig_code_retryable((enum brig_code)code),
				 status == 429 || status == 503);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, driver_setup, driver_teardown)
	const struct CMUnitTest tests[] = {
		T(a_connection_serves_request_after_request),
		T(pipelined_requests_are_answered_in_order),
		T(a_client_may_name_its_request),
		T(every_error_says_what_to_do),
		T(an_answer_may_come_later),
		T(an_answer_leaves_in_the_round_that_gave_it),
		T(a_head_request_gets_no_body),
		T(errors_are_json_with_the_request_id),
		T(errors_for_e2b_have_the_status_in_them),
		T(what_a_request_says_is_told),
		T(a_body_may_be_cut_at_every_byte),
		T(a_body_beyond_the_maximum_is_413),
		T(a_huge_body_is_refused_before_it_comes),
		T(a_refused_client_reads_its_answer_while_it_still_sends),
		T(an_early_answer_waits_for_a_body_of_some_size),
		T(expect_100_is_answered),
		T(a_held_body_pushes_the_client_back),
		T(json_bodies_are_checked),
		T(requests_that_two_parsers_would_cut_differently_are_refused),
		T(broken_chunks_end_the_request),
		T(targets_are_refused_that_mean_two_things),
		T(targets_are_taken_apart),
		T(headers_have_a_bound),
		cmocka_unit_test_setup_teardown(a_client_has_its_time_for_the_headers, setup_hasty,
						driver_teardown),
		cmocka_unit_test_setup_teardown(a_client_has_its_time_for_the_body, setup_hasty,
						driver_teardown),
		cmocka_unit_test_setup_teardown(a_chunk_header_without_end_does_not_spin,
						setup_spin, driver_teardown),
		T(a_client_may_leave_in_every_phase),
		T(a_client_that_leaves_is_noticed_at_once),
		T(a_client_that_leaves_a_held_body_is_noticed),
		T(a_client_that_leaves_with_a_piece_of_its_body_is_noticed),
		T(an_end_together_with_a_request_is_seen),
		T(an_answer_for_a_client_that_has_gone_is_dropped),
		T(closing_the_server_ends_every_request),
		cmocka_unit_test_setup_teardown(a_unix_socket_serves_as_well, setup_unix,
						driver_teardown),
		T(a_quiet_server_takes_no_connections_but_serves_its_own),
		T(statuses_of_codes),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_done(&head);
	buf_done(&body);
	return r;
}
