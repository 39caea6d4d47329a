/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What somebody could type as a size, a duration, a number of CPUs, a count or a limit.
 *
 * Oracle: a parser either fails, with one of its errors, and leaves the result alone, or gives a
 * number that is never the one kept free for "none"; what size.h prints of it reads back as the
 * same number; and a limit that was accepted lies in its range.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "cli/limit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define UNTOUCHED 0xa5a5a5a5a5a5a5a5u

static void must(int ok)
{
	if (!ok)
		abort();
}

/* 1 if the text was accepted. */
static int check(int (*parse)(const char *, uint64_t *), const char *text, uint64_t *ret)
{
	uint64_t v = UNTOUCHED;
	int r = parse(text, &v);
	must(r == 0 || r == -EINVAL || r == -ERANGE || r == -EDOM);
	must(r == 0 ? v != UINT64_MAX : v == UNTOUCHED);
	*ret = v;
	return r == 0;
}

static void check_back(int (*parse)(const char *, uint64_t *), const char *text, uint64_t want)
{
	uint64_t v = 0;
	must(parse(text, &v) == 0);
	must(v == want);
}

static void check_limits(const char *text)
{
	for (unsigned i = 0; i < LIMIT__N; i++) {
		const struct limit *l = limit_get(i);
		struct brig_err err = BRIG_ERR_INIT;
		uint64_t v = UNTOUCHED;
		if (limit_parse(i, text, &v, &err) < 0) {
			must(v == UNTOUCHED);
			must(err.code == BRIG_E_INVALID && strstr(err.msg, l->flag) != NULL);
		} else {
			must(v == LIMIT_NONE ? l->none : v >= l->min && v <= l->max);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char out[SIZE_TEXT_MAX];
	uint64_t v;
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (check(size_parse_bytes, text, &v)) {
		size_format_bytes(v, out);
		must(strlen(out) < SIZE_TEXT_MAX);
		size_format_exact(v, out);
		char *blank = strchr(out, ' ');
		must(blank != NULL);
		memmove(blank, blank + 1, strlen(blank));
		check_back(size_parse_bytes, out, v);
	}
	if (check(size_parse_ms, text, &v)) {
		size_format_ms(v, out);
		check_back(size_parse_ms, out, v);
	}
	if (check(size_parse_cpus, text, &v)) {
		size_format_cpus(v, out);
		check_back(size_parse_cpus, out, v);
	}
	if (check(size_parse_count, text, &v))
		must(v != UINT64_MAX);
	check_limits(text);
	free(text);
	return 0;
}
