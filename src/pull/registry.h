/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h: from a registry into an OCI image layout. */
#ifndef BRIG_PULL_REGISTRY_H
#define BRIG_PULL_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "pull/http.h"
#include "pull/ref.h"

struct pull_options {
	struct pull_ref ref;
	struct http_options http;
	const char *user, *password; /* NULL = nobody */
	uint64_t max_bytes;	     /* of all blobs */
	bool quiet;
};

/* dir: where the layout goes; blobs/sha256 is there. */
int pull_image(const struct pull_options *o, int dir, struct brig_err *err);

#endif
