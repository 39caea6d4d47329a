/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inodes.h: what is known about files that have several names. Without it one file of 16 GiB with
 * two million names would be copied, or hashed, two million times.
 */
#ifndef BRIG_IMAGE_INODES_H
#define BRIG_IMAGE_INODES_H

#include <stddef.h>
#include <sys/types.h>

struct inode_slot;
struct inodes {
	struct inode_slot *slots;
	size_t n, cap;
};

/* The place of the value for this file, made with NULL in it if it is new; NULL for lack of memory.
 * Valid until the next call. The value is the caller's to set, and freed by inodes_done. */
void **inodes_at(struct inodes *m, dev_t dev, ino_t ino);
void inodes_done(struct inodes *m);

#endif
