/* SPDX-License-Identifier: Apache-2.0 */
/* publish_inner.h: what publish.c (images and names) and layers.c (trees) share. */
#ifndef BRIG_IMAGE_PUBLISH_INNER_H
#define BRIG_IMAGE_PUBLISH_INNER_H

#include "image/names.h"
#include "image/publish.h"

int publish_fail(struct brig_err *err, const char *path, int sys, const char *what);
int publish_lock(const struct publisher *p, struct brig_err *err);
void publish_unlock(const struct publisher *p);
/* A new file with these bytes, readable by all who come that far, flushed. 0 or -errno. */
int publish_write(int dir, const char *name, const char *text);
int publish_sync(int dir);
/* One flush for the tens of thousands of files: a name must never lead to a tree of which the power
 * can still take a part. */
int publish_flush(const struct publisher *p, const struct stage *s, struct brig_err *err);
/* Takes an image or layer out of images/ into the staging directory, as `name`; who uses it keeps
 * it from going: BRIG_E_BUSY, at once or after a moment. Under the store's lock. */
int publish_take_out(const struct publisher *p, const struct stage *s,
		     const struct image_digest *digest, const char *name, bool patient,
		     struct brig_err *err);
/* A server keeps an image for a moment after the last sandbox that used it. 0 or -errno. */
int publish_lock_unused(int lock, bool patient);

/* ---- layers.c ---- */

/* 1 if the tree of this digest is there, with its lock. */
int layer_sound(const struct store *s, const struct image_digest *digest);
/* How many images beside `but` (NULL = none) have this tree as a layer. */
int layer_users(const struct store *s, const struct image_digest *digest,
		const struct image_digest *but, unsigned *ret_n, struct brig_err *err);
/* 1 if it is an image, too. */
int layer_is_image(const struct store *s, const struct image_digest *digest);
/* Under the store's lock, after an image is gone: those of its layers that nothing uses go, too. */
void layers_drop(const struct publisher *p, const struct stage *s,
		 const struct image_layer *layers, size_t n);

#endif
