/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h: reading the image store. brigd and the other readers link this part (name.c, config.c,
 * store.c: libc and jansson only); writing is brig-image's, in publish.h.
 *
 *   <data>/names/NAME                 text: the digest that the name leads to; replaced by rename
 *   <data>/images/sha256-HEX/rootfs/  a tree; never changed once it is here
 *   <data>/images/sha256-HEX/config.json  this is an image
 *   <data>/images/sha256-HEX/layers   of an image that is made of layers, instead of a tree: their
 *                                     directories (sha256-HEX), the lowest first, one a line
 *   <data>/images/sha256-HEX/.lock    flock: shared while used, exclusive to remove
 *   <data>/steps/sha256-HEX           what made a layer before, so that it need not be made again
 *   <data>/tmp/PID.RANDOM/            a tree being made or removed; its owner holds a flock on it
 *   <data>/lock                       flock: exclusive while names or images change
 *
 * <data> is $BRIG_DATA; without it /var/lib/brig for root and
 * ${XDG_DATA_HOME:-$HOME/.local/share}/brig for others. A root-owned store keeps the owners of an
 * image's files, hence also its root-owned programs; nobody on the host may come near these, so
 * images/ is 0710 with BRIG_DAEMON_GID: the daemon may pass through it by a name that it knows,
 * others may not, and nobody lists it. In a user's own store all files belong to that user and
 * images/ is 0700.
 *
 * A tree without config.json is a layer and nothing else. What has both is an image of its own and
 * may be a layer of others. A tree is there once, however many images use it, and goes with the
 * last of them. A layer says what it removes from those below by whiteouts, character devices 0:0,
 * as overlayfs has them; it needs no attributes, because for a directory that hides what is below
 * there is a whiteout for each name that it hides.
 *
 * Setuid and setgid bits, extended attributes (file capabilities, ACLs) and device nodes do not
 * exist in a stored tree (a whiteout opens no device). Everything in a sandbox runs with no_new_privs, where the first three do
 * nothing, and gets a /dev of its own; on the host they would be a loaded gun.
 */
#ifndef BRIG_IMAGE_STORE_H
#define BRIG_IMAGE_STORE_H

#include <limits.h>

#include "base/err.h"
#include "image/config.h"
#include "image/name.h"

struct store {
	char path[PATH_MAX]; /* of <data>, for messages */
	int data, images, names;
};
#define STORE_INIT                                    \
	{                                             \
		.data = -1, .images = -1, .names = -1 \
	}

/* An image in use. lock holds the shared flock for as long as it is open: keep it open while any
 * sandbox uses the image (a duplicate, or one passed to another process, holds it as well). */
struct store_image {
	int dir; /* <data>/images/sha256-HEX: O_PATH | O_DIRECTORY */
	int lock;
	struct image_config config;
};
#define STORE_IMAGE_INIT              \
	{                             \
		.dir = -1, .lock = -1 \
	}

/* Where the store is when nobody says. BRIG_E_INVALID when there is no way to know ($HOME unset).
 */
int store_default_path(char *buf, size_t cap, struct brig_err *err);

/*
 * Opens an existing store; data NULL = the default place. BRIG_E_NOT_FOUND when there is none yet.
 * A store that belongs to another user than root or this one, or that others may write to, is
 * refused: whoever can change it chooses what runs.
 */
int store_open(const char *data, struct store *ret, struct brig_err *err);
void store_close(struct store *s);

/* ref: a name, sha256:HEX, sha256-HEX, or the first 12 or more digits of HEX (the last only where
 * the caller may list the store). Tells which image is meant, not that it is whole. IMAGE_HOST is
 * not in any store: BRIG_E_INVALID, the caller handles it before. */
int store_resolve(const struct store *s, const char *ref, struct image_digest *ret,
		  struct brig_err *err);

/* Opens an image for use. BRIG_E_BUSY: it is being removed; BRIG_E_CORRUPT: a part of it is missing
 * or its config.json breaks a rule. Uses flock, openat, fstat, read: no descriptor besides the two
 * of *ret stays open. */
int store_lookup(const struct store *s, const char *ref, struct store_image *ret,
		 struct brig_err *err);
void store_image_done(struct store_image *i);

/* Opens the trees of an image, the lowest first, into ret (room for IMAGE_LAYERS_MAX), for reading
 * (flags O_RDONLY) or as places (O_PATH); *ret_n of them. After an error none is open. */
int store_trees(const struct store *s, const struct image_config *c, int flags, int *ret,
		unsigned *ret_n, struct brig_err *err);

/* The config.json of an image directory (below s->images), unlocked: for listings. */
int store_read_config(const struct store *s, const struct image_digest *digest,
		      struct image_config *ret, struct brig_err *err);

#endif
