/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h: changing the image store. What the store looks like is told in store.h.
 *
 * Every change of a name or of images/ happens under an exclusive flock on <data>/lock and is one
 * rename, so a reader, or a machine that lost power, sees the state before or the state after.
 */
#ifndef BRIG_IMAGE_PUBLISH_H
#define BRIG_IMAGE_PUBLISH_H

#include <stdbool.h>

#include "base/err.h"
#include "image/config.h"
#include "image/stage.h"
#include "image/store.h"

struct publisher {
	struct store store;
	int tmp, lock;
	bool root; /* owners are kept, the daemon gets its way in */
};
#define PUBLISHER_INIT                                     \
	{                                                  \
		.store = STORE_INIT, .tmp = -1, .lock = -1 \
	}

/* Opens the store for change; makes it if it is not there. data NULL = the default place. */
int publisher_open(const char *data, struct publisher *ret, struct brig_err *err);
void publisher_close(struct publisher *p);

/* The directories of a new image in its staging directory: <stage>/image/rootfs. Returns rootfs. */
int publish_prepare(const struct publisher *p, const struct stage *s, struct brig_err *err);

/* The same for an image that is made of layers: <stage>/image without a tree. 0 or -1. */
int publish_prepare_layered(const struct publisher *p, const struct stage *s,
			    struct brig_err *err);

/*
 * Stores <stage>/image as a layer of this digest, unless its tree is there already. Until the image
 * that it is for is stored, *ret_hold (a shared flock) keeps it from being removed as unused.
 */
int publish_layer(const struct publisher *p, const struct stage *s,
		  const struct image_digest *digest, int *ret_hold, bool *ret_reused,
		  struct brig_err *err);
/* A hold of a tree that is in the store; -1 with BRIG_E_NOT_FOUND if it is not there, or broken. */
int publish_hold(const struct publisher *p, const struct image_digest *digest,
		 struct brig_err *err);

/*
 * Stores <stage>/image under c's digest and lets c->name lead to it. Everything is on the disk when
 * this returns. If an image of this digest is there already, that one stays, with its own
 * config.json unless new_config is set, and *ret_reused becomes true. *ret_was: the image that the
 * name led to before, if that was another one that has no name now; else its text is "".
 */
int publish_image(const struct publisher *p, const struct stage *s, const struct image_config *c,
		  bool new_config, bool *ret_reused, struct image_digest *ret_was,
		  struct brig_err *err);

/* The same with any name, or with none (NULL). */
int publish_image_as(const struct publisher *p, const struct stage *s,
		     const struct image_config *c, const char *name, bool new_config,
		     bool *ret_reused, struct image_digest *ret_was, struct brig_err *err);

/* Removes an image that no name leads to and nothing uses: one that was made in passing. */
void publish_forget(const struct publisher *p, const struct image_digest *digest);

struct publish_removed {
	bool image; /* false: only the name, others lead to the image still */
	struct image_digest digest;
	uint64_t size_bytes;
};
/* ref is a name (removed; the image too if it was its last) or a digest (the image and all names).
 * BRIG_E_BUSY while a sandbox uses the image. */
/* Layers go with the last image that uses them. */
int publish_remove(const struct publisher *p, const char *ref, struct publish_removed *ret,
		   struct brig_err *err);

#endif
