/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities as people write them: exact, or refused. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/size.h"

struct row {
	const char *text;
	int ret;
	uint64_t value;
};

#define K 1024ull
#define M (1024 * K)
#define G (1024 * M)

static const struct row bytes[] = {
	{ "0", 0, 0 },
	{ "1", 0, 1 },
	{ "512m", 0, 512 * M },
	{ "512M", 0, 512 * M },
	{ "512mb", 0, 512 * M },
	{ "512MiB", 0, 512 * M },
	{ "512mIb", 0, 512 * M },
	{ "1.5g", 0, G + G / 2 },
	{ "0.5k", 0, 512 },
	{ "0.0009765625k", 0, 1 },
	{ "10b", 0, 10 },
	{ "1t", 0, 1024 * G },
	{ "1p", 0, 1024 * 1024 * G },
	{ "00012", 0, 12 },
	{ "18446744073709551614", 0, UINT64_MAX - 1 },
	{ "16383p", 0, 16383ull * 1024 * 1024 * G },
	/* UINT64_MAX means "none" to callers. */
	{ "18446744073709551615", -ERANGE, 0 },
	{ "18446744073709551616", -ERANGE, 0 },
	{ "16384p", -ERANGE, 0 },
	{ "99999999999999999999999999999999999999t", -ERANGE, 0 },
	{ "0.1", -EDOM, 0 },
	{ "0.3k", -EDOM, 0 },
	{ "1.0000000000000000001", -EDOM, 0 },
	{ "", -EINVAL, 0 },
	{ "m", -EINVAL, 0 },
	{ "-1", -EINVAL, 0 },
	{ "+1", -EINVAL, 0 },
	{ " 1", -EINVAL, 0 },
	{ "1 ", -EINVAL, 0 },
	{ "1 m", -EINVAL, 0 },
	{ "1.", -EINVAL, 0 },
	{ ".5m", -EINVAL, 0 },
	{ "1..5", -EINVAL, 0 },
	{ "1,5m", -EINVAL, 0 },
	{ "1e3", -EINVAL, 0 },
	{ "0x10", -EINVAL, 0 },
	{ "1mm", -EINVAL, 0 },
	{ "1mi", -EINVAL, 0 },
	{ "1bb", -EINVAL, 0 },
	{ "1bib", -EINVAL, 0 },
	{ "1z", -EINVAL, 0 },
	{ "1e", -EINVAL, 0 },
	{ "none", -EINVAL, 0 },
	{ "\xd9\xa1", -EINVAL, 0 }, /* a digit, but not one of ours */
};

static const struct row times[] = {
	{ "0", 0, 0 },
	{ "90", 0, 90000 },
	{ "1.5", 0, 1500 },
	{ "90s", 0, 90000 },
	{ "90S", 0, 90000 },
	{ "250ms", 0, 250 },
	{ "1m", 0, 60000 },
	{ "1m30s", 0, 90000 },
	{ "1.5h", 0, 5400000 },
	{ "2d", 0, 172800000 },
	{ "1d2h3m4s5ms", 0, 93784005 },
	{ "0.001s", 0, 1 },
	{ "1h0m", 0, 3600000 },
	{ "18446744073709551614ms", 0, UINT64_MAX - 1 },
	{ "18446744073709551615ms", -ERANGE, 0 },
	{ "213503982335d", -ERANGE, 0 },
	{ "213503982334d400d", -EINVAL, 0 },
	{ "0.0001s", -EDOM, 0 },
	{ "0.5ms", -EDOM, 0 },
	{ "", -EINVAL, 0 },
	{ "s", -EINVAL, 0 },
	{ "1x", -EINVAL, 0 },
	{ "1s1m", -EINVAL, 0 },
	{ "1m1m", -EINVAL, 0 },
	{ "1m30", -EINVAL, 0 },
	{ "30 1m", -EINVAL, 0 },
	{ "1 s", -EINVAL, 0 },
	{ "-1s", -EINVAL, 0 },
	{ "1sec", -EINVAL, 0 },
	{ "1ns", -EINVAL, 0 },
	/* The form is judged before the size. */
	{ "99999999999999999999d1q", -EINVAL, 0 },
};

static const struct row cpus[] = {
	{ "1", 0, 1000 },	{ "1.5", 0, 1500 }, { "0.001", 0, 1 },
	{ "2.000", 0, 2000 },	{ "0", 0, 0 },	    { "0.0001", -EDOM, 0 },
	{ "1.5c", -EINVAL, 0 }, { "", -EINVAL, 0 }, { "18446744073709552", -ERANGE, 0 },
};

static const struct row counts[] = {
	{ "0", 0, 0 },
	{ "256", 0, 256 },
	{ "18446744073709551614", 0, UINT64_MAX - 1 },
	{ "18446744073709551615", -ERANGE, 0 },
	{ "1.0", -EINVAL, 0 },
	{ "1k", -EINVAL, 0 },
	{ "", -EINVAL, 0 },
	{ "-1", -EINVAL, 0 },
};

static void check_rows(int (*parse)(const char *, uint64_t *), const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 0xa5a5;
		int r = parse(rows[i].text, &v);
		if (r != rows[i].ret)
			fail_msg("'%s' gave %d, not %d", rows[i].text, r, rows[i].ret);
		/* A failure leaves the result alone. */
		uint64_t want = r ? 0xa5a5 : rows[i].value;
		if (v != want)
			fail_msg("'%s' is %" PRIu64 ", not %" PRIu64, rows[i].text, v, want);
	}
}
#define CHECK_ROWS(parse, rows) check_rows(parse, rows, sizeof(rows) / sizeof(rows[0]))

static void test_bytes(void **state)
{
	(void)state;
	CHECK_ROWS(size_parse_bytes, bytes);
}

static void test_times(void **state)
{
	(void)state;
	CHECK_ROWS(size_parse_ms, times);
}

static void test_cpus_and_counts(void **state)
{
	(void)state;
	CHECK_ROWS(size_parse_cpus, cpus);
	CHECK_ROWS(size_parse_count, counts);
}

static void expect(const char *got, const char *want)
{
	assert_string_equal(got, want);
}

static void test_formats(void **state)
{
	char t[SIZE_TEXT_MAX];
	(void)state;
	size_format_exact(512 * M, t);
	expect(t, "512 MiB");
	size_format_exact(1025 * K, t);
	expect(t, "1025 KiB");
	size_format_exact(0, t);
	expect(t, "0 B");
	size_format_exact(1, t);
	expect(t, "1 B");
	size_format_exact(UINT64_MAX, t);
	expect(t, "18446744073709551615 B");
	size_format_bytes(0, t);
	expect(t, "0 B");
	size_format_bytes(1023, t);
	expect(t, "1023 B");
	size_format_bytes(1024, t);
	expect(t, "1.00 KiB");
	size_format_bytes(G + G / 2, t);
	expect(t, "1.50 GiB");
	size_format_bytes(15 * M + M / 2, t);
	expect(t, "15.5 MiB");
	size_format_bytes(200 * M, t);
	expect(t, "200 MiB");
	size_format_bytes(UINT64_MAX, t);
	expect(t, "15.9 EiB");
	size_format_ms(0, t);
	expect(t, "0s");
	size_format_ms(90000, t);
	expect(t, "1m30s");
	size_format_ms(93784005, t);
	expect(t, "1d2h3m4s5ms");
	size_format_cpus(1000, t);
	expect(t, "1");
	size_format_cpus(1500, t);
	expect(t, "1.5");
	size_format_cpus(10, t);
	expect(t, "0.01");
	size_format_cpus(1, t);
	expect(t, "0.001");
	size_format_cpus(0, t);
	expect(t, "0");
}

/* What is printed as exact reads back as the same number. */
static void test_round_trip(void **state)
{
	uint64_t v = 1;
	(void)state;
	for (int i = 0; i < 20000; i++) {
		char t[SIZE_TEXT_MAX];
		uint64_t back = 0;
		v = v * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t n = v >> (i % 60);
		size_format_ms(n / 2, t);
		assert_int_equal(size_parse_ms(t, &back), 0);
		assert_true(back == n / 2);
		size_format_cpus(n / 2000, t);
		assert_int_equal(size_parse_cpus(t, &back), 0);
		assert_true(back == n / 2000);
		size_format_exact(n / 2, t);
		char *blank = strchr(t, ' ');
		memmove(blank, blank + 1, strlen(blank));
		assert_int_equal(size_parse_bytes(t, &back), 0);
		assert_true(back == n / 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),		cmocka_unit_test(test_times),
		cmocka_unit_test(test_cpus_and_counts), cmocka_unit_test(test_formats),
		cmocka_unit_test(test_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
