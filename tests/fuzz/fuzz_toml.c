/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration file as somebody could write it.
 *
 * Oracle: a document is refused with a place that exists in it, or becomes a tree within the bounds
 * of toml.h, whose keys are unique, whose places lie in the text, and whose strings, quoted again,
 * read back as the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static unsigned lines_of(const char *text, size_t n)
{
	unsigned lines = 1;
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	return lines;
}

static void check_string(const char *s)
{
	size_t cap = 6 * strlen(s) + 16;
	char *doc = malloc(cap);
	struct brig_err err = BRIG_ERR_INIT;
	must(doc != NULL);
	strcpy(doc, "k = ");
	must(toml_quote(s, doc + 4, cap - 4) == 0);
	/* The quotes and escapes of a text near the bound may pass it. */
	if (strlen(doc) <= TOML_BYTES_MAX) {
		struct toml *t = toml_parse("t", doc, strlen(doc), &err);
		must(t != NULL && strcmp(toml_get(t, "k")->text, s) == 0);
		toml_free(t);
	}
	free(doc);
}

static unsigned check_tree(const struct toml *t, unsigned depth, unsigned lines)
{
	unsigned n = 1;
	must(depth <= 3 * TOML_DEPTH_MAX);
	must(t->line >= 1 && t->line <= lines && t->column >= 1);
	must((t->kind == TOML_STRING) == (t->text != NULL));
	must(t->first == NULL || t->kind == TOML_TABLE || t->kind == TOML_ARRAY);
	if (t->text)
		check_string(t->text);
	for (const struct toml *c = t->first; c; c = c->next) {
		must((t->kind == TOML_TABLE) == (c->key != NULL));
		if (c->key)
			must(toml_get(t, c->key) == c);
		must(c->next != NULL || t->last == c);
		n += check_tree(c, depth + 1, lines);
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct brig_err err = BRIG_ERR_INIT;
	char *text = malloc(size + 1); /* one's end is seen by the sanitizer */
	if (!text)
		return 0;
	memcpy(text, data, size);
	struct toml *t = toml_parse("t", text, size, &err);
	unsigned lines = lines_of(text, size), line = 0, column = 0;
	if (!t) {
		must(err.code == BRIG_E_INVALID);
		must(sscanf(err.msg, "t:%u:%u: ", &line, &column) == 2);
		must(line >= 1 && line <= lines && column >= 1 && column <= size + 1);
	} else {
		must(t->kind == TOML_TABLE && !t->key);
		must(check_tree(t, 0, lines) <= TOML_VALUES_MAX + 1);
		toml_free(t);
	}
	free(text);
	return 0;
}
