/* SPDX-License-Identifier: Apache-2.0 */
/* layer_read.h: what the agent of a sandbox exported (agent/layer.h) into the tree of a layer. */
#ifndef BRIG_IMAGE_LAYER_READ_H
#define BRIG_IMAGE_LAYER_READ_H

#include "image/tree.h"

/* Hostile: the sandbox is a tenant's. skip: a path that is left as it is below (NULL = none). */
int layer_read(int fd, const char *skip, struct tree *t, struct brig_err *err);

#endif
