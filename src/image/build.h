/* SPDX-License-Identifier: Apache-2.0 */
/* build.h: the default image, from Debian packages. */
#ifndef BRIG_IMAGE_BUILD_H
#define BRIG_IMAGE_BUILD_H

#include <stdbool.h>

#include "base/err.h"
#include "image/import.h"

struct build_options {
	const char *name;
	const char *suite; /* NULL = the release that this host runs, else BUILD_SUITE */
	bool quiet;
	int cancel;
};
#define BUILD_SUITE "bookworm"

int build_base(const struct publisher *p, const struct build_options *o, struct import_result *ret,
	       struct brig_err *err);

#endif
