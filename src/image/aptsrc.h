/* SPDX-License-Identifier: Apache-2.0 */
/* aptsrc.h: where this host gets its Debian packages from, as apt itself understands its files. */
#ifndef BRIG_IMAGE_APTSRC_H
#define BRIG_IMAGE_APTSRC_H

#include <stddef.h>

#include "base/err.h"

#define APTSRC_LINES 64

struct aptsrc {
	char suite[32];
	/* For mmdebstrap: "deb URI SUITE COMPONENT", owned. None = its own defaults. */
	char *lines[APTSRC_LINES];
	size_t nlines;
	/* apt options that matter for reaching a mirror (proxies, clock checks), owned. */
	char *options[APTSRC_LINES];
	size_t noptions;
};

/* suite NULL: this host's Debian release, or `fallback` where it runs none. */
int aptsrc_read(const char *suite, const char *fallback, struct aptsrc *ret, struct brig_err *err);
void aptsrc_done(struct aptsrc *a);

#endif
