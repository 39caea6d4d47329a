/* SPDX-License-Identifier: Apache-2.0 */
/* TOML 1.0 without dates: what is read, and what is refused where. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/toml.h"

static struct toml *parse(const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct toml *t = toml_parse("t", text, strlen(text), &err);
	if (!t)
		fail_msg("%s: %s", text, err.msg);
	return t;
}

/* "a.b.c" below t; a number is the index of an array. */
static const struct toml *at(const struct toml *t, const char *path)
{
	char part[64];
	while (t && *path) {
		size_t n = strcspn(path, ".");
		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		if (t->kind == TOML_ARRAY) {
			t = t->first;
			for (int i = atoi(part); t && i > 0; i--)
				t = t->next;
		} else {
			t = toml_get(t, part);
		}
		path += n + (path[n] == '.');
	}
	assert_non_null(t);
	return t;
}

static void test_kinds(void **state)
{
	struct toml *t = parse("s = \"x\"\ni = -7\nf = 2.5\nb = true\na = [1, \"y\"]\nt = {u = 1}\n");
	(void)state;
	assert_string_equal(at(t, "s")->text, "x");
	assert_int_equal(at(t, "i")->integer, -7);
	assert_true(at(t, "f")->real == 2.5);
	assert_true(at(t, "b")->boolean);
	assert_string_equal(at(t, "a.1")->text, "y");
	assert_int_equal(at(t, "t.u")->integer, 1);
	toml_free(t);
}

static void test_strings(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "\"\"", "" },
		{ "\"a\\tb\\\"\\\\\"", "a\tb\"\\" },
		{ "\"\\u00e9\\U0001F600\\u20ac\"", "\xc3\xa9\xf0\x9f\x98\x80\xe2\x82\xac" },
		{ "'C:\\new'", "C:\\new" },
		{ "\"\"\"\nline\n  two\"\"\"", "line\n  two" },
		{ "\"\"\"a\\\n   \n  b\"\"\"", "ab" },
		{ "\"\"\"\"\"two\"\"\"\"\"", "\"\"two\"\"" },
		{ "'''\n\\x\n'''", "\\x\n" },
		{ "'''''q'''''", "''q''" },
		{ "\"\"\"a\r\nb\"\"\"", "a\nb" },
		{ "\"# no comment\" # one", "# no comment" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char doc[128];
		snprintf(doc, sizeof(doc), "k = %s\n", rows[i].text);
		struct toml *t = parse(doc);
		assert_string_equal(at(t, "k")->text, rows[i].want);
		toml_free(t);
	}
}

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		int64_t want;
	} whole[] = { { "0", 0 },	  { "+1_000", 1000 },	{ "-0", 0 },
		      { "0xDead_beef", 0xdeadbeef },
		      { "0o755", 493 },	  { "0b1101", 13 },
		      { "9223372036854775807", INT64_MAX },
		      { "-9223372036854775808", INT64_MIN } };
	static const struct {
		const char *text;
		double want;
	} real[] = { { "1.5", 1.5 },	 { "-0.25", -0.25 },   { "1e3", 1000 },
		     { "6.0E-1", 0.6 }, { "1_0.5", 10.5 }, { "+inf", (double)INFINITY },
		     { "-inf", -(double)INFINITY } };
	char doc[64];
	(void)state;
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		snprintf(doc, sizeof(doc), "k = %s", whole[i].text);
		struct toml *t = parse(doc);
		assert_int_equal(at(t, "k")->kind, TOML_INTEGER);
		assert_true(at(t, "k")->integer == whole[i].want);
		toml_free(t);
	}
	for (size_t i = 0; i < sizeof(real) / sizeof(real[0]); i++) {
		snprintf(doc, sizeof(doc), "k = %s", real[i].text);
		struct toml *t = parse(doc);
		assert_int_equal(at(t, "k")->kind, TOML_FLOAT);
		assert_true(at(t, "k")->real == real[i].want);
		toml_free(t);
	}
	struct toml *t = parse("k = nan");
	assert_true(isnan(at(t, "k")->real));
	toml_free(t);
}

static void test_tables(void **state)
{
	struct toml *t = parse("top = 1\n"
			       "[a.b]\nc = 1\n"
			       "[a]\nd.e = 2\nd.'f g' = 3\n"
			       "[a.d.h]\n"
			       "[[l]]\nn = 1\n[l.sub]\nm = 2\n[[l]]\nn = 3\n[[l.deep]]\n[[l.deep]]\n"
			       "[\"q.r\"]\ns = 4\n");
	(void)state;
	assert_int_equal(at(t, "a.b.c")->integer, 1);
	assert_int_equal(at(t, "a.d.e")->integer, 2);
	assert_int_equal(at(t, "a.d.f g")->integer, 3);
	assert_int_equal(at(t, "a.d.h")->kind, TOML_TABLE);
	assert_int_equal(at(t, "l.0.sub.m")->integer, 2);
	assert_int_equal(at(t, "l.1.n")->integer, 3);
	assert_int_equal(at(t, "l.1.deep.1")->kind, TOML_TABLE);
	const struct toml *quoted = toml_get(t, "q.r");
	assert_non_null(quoted);
	assert_int_equal(quoted->line, 16);
	assert_int_equal(quoted->column, 2);
	toml_free(t);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "a", "1:2: '=' is missing" },
		{ "= 1", "1:1: a key is missing" },
		{ "a = ", "1:5: a value is missing" },
		{ "a = 1 b = 2", "1:7: something follows" },
		{ "a = 1\na = 2", "2:1: 'a' is there already, in line 1" },
		{ "a.b = 1\na.b.c = 2", "2:3: 'b', of line 1, cannot be added to" },
		{ "[a]\n[a]", "2:2: 'a' is there already" },
		{ "[a]\nb.c = 1\n[a.b]", "3:4: 'b' is there already" },
		{ "[a.b]\nc = 1\n[a]\nb.d = 2", "4:1: 'b', of line 1, cannot be added to" },
		{ "a = {b = 1}\n[a.c]", "2:2: 'a', of line 1, cannot be added to" },
		{ "a = {b = 1}\na.c = 2", "2:1: 'a', of line 1, cannot be added to" },
		{ "a = {b.c = 1}\n[a.b]\n", "2:2: 'a', of line 1, cannot be added to" },
		{ "a = [{}]\n[[a]]", "2:3: 'a' is there already" },
		{ "a = [{}]\n[a.b]", "2:2: 'a', of line 1, cannot be added to" },
		{ "[[a]]\n[a]", "2:2: 'a' is there already" },
		{ "[a]\n[[a]]", "2:3: 'a' is there already" },
		{ "[a", "1:3: ']' is missing" },
		{ "[[a]", "1:4: ']]' is missing" },
		{ "a = [1 2]", "1:8: ',' or ']' is missing" },
		{ "a = [1,", "1:8: ',' or ']' is missing" },
		{ "a = [,]", "1:6: a value is missing" },
		{ "a = {b = 1,}", "1:12: a key is missing" },
		{ "a = {b = 1\n}", "1:11: ',' or '}' is missing" },
		{ "a = \"x", "1:5: the string has no end" },
		{ "a = \"x\ny\"", "1:5: the string has no end" },
		{ "a = '''x", "1:5: the string has no end" },
		{ "a = \"\\q\"", "1:7: unknown escape" },
		{ "a = \"\\u12\"", "1:10: 4 hexadecimal digits" },
		{ "a = \"\\ud800\"", "there is no character 0000d800" },
		{ "a = \"\\U00110000\"", "there is no character 00110000" },
		{ "a = \"\\u0000\"", "NUL" },
		{ "a = \"\x01\"", "1:6: control character 0x01" },
		{ "# \x7f", "1:3: control character 0x7f in a comment" },
		{ "a = \"\xff\"", "1:6: this byte is not UTF-8" },
		{ "a = 01", "'01' is no number" },
		{ "a = 1__0", "'1__0' is no number" },
		{ "a = _1", "'_1' is no number" },
		{ "a = 1_", "'1_' is no number" },
		{ "a = .5", "'.5' is no number" },
		{ "a = 5.", "'5.' is no number" },
		{ "a = 1e", "'1e' is no number" },
		{ "a = 0x", "'0x' is no number" },
		{ "a = -0x1", "'-0x1' is no number" },
		{ "a = 9223372036854775808", "is no number" },
		{ "a = True", "'True' is no number, boolean or string" },
		{ "a = 07:32:00", "is a date or a time" },
		{ "a = 1979-05-27", "is a date or a time" },
		{ "\"\"\"a\"\"\" = 1", "'=' is missing" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		struct toml *t = toml_parse("t", rows[i].text, strlen(rows[i].text), &err);
		if (t)
			fail_msg("accepted: %s", rows[i].text);
		if (!strstr(err.msg, rows[i].want))
			fail_msg("%s: '%s' instead of '%s'", rows[i].text, err.msg, rows[i].want);
		assert_int_equal(err.code, BRIG_E_INVALID);
	}
}

static void test_bounds(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	char *text = malloc(TOML_BYTES_MAX + 1);
	(void)state;
	assert_non_null(text);
	memset(text, '\n', TOML_BYTES_MAX + 1);
	struct toml *t = toml_parse("t", text, TOML_BYTES_MAX, &err);
	assert_non_null(t);
	toml_free(t);
	assert_null(toml_parse("t", text, TOML_BYTES_MAX + 1, &err));
	assert_non_null(strstr(err.msg, "longer than"));
	size_t n = (size_t)sprintf(text, "a = [");
	for (unsigned i = 0; i < TOML_VALUES_MAX; i++)
		n += (size_t)sprintf(text + n, "1,");
	n += (size_t)sprintf(text + n, "]");
	assert_null(toml_parse("t", text, n, &err));
	assert_non_null(strstr(err.msg, "more than 4096"));
	for (unsigned levels = TOML_DEPTH_MAX; levels <= TOML_DEPTH_MAX + 1; levels++) {
		n = (size_t)sprintf(text, "a = ");
		memset(text + n, '[', levels);
		memset(text + n + levels, ']', levels);
		t = toml_parse("t", text, n + 2 * levels, &err);
		assert_int_equal(t != NULL, levels == TOML_DEPTH_MAX);
		toml_free(t);
	}
	free(text);
}

static void test_quote(void **state)
{
	char out[64];
	(void)state;
	assert_int_equal(toml_quote("a\"b\\c\n\xc3\xa9", out, sizeof(out)), 0);
	assert_string_equal(out, "\"a\\\"b\\\\c\\u000a\xc3\xa9\"");
	assert_int_equal(toml_quote("aaaaaaaa", out, 10), -1);
	assert_int_equal(toml_quote("", out, 2), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),	cmocka_unit_test(test_strings),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_tables),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_quote),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
