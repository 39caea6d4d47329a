/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lower.h: what a stack of layers shows, looked up in each of them by the rules of overlayfs: a
 * directory is merged with those of its name below, anything else covers them, and a whiteout (a
 * character device 0:0) covers them and shows nothing.
 *
 * Paths are relative to the root, which is "", and have no empty, "." or ".." component. No link is
 * followed but by lower_resolve(), and there only inside. The layers do not change meanwhile.
 */
#ifndef BRIG_IMAGE_LOWER_H
#define BRIG_IMAGE_LOWER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "image/config.h"
#include "image/names.h"

struct lower {
	int fd[IMAGE_LAYERS_MAX + 1]; /* their roots, the topmost first; lent */
	unsigned n;
};

static inline bool lower_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* What is at path: 0, or -ENOENT, -ENOTDIR (something above it is no directory), -errno. */
int lower_look(const struct lower *l, const char *path, struct stat *ret);
/* Opens the topmost file or directory at path; a descriptor or -errno. */
int lower_open(const struct lower *l, const char *path, int flags);
/* The names in the directory at path, sorted; -E2BIG at more than max. names_done() is the caller's. */
int lower_names(const struct lower *l, const char *path, size_t max, struct names *ret);
/* Follows every link of path as a process inside would, also in what is missing at its end. ret has
 * room for TREE_PATH_MAX + 1. 0 or -errno: -ELOOP, -ENAMETOOLONG, -ENOTDIR. */
int lower_resolve(const struct lower *l, const char *path, char *ret);

#endif
