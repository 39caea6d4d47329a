/* SPDX-License-Identifier: Apache-2.0 */
/* build.h: the images that brig makes itself, from Debian packages. */
#ifndef BRIG_IMAGE_BUILD_H
#define BRIG_IMAGE_BUILD_H

#include <stdbool.h>

#include "base/err.h"
#include "image/import.h"

/* X(word, name, packages beside those of all, hook or NULL, summary). code-interpreter-v1 is the name
 * by which E2B's code interpreter clients ask for their template. */
#define BUILD_KINDS(X)                                                                           \
	X("base", "base", "", NULL, "the default image")                                         \
	X("code-interpreter", "code-interpreter-v1",                                             \
	  "python3-numpy,python3-pandas,python3-matplotlib,python3-pil,node-typescript",         \
	  /* Without its font list the first figure in every sandbox would wait for a second. */ \
	  "chroot --userspec=user:user \"$1\" env HOME=/home/user MPLBACKEND=Agg "               \
	  "python3 -c 'import matplotlib.pyplot'",                                               \
	  "base with numpy, pandas, matplotlib and typescript, for running code in cells")

struct build_kind {
	const char *word; /* what `brig image build` calls it */
	const char *name; /* the image's name unless another is given */
	const char *packages, *hook, *summary;
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

int build_image(const struct publisher *p, const struct build_options *o,
		struct import_result *ret, struct brig_err *err);

#endif
