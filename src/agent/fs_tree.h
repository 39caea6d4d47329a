/* SPDX-License-Identifier: Apache-2.0 */
/* fs_tree.h: removal of a directory with all below it, in steps. */
#ifndef BRIG_AGENT_FS_TREE_H
#define BRIG_AGENT_FS_TREE_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* A directory on the way, and its name in the one above. */
struct fs_way {
	dev_t dev;
	ino_t ino;
	char *name;
};

struct fs_tree {
	DIR *dir; /* of way[depth - 1] */
	struct fs_way *way;
	unsigned depth, cap;
	int parent;		   /* of the whole tree */
	bool one_fs;		   /* never into what is mounted below */
	char failed[NAME_MAX + 2]; /* the name that could not be removed */
};

void fs_tree_init(struct fs_tree *t);
/* `name` of the directory parent, of which a duplicate is kept. 0 or -errno; with one_fs, -EXDEV
 * for a mount point. */
int fs_tree_begin(struct fs_tree *t, int parent, const char *name, bool one_fs);
/* Removes the next name. 1: all is gone; 0; or -errno. */
int fs_tree_step(struct fs_tree *t);
/* Gives everything back; the tree may be begun again. */
void fs_tree_done(struct fs_tree *t);

/* Opens `rel` ("" = root itself; no "." or "..") below root without following a link, and with
 * one_fs not on another mount: -EXDEV. */
int fs_beneath(int root, const char *rel, int flags, bool one_fs);

#endif
