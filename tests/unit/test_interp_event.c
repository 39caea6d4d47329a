/* SPDX-License-Identifier: Apache-2.0 */
/* What brig-api makes of the lines of a kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/interp_event.h"

#define NOW 1767225600123456789u /* 2026-01-01T00:00:00.123456789Z */

static int parse(const char *line, struct interp_event *e)
{
	struct brig_err err = BRIG_ERR_INIT;
	*e = (struct interp_event){ .line = NULL };
	int r = interp_event_parse(line, strlen(line), NOW, e, &err);
	if (r < 0)
		assert_int_equal(err.code, BRIG_E_PROTOCOL);
	return r;
}

static void gives(const char *line, uint64_t id, const char *want)
{
	struct interp_event e;
	assert_int_equal(parse(line, &e), 0);
	assert_int_equal(e.kind, INTERP_LINE);
	assert_int_equal(e.id, id);
	assert_int_equal(e.n, strlen(want));
	assert_memory_equal(e.line, want, e.n);
	free(e.line);
}

static void test_events_of_the_client(void **state)
{
	(void)state;
	gives("{\"type\":\"count\",\"id\":4,\"execution_count\":2}", 4,
	      "{\"type\":\"number_of_executions\",\"execution_count\":2}\n");
	gives("{\"type\":\"stdout\",\"id\":1,\"text\":\"h\\u00e9\\n\"}", 1,
	      "{\"type\":\"stdout\",\"text\":\"h\\u00E9\\n\",\"timestamp\":"
	      "\"2026-01-01T00:00:00.123456Z\"}\n");
	gives("{\"type\":\"error\",\"id\":1,\"name\":\"E\"}", 1,
	      "{\"type\":\"error\",\"name\":\"E\",\"value\":\"\",\"traceback\":\"\"}\n");
	gives("{\"type\":\"result\",\"id\":1,\"text\":\"2\",\"is_main_result\":true}", 1,
	      "{\"type\":\"result\",\"text\":\"2\",\"is_main_result\":true}\n");
}

static void test_unknown_and_mistyped_fields_are_dropped(void **state)
{
	(void)state;
	gives("{\"type\":\"result\",\"id\":1,\"text\":5,\"html\":null,\"data\":[1],\"evil\":1,"
	      "\"png\":\"aa\",\"is_main_result\":\"yes\"}",
	      1, "{\"type\":\"result\",\"png\":\"aa\",\"is_main_result\":false}\n");
	gives("{\"type\":\"stderr\",\"id\":-3,\"text\":{}}", 0,
	      "{\"type\":\"stderr\",\"text\":\"\",\"timestamp\":"
	      "\"2026-01-01T00:00:00.123456Z\"}\n");
}

static void test_events_of_the_kernel(void **state)
{
	struct interp_event e;
	(void)state;
	assert_int_equal(parse("{\"type\":\"ready\"}", &e), 0);
	assert_int_equal(e.kind, INTERP_READY);
	assert_int_equal(parse("{\"type\":\"warm\"}", &e), 0);
	assert_int_equal(e.kind, INTERP_WARM);
	assert_int_equal(parse("{\"type\":\"done\",\"id\":9}", &e), 0);
	assert_int_equal(e.kind, INTERP_DONE);
	assert_int_equal(e.id, 9);
	assert_int_equal(parse("{\"type\":\"fatal\",\"text\":\"why\"}", &e), 0);
	assert_int_equal(e.kind, INTERP_FATAL);
	assert_string_equal(e.line, "why");
	free(e.line);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"junk",
		"[]",
		"5",
		"{}",
		"{\"type\":1}",
		"{\"type\":\"end_of_execution\"}",
		"{\"type\":\"keepalive\"}",
		"{\"type\":\"done\"} x",
		"{\"type\":\"done\",\"type\":\"ready\"}",
		"{\"type\":\"stdout\",\"text\":\"\xff\"}",
	};
	struct interp_event e;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(bad[i], &e), -1);
}

/* head, n times unit, tail */
static char *repeat(const char *head, const char *unit, size_t n, const char *tail)
{
	size_t h = strlen(head), u = strlen(unit), t = strlen(tail);
	char *p = malloc(h + n * u + t + 1);
	assert_non_null(p);
	memcpy(p, head, h);
	for (size_t i = 0; i < n; i++)
		memcpy(p + h + i * u, unit, u);
	memcpy(p + h + n * u, tail, t + 1);
	return p;
}

static void test_bounds(void **state)
{
	struct interp_event e;
	(void)state;
	char *deep = repeat("{\"type\":\"result\",\"json\":", "[", INTERP_DEPTH_MAX, "");
	assert_int_equal(parse(deep, &e), -1);
	free(deep);
	char *many = repeat("{\"type\":\"result\",\"json\":[0", ",0", INTERP_VALUES_MAX, "]}");
	assert_int_equal(parse(many, &e), -1);
	free(many);
	char *text = repeat("{\"type\":\"result\",\"text\":\"", "[,{", 100000, "\"}");
	assert_int_equal(parse(text, &e), 0);
	free(e.line);
	free(text);
	char *large = repeat("{\"type\":\"result\",\"text\":\"", "x", INTERP_LINE_MAX, "\"}");
	assert_int_equal(parse(large, &e), -1);
	free(large);
}

static void test_error_of_our_own(void **state)
{
	size_t n;
	(void)state;
	char *line = interp_event_error("KernelError", "a\"b\xff", &n);
	assert_non_null(line);
	assert_int_equal(line[n - 1], '\n');
	free(line);
	line = interp_event_error("KernelError", "gone", &n);
	line[n - 1] = '\0';
	assert_string_equal(line, "{\"type\":\"error\",\"name\":\"KernelError\",\"value\":\"gone\","
				  "\"traceback\":\"gone\"}");
	free(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_of_the_client),
		cmocka_unit_test(test_unknown_and_mistyped_fields_are_dropped),
		cmocka_unit_test(test_events_of_the_kernel),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_error_of_our_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
