/* SPDX-License-Identifier: Apache-2.0 */
/*
 * toml.h: a TOML 1.0 document as a tree. Debian 12 has no TOML library for C.
 *
 * What is left out on purpose: dates and times, which nothing here is configured with. They are
 * refused by name. Everything else of TOML 1.0 is read, and nothing beyond it.
 *
 * Bounds: TOML_BYTES_MAX of text, TOML_VALUES_MAX keys and elements, TOML_DEPTH_MAX levels. A
 * string holds no NUL.
 */
#ifndef BRIG_CLI_TOML_H
#define BRIG_CLI_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TOML_BYTES_MAX (256u * 1024u)
#define TOML_VALUES_MAX 4096u
#define TOML_DEPTH_MAX 16u

enum toml_kind { TOML_TABLE, TOML_ARRAY, TOML_STRING, TOML_INTEGER, TOML_FLOAT, TOML_BOOLEAN };

struct toml {
	enum toml_kind kind;
	char *key;		   /* NULL in an array and at the root */
	unsigned line, column;	   /* from 1; of the key, or of the element, in bytes */
	struct toml *first, *last; /* what a table or an array holds, in the order of the text */
	struct toml *next;
	char *text; /* TOML_STRING: UTF-8 */
	int64_t integer;
	double real;
	bool boolean;
	unsigned char birth; /* for the parser: which ways to add to it are left */
};

/* name: what the text is called in errors, "brig.toml:7:12: ..". The root is a table, to be freed.
 * NULL with err (BRIG_E_INVALID, or BRIG_E_EXHAUSTED). text need not end with NUL. */
struct toml *toml_parse(const char *name, const char *text, size_t n, struct brig_err *err);
/* NULL is allowed. */
void toml_free(struct toml *t);

/* The value of a key of a table, or NULL. */
const struct toml *toml_get(const struct toml *table, const char *key);
/* "a string", "an integer": for messages. */
const char *toml_kind_name(enum toml_kind kind);
/* Appends text as a basic string with its quotes; -1 when cap does not do. */
int toml_quote(const char *text, char *ret, size_t cap);

#endif
