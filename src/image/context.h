/* SPDX-License-Identifier: Apache-2.0 */
/* context.h: COPY of a build: from the folder of the context into a layer. */
#ifndef BRIG_IMAGE_CONTEXT_H
#define BRIG_IMAGE_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/config.h"
#include "image/tree.h"

struct context_copy {
	struct image_words sources; /* of the context; may have * ? [] */
	char to[IMAGE_DIR_MAX];	    /* absolute, clean but for a "/" at its end */
	uint32_t uid, gid;
	dev_t store_dev; /* the image store: a context that holds it has no end */
	ino_t store_ino;
};

/* Runs confined: context is a read-only copy of the folder's mounts. */
int context_copy(int context, const struct context_copy *c, struct tree *t, struct brig_err *err);

/* Does a file .dockerignore with this text leave out `path`? Pure. */
bool context_ignored(const char *text, const char *path);

#endif
