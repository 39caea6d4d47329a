/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the log: what a client sends breaks neither a line nor a field, and no secret is in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/reqlog.h"

static const struct reqlog_line plain = { .id = "78e3c2db65aee36e",
					  .method = "GET",
					  .target = "/v1/version",
					  .key = "key1",
					  .box = "a1b2",
					  .client = "127.0.0.1",
					  .status = 200,
					  .took_ns = 1204567,
					  .bytes_in = 3,
					  .bytes_out = 312,
					  .whole = true };

static json_t *parsed(const struct reqlog_line *l)
{
	char out[REQLOG_LINE_MAX];
	size_t n = reqlog_format(LOG_JSON, 0, l, out);
	assert_true(n < sizeof(out));
	assert_int_equal(out[n - 1], '\n');
	assert_ptr_equal(memchr(out, '\n', n), out + n - 1);
	for (size_t i = 0; i + 1 < n; i++)
		assert_true(out[i] >= ' ' && out[i] < 0x7f);
	json_error_t e;
	json_t *o = json_loadb(out, n, JSON_REJECT_DUPLICATES, &e);
	if (!o)
		fail_msg("%s: %.*s", e.text, (int)n, out);
	return o;
}

static const char *str(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static void a_line_says_what_was_asked_and_answered(void **state)
{
	char out[REQLOG_LINE_MAX];
	(void)state;
	json_t *o = parsed(&plain);
	assert_string_equal(str(o, "time"), "1970-01-01T00:00:00.000Z");
	assert_string_equal(str(o, "level"), "info");
	assert_string_equal(str(o, "request_id"), plain.id);
	assert_string_equal(str(o, "method"), "GET");
	assert_string_equal(str(o, "path"), "/v1/version");
	assert_string_equal(str(o, "key"), "key1");
	assert_string_equal(str(o, "sandbox"), "a1b2");
	assert_string_equal(str(o, "client"), "127.0.0.1");
	assert_int_equal(json_integer_value(json_object_get(o, "status")), 200);
	assert_int_equal(json_integer_value(json_object_get(o, "bytes_in")), 3);
	assert_int_equal(json_integer_value(json_object_get(o, "bytes_out")), 312);
	assert_true(json_real_value(json_object_get(o, "ms")) > 1.2039 &&
		    json_real_value(json_object_get(o, "ms")) < 1.2041);
	assert_true(json_is_true(json_object_get(o, "complete")));
	json_decref(o);
	size_t n = reqlog_format(LOG_TEXT, 0, &plain, out);
	static const char want[] =
		"1970-01-01T00:00:00.000Z level=info request_id=\"78e3c2db65aee36e\" "
		"method=\"GET\" "
		"path=\"/v1/version\" status=200 ms=1.204 bytes_in=3 bytes_out=312 key=\"key1\" "
		"sandbox=\"a1b2\" client=\"127.0.0.1\" complete=true\n";
	assert_int_equal(n, sizeof(want) - 1);
	assert_memory_equal(out, want, n);
}

static void no_query_is_written(void **state)
{
	static const char *const targets[] = { "/files?path=x&signature=v1_s3cret", "/files?s3cret",
					       "/files#s3cret", "http://u:s3cret@host/files",
					       "s3cret" };
	(void)state;
	for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct reqlog_line l = plain;
		l.target = targets[i];
		json_t *o = parsed(&l);
		assert_string_equal(str(o, "path"), i < 3 ? "/files" : "");
		char *all = json_dumps(o, 0);
		assert_null(strstr(all, "s3cret"));
		free(all);
		json_decref(o);
	}
}

static void hostile_bytes_stay_in_their_field(void **state)
{
	char out[REQLOG_LINE_MAX], every[256 + 2];
	struct reqlog_line l = plain;
	(void)state;
	every[0] = '/';
	for (unsigned i = 1, n = 1; i < 256; i++)
		if (i != '?' && i != '#') {
			every[n++] = (char)i;
			every[n] = '\0';
		}
	l.target = every;
	l.method = "G\"\\\n\x1b[31m";
	l.client = "x\",\"status\":500,\"y\":\"";
	json_t *o = parsed(&l);
	/* As they came, each byte one character. */
	assert_string_equal(str(o, "method"), l.method);
	assert_string_equal(str(o, "client"), l.client);
	assert_memory_equal(str(o, "path"), "/\x01\x02\x03", 4);
	assert_int_equal(json_integer_value(json_object_get(o, "status")), 200);
	json_decref(o);
	size_t n = reqlog_format(LOG_TEXT, 0, &l, out);
	assert_ptr_equal(memchr(out, '\n', n), out + n - 1);
	for (size_t i = 0; i + 1 < n; i++)
		assert_true(out[i] >= ' ' && out[i] < 0x7f);
	assert_null(memmem(out, n, " \"status\"", 9));
}

static void a_line_has_a_bound(void **state)
{
	char *huge = malloc(100001), out[REQLOG_LINE_MAX];
	(void)state;
	memset(huge, '\x01', 100000);
	huge[0] = '/';
	huge[100000] = '\0';
	struct reqlog_line l = { .id = huge,
				 .method = huge,
				 .target = huge,
				 .key = huge,
				 .box = huge,
				 .client = huge,
				 .status = 4294967295u,
				 .took_ns = UINT64_MAX,
				 .bytes_in = INT64_MAX,
				 .bytes_out = INT64_MAX };
	json_t *o = parsed(&l);
	assert_true(json_is_false(json_object_get(o, "complete")));
	assert_string_equal(str(o, "level"), "warn");
	json_decref(o);
	assert_true(reqlog_format(LOG_TEXT, UINT64_MAX, &l, out) < sizeof(out));
	free(huge);
}

static void other_lines_have_the_same_form(void **state)
{
	int p[2];
	char text[4096];
	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	struct log log = { .fd = p[1], .level = LOG_INFO, .format = LOG_JSON };
	log_line(&log, LOG_WARN, "a1b2", "agent said \"%s\"", "x\n\xff");
	ssize_t n = read(p[0], text, sizeof(text));
	assert_true(n > 0);
	json_t *o = json_loadb(text, (size_t)n, 0, NULL);
	assert_non_null(o);
	assert_string_equal(str(o, "sandbox"), "a1b2");
	assert_string_equal(str(o, "level"), "warn");
	assert_string_equal(str(o, "msg"), "agent said \"x\n\xc3\xbf\"");
	json_decref(o);
	enum log_format f = LOG_TEXT;
	assert_int_equal(log_format_parse("json", &f), 0);
	assert_int_equal(f, LOG_JSON);
	assert_int_equal(log_format_parse("xml", &f), -1);
	close(p[0]);
	close(p[1]);
}

/* ---- of a running server ---- */

static struct api a;

static void hello_begin(struct http_req *r)
{
	http_note_key(r, "key1");
	http_note_box(r, "a1b2");
	http_reply(r, 200, "text/plain", "hello", 5);
}

static const struct http_handler *route(void *ctx, struct http_req *r, void **ret_ctx)
{
	static const struct http_handler hello = { .begin = hello_begin };
	(void)ctx;
	(void)r;
	(void)ret_ctx;
	return &hello;
}

static struct http *serve(struct sockaddr_un *at, socklen_t *n)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct http *h = NULL;
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 8), 0);
	*n = sizeof(*at);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, n), 0);
	const struct http_options o = {
		.listen_fd = fd, .route = route, .over = reqlog_request, .ctx = &a
	};
	assert_int_equal(ev_init(&a.ev), 0);
	assert_int_equal(http_open(&a.ev, &o, &h, &err), 0);
	return h;
}

/* One request, answered, and over. */
static void ask(struct http *h, const struct sockaddr_un *at, socklen_t n, const char *id)
{
	char text[1024];
	size_t got = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)at, n), 0);
	int len = snprintf(text, sizeof(text),
			   "GET /x?s3cret HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n"
			   "Connection: close\r\n\r\n",
			   id);
	assert_int_equal(send(fd, text, (size_t)len, 0), len);
	for (unsigned i = 0; i < 5000; i++) {
		ev_round(&a.ev, 1);
		ssize_t k = recv(fd, text + got, sizeof(text) - got, MSG_DONTWAIT);
		if (k == 0)
			break;
		got += k > 0 ? (size_t)k : 0;
	}
	close(fd);
	assert_memory_equal(text, "HTTP/1.1 200", 12);
	assert_memory_equal(text + got - 5, "hello", 5);
	assert_int_equal(http_requests(h), 0);
}

/* Whoever reads the log and stops must not stop the service. */
static void a_log_that_nobody_reads_holds_nothing_up(void **state)
{
	static char text[1 << 20];
	struct sockaddr_un at;
	socklen_t n;
	int p[2];
	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	a.log = (struct log){ .fd = p[1], .level = LOG_INFO, .format = LOG_JSON };
	a.log_requests = true;
	struct http *h = serve(&at, &n);
	ask(h, &at, n, "before");
	ssize_t k = read(p[0], text, sizeof(text) - 1);
	assert_true(k > 0);
	text[k] = '\0';
	assert_non_null(strstr(text, "\"request_id\":\"before\""));
	assert_non_null(strstr(text, "\"path\":\"/x\",\"status\":200"));
	assert_non_null(strstr(text, "\"key\":\"key1\",\"sandbox\":\"a1b2\",\"client\":\"unix\""));
	assert_non_null(strstr(text, "\"bytes_out\":5"));
	/* Full, but for less than a line. */
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	while (write(p[1], text, 1000) > 0)
		;
	fcntl(p[1], F_SETFL, 0);
	ask(h, &at, n, "lost-1");
	ask(h, &at, n, "lost-2");
	assert_int_equal(a.log_dropped, 2);
	while ((k = read(p[0], text, sizeof(text) - 1)) == sizeof(text) - 1)
		;
	ask(h, &at, n, "after");
	k = read(p[0], text, sizeof(text) - 1);
	assert_true(k > 0);
	text[k] = '\0';
	assert_null(strstr(text, "\"lost-1\""));
	const char *missing = strstr(text, "2 lines about requests are missing");
	assert_non_null(missing);
	assert_non_null(strstr(missing, "\"request_id\":\"after\""));
	/* Without the option, only what failed by our fault. */
	a.log_requests = false;
	ask(h, &at, n, "quiet");
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(read(p[0], text, sizeof(text)), -1);
	http_close(h);
	ev_round(&a.ev, 0);
	ev_done(&a.ev);
	close(p[0]);
	close(p[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_says_what_was_asked_and_answered),
		cmocka_unit_test(no_query_is_written),
		cmocka_unit_test(hostile_bytes_stay_in_their_field),
		cmocka_unit_test(a_line_has_a_bound),
		cmocka_unit_test(other_lines_have_the_same_form),
		cmocka_unit_test(a_log_that_nobody_reads_holds_nothing_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
