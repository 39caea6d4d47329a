/* SPDX-License-Identifier: Apache-2.0 */
/* seal.h: the last look at a tree before it is stored: what a sandbox needs to find in it, and what
 * it is. */
#ifndef BRIG_IMAGE_SEAL_H
#define BRIG_IMAGE_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "image/config.h"
#include "image/digest.h"

/* What the sealing process reports. Plain bytes from behind the wall of confine.h. */
struct seal_facts {
	struct tree_digest tree;
	char arch[16];
	char user_name[IMAGE_USER_MAX + 1], user_home[IMAGE_DIR_MAX];
	uint32_t uid, gid;
};

struct seal_options {
	const char *user; /* NAME, UID or UID:GID: who commands run as by default; NULL = root */
	bool keep_owner;
	uint64_t max_entries;
};

/* Makes the directories that a sandbox mounts on, refuses the tree if something else is there,
 * looks up the user in its /etc/passwd, and hashes it all. */
int seal_tree(int root, const struct seal_options *o, struct seal_facts *ret, struct brig_err *err);

struct lower;
/* Who `who` is (NAME, UID, NAME:GROUP or UID:GID) in what these layers show: the user's fields. */
int seal_find_user(const struct lower *l, const char *who, struct seal_facts *f,
		   struct brig_err *err);
/* The same for one layer upon others. top: nothing will lie upon it, so it gets what a sandbox
 * mounts on, if it is missing. */
int seal_layer(int root, const struct lower *below, bool top, const struct seal_options *o,
	       struct tree_digest *ret, struct brig_err *err);

/* The reader's side: 0 if every field is what seal_tree could have put there. */
int seal_check(const struct seal_facts *f, struct brig_err *err);

#endif
