/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h: a directory of the host into a tree, by the same rules as an archive. */
#ifndef BRIG_IMAGE_COPY_H
#define BRIG_IMAGE_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "image/tree.h"

struct copy_source {
	int fd;		 /* of the directory; lent */
	bool cross;	 /* also what is mounted below it; else such a directory stays empty */
	dev_t avoid_dev; /* the image store: a source that holds it has no end */
	ino_t avoid_ino;
	/* Of COPY: all belongs to one user, and what skip() says stays where it is. */
	bool owned;
	uint32_t uid, gid;
	bool (*skip)(void *ctx, const char *path, bool is_dir); /* path: in the source */
	void *ctx;
};

/* Never follows a link. A file that changes its size meanwhile is an error, BRIG_E_BUSY. */
int copy_tree(const struct copy_source *src, struct tree *t, struct brig_err *err);
/* What is at path (clean, relative; "" = all) in the source: what is in a directory goes into the directory
 * `into`, anything else becomes `into`. Neither is followed if it is a link. BRIG_E_NOT_FOUND. */
int copy_path(const struct copy_source *src, const char *path, const char *into, struct tree *t,
	      struct brig_err *err);

#endif
