/* SPDX-License-Identifier: Apache-2.0 */
/* image.h: the images that a serving jaild knows: the trees that a sandbox's root is made of. */
#ifndef BRIG_JAIL_IMAGE_H
#define BRIG_JAIL_IMAGE_H

#include <stddef.h>

#include "base/err.h"
#include "brig/jail_proto.h"

struct jail_trees {
	char digest[96]; /* of the image, as the store names it */
	unsigned n;	 /* 0 = not known */
	int *fd;	 /* of each tree, the lowest first; owned */
};

/*
 * Opens the trees of the image that `dir` is (any descriptor of <data>/images/sha256-HEX, `store` one of
 * <data>). BRIG_E_DENIED: it is no image of that store.
 */
int jail_trees_open(int store, int dir, struct jail_trees *ret, struct brig_err *err);
void jail_trees_close(struct jail_trees *t);

/* The text of a file `layers`: each line a name of the form sha256-HEX; fills names, *ret_n of them. 0 or
 * -EINVAL. */
#define JAIL_TREE_NAME 72 /* sha256- and 64 digits, and a NUL */
int jail_layers_parse(const char *text, size_t n, char names[][JAIL_TREE_NAME], unsigned *ret_n);

#endif
