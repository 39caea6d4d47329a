/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.h: the name of a tree is what is in it.
 *
 * SHA-256 over "brig-tree-1\n" and then one line for each name, in this form (numbers in decimal
 * but for the mode in octal, one space between fields, "\n" at the end):
 *
 *   TYPE MODE UID GID SIZE CONTENT LENGTH:PATH LENGTH:TARGET
 *
 *   TYPE     d, f, l or w: directory, regular file, symbolic link, whiteout of a layer
 *   MODE     four digits; 0777 for a link and 0 for a whiteout, which have none
 *   SIZE     bytes of a file; 0 for the others
 *   CONTENT  SHA-256 of a file's bytes in hexadecimal; - for the others
 *   PATH     relative to the root, which is "." and comes first; LENGTH is its number of bytes
 *   TARGET   of a link; empty (0:) for the others
 *
 * A directory comes before what is in it, and its names are in ascending order of their bytes.
 * Times are not part of it, nor which names share one file, nor anything that a stored tree does
 * not have (extended attributes, devices, setuid bits). So a tree has one digest, from whatever
 * kind of archive or directory it was imported. In a user's own store all files are taken to belong
 * to 0:0.
 */
#ifndef BRIG_IMAGE_DIGEST_H
#define BRIG_IMAGE_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct tree_digest {
	unsigned char sha256[32];
	uint64_t size_bytes; /* of files, each once however many names it has */
	uint64_t files;	     /* names, without the root */
};

/* Loads what OpenSSL would otherwise load at first use: call it before confinement. */
int digest_prepare(struct brig_err *err);
/* root: any descriptor of the directory. max_entries bounds the walk of a tree that grows under it.
 */
int digest_tree(int root, bool keep_owner, uint64_t max_entries, struct tree_digest *ret,
		struct brig_err *err);

#endif
