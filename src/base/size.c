/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Pure functions without state, used by the client on what a person typed and by whatever prints a
 * quantity. A number is read as digits[.digits] into an integer and a decimal fraction, and scaled
 * by its unit in 128-bit integers: floating point would turn "0.7t" into a size that nobody asked
 * for.
 */
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* UINT64_MAX itself is no result: see size.h. */
#define VALUE_MAX (UINT64_MAX - 1)
/* More decimals than this say nothing about a 64-bit quantity, and 10^18 * 2^60 fits 128 bits. */
#define DECIMALS_MAX 18

__extension__ typedef unsigned __int128 u128;

struct decimal {
	uint64_t whole;
	uint64_t part, ten; /* the fraction is part / ten */
	bool too_large;	    /* `whole` does not fit; the form is still checked to its end */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* digits[.digits]; *at moves behind it. */
static int decimal_parse(const char **at, struct decimal *ret)
{
	const char *p = *at;
	struct decimal d = { .ten = 1 };
	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++) {
		unsigned digit = (unsigned)(*p - '0');
		if (d.whole > (VALUE_MAX - digit) / 10)
			d.too_large = true;
		else
			d.whole = d.whole * 10 + digit;
	}
	if (*p == '.') {
		if (!is_digit(*++p))
			return -EINVAL;
		for (int n = 0; is_digit(*p); p++, n++) {
			if (n >= DECIMALS_MAX)
				return -EDOM;
			d.part = d.part * 10 + (unsigned)(*p - '0');
			d.ten *= 10;
		}
	}
	*at = p;
	*ret = d;
	return 0;
}

/* Adds d times unit to *sum. */
static int decimal_scale(const struct decimal *d, uint64_t unit, uint64_t *sum)
{
	if (d->too_large)
		return -ERANGE;
	u128 part = (u128)d->part * unit;
	u128 total = (u128)d->whole * unit + part / d->ten + *sum;
	if (total > VALUE_MAX)
		return -ERANGE;
	if (part % d->ten)
		return -EDOM;
	*sum = (uint64_t)total;
	return 0;
}

int size_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "bkmgtp";
	const char *p = text;
	struct decimal d;
	uint64_t bytes = 0, unit = 1;
	int r = decimal_parse(&p, &d);
	if (r < 0)
		return r;
	if (*p) {
		const char *u = strchr(units, lower(*p++));
		if (!u)
			return -EINVAL;
		unit <<= 10 * (u - units);
		if (unit > 1) {
			if (lower(p[0]) == 'i' && lower(p[1]) == 'b')
				p += 2;
			else if (lower(p[0]) == 'b')
				p += 1;
		}
	}
	if (*p)
		return -EINVAL;
	r = decimal_scale(&d, unit, &bytes);
	if (r < 0)
		return r;
	*ret_bytes = bytes;
	return 0;
}

static const struct time_unit {
	const char *name;
	uint64_t ms;
} time_units[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};
#define N_TIME_UNITS (sizeof(time_units) / sizeof(time_units[0]))

int size_parse_ms(const char *text, uint64_t *ret_ms)
{
	const char *p = text;
	uint64_t ms = 0;
	size_t next = 0; /* units before this one are used up */
	int bad = 0;	 /* the first -ERANGE or -EDOM; a malformed text is reported before it */
	if (!*p)
		return -EINVAL;
	while (*p) {
		struct decimal d;
		bool first = p == text;
		int r = decimal_parse(&p, &d);
		if (r < 0)
			return r;
		size_t n = 0, u = next;
		while (lower(p[n]) >= 'a' && lower(p[n]) <= 'z')
			n++;
		if (n == 0 && first && !*p)
			u = 3; /* a number alone */
		else
			while (u < N_TIME_UNITS && (strlen(time_units[u].name) != n ||
						    strncasecmp(p, time_units[u].name, n) != 0))
				u++;
		if (u == N_TIME_UNITS)
			return -EINVAL;
		p += n;
		next = u + 1;
		r = decimal_scale(&d, time_units[u].ms, &ms);
		if (r < 0 && !bad)
			bad = r;
	}
	if (bad)
		return bad;
	*ret_ms = ms;
	return 0;
}

int size_parse_cpus(const char *text, uint64_t *ret_milli)
{
	const char *p = text;
	struct decimal d;
	uint64_t milli = 0;
	int r = decimal_parse(&p, &d);
	if (r < 0)
		return r;
	if (*p)
		return -EINVAL;
	r = decimal_scale(&d, 1000, &milli);
	if (r < 0)
		return r;
	*ret_milli = milli;
	return 0;
}

int size_parse_count(const char *text, uint64_t *ret_count)
{
	const char *p = text;
	struct decimal d;
	int r = decimal_parse(&p, &d);
	if (r < 0)
		return r;
	if (*p || d.ten != 1)
		return -EINVAL;
	if (d.too_large)
		return -ERANGE;
	*ret_count = d.whole;
	return 0;
}

static const char *const byte_units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
#define N_BYTE_UNITS (sizeof(byte_units) / sizeof(byte_units[0]))

void size_format_exact(uint64_t bytes, char ret[SIZE_TEXT_MAX])
{
	unsigned u = 0;
	while (bytes && bytes % 1024 == 0 && u < N_BYTE_UNITS - 2) {
		bytes /= 1024;
		u++;
	}
	snprintf(ret, SIZE_TEXT_MAX, "%llu %s", (unsigned long long)bytes, byte_units[u]);
}

void size_format_bytes(uint64_t bytes, char ret[SIZE_TEXT_MAX])
{
	unsigned u = 0;
	uint64_t rest = 0;
	while (bytes >= 1024) {
		rest = bytes % 1024;
		bytes /= 1024;
		u++;
	}
	if (u == 0 || bytes >= 100)
		snprintf(ret, SIZE_TEXT_MAX, "%llu %s", (unsigned long long)bytes, byte_units[u]);
	else if (bytes >= 10)
		snprintf(ret, SIZE_TEXT_MAX, "%llu.%llu %s", (unsigned long long)bytes,
			 (unsigned long long)(rest * 10 / 1024), byte_units[u]);
	else
		snprintf(ret, SIZE_TEXT_MAX, "%llu.%02llu %s", (unsigned long long)bytes,
			 (unsigned long long)(rest * 100 / 1024), byte_units[u]);
}

void size_format_ms(uint64_t ms, char ret[SIZE_TEXT_MAX])
{
	size_t at = 0;
	if (ms == 0) {
		snprintf(ret, SIZE_TEXT_MAX, "0s");
		return;
	}
	for (size_t u = 0; u < N_TIME_UNITS; u++) {
		uint64_t n = ms / time_units[u].ms;
		if (!n)
			continue;
		ms %= time_units[u].ms;
		/* At most 12 digits of days and 2 + 2 + 2 + 3 of the others: it always fits. */
		at += (size_t)snprintf(ret + at, SIZE_TEXT_MAX - at, "%llu%s",
				       (unsigned long long)n, time_units[u].name);
	}
}

void size_format_cpus(uint64_t milli, char ret[SIZE_TEXT_MAX])
{
	unsigned rest = (unsigned)(milli % 1000);
	int decimals = 3;
	while (decimals && rest % 10 == 0) {
		rest /= 10;
		decimals--;
	}
	if (decimals)
		snprintf(ret, SIZE_TEXT_MAX, "%llu.%0*u", (unsigned long long)(milli / 1000),
			 decimals, rest);
	else
		snprintf(ret, SIZE_TEXT_MAX, "%llu", (unsigned long long)(milli / 1000));
}
