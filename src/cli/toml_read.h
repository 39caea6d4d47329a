/* SPDX-License-Identifier: Apache-2.0 */
/* toml_read.h: the inside of toml.h, shared by toml.c (documents, tables, keys) and toml_value.c. */
#ifndef BRIG_CLI_TOML_READ_H
#define BRIG_CLI_TOML_READ_H

#include "cli/toml.h"

struct toml_reader {
	const char *name;
	const char *p, *end;
	const char *line_start;
	unsigned line;
	unsigned values; /* of the whole document */
	struct brig_err *err;
};

/* Fails at the reader's place; the remedy may be NULL. Always -1. */
int toml_fail(struct toml_reader *r, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same at another place of the document. */
int toml_fail_at(struct toml_reader *r, unsigned line, unsigned column, const char *remedy,
		 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static inline bool toml_at(const struct toml_reader *r, const char *text, size_t n)
{
	if ((size_t)(r->end - r->p) < n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (r->p[i] != text[i])
			return false;
	return true;
}
static inline int toml_peek(const struct toml_reader *r)
{
	return r->p < r->end ? (unsigned char)*r->p : -1;
}
static inline unsigned toml_column(const struct toml_reader *r)
{
	return (unsigned)(r->p - r->line_start) + 1;
}

/* Blanks and tabs. */
void toml_skip_blanks(struct toml_reader *r);
/* Behind blanks and a comment: 1 if a newline was read, 0 if something else is there, -1. */
int toml_skip_line_end(struct toml_reader *r);
/* Blanks, comments and newlines; -1 for a control character in a comment. */
int toml_skip_all(struct toml_reader *r);

/* A new element of parent; takes over key. NULL with err, key freed. */
struct toml *toml_add(struct toml_reader *r, struct toml *parent, char *key, unsigned line,
		      unsigned column);
/* KEY = VALUE into a table, KEY maybe dotted. */
int toml_read_pair(struct toml_reader *r, struct toml *table, unsigned depth);

/* ---- toml_value.c ---- */

/* The value at the reader's place, into t. */
int toml_read_value(struct toml_reader *r, struct toml *t, unsigned depth);
/* A "basic" or 'literal' string of one line; the reader is at its quote. To be freed. */
char *toml_read_string(struct toml_reader *r);

/* In toml.birth: a table that a longer header implied; that has had its own header; that a dotted
 * key made; of braces, which is closed; and the same for arrays: of headers, of brackets. */
enum { TOML_IMPLIED, TOML_HEADED, TOML_DOTTED, TOML_CLOSED, TOML_OF_HEADERS };

#endif
