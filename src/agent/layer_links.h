/* SPDX-License-Identifier: Apache-2.0 */
/* layer_links.h: the first names of files that have several, found by inode number. */
#ifndef BRIG_AGENT_LAYER_LINKS_H
#define BRIG_AGENT_LAYER_LINKS_H

#include <stdint.h>

struct layer_link;
struct layer_links {
	struct layer_link *slot;
	uint32_t n, cap;
};

/* The path under which ino was seen first, or NULL: then path is that one now. *ret_err is 0 or
 * -ENOMEM. */
const char *layer_links_see(struct layer_links *l, uint64_t ino, const char *path, int *ret_err);
void layer_links_done(struct layer_links *l);

#endif
