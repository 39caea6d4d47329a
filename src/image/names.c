/* SPDX-License-Identifier: Apache-2.0 */
#include "image/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

static int name_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int names_add(struct names *d, size_t max, const char *name)
{
	if (d->n == max)
		return -E2BIG;
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 32;
		char **list = realloc(d->list, cap * sizeof(*list));
		if (!list)
			return -ENOMEM;
		d->list = list;
		d->cap = cap;
	}
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	d->list[d->n++] = copy;
	return 0;
}

int names_read(int fd, size_t max, struct names *ret)
{
	struct names d = { .list = NULL };
	int r = 0;
	/* The stream closes what it reads; the duplicate shares the position, hence the rewind. */
	int dup = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *dir = dup < 0 ? NULL : fdopendir(dup);
	if (!dir) {
		r = -errno;
		fd_close(&dup);
		return r;
	}
	rewinddir(dir);
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(dir);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if ((r = names_add(&d, max, e->d_name)) < 0)
			break;
	}
	closedir(dir);
	if (r < 0) {
		names_done(&d);
		return r;
	}
	if (d.n)
		qsort(d.list, d.n, sizeof(*d.list), name_compare);
	*ret = d;
	return 0;
}

void names_done(struct names *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->list[i]);
	free(d->list);
	*d = (struct names){ .list = NULL };
}
