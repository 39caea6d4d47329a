/* SPDX-License-Identifier: Apache-2.0 */
/* recipe_build.h: a build file into an image. */
#ifndef BRIG_IMAGE_RECIPE_BUILD_H
#define BRIG_IMAGE_RECIPE_BUILD_H

#include "image/import.h"
#include "image/recipe.h"

struct recipe_options {
	const char *name;		 /* NULL = none */
	int context;			 /* lent; a directory */
	const struct image_words *args;	 /* NAME=VALUE */
	const struct image_words *flags; /* for the sandboxes of RUN */
	struct tree_limits max;
	bool no_cache;
	int cancel;
	void (*progress)(void *ctx, const char *what);
	void *ctx;
};

int recipe_build(const struct publisher *p, const struct recipe *r, const struct recipe_options *o,
		 struct import_result *ret, struct brig_err *err);

#endif
