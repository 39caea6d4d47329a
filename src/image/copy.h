/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h: a directory of the host into a tree, by the same rules as an archive. */
#ifndef BRIG_IMAGE_COPY_H
#define BRIG_IMAGE_COPY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "image/tree.h"

struct copy_source {
	int fd;		 /* of the directory; lent */
	bool cross;	 /* also what is mounted below it; else such a directory stays empty */
	dev_t avoid_dev; /* the image store: a source that holds it has no end */
	ino_t avoid_ino;
};

/* Never follows a link. A file that changes its size meanwhile is an error, BRIG_E_BUSY. */
int copy_tree(const struct copy_source *src, struct tree *t, struct brig_err *err);

#endif
