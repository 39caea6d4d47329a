/* SPDX-License-Identifier: Apache-2.0 */
/* import.h: from a stream or a directory to a named image in the store. */
#ifndef BRIG_IMAGE_IMPORT_H
#define BRIG_IMAGE_IMPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "image/publish.h"
#include "image/tree.h"

struct import_options {
	const char *name;
	int input;	     /* lent: a file, a pipe, or a directory */
	const char *user;    /* NAME, UID or UID:GID; NULL = root */
	const char *workdir; /* NULL = / */
	char *const *env;    /* NAME=VALUE, count env_n */
	size_t env_n;
	struct tree_limits max;
	unsigned max_ratio;
	bool cross; /* a directory: with what is mounted in it */
	/* What the source is. As it looks: an archive that holds an image of layers is that image. */
	enum { IMPORT_AS_IT_LOOKS, IMPORT_TREE, IMPORT_LAYOUT, IMPORT_DOCKER } kind;
	const char *tag; /* which image of several; NULL = the only one */
	int cancel; /* see confine.h */
	/* Asked after the last byte was read and before anything is stored: did whoever wrote the
	 * stream finish it? NULL = nobody to ask. */
	int (*confirm)(void *ctx, struct brig_err *err);
	/* What is being done now, for people; NULL = not interested. */
	void (*progress)(void *ctx, const char *what);
	void *ctx;
};

struct import_result {
	struct image_digest digest;
	struct image_digest unnamed; /* lost its name to this one; "" = none */
	struct tree_stats stats;
	uint64_t size_bytes, files;
	bool reused;
	unsigned layers; /* 0 = a single tree */
};

/* Loads what the libraries need. Once, before the first import, while there is one thread. */
int import_prepare(struct brig_err *err);
/* Checks a name for a new image; IMAGE_HOST is taken. */
int import_check_name(const char *name, struct brig_err *err);
/* Adds o's variables to c, over those that it has. */
int import_env(struct image_config *c, const struct import_options *o, struct brig_err *err);
int import_run(const struct publisher *p, const struct import_options *o, struct import_result *ret,
	       struct brig_err *err);

#endif
