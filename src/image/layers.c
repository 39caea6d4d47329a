/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers.c: trees that several images share.
 *
 * Theory of operation
 * -------------------
 * Runs in brig-image as the owner of the store. Which images use a tree is written nowhere but in
 * their config.json: it is looked for when one is about to go, which is rare, instead of being
 * counted, which could be wrong after a crash. A tree that was stored for an image that is not
 * there yet is held by a shared flock, as an image in use is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "image/publish_inner.h"

static int place_open(const struct store *s, const struct image_digest *digest)
{
	return openat(s->images, digest->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int layer_sound(const struct store *s, const struct image_digest *digest)
{
	struct stat st;
	AUTO_FD dir = place_open(s, digest);
	return dir >= 0 && fstatat(dir, "rootfs", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode) && fstatat(dir, ".lock", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode);
}

int layer_is_image(const struct store *s, const struct image_digest *digest)
{
	AUTO_FD dir = place_open(s, digest);
	return dir >= 0 && faccessat(dir, "config.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int has_layer(const struct image_config *c, const struct image_digest *digest)
{
	for (size_t i = 0; i < c->layers_n; i++)
		if (strcmp(c->layers[i].digest.text, digest->text) == 0)
			return 1;
	return 0;
}

int layer_users(const struct store *s, const struct image_digest *digest,
		const struct image_digest *but, unsigned *ret_n, struct brig_err *err)
{
	struct names d;
	AUTO_FD list = openat(s->images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = list < 0 ? -errno : names_read(list, SIZE_MAX, &d);
	if (r < 0)
		return publish_fail(err, s->path, -r, "list the images");
	*ret_n = 0;
	for (size_t i = 0; i < d.n; i++) {
		struct image_digest one;
		struct image_config c;
		/* One that is broken has no layers that anybody could start. */
		if (image_digest_parse(d.list[i], &one) < 0 ||
		    (but && strcmp(one.text, but->text) == 0) ||
		    store_read_config(s, &one, &c, NULL) < 0)
			continue;
		*ret_n += (unsigned)has_layer(&c, digest);
		image_config_done(&c);
	}
	names_done(&d);
	return 0;
}

int publish_hold(const struct publisher *p, const struct image_digest *digest,
		 struct brig_err *err)
{
	char path[IMAGE_DIGEST_LEN + 8];
	if (!layer_sound(&p->store, digest))
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no layer %s", digest->text);
	snprintf(path, sizeof(path), "%s/.lock", digest->dir);
	AUTO_FD lock = openat(p->store.images, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_SH | LOCK_NB) < 0)
		return brig_fail(err, BRIG_E_NOT_FOUND, errno, "hold layer %s", digest->text);
	/* It may have been removed between the two. */
	if (!layer_sound(&p->store, digest))
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no layer %s", digest->text);
	return fd_steal(&lock);
}

/* Under the store's lock. */
static int layer_move_in(const struct publisher *p, const struct stage *s,
			 const struct image_digest *digest, bool *ret_reused, struct brig_err *err)
{
	if (layer_sound(&p->store, digest)) {
		*ret_reused = true;
		return 0;
	}
	int r = renameat2(s->dir, "image", p->store.images, digest->dir, RENAME_NOREPLACE);
	if (r < 0 && errno == EEXIST) {
		if (publish_take_out(p, s, digest, "broken", false, err) < 0)
			return -1;
		r = renameat2(s->dir, "image", p->store.images, digest->dir, RENAME_NOREPLACE);
	}
	if (r < 0 || publish_sync(p->store.images) < 0)
		return publish_fail(err, p->store.path, errno, "move a layer in");
	return 0;
}

int publish_layer(const struct publisher *p, const struct stage *s,
		  const struct image_digest *digest, int *ret_hold, bool *ret_reused,
		  struct brig_err *err)
{
	bool reused = false;
	AUTO_FD image = openat(s->dir, "image", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = image < 0 ? -errno : publish_write(image, ".lock", "");
	if (r < 0)
		return publish_fail(err, p->store.path, -r, "write the layer's lock");
	if (!layer_sound(&p->store, digest) && publish_flush(p, s, err) < 0)
		return -1;
	if (publish_lock(p, err) < 0)
		return -1;
	r = FAILPOINT("layer.move") < 0
		    ? publish_fail(err, p->store.path, EIO, "move a layer in")
		    : layer_move_in(p, s, digest, &reused, err);
	int hold = r < 0 ? -1 : publish_hold(p, digest, err);
	publish_unlock(p);
	if (hold < 0)
		return -1;
	*ret_hold = hold;
	*ret_reused = reused;
	return 0;
}

void layers_drop(const struct publisher *p, const struct stage *s,
		 const struct image_layer *layers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct image_digest *d = &layers[i].digest;
		unsigned users;
		/* What cannot be removed now is found by `brig image gc`. */
		if (!layer_is_image(&p->store, d) &&
		    layer_users(&p->store, d, NULL, &users, NULL) == 0 && users == 0)
			(void)publish_take_out(p, s, d, d->dir, false, NULL);
	}
}
