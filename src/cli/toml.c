/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One pass from the first byte to the last, without looking back: a document is lines, each a
 * header, a pair or nothing. `table` is where pairs go, moved by headers. What TOML forbids is a
 * second way to say something about one name, and `birth` remembers the first way:
 *
 *   IMPLIED      a header may still name it, headers may go through it, dotted keys may not
 *   HEADED       headers may go through it
 *   DOTTED       dotted keys of its section and headers may go through it, none may name it
 *   CLOSED       braces or brackets: complete
 *   OF_HEADERS   [[it]] adds to it; other headers go through its last table
 *
 * The text is bounded, checked to be UTF-8 before anything else, and read by index, so that it need
 * not end with NUL. Errors stop the first time and name place and remedy.
 */
#include "cli/toml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "cli/toml_read.h"

static int fail_va(struct toml_reader *r, unsigned line, unsigned column, const char *remedy,
		   const char *fmt, va_list ap) __attribute__((format(printf, 5, 0)));
static int fail_va(struct toml_reader *r, unsigned line, unsigned column, const char *remedy,
		   const char *fmt, va_list ap)
{
	char what[200];
	vsnprintf(what, sizeof(what), fmt, ap);
	brig_err_set(r->err, BRIG_E_INVALID, 0, "%.200s:%u:%u: %s", r->name, line, column, what);
	return remedy ? brig_fix(r->err, "%s", remedy) : -1;
}

int toml_fail(struct toml_reader *r, const char *remedy, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)fail_va(r, r->line, toml_column(r), remedy, fmt, ap);
	va_end(ap);
	return -1;
}

int toml_fail_at(struct toml_reader *r, unsigned line, unsigned column, const char *remedy,
		 const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)fail_va(r, line, column, remedy, fmt, ap);
	va_end(ap);
	return -1;
}

const char *toml_kind_name(enum toml_kind kind)
{
	static const char *const names[] = { "a table",	  "an array", "a string",
					     "an integer", "a float", "a boolean" };
	return names[kind];
}

void toml_free(struct toml *t)
{
	if (!t)
		return;
	/* Depth is bounded by the parser, siblings are not: those are a loop. */
	for (struct toml *c = t->first, *next; c; c = next) {
		next = c->next;
		toml_free(c);
	}
	free(t->key);
	free(t->text);
	free(t);
}

static struct toml *get(const struct toml *table, const char *key)
{
	for (struct toml *c = table->first; c; c = c->next)
		if (c->key && strcmp(c->key, key) == 0)
			return c;
	return NULL;
}

const struct toml *toml_get(const struct toml *table, const char *key)
{
	return get(table, key);
}

int toml_quote(const char *text, char *ret, size_t cap)
{
	size_t at = 0;
	if (cap < 3)
		return -1;
	ret[at++] = '"';
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (at + 8 > cap)
			return -1;
		if (c == '"' || c == '\\') {
			ret[at++] = '\\';
			ret[at++] = (char)c;
		} else if (c < 0x20 || c == 0x7f) {
			at += (size_t)snprintf(ret + at, cap - at, "\\u%04x", c);
		} else {
			ret[at++] = (char)c;
		}
	}
	if (at + 2 > cap)
		return -1;
	ret[at++] = '"';
	ret[at] = '\0';
	return 0;
}

/* ---- between the tokens ---- */

void toml_skip_blanks(struct toml_reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t'))
		r->p++;
}

int toml_skip_line_end(struct toml_reader *r)
{
	toml_skip_blanks(r);
	if (toml_peek(r) == '#') {
		for (; r->p < r->end && *r->p != '\n' && !toml_at(r, "\r\n", 2); r->p++) {
			unsigned char c = (unsigned char)*r->p;
			if ((c < 0x20 && c != '\t') || c == 0x7f)
				return toml_fail(r, NULL, "control character 0x%02x in a comment", c);
		}
	}
	size_t n = toml_at(r, "\r\n", 2) ? 2 : toml_peek(r) == '\n' ? 1 : 0;
	if (n == 0)
		return 0;
	r->p += n;
	r->line++;
	r->line_start = r->p;
	return 1;
}

int toml_skip_all(struct toml_reader *r)
{
	int n;
	do
		n = toml_skip_line_end(r);
	while (n > 0);
	return n;
}

/* ---- keys and tables ---- */

struct toml *toml_add(struct toml_reader *r, struct toml *parent, char *key, unsigned line,
		      unsigned column)
{
	struct toml *t = NULL;
	if (++r->values > TOML_VALUES_MAX)
		toml_fail(r, NULL, "more than %u keys and elements", TOML_VALUES_MAX);
	else if (!(t = calloc(1, sizeof(*t))))
		brig_fail(r->err, BRIG_E_EXHAUSTED, ENOMEM, "read '%.200s'", r->name);
	if (!t) {
		free(key);
		return NULL;
	}
	t->key = key;
	t->line = line;
	t->column = column;
	if (parent->last)
		parent->last->next = t;
	else
		parent->first = t;
	parent->last = t;
	return t;
}

static bool is_bare(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

/* One part of a key. */
static char *key_read(struct toml_reader *r)
{
	const char *from = r->p;
	if (toml_peek(r) == '"' || toml_peek(r) == '\'')
		return toml_read_string(r);
	while (is_bare(toml_peek(r)))
		r->p++;
	if (r->p == from) {
		toml_fail(r, "write it as: name = value", "a key is missing here");
		return NULL;
	}
	char *key = buf_text(from, (size_t)(r->p - from));
	if (!key)
		brig_fail(r->err, BRIG_E_EXHAUSTED, ENOMEM, "read '%.200s'", r->name);
	return key;
}

/* Where one part of a key was. */
struct place {
	unsigned line, column;
};

static int duplicate(struct toml_reader *r, const struct toml *old, struct place at)
{
	return toml_fail_at(r, at.line, at.column, "keep one of them",
			    "'%.64s' is there already, in line %u", old->key, old->line);
}

/* The table below `table` through which a dotted key or a header goes on; takes over key. */
static struct toml *step(struct toml_reader *r, struct toml *table, char *key, struct place at,
			 bool header)
{
	struct toml *t = get(table, key);
	if (!t) {
		t = toml_add(r, table, key, at.line, at.column);
		if (t)
			t->birth = header ? TOML_IMPLIED : TOML_DOTTED;
		return t;
	}
	free(key);
	if (header && t->kind == TOML_ARRAY && t->birth == TOML_OF_HEADERS)
		return t->last;
	bool open = t->kind == TOML_TABLE &&
		    (header ? t->birth != TOML_CLOSED : t->birth == TOML_DOTTED);
	if (open)
		return t;
	toml_fail_at(r, at.line, at.column, NULL, "'%.64s', of line %u, cannot be added to here",
		     t->key, t->line);
	return NULL;
}

/* All parts of a dotted key but the last one, which comes back with its place. */
static char *key_walk(struct toml_reader *r, struct toml **table, bool header, struct place *at,
		      unsigned *depth)
{
	for (;;) {
		*at = (struct place){ r->line, toml_column(r) };
		char *key = key_read(r);
		if (!key)
			return NULL;
		toml_skip_blanks(r);
		if (toml_peek(r) != '.')
			return key;
		r->p++;
		toml_skip_blanks(r);
		if (++*depth > TOML_DEPTH_MAX) {
			free(key);
			toml_fail(r, NULL, "more than %u levels", TOML_DEPTH_MAX);
			return NULL;
		}
		*table = step(r, *table, key, *at, header);
		if (!*table)
			return NULL;
	}
}

int toml_read_pair(struct toml_reader *r, struct toml *table, unsigned depth)
{
	struct place at;
	char *key = key_walk(r, &table, false, &at, &depth);
	if (!key)
		return -1;
	const struct toml *old = get(table, key);
	if (old) {
		free(key);
		return duplicate(r, old, at);
	}
	if (toml_peek(r) != '=') {
		int e = toml_fail(r, "write it as: name = value", "'=' is missing behind '%.64s'",
				  key);
		free(key);
		return e;
	}
	r->p++;
	toml_skip_blanks(r);
	struct toml *t = toml_add(r, table, key, at.line, at.column);
	return t ? toml_read_value(r, t, depth) : -1;
}

/* [a.b] and [[a.b]]: *table becomes what the pairs below it go into. */
static int header_read(struct toml_reader *r, struct toml *root, struct toml **table)
{
	bool many = toml_at(r, "[[", 2);
	struct place at;
	unsigned depth = 1;
	r->p += many ? 2 : 1;
	toml_skip_blanks(r);
	*table = root;
	char *key = key_walk(r, table, true, &at, &depth);
	if (!key)
		return -1;
	if (!toml_at(r, many ? "]]" : "]", many ? 2 : 1)) {
		free(key);
		return toml_fail(r, NULL, "%s is missing at the end of the header",
				 many ? "']]'" : "']'");
	}
	r->p += many ? 2 : 1;
	struct toml *t = get(*table, key);
	if (t) {
		free(key);
		if (many ? t->kind != TOML_ARRAY || t->birth != TOML_OF_HEADERS
			 : t->kind != TOML_TABLE || t->birth != TOML_IMPLIED)
			return duplicate(r, t, at);
	} else {
		t = toml_add(r, *table, key, at.line, at.column);
		if (!t)
			return -1;
		t->kind = many ? TOML_ARRAY : TOML_TABLE;
		t->birth = TOML_OF_HEADERS;
	}
	if (many)
		t = toml_add(r, t, NULL, at.line, at.column);
	if (!t)
		return -1;
	t->birth = TOML_HEADED;
	t->line = at.line;
	t->column = at.column;
	*table = t;
	return 0;
}

/* ---- the document ---- */

/* The length of the UTF-8 character at p, 0 if there is none: no surrogate, nothing overlong. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	unsigned c = p[0], least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;
	if (len < 2)
		return len;
	if (len > n || c > 0xf4)
		return 0;
	c &= 0x7fu >> len;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	return c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : len;
}

static int text_check(struct toml_reader *r)
{
	struct toml_reader at = *r;
	while (at.p < at.end) {
		size_t n = utf8_length((const unsigned char *)at.p, (size_t)(at.end - at.p));
		if (n == 0)
			return toml_fail(&at, "save the file as UTF-8", "this byte is not UTF-8");
		if (*at.p == '\n') {
			at.line++;
			at.line_start = at.p + 1;
		}
		at.p += n;
	}
	return 0;
}

static int document_read(struct toml_reader *r, struct toml *root)
{
	struct toml *table = root;
	for (;;) {
		if (toml_skip_all(r) < 0)
			return -1;
		if (r->p == r->end)
			return 0;
		unsigned depth = table == root ? 0 : 1;
		if (toml_peek(r) == '[' ? header_read(r, root, &table) < 0
					: toml_read_pair(r, table, depth) < 0)
			return -1;
		int n = toml_skip_line_end(r);
		if (n < 0)
			return -1;
		if (n == 0 && r->p < r->end)
			return toml_fail(r, "begin a new line", "something follows what is complete");
	}
}

struct toml *toml_parse(const char *name, const char *text, size_t n, struct brig_err *err)
{
	struct toml_reader r = { .name = name,
				 .p = text,
				 .end = text + n,
				 .line_start = text,
				 .line = 1,
				 .err = err };
	struct toml *root = calloc(1, sizeof(*root));
	if (!root) {
		brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read '%.200s'", name);
		return NULL;
	}
	root->birth = TOML_HEADED;
	root->line = root->column = 1;
	int e = 0;
	if (n > TOML_BYTES_MAX)
		e = toml_fail(&r, NULL, "longer than %u KiB", TOML_BYTES_MAX / 1024);
	else if (toml_at(&r, "\xef\xbb\xbf", 3))
		r.p = r.line_start = text + 3;
	if (e < 0 || text_check(&r) < 0 || document_read(&r, root) < 0) {
		toml_free(root);
		return NULL;
	}
	return root;
}
