/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prepare.h: what is made once and used by many microVMs: the initial RAM disk of a kernel, the disk of an
 * image. Called in a child of brig-jaild with its rights, which may wait.
 */
#ifndef BRIG_MICROVM_PREPARE_H
#define BRIG_MICROVM_PREPARE_H

#include <stdint.h>

#include "engine/microvm/tier/host.h"

/* Descriptors, to be read; -1 with err set. */

/* data: the data folder. Kept there as guest/initrd-KEY, and packed anew when kernel or programs changed. */
int prepare_initrd(const struct microvm_host *h, int data, struct brig_err *err);
/* Kept in the image's folder, so it goes with the image. uid: an id that nobody else has, under which the image's
 * files are read. */
struct image_trees {
	const char *digest; /* the name of its folder in images/ */
	unsigned n;	    /* layers, the lowest first; their roots (O_PATH) */
	const int *fd;
};
int prepare_disk(const struct microvm_host *h, int data, const struct image_trees *t, uint32_t uid,
		 struct brig_err *err);

#endif
