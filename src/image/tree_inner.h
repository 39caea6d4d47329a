/* SPDX-License-Identifier: Apache-2.0 */
/* tree_inner.h: what tree.c and tree_layer.c share. */
#ifndef BRIG_IMAGE_TREE_INNER_H
#define BRIG_IMAGE_TREE_INNER_H

#include "image/tree.h"

/* A name taken apart: what lies before the last component ("." for none), and that component. */
struct place {
	char parent[TREE_PATH_MAX + 1];
	char base[TREE_NAME_MAX + 1]; /* "" = the root itself */
};

int tree_place_parse(const char *name, struct place *p, struct brig_err *err);
/* Opens the directory that an entry goes into; makes what is missing on the way, as tar does. */
int tree_place_open(struct tree *t, const struct place *p, const char *name, struct brig_err *err);
int tree_count_entry(struct tree *t, struct brig_err *err);
int tree_refuse(struct brig_err *err, const char *name, const char *why);
/* Its mode and time are set by tree_finish. 0 or -ENOMEM. */
int tree_dir_remember(struct tree *t, const struct place *p, const struct tree_meta *m);

/* ---- tree_layer.c ---- */

/* A directory that no entry tells of, as the layers below have it. false: they have none. */
bool tree_implied(const struct tree *t, const char *path, struct tree_meta *ret);
/* A file of the layers below, wanted as the target of a hard link, is copied up. 0, or -1: err. */
int tree_copy_up(struct tree *t, const struct place *p, const char *name, struct brig_err *err);
/* What was to be hidden, once all entries are there. */
int tree_hide_apply(struct tree *t, struct brig_err *err);
void tree_hide_done(struct tree *t);

#endif
