/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Everything is decoded once, when the headers are there, so that no part of the server can see
 * another meaning of the same bytes than the router did. A decoded NUL would cut a path short for
 * whoever reads it as a string: such a target is refused, wherever it stands. A '%' that two
 * hexadecimal digits do not follow is refused in the path and is itself in the query, because ports
 * of a sandbox serve programs whose clients write "?q=100%".
 */
#include "api/http_target.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Value of the two digits behind a '%', or -1. */
static int hex_pair(const char *p, const char *end)
{
	if (end - p < 2)
		return -1;
	int hi = hex_digit(p[0]), lo = hex_digit(p[1]);
	return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* Decodes [p, end) to *out, which has room for as many bytes and a NUL, and moves *out behind the
 * NUL. -1: a '%' that means nothing, unless lenient; -2: a NUL. */
static int decode(const char *p, const char *end, bool query, char **out)
{
	char *o = *out;
	for (; p < end; p++) {
		char c = *p;
		if (c == '%') {
			int v = hex_pair(p + 1, end);
			if (v == 0)
				return -2;
			if (v < 0 && !query)
				return -1;
			if (v > 0) {
				c = (char)v;
				p += 2;
			}
		} else if (c == '+' && query) {
			c = ' ';
		}
		*o++ = c;
	}
	*o++ = '\0';
	*out = o;
	return 0;
}

static int args_parse(struct http_target *t, struct brig_err *err)
{
	size_t n = strlen(t->query);
	unsigned most = 1;
	if (n == 0)
		return 0;
	for (const char *p = t->query; *p; p++)
		most += *p == '&';
	if (most > HTTP_TARGET_ARGS_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "the query has more than %u arguments",
				 HTTP_TARGET_ARGS_MAX);
	/* Each argument needs a NUL behind its name and one behind its value, and brings at most
	 * one
	 * '=' and one '&' that are not copied. */
	t->text = malloc(n + 2 * (size_t)most);
	t->args = calloc(most, sizeof(t->args[0]));
	if (!t->text || !t->args)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "parse the query");
	char *out = t->text;
	for (const char *p = t->query, *end; *p; p = *end ? end + 1 : end) {
		end = p + strcspn(p, "&");
		const char *eq = memchr(p, '=', (size_t)(end - p));
		struct http_target_arg a = { .name = out, .value = "" };
		if (end == p)
			continue;
		int r = decode(p, eq ? eq : end, true, &out);
		if (r == 0 && eq) {
			a.value = out;
			r = decode(eq + 1, end, true, &out);
		}
		if (r < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "the query contains %%00");
		t->args[t->nargs++] = a;
	}
	return 0;
}

int http_target_parse(struct http_target *t, const char *raw, struct brig_err *err)
{
	*t = (struct http_target){ .query = "" };
	if (raw[0] != '/')
		return brig_fail(err, BRIG_E_INVALID, 0, "the request target is no path");
	for (const char *p = raw; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "the request target contains a control character");
	t->raw = strdup(raw);
	t->path = malloc(strlen(raw) + 1);
	if (!t->raw || !t->path)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "parse the request target");
	const char *end = t->raw + strcspn(t->raw, "?");
	if (*end)
		t->query = end + 1;
	char *out = t->path;
	int r = decode(t->raw, end, false, &out);
	if (r == -1)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "the path contains '%%' without two hexadecimal digits");
	if (r == -2)
		return brig_fail(err, BRIG_E_INVALID, 0, "the path contains %%00");
	return args_parse(t, err);
}

void http_target_done(struct http_target *t)
{
	free(t->raw);
	free(t->path);
	free(t->text);
	free(t->args);
	*t = (struct http_target){ .query = "" };
}

const char *http_target_arg(const struct http_target *t, const char *name)
{
	for (unsigned i = 0; i < t->nargs; i++)
		if (strcmp(t->args[i].name, name) == 0)
			return t->args[i].value;
	return NULL;
}
