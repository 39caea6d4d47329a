/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP half of `brig serve`: addresses, what is refused, answers to the operator. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/apicall.h"
#include "cli/apiproc.h"

static void addresses_are_read_as_written(void **state)
{
	(void)state;
	static const struct {
		const char *text, *shown;
		bool loopback;
	} good[] = {
		{ "127.0.0.1:0", "127.0.0.1:", true }, { "127.8.9.1:0", "127.8.9.1:", true },
		{ "localhost:0", "127.0.0.1:", true }, { "0", "127.0.0.1:", true },
		{ "0.0.0.0:0", "0.0.0.0:", false },    { "[::1]:0", "[::1]:", true },
		{ "[::]:0", "[::]:", false },
	};
	static const char *const bad[] = {
		"",
		":80",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:65536",
		"host:80",
		"127.1:80",
		"::1:80",
		"[::1]",
		"[::1]80",
		"[]:80",
		"[::1:80",
		"127.0.0.1:-1",
		"127.0.0.1:80 ",
		"[127.0.0.1]:80",
		"1.2.3.4.5:80",
		"[fe80::1%lo]:80",
		"[::ffff:127.0.0.1]:80",
		"127.0.0.1:0x50",
		"-",
	};
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct api_addr a;
		struct brig_err err = BRIG_ERR_INIT;
		char text[API_ADDR_TEXT_MAX];
		unsigned port = 0;
		if (api_addr_parse(good[i].text, &a, &err) < 0)
			fail_msg("%s: %s", good[i].text, err.msg);
		assert_int_equal(a.loopback, good[i].loopback);
		int fd = api_addr_listen(&a, &err);
		if (fd < 0 && strchr(good[i].text, '[')) /* a host without IPv6 */
			continue;
		assert_true(fd >= 0);
		assert_int_equal(api_addr_text(fd, text, &port), 0);
		assert_memory_equal(text, good[i].shown, strlen(good[i].shown));
		assert_true(port > 0 && atoi(text + strlen(good[i].shown)) == (int)port);
		/* Taken: said so. */
		assert_int_equal(api_addr_parse(text, &a, &err), 0);
		assert_int_equal(api_addr_listen(&a, &err), -1);
		assert_int_equal(err.code, BRIG_E_EXISTS);
		close(fd);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct api_addr a;
		struct brig_err err = BRIG_ERR_INIT;
		if (api_addr_parse(bad[i], &a, &err) == 0)
			fail_msg("'%s' was accepted", bad[i]);
		assert_true(err.remedy[0]);
	}
}

static void strangers_need_tls(void **state)
{
	(void)state;
	struct apiproc_opts o = { .naddr = 2 };
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(api_addr_parse("127.0.0.1:80", &o.addr[0], &err), 0);
	assert_int_equal(api_addr_parse("[::1]:80", &o.addr[1], &err), 0);
	assert_int_equal(apiproc_check(&o, &err), 0);
	assert_int_equal(api_addr_parse("192.0.2.1:80", &o.addr[1], &err), 0);
	assert_int_equal(apiproc_check(&o, &err), -1);
	assert_non_null(strstr(err.remedy, "--tls-cert"));
	o.tls_cert = "c";
	assert_int_equal(apiproc_check(&o, &err), -1); /* a half */
	o.tls_key = "k";
	assert_int_equal(apiproc_check(&o, &err), 0);
}

static void the_operators_socket_is_beside_the_servers(void **state)
{
	(void)state;
	char path[SERVER_PATH_MAX], longest[SERVER_PATH_MAX];
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(apiproc_operator_path("/run/brig/brigd.sock", path, &err), 0);
	assert_string_equal(path, "/run/brig/api.sock");
	assert_int_equal(apiproc_operator_path("b", path, &err), 0);
	assert_string_equal(path, "api.sock");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	longest[sizeof(longest) - 4] = '/';
	assert_int_equal(apiproc_operator_path(longest, path, &err), -1);
}

static int parse(const char *text, unsigned *status, size_t *n)
{
	char *copy = strdup(text), *body;
	int r = api_answer_parse(copy, strlen(copy), status, &body, n);
	free(copy);
	return r;
}

static void only_whole_answers_count(void **state)
{
	(void)state;
	unsigned status = 0;
	size_t n = 0;
	assert_int_equal(parse("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", &status, &n), 0);
	assert_true(status == 200 && n == 2);
	assert_int_equal(parse("HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n", &status, &n), 0);
	assert_true(status == 204 && n == 0);
	static const char *const bad[] = {
		"",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 2000\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\r\n\r\nContent-Length: 2\r\n",
		"HTTP/1.1 204 OK\r\n\r\nx",
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse(bad[i], &status, &n) == 0)
			fail_msg("row %u was accepted", i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_read_as_written),
		cmocka_unit_test(strangers_need_tls),
		cmocka_unit_test(the_operators_socket_is_beside_the_servers),
		cmocka_unit_test(only_whole_answers_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
