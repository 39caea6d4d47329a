/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive.h: a tar archive (ustar, pax, GNU), plain or compressed by gzip, bzip2, xz or zstd, into
 * a tree. The archive is hostile from its first byte.
 */
#ifndef BRIG_IMAGE_ARCHIVE_H
#define BRIG_IMAGE_ARCHIVE_H

#include <stddef.h>

#include "base/err.h"
#include "image/tree.h"

/* Bytes out for each byte in, once ARCHIVE_RATIO_FREE bytes are out. Trees of real systems reach
 * 10; runs of zeros reach 1000 with gzip and far more with xz and zstd. */
#define ARCHIVE_RATIO_DEFAULT 250u
#define ARCHIVE_RATIO_FREE (64ull << 20)

/* Loads what the libraries would otherwise load while they parse: call it before confinement. */
int archive_prepare(struct brig_err *err);

/* Reads the archive from fd (any kind of file) until its end marker; tree_finish is the caller's.
 * Same errors as tree.h, and BRIG_E_CORRUPT for what is no archive. */
int archive_unpack_fd(int fd, unsigned max_ratio, struct tree *t, struct brig_err *err);
int archive_unpack_mem(const void *data, size_t n, unsigned max_ratio, struct tree *t,
		       struct brig_err *err);

/*
 * A layer of an image of others: fd is a file, which is read to its end. blob and diff are what its
 * bytes, and those of the archive in it, must hash to (64 hexadecimal digits; "" = not known). The
 * tree is that of a layer (t->lower).
 */
struct archive_layer {
	int fd;
	unsigned max_ratio;
	const char *blob, *diff;
};
/* BRIG_E_CORRUPT also for another digest. */
int archive_unpack_layer(const struct archive_layer *in, struct tree *t, struct brig_err *err);

#endif
