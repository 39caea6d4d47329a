/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h: an image from a registry into a layout, by brig-pull. */
#ifndef BRIG_IMAGE_FETCH_H
#define BRIG_IMAGE_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "image/publish.h"

struct fetch_options {
	const char *ref;
	const char *ca_file; /* NULL = the system's certificates */
	bool plain_http, insecure_tls, quiet;
	uint64_t stall_s, max_bytes;
	int cancel; /* as in confine.h */
};

/* Makes <stage>/layout and fills it; a descriptor of it, or -1. */
int fetch_layout(const struct publisher *p, const struct stage *s, const struct fetch_options *o,
		 struct brig_err *err);

#endif
