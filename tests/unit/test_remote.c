/* SPDX-License-Identifier: Apache-2.0 */
/* A command line elsewhere: what BRIG_URL may say, what an answer means, what a key may ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/remote_ask.h"
#include "brig/client_proto.h"
#include "remote/greet.h"
#include "remote/url.h"

static void urls_lead_to_one_host(void **state)
{
	(void)state;
	static const struct {
		const char *text, *host, *path;
		bool tls, loopback;
	} good[] = {
		{ "https://brig.example", "brig.example", "", true, false },
		{ "https://brig.example:8443/", "brig.example:8443", "", true, false },
		{ "HTTP://127.0.0.1:7681/a/b//", "127.0.0.1:7681", "/a/b", false, true },
		{ "http://localhost", "localhost", "", false, true },
		{ "http://LocalHost:1", "LocalHost:1", "", false, true },
		{ "http://[::1]:7681", "[::1]:7681", "", false, true },
		{ "http://127.0.0.1.example", "127.0.0.1.example", "", false, false },
		{ "http://localhost.example", "localhost.example", "", false, false },
		{ "http://10.0.0.1", "10.0.0.1", "", false, false },
	};
	static const char *const bad[] = {
		"",		 "brig.example",      "ftp://h",	  "http:/h",	   "http://",
		"http:///x",	 "http://:80",	      "http://h:",	  "http://h:0",	   "http://h:65536",
		"http://h:1x",	 "http://u@h",	      "https://u:p@h/",	  "http://h?x",	   "http://h/#x",
		"http://h/ x",	 "http://h\r\nX: y",  "http://h\\@x",	  "http://[::1",   "http://[]",
		"http://[x]",	 "http://\xc3\xa4/",
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct url u;
		if (url_parse(good[i].text, &u, &err) < 0)
			fail_msg("%s: %s", good[i].text, err.msg);
		assert_string_equal(u.host, good[i].host);
		assert_string_equal(u.path, good[i].path);
		assert_int_equal(u.tls, good[i].tls);
		assert_int_equal(u.loopback, good[i].loopback);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct url u;
		if (url_parse(bad[i], &u, &err) == 0)
			fail_msg("taken: '%s'", bad[i]);
		assert_int_equal(err.code, BRIG_E_INVALID);
		assert_true(err.remedy[0]);
		assert_null(strstr(err.msg, "u:p"));
	}
}

static int answer(const char *text, struct brig_err *err, size_t *ret_left)
{
	struct buf in = BUF_INIT(GREET_ANSWER_MAX);
	struct greet g;
	greet_init(&g);
	assert_int_equal(buf_add(&in, text, strlen(text)), 0);
	int r = greet_answer(&g, &in, true, err);
	*ret_left = buf_len(&in);
	greet_done(&g);
	buf_done(&in);
	return r;
}

static void answers_have_one_meaning_each(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum brig_code code;
		const char *says, *remedy;
	} refused[] = {
		{ "", BRIG_E_PROTOCOL, "no brig server", "BRIG_URL" },
		{ "SSH-2.0-x\r\n\r\n", BRIG_E_PROTOCOL, "malformed", "BRIG_URL" },
		{ "HTTP/1.1 200 OK\r\n\r\nhello", BRIG_E_PROTOCOL, "status 200", "BRIG_URL" },
		{ "HTTP/1.1 302 X\r\nLocation: http://evil/\r\n\r\n", BRIG_E_PROTOCOL, "status 302",
		  "BRIG_URL" },
		{ "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", BRIG_E_PROTOCOL, "another protocol",
		  "BRIG_URL" },
		{ "HTTP/1.1 401 X\r\nContent-Length: 52\r\n\r\n"
		  "{\"code\":\"permission_denied\",\"message\":\"unknown key\"}",
		  BRIG_E_DENIED, "unknown key", "BRIG_API_KEY" },
		{ "HTTP/1.1 426 X\r\nContent-Length: 47\r\n\r\n"
		  "{\"code\":\"invalid_argument\",\"message\":\"brig/9\"} ",
		  BRIG_E_UNSUPPORTED, "brig/9", "same version" },
		{ "HTTP/1.1 404 X\r\nContent-Length: 38\r\n\r\n"
		  "{\"code\":\"not_found\",\"message\":\"none\"} ",
		  BRIG_E_UNSUPPORTED, "404", "BRIG_URL" },
		{ "HTTP/1.1 429 X\r\nContent-Length: 65\r\n\r\n"
		  "{\"code\":\"busy\",\"message\":\"too many\",\"remediation\":\"come later\"}  ",
		  BRIG_E_BUSY, "too many", "come later" },
		{ "HTTP/1.1 500 X\r\nContent-Length: 9999\r\n\r\n{", BRIG_E_PROTOCOL, "status 500",
		  "BRIG_URL" },
	};
	struct brig_err err = BRIG_ERR_INIT;
	size_t left;
	assert_int_equal(
		answer("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: brig/1\r\n\r\nfirst", &err, &left),
		1);
	assert_int_equal(left, 5);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		err = (struct brig_err)BRIG_ERR_INIT;
		assert_int_equal(answer(refused[i].text, &err, &left), -1);
		if (err.code != refused[i].code || !strstr(err.msg, refused[i].says) ||
		    !strstr(err.remedy, refused[i].remedy))
			fail_msg("%zu: %d '%s' '%s'", i, err.code, err.msg, err.remedy);
	}
}

static void keys_are_one_word(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	char good[] = "e2b_0a\r\n ", bad[] = "a b", evil[] = "a\r\nX: y", none[] = " \n";
	assert_int_equal(greet_key(good, &err), 0);
	assert_string_equal(good, "e2b_0a");
	assert_int_equal(greet_key(bad, &err), -1);
	assert_int_equal(greet_key(evil, &err), -1);
	assert_int_equal(greet_key(none, &err), -1);
}

static enum brig_code asked(const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct remote_ask a;
	if (remote_ask_parse(text, strlen(text), &a, &err) < 0)
		return err.code;
	remote_ask_done(&a);
	return BRIG_E_OK;
}

static void a_key_may_ask_for_what_is_listed(void **state)
{
	(void)state;
	assert_int_equal(asked("{\"op\":\"ls\"}"), BRIG_E_OK);
	assert_int_equal(asked("{\"op\":\"run\",\"cmd\":[\"x\"]}"), BRIG_E_OK);
	assert_int_equal(asked("{\"op\":\"create\",\"spec\":{\"volumes\":[]}}"), BRIG_E_OK);
	assert_int_equal(asked("{\"op\":\"setenv\",\"id\":\"abcd\"}"), BRIG_E_UNSUPPORTED);
	assert_int_equal(asked("{\"op\":\"connect\",\"id\":\"abcd\",\"port\":1}"), BRIG_E_UNSUPPORTED);
	assert_int_equal(asked("{\"op\":\"create\",\"spec\":{\"volumes\":[{\"fd\":0}]}}"),
			 BRIG_E_UNSUPPORTED);
	assert_int_equal(asked("{\"op\":\"create\",\"spec\":{\"volumes\":{}}}"), BRIG_E_INVALID);
	assert_int_equal(asked("{\"op\":\"exec\"}"), BRIG_E_INVALID);
	assert_int_equal(asked("{\"op\":\"stats\",\"id\":\"\"}"), BRIG_E_INVALID);
	assert_int_equal(asked("{\"op\":\"run\",\"detach\":1}"), BRIG_E_INVALID);
	assert_int_not_equal(asked("[]"), BRIG_E_OK);
	assert_int_not_equal(asked(""), BRIG_E_OK);
}

static void every_operation_has_its_frames(void **state)
{
	(void)state;
	static const struct {
		enum remote_frames frames;
		struct brig_frame_hdr h; /* len, type, flags, stream */
		bool taken;
	} rows[] = {
		{ REMOTE_FRAMES_COMMAND, { 9, BRIG_STDIN, 0, 1 }, true },
		{ REMOTE_FRAMES_COMMAND, { 0, BRIG_STDIN, BRIG_FF_EOF, 1 }, true },
		{ REMOTE_FRAMES_COMMAND, { 9, BRIG_STDIN, 0, 2 }, false },
		{ REMOTE_FRAMES_COMMAND, { 8, BRIG_CREDIT, 0, 1 }, true },
		{ REMOTE_FRAMES_COMMAND, { 8, BRIG_CREDIT, BRIG_FF_EOF, 1 }, false },
		{ REMOTE_FRAMES_COMMAND, { 7, BRIG_CREDIT, 0, 1 }, false },
		{ REMOTE_FRAMES_COMMAND, { 4, BRIG_SIGNAL, 0, 1 }, true },
		{ REMOTE_FRAMES_COMMAND, { 4, BRIG_RESIZE, 0, 1 }, true },
		{ REMOTE_FRAMES_COMMAND, { 0, BRIG_CLOSE, 0, 1 }, true },
		{ REMOTE_FRAMES_COMMAND, { 64, BRIG_EXEC, 0, 1 }, false },
		{ REMOTE_FRAMES_COMMAND, { 9, BRIG_STDOUT, 0, 1 }, false },
		{ REMOTE_FRAMES_COMMAND, { 2, BRIG_CL_REQ, 0, 0 }, false },
		{ REMOTE_FRAMES_LOGS, { 8, BRIG_CREDIT, 0, 1 }, true },
		{ REMOTE_FRAMES_LOGS, { 0, BRIG_CLOSE, 0, 1 }, false },
		{ REMOTE_FRAMES_FILES, { 40, BRIG_FS_READ, 0, 7 }, true },
		{ REMOTE_FRAMES_FILES, { 9, BRIG_FS_DATA, BRIG_FF_EOF, 7 }, true },
		{ REMOTE_FRAMES_FILES, { 40, BRIG_FS_READ, 0, 0 }, false },
		{ REMOTE_FRAMES_FILES, { 8, BRIG_FS_READ, 0, 7 }, false },
		{ REMOTE_FRAMES_FILES, { 40, BRIG_FS_EXPORT, 0, 7 }, true },
		{ REMOTE_FRAMES_FILES, { 40, BRIG_FS_IMPORT, 0, 7 }, false },
		{ REMOTE_FRAMES_FILES, { 4, BRIG_TCP_CONNECT, 0, 7 }, false },
		{ REMOTE_FRAMES_NONE, { 0, BRIG_CLOSE, 0, 1 }, false },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct remote_ask a = { .frames = rows[i].frames };
		struct frame f = { .h = rows[i].h };
		bool taken = remote_frame_check(&a, &f, &err) == 0;
		if (taken != rows[i].taken)
			fail_msg("row %zu: %s", i, err.msg);
		assert_true(taken || err.code == BRIG_E_PROTOCOL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_lead_to_one_host),
		cmocka_unit_test(answers_have_one_meaning_each),
		cmocka_unit_test(keys_are_one_word),
		cmocka_unit_test(a_key_may_ask_for_what_is_listed),
		cmocka_unit_test(every_operation_has_its_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
