/* SPDX-License-Identifier: Apache-2.0 */
/* names.h: the names in a directory, sorted by their bytes. */
#ifndef BRIG_IMAGE_NAMES_H
#define BRIG_IMAGE_NAMES_H

#include <stddef.h>

struct names {
	char **list;
	size_t n, cap;
};

/* Reads the directory that fd (open for reading, kept) refers to, without "." and "..". Stops with
 * -E2BIG at more than max names; -ENOMEM, -errno. */
int names_read(int fd, size_t max, struct names *ret);
/* Appends a copy; -E2BIG if there are max already, -ENOMEM. */
int names_add(struct names *d, size_t max, const char *name);
void names_done(struct names *d);

#endif
