/* SPDX-License-Identifier: Apache-2.0 */
/* build.h: the images that brig makes itself, from Debian packages. */
#ifndef BRIG_IMAGE_BUILD_H
#define BRIG_IMAGE_BUILD_H

#include <stdbool.h>

#include "base/err.h"
#include "image/import.h"

struct build_kind {
	const char *word;     /* what `brig image build` calls it */
	const char *name;     /* the image's name unless another is given */
	const char *packages; /* beside those of all */
	const char *hook;     /* of mmdebstrap, the last one; NULL = none */
};
/* By its word or its name; NULL if there is none. */
const struct build_kind *build_kind_find(const char *word);

struct build_options {
	const struct build_kind *kind;
	const char *name;
	const char *suite; /* NULL = the release that this host runs, else BUILD_SUITE */
	bool quiet;
	int cancel;
};
#define BUILD_SUITE "bookworm"

int build_image(const struct publisher *p, const struct build_options *o, struct import_result *ret,
		struct brig_err *err);

#endif
