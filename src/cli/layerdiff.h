/* SPDX-License-Identifier: Apache-2.0 */
/* layerdiff.h: what a writable layer (agent/layer.h) changes: against the image, or against another layer. */
#ifndef BRIG_CLI_LAYERDIFF_H
#define BRIG_CLI_LAYERDIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* One path of a layer. */
struct layer_path {
	char *path;  /* absolute; owned */
	bool gone;   /* the image has it, and here it is not */
	bool image;  /* the image has something of that name */
	uint16_t type;
	uint32_t mode, uid, gid;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint64_t size, hash; /* hash: of its contents, target or other name, and of its attributes */
};
struct layer_paths {
	struct layer_path *v; /* ascending by path */
	size_t n;
};
void layer_paths_done(struct layer_paths *l);
/* Reads a whole layer from fd, from its beginning. It may have been made by anybody. */
int layer_paths_read(int fd, struct layer_paths *ret, struct brig_err *err);

/* Calls fn for each path that differs, ascending: 'A' only in `to`, 'D' only in `from`, 'C' in both and not the
 * same. from NULL: the image. Directories are told if they are new or gone, or something in them is told, or their
 * own attributes differ. */
void layer_paths_diff(const struct layer_paths *from, const struct layer_paths *to,
		      void (*fn)(void *ctx, char kind, const char *path), void *ctx);

#endif
