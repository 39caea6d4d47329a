/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Values of TOML: each kind is known by its first characters. Numbers are cut out first, up to what
 * cannot belong to one, and then must be of one form as a whole: so a date is told from a number
 * and from a mistake before anything is converted. strtod() is given no more than digits, a point
 * and an exponent; brig never leaves the "C" locale.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "cli/toml_read.h"

/* ---- strings ---- */

static int keep(struct toml_reader *r, struct buf *b, const void *p, size_t n)
{
	if (buf_add(b, p, n) < 0)
		return brig_fail(r->err, BRIG_E_EXHAUSTED, ENOMEM, "read '%.200s'", r->name);
	return 0;
}

static int unicode_read(struct toml_reader *r, struct buf *b, unsigned digits)
{
	unsigned char utf8[4];
	unsigned long c = 0;
	size_t n;
	for (unsigned i = 0; i < digits; i++, r->p++) {
		int d = toml_peek(r);
		if (d < 0 || !isxdigit(d))
			return toml_fail(r, NULL, "%u hexadecimal digits belong here", digits);
		c = c << 4 | (unsigned long)(d <= '9' ? d - '0' : (d | 32) - 'a' + 10);
	}
	if (c == 0)
		return toml_fail(r, NULL, "NUL has no use in a string here");
	if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return toml_fail(r, NULL, "there is no character %08lx", c);
	if (c < 0x80) {
		utf8[0] = (unsigned char)c;
		n = 1;
	} else if (c < 0x800) {
		utf8[0] = (unsigned char)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		utf8[0] = (unsigned char)(0xe0 | c >> 12);
		n = 3;
	} else {
		utf8[0] = (unsigned char)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		utf8[i] = (unsigned char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
	return keep(r, b, utf8, n);
}

/* Behind a backslash. */
static int escape_read(struct toml_reader *r, struct buf *b, bool many_lines)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	int c = toml_peek(r);
	const char *at = c > 0 ? strchr(from, c) : NULL;
	if (at) {
		r->p++;
		return keep(r, b, to + (at - from), 1);
	}
	if (c == 'u' || c == 'U') {
		r->p++;
		return unicode_read(r, b, c == 'u' ? 4 : 8);
	}
	if (many_lines) {
		/* The end of the line, and what the next ones begin with. */
		const char *start = r->p;
		toml_skip_blanks(r);
		if (toml_peek(r) == '\n' || toml_at(r, "\r\n", 2)) {
			for (;; toml_skip_blanks(r)) {
				size_t n = toml_at(r, "\r\n", 2) ? 2 : toml_peek(r) == '\n' ? 1 : 0;
				if (n == 0)
					return 0;
				r->p += n;
				r->line++;
				r->line_start = r->p;
			}
		}
		r->p = start;
	}
	return toml_fail(r, "write a backslash as \\\\, or the string in 'single quotes'",
			 "unknown escape behind '\\'");
}

/* The reader is behind the opening quotes, which were at line and column. */
static int string_read(struct toml_reader *r, struct buf *b, char quote, bool many_lines,
		       unsigned line, unsigned column)
{
	const char three[] = { quote, quote, quote };
	for (;;) {
		int c = toml_peek(r);
		bool crlf = toml_at(r, "\r\n", 2);
		if (c < 0 || (!many_lines && (c == '\n' || crlf)))
			return toml_fail_at(r, line, column, NULL, "the string has no end");
		if (c == quote && !many_lines) {
			r->p++;
			return 0;
		}
		if (many_lines && toml_at(r, three, 3)) {
			/* Up to two quotes may stand before the three that end it. */
			r->p += 3;
			for (int i = 0; i < 2 && toml_peek(r) == quote; i++, r->p++)
				if (keep(r, b, &quote, 1) < 0)
					return -1;
			return 0;
		}
		if (c == '\\' && quote == '"') {
			r->p++;
			if (escape_read(r, b, many_lines) < 0)
				return -1;
			continue;
		}
		if (c == '\n' || crlf) {
			r->p += crlf ? 2 : 1;
			r->line++;
			r->line_start = r->p;
			if (keep(r, b, "\n", 1) < 0)
				return -1;
			continue;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return toml_fail(r, "write it as an escape", "control character 0x%02x in a "
								      "string", (unsigned)c);
		if (keep(r, b, r->p, 1) < 0)
			return -1;
		r->p++;
	}
}

static char *text_of(struct toml_reader *r, char quote, bool many_lines)
{
	struct buf b = BUF_INIT(TOML_BYTES_MAX + 1);
	char *ret = NULL;
	unsigned line = r->line, column = toml_column(r);
	r->p += many_lines ? 3 : 1;
	if (many_lines && (toml_peek(r) == '\n' || toml_at(r, "\r\n", 2))) {
		r->p += toml_peek(r) == '\n' ? 1 : 2;
		r->line++;
		r->line_start = r->p;
	}
	if (string_read(r, &b, quote, many_lines, line, column) == 0) {
		ret = buf_text(b.mem ? buf_head(&b) : NULL, buf_len(&b));
		if (!ret)
			brig_fail(r->err, BRIG_E_EXHAUSTED, ENOMEM, "read '%.200s'", r->name);
	}
	buf_done(&b);
	return ret;
}

char *toml_read_string(struct toml_reader *r)
{
	return text_of(r, *r->p, false);
}

/* ---- numbers ---- */

#define NUMBER_MAX 64

/* Digits of a base with single underscores between them; the length, 0 = none or not well formed.
 * Without the underscores into out. */
static size_t digits_take(const char *s, const char *allowed, char *out, size_t *at)
{
	size_t n = 0;
	while (s[n] && (strchr(allowed, s[n]) || s[n] == '_')) {
		if (s[n] == '_' &&
		    (n == 0 || s[n - 1] == '_' || !s[n + 1] || !strchr(allowed, s[n + 1])))
			return 0;
		if (s[n] != '_')
			out[(*at)++] = s[n];
		n++;
	}
	return n;
}

#define DECIMAL "0123456789"

/* 0x.., 0o.., 0b..: 1 if it is one. */
static int prefixed_read(const char *s, int64_t *ret)
{
	char out[NUMBER_MAX + 1];
	size_t at = 0;
	int base = s[0] != '0' ? 0 : s[1] == 'x' ? 16 : s[1] == 'o' ? 8 : s[1] == 'b' ? 2 : 0;
	const char *allowed = base == 16 ? DECIMAL "abcdefABCDEF" : base == 8 ? "01234567" : "01";
	if (!base)
		return 0;
	size_t n = digits_take(s + 2, allowed, out, &at);
	out[at] = '\0';
	if (n == 0 || s[2 + n])
		return -1;
	errno = 0;
	unsigned long long v = strtoull(out, NULL, base);
	if (errno || v > INT64_MAX)
		return -1;
	*ret = (int64_t)v;
	return 1;
}

/* The number of which s is the whole text. 0, or -1: it is of no form, or out of range. */
static int number_of(const char *s, struct toml *t)
{
	char out[NUMBER_MAX + 2];
	size_t at = 0, n;
	const char *p = s;
	int r = prefixed_read(s, &t->integer);
	t->kind = TOML_INTEGER;
	if (r)
		return r < 0 ? -1 : 0;
	if (*p == '+' || *p == '-')
		out[at++] = *p++;
	if (strcmp(p, "inf") == 0 || strcmp(p, "nan") == 0) {
		t->kind = TOML_FLOAT;
		t->real = p[0] == 'i' ? (double)INFINITY : (double)NAN;
		if (*s == '-')
			t->real = -t->real;
		return 0;
	}
	n = digits_take(p, DECIMAL, out, &at);
	if (n == 0 || (p[0] == '0' && n > 1))
		return -1;
	p += n;
	if (*p == '.') {
		t->kind = TOML_FLOAT;
		out[at++] = *p++;
		n = digits_take(p, DECIMAL, out, &at);
		if (n == 0)
			return -1;
		p += n;
	}
	if (*p == 'e' || *p == 'E') {
		t->kind = TOML_FLOAT;
		out[at++] = *p++;
		if (*p == '+' || *p == '-')
			out[at++] = *p++;
		n = digits_take(p, DECIMAL, out, &at);
		if (n == 0)
			return -1;
		p += n;
	}
	out[at] = '\0';
	if (*p)
		return -1;
	errno = 0;
	if (t->kind == TOML_FLOAT) {
		t->real = strtod(out, NULL);
		return isinf(t->real) ? -1 : 0;
	}
	t->integer = strtoll(out, NULL, 10);
	return errno ? -1 : 0;
}

/* 1979-05-27.. or 07:32.. */
static bool is_date(const char *s)
{
	return (strspn(s, DECIMAL) == 4 && s[4] == '-' && strspn(s + 5, DECIMAL) == 2) ||
	       (strspn(s, DECIMAL) == 2 && s[2] == ':');
}

static int bare_read(struct toml_reader *r, struct toml *t)
{
	char word[NUMBER_MAX + 1];
	size_t n = 0;
	while (r->p + n < r->end && n < NUMBER_MAX &&
	       (isalnum((unsigned char)r->p[n]) || (r->p[n] && strchr("+-._:", r->p[n])))) {
		word[n] = r->p[n];
		n++;
	}
	word[n] = '\0';
	if (n == 0)
		return toml_fail(r, "write text in \"quotes\"", "a value is missing here");
	if (is_date(word))
		return toml_fail(r, NULL, "'%s' is a date or a time, which no setting takes", word);
	if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
		t->kind = TOML_BOOLEAN;
		t->boolean = word[0] == 't';
	} else if (number_of(word, t) < 0) {
		return toml_fail(r, "write text in \"quotes\"",
				 "'%s' is no number, boolean or string", word);
	}
	r->p += n;
	return 0;
}

/* ---- what holds others ---- */

static int array_read(struct toml_reader *r, struct toml *t, unsigned depth)
{
	bool complete = true; /* up to here an element may follow */
	r->p++;
	for (;;) {
		if (toml_skip_all(r) < 0)
			return -1;
		if (toml_peek(r) == ']') {
			r->p++;
			return 0;
		}
		if (toml_peek(r) < 0 || !complete)
			return toml_fail(r, NULL, "',' or ']' is missing in the array of line %u",
					 t->line);
		struct toml *e = toml_add(r, t, NULL, r->line, toml_column(r));
		if (!e || toml_read_value(r, e, depth) < 0 || toml_skip_all(r) < 0)
			return -1;
		complete = toml_peek(r) == ',';
		if (complete)
			r->p++;
	}
}

static void close_all(struct toml *t)
{
	t->birth = TOML_CLOSED;
	for (struct toml *c = t->first; c; c = c->next)
		if (c->kind == TOML_TABLE)
			close_all(c);
}

static int inline_read(struct toml_reader *r, struct toml *t, unsigned depth)
{
	r->p++;
	toml_skip_blanks(r);
	if (toml_peek(r) == '}') {
		r->p++;
		return 0;
	}
	for (;;) {
		if (toml_read_pair(r, t, depth) < 0)
			return -1;
		toml_skip_blanks(r);
		int c = toml_peek(r);
		if (c != ',' && c != '}')
			return toml_fail(r, "a table in braces ends in its line",
					 "',' or '}' is missing");
		r->p++;
		if (c == '}')
			return 0;
		toml_skip_blanks(r);
	}
}

int toml_read_value(struct toml_reader *r, struct toml *t, unsigned depth)
{
	int c = toml_peek(r), e;
	if (c == '"' || c == '\'') {
		const char three[] = { (char)c, (char)c, (char)c };
		t->kind = TOML_STRING;
		t->text = text_of(r, (char)c, toml_at(r, three, 3));
		return t->text ? 0 : -1;
	}
	if (c != '[' && c != '{')
		return bare_read(r, t);
	if (depth >= TOML_DEPTH_MAX)
		return toml_fail(r, NULL, "more than %u levels", TOML_DEPTH_MAX);
	t->kind = c == '[' ? TOML_ARRAY : TOML_TABLE;
	/* Open to the dotted keys of its own braces alone. */
	t->birth = TOML_DOTTED;
	e = c == '[' ? array_read(r, t, depth + 1) : inline_read(r, t, depth + 1);
	if (e == 0)
		close_all(t);
	return e;
}
