/* SPDX-License-Identifier: Apache-2.0 */
/* table.h: columns for people: a header in capitals, cells aligned to the widest. */
#ifndef BRIG_CLI_TABLE_H
#define BRIG_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS_MAX 12

struct table {
	unsigned columns;
	char **cells; /* row by row, the header first */
	size_t n, cap;
	bool failed; /* out of memory: printed as far as it goes, and told by table_print() */
};

/* head: one name per column, NULL at the end. */
void table_init(struct table *t, const char *const *head);
/* Adds the next cell, a copy; NULL is "-". What could steer a terminal is replaced. */
void table_add(struct table *t, const char *text);
void table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints to standard output and releases everything. 0 or -ENOMEM. */
int table_print(struct table *t);

#endif
