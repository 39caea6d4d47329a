/* SPDX-License-Identifier: Apache-2.0 */
/* archive_inner.h: what archive.c and archive_layer.c share. */
#ifndef BRIG_IMAGE_ARCHIVE_INNER_H
#define BRIG_IMAGE_ARCHIVE_INNER_H

#include <archive.h>

#include "image/archive.h"

/* The compressions that this libarchive has inside; ARCHIVE_OK or an error. */
int archive_add_filters(struct archive *a);
/* Fills err from libarchive's last error. */
int archive_fail(struct brig_err *err, struct archive *a);
/* Reads all entries; frees a. opened: what opening it returned. */
int archive_unpack_opened(struct archive *a, int opened, unsigned max_ratio, struct tree *t,
			  struct brig_err *err);

#endif
