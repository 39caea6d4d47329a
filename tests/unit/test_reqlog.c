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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_says_what_was_asked_and_answered),
		cmocka_unit_test(no_query_is_written),
		cmocka_unit_test(hostile_bytes_stay_in_their_field),
		cmocka_unit_test(a_line_has_a_bound),
		cmocka_unit_test(other_lines_have_the_same_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
