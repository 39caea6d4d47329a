/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

void table_init(struct table *t, const char *const *head)
{
	*t = (struct table){ .columns = 0 };
	while (head[t->columns])
		t->columns++;
	for (unsigned i = 0; i < t->columns; i++)
		table_add(t, head[i]);
}

void table_add(struct table *t, const char *text)
{
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		char **cells = realloc(t->cells, cap * sizeof(*cells));
		if (!cells) {
			t->failed = true;
			return;
		}
		t->cells = cells;
		t->cap = cap;
	}
	char *copy = strdup(text && text[0] ? text : "-");
	if (!copy) {
		t->failed = true;
		return;
	}
	text_make_safe(copy);
	t->cells[t->n++] = copy;
}

void table_addf(struct table *t, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	table_add(t, text);
}

/* Characters, not bytes: continuation bytes of UTF-8 take no column. */
static size_t text_width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

int table_print(struct table *t)
{
	size_t width[TABLE_COLUMNS_MAX] = { 0 };
	for (size_t i = 0; i < t->n; i++) {
		size_t w = text_width(t->cells[i]);
		if (w > width[i % t->columns])
			width[i % t->columns] = w;
	}
	for (size_t i = 0; i < t->n; i++) {
		unsigned column = (unsigned)(i % t->columns);
		fputs(t->cells[i], stdout);
		if (column + 1 == t->columns || i + 1 == t->n)
			putchar('\n');
		else
			printf("%*s", (int)(width[column] - text_width(t->cells[i])) + 2, "");
		free(t->cells[i]);
	}
	free(t->cells);
	int r = t->failed ? -ENOMEM : 0;
	*t = (struct table){ .columns = 0 };
	return r;
}
