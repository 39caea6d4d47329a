/* SPDX-License-Identifier: Apache-2.0 */
/* What goes into a request: environment, volumes, names; and what is made of a STATUS. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/env.h"
#include "cli/lines.h"
#include "cli/spec.h"
#include "cli/status.h"

static void check_env(json_t *array, const char *const *want, size_t n)
{
	assert_int_equal(json_array_size(array), n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(json_string_value(json_array_get(array, i)), want[i]);
}

static void test_env_file(void **state)
{
	char text[] = "\xef\xbb\xbf"
		      "# comment\n"
		      "A=1\n"
		      "\n"
		      "   \t# also one\r\n"
		      "  B=two words  \r\n"
		      "C=\"quoted\" $HOME #kept\n"
		      "FROM_CALLER\n"
		      "NOT_SET_ANYWHERE\n"
		      "EMPTY=\n"
		      "A=2\n"
		      "LAST=no newline";
	static const char *const want[] = {
		"A=2",	  "B=two words  ",  "C=\"quoted\" $HOME #kept", "FROM_CALLER=here",
		"EMPTY=", "LAST=no newline"
	};
	struct brig_err err = BRIG_ERR_INIT;
	json_t *array = json_array();
	char *copy = malloc(sizeof(text)); /* one byte is free behind it, as promised */
	(void)state;
	setenv("FROM_CALLER", "here", 1);
	unsetenv("NOT_SET_ANYWHERE");
	memcpy(copy, text, sizeof(text));
	assert_int_equal(env_add_text(array, "file", copy, sizeof(text) - 1, &err), 0);
	check_env(array, want, sizeof(want) / sizeof(want[0]));
	free(copy);
	json_decref(array);
}

static void test_env_file_errors_have_a_line(void **state)
{
	static const struct {
		const char *text;
		size_t n;
		const char *want;
	} rows[] = {
		{ "A=1\n=x\n", 7, "f, line 2" },
		{ "A=1\n\nA B=x\n", 11, "f, line 3" },
		{ "A=\0x\n", 5, "f, line 1: contains a NUL" },
		{ "A=\xff\n", 4, "not valid UTF-8" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *array = json_array();
		char *copy = malloc(rows[i].n + 1);
		memcpy(copy, rows[i].text, rows[i].n);
		assert_int_equal(env_add_text(array, "f", copy, rows[i].n, &err), -1);
		if (!strstr(err.msg, rows[i].want))
			fail_msg("%zu: %s", i, err.msg);
		free(copy);
		json_decref(array);
	}
}

static void test_env_order_and_term(void **state)
{
	static const char *const one[] = { "A=b" };
	static const char *const none[] = { "TERM=vt100", "A=b" };
	static const char *const own[] = { "TERM=dumb" };
	const char *entries[] = { "A=a", "A=b", "TERM=dumb" };
	struct strlist files = { .n = 0 }, list = { .v = entries, .n = 2 };
	struct brig_err err = BRIG_ERR_INIT;
	json_t *array = NULL;
	bool usage;
	(void)state;
	setenv("TERM", "vt100", 1);
	setenv("SECRET", "must not leak", 1);
	assert_int_equal(env_build(&files, &list, false, &array, &usage, &err), 0);
	check_env(array, one, 1);
	json_decref(array);
	assert_int_equal(env_build(&files, &list, true, &array, &usage, &err), 0);
	check_env(array, none, 2);
	json_decref(array);
	list = (struct strlist){ .v = entries + 2, .n = 1 };
	assert_int_equal(env_build(&files, &list, true, &array, &usage, &err), 0);
	check_env(array, own, 1);
	json_decref(array);
}

static void test_env_file_limits(void **state)
{
	char path[] = "/tmp/brig-env-XXXXXX";
	const char *names[] = { path };
	struct strlist files = { .v = names, .n = 1 }, none = { .n = 0 };
	struct brig_err err = BRIG_ERR_INIT;
	json_t *array = NULL;
	bool usage = false;
	int fd = mkstemp(path);
	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)ENV_FILE_MAX + 1), 0);
	assert_int_equal(env_build(&files, &none, false, &array, &usage, &err), -1);
	assert_true(usage);
	assert_non_null(strstr(err.msg, "larger than"));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(env_build(&files, &none, false, &array, &usage, &err), 0);
	json_decref(array);
	close(fd);
	unlink(path);
	/* A missing file is no mistake in the command line. */
	assert_int_equal(env_build(&files, &none, false, &array, &usage, &err), -1);
	assert_false(usage);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
	assert_string_not_equal(err.remedy, "");
}

static void test_volumes(void **state)
{
	static const struct {
		const char *text, *host, *guest;
		int ro;
	} good[] = {
		{ "/a:/b", "/a", "/b", 0 },	  { "/a:/b:ro", "/a", "/b", 1 },
		{ "/a:/b:rw", "/a", "/b", 0 },	  { "./a:/b/c", "./a", "/b/c", 0 },
		{ "a:b:c:/d", "a:b:c", "/d", 0 }, { "/x:/y:/z", "/x:/y", "/z", 0 },
		{ "ro:/ro:ro", "ro", "/ro", 1 },  { "/a:/..b", "/a", "/..b", 0 },
	};
	static const char *const bad[] = { "",	     "/a",	  "/a:",	":/b",
					   "/a:b",   "/a:../b",	  "/a:/b/../c", "/a:/..",
					   "/a:/.",  "/a:/b/./c", "/a:/b//c",	"/a://b",
					   "/a:/b/", "/a:/",	  "/a:/b/:ro",	":ro",
					   "/a:ro",  "/a:/b\x01", "/a:/b\n", "/a:/b:c" };
	struct brig_err err = BRIG_ERR_INIT;
	struct volume v;
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (volume_parse(good[i].text, &v, &err) < 0)
			fail_msg("'%s': %s", good[i].text, err.msg);
		assert_string_equal(v.host, good[i].host);
		assert_string_equal(v.guest, good[i].guest);
		assert_int_equal(v.readonly, good[i].ro);
		free(v.host);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (volume_parse(bad[i], &v, &err) == 0)
			fail_msg("'%s' was taken", bad[i]);
		assert_int_equal(err.code, BRIG_E_INVALID);
	}
}

static void test_names(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	char longest[65];
	(void)state;
	memset(longest, 'a', 64);
	longest[63] = '\0';
	assert_int_equal(name_check("a", &err), 0);
	assert_int_equal(name_check("A1_.-x", &err), 0);
	assert_int_equal(name_check(longest, &err), 0);
	longest[63] = 'a';
	longest[64] = '\0';
	assert_int_equal(name_check(longest, &err), -1);
	assert_int_equal(name_check("", &err), -1);
	assert_int_equal(name_check(".a", &err), -1);
	assert_int_equal(name_check("a/b", &err), -1);
	assert_int_equal(name_check("a b", &err), -1);
	assert_int_equal(workdir_check("/x", &err), 0);
	assert_int_equal(workdir_check("x", &err), -1);
	assert_int_equal(workdir_check("", &err), -1);
	assert_int_equal(user_check("1000:1000", &err), 0);
	assert_int_equal(user_check("user", &err), 0);
	assert_int_equal(user_check("", &err), -1);
	assert_int_equal(user_check(":1", &err), -1);
	assert_int_equal(user_check("1:", &err), -1);
	assert_int_equal(user_check("1:2:3", &err), -1);
}

/* The SPEC of given flags, as text; NULL if it was refused. */
static char *spec_text(const struct spec_opts *o)
{
	/* Errors are printed: not into the test's report. */
	int saved = dup(2), null = open("/dev/null", O_WRONLY);
	struct cli cli = { .cmd = NULL };
	struct spec_built b;
	char *text = NULL;
	dup2(null, 2);
	if (spec_build(&cli, o, false, &b) == 0) {
		text = json_dumps(b.spec, JSON_COMPACT | JSON_SORT_KEYS);
		spec_built_done(&b);
	}
	dup2(saved, 2);
	close(saved);
	close(null);
	return text;
}

static void test_spec(void **state)
{
	const char *labels[] = { "k=v=w", "bare" }, *accept[] = { "memory,cpu", "pids" };
	const char *volumes[] = { "/:/host:ro" };
	struct spec_opts o = { .tier = "container",
			       .labels = { labels, 2 },
			       .accept = { accept, 2 },
			       .volumes = { volumes, 1 } };
	(void)state;
	unsetenv("BRIG_ACCEPT");
	o.limits[LIMIT_pids] = 7;
	o.limits[LIMIT_timeout_ms] = LIMIT_NONE;
	char *text = spec_text(&o);
	assert_string_equal(text,
			    "{\"accept\":[\"memory\",\"cpu\",\"pids\"],\"env\":[],"
			    "\"labels\":{\"bare\":\"\",\"k\":\"v=w\"},"
			    "\"limits\":{\"pids\":7,\"timeout_ms\":null},\"tier\":\"container\","
			    "\"volumes\":[{\"fd\":0,\"guest\":\"/host\",\"readonly\":true}]}");
	free(text);
	accept[1] = "memry";
	assert_null(spec_text(&o));
	accept[1] = "pids";
	labels[0] = "=v";
	assert_null(spec_text(&o));
	labels[0] = "k=\xff";
	assert_null(spec_text(&o));
	labels[0] = "k";
	setenv("BRIG_ACCEPT", "nope", 1);
	assert_null(spec_text(&o));
	setenv("BRIG_ACCEPT", "swap", 1);
	text = spec_text(&o);
	assert_non_null(strstr(text, "[\"swap\",\"memory\",\"cpu\",\"pids\"]"));
	free(text);
	unsetenv("BRIG_ACCEPT");
	/* Every descriptor opened on the way is closed again. */
	int before = open("/dev/null", O_RDONLY);
	close(before);
	volumes[0] = "/nonexistent-path:/x";
	assert_null(spec_text(&o));
	int after = open("/dev/null", O_RDONLY);
	close(after);
	assert_int_equal(before, after);
}

static json_t *parse(const char *text)
{
	json_t *v = json_loads(text, 0, NULL);
	assert_non_null(v);
	return v;
}

static void test_exit_codes(void **state)
{
	static const struct {
		const char *status;
		int code;
	} rows[] = {
		{ "{\"exit_code\":0}", 0 },	      { "{\"exit_code\":255}", 255 },
		{ "{\"exit_code\":256}", -1 },	      { "{\"exit_code\":-1}", -1 },
		{ "{\"exit_code\":\"0\"}", -1 },      { "{\"exit_code\":0.0}", -1 },
		{ "{\"exit_code\":null}", -1 },	      { "{}", -1 },
		{ "{\"exit_code\":4294967296}", -1 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *v = parse(rows[i].status);
		if (status_exit_code(v) != rows[i].code)
			fail_msg("%s: %d", rows[i].status, status_exit_code(v));
		json_decref(v);
	}
	assert_int_equal(status_exit_code(NULL), -1);
}

static void test_reasons(void **state)
{
	static const struct {
		const char *status, *text; /* NULL: nothing is said */
	} rows[] = {
		{ "{\"stop_reason\":\"exited\"}", NULL },
		{ "{\"stop_reason\":\"signaled\"}", NULL },
		{ "{\"stop_reason\":\"killed\",\"evidence\":{\"by\":\"request\"}}", NULL },
		{ "{\"stop_reason\":\"killed\",\"evidence\":{\"by\":\"shutdown\"}}",
		  "the server shut down (killed)" },
		{ "{\"stop_reason\":\"out_of_memory\",\"evidence\":{\"memory_limit_bytes\":"
		  "536870912}}",
		  "memory limit 512 MiB met (out_of_memory)" },
		{ "{\"stop_reason\":\"wall_time\",\"evidence\":{\"limit_ms\":90000}}",
		  "wall time limit 1m30s met (wall_time)" },
		{ "{\"stop_reason\":\"cpu_time\",\"evidence\":{\"limit_ms\":500}}",
		  "CPU time limit 500ms met (cpu_time)" },
		{ "{\"stop_reason\":\"output\",\"evidence\":{\"max_output_bytes\":1000}}",
		  "output limit 1000 B met (output)" },
		{ "{\"stop_reason\":\"output\",\"evidence\":{\"max_output_bytes\":-1}}",
		  "output limit met (output)" },
		{ "{\"stop_reason\":\"out_of_memory\",\"evidence\":{\"memory_limit_bytes\":\"%n%"
		  "s\"}}",
		  "memory limit met (out_of_memory)" },
		{ "{\"stop_reason\":\"output\"}", "output limit met (output)" },
		{ "{\"stop_reason\":\"syscall_denied\"}",
		  "a forbidden system call (syscall_denied)" },
		{ "{\"stop_reason\":7}", NULL },
		{ "{}", NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[200] = "";
		json_t *v = parse(rows[i].status);
		int said = status_reason(v, text, sizeof(text));
		assert_int_equal(said, rows[i].text != NULL);
		if (said)
			assert_string_equal(text, rows[i].text);
		json_decref(v);
	}
	json_t *v = parse("{\"limits_hit\":[\"pids\",\"disk\",3]}");
	char text[200];
	assert_int_equal(status_limits_hit(v, text, sizeof(text)), 1);
	assert_string_equal(text, "pids, disk, ?");
	/* A list that does not fit is cut, not overrun. */
	char small[8];
	status_limits_hit(v, small, sizeof(small));
	assert_int_equal(strlen(small), 7);
	json_decref(v);
	assert_int_equal(status_limits_hit(NULL, text, sizeof(text)), 0);
}

static void test_status_sink(void **state)
{
	char path[] = "/tmp/brig-status-XXXXXX", text[64], number[16];
	struct brig_err err = BRIG_ERR_INIT;
	int fd = mkstemp(path), sink = -1;
	json_t *v = parse("{\"exit_code\":0}");
	(void)state;
	assert_true(fd >= 0);
	snprintf(number, sizeof(number), "%d", fd);
	assert_int_equal(status_sink_open(number, &sink, &err), 0);
	assert_int_equal(status_sink_write(sink, v, &err), 0);
	close(sink);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 16);
	assert_memory_equal(text, "{\"exit_code\":0}\n", 16);
	close(fd);
	assert_int_equal(status_sink_open(path, &sink, &err), 0);
	assert_int_equal(lseek(sink, 0, SEEK_END), 0); /* emptied before anything runs */
	close(sink);
	unlink(path);
	/* Not open; open for reading only; a folder that does not exist; a full disk. */
	assert_int_equal(status_sink_open(number, &sink, &err), -1);
	fd = open("/dev/null", O_RDONLY);
	snprintf(number, sizeof(number), "%d", fd);
	assert_int_equal(status_sink_open(number, &sink, &err), -1);
	close(fd);
	assert_int_equal(status_sink_open("/nonexistent/x", &sink, &err), -1);
	assert_int_equal(status_sink_open("/dev/full", &sink, &err), 0);
	assert_int_equal(status_sink_write(sink, v, &err), -1);
	close(sink);
	json_decref(v);
}

static void test_lines(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *rows = NULL;
	(void)state;
	assert_int_equal(lines_parse("", &rows, &err), 0);
	assert_int_equal(json_array_size(rows), 0);
	json_decref(rows);
	assert_int_equal(lines_parse("{\"a\":1}\n\n{\"b\":2}", &rows, &err), 0);
	assert_int_equal(json_array_size(rows), 2);
	json_decref(rows);
	assert_int_equal(lines_parse("{\"a\":1}\n[]\n", &rows, &err), -1);
	assert_int_equal(lines_parse("brig-jaild: no\n", &rows, &err), -1);
	assert_int_equal(lines_parse("{\"a\":1} {\"b\":2}\n", &rows, &err), -1);
}

/* No control character of a sandbox reaches a terminal. */
static void test_texts_are_made_safe(void **state)
{
	char text[] = "a\x1b[31mb\x07\x7f\n\xc2\x9b"
		      "c\xc3\xa9";
	(void)state;
	text_make_safe(text);
	assert_string_equal(text, "a?[31mb?????c\xc3\xa9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_env_file_errors_have_a_line),
		cmocka_unit_test(test_env_order_and_term),
		cmocka_unit_test(test_env_file_limits),
		cmocka_unit_test(test_volumes),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_spec),
		cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_status_sink),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_texts_are_made_safe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
