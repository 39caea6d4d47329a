/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A thin layer over the read-only half of the image store. An image whose sandboxes are all gone
 * stays known, and locked, until its idle timer fires; then jaild is told to drop it and the lock
 * is released; `brig image rm` waits for as long. A store that does not
 * exist yet is looked for again at each request: making the first image needs no restart.
 */
#include "daemon/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "image/names.h"

/* One answer must fit a frame: a configuration without its variables is below 1.5 KiB. */
#define IMAGES_LISTED_MAX 128u

static void image_free(struct image *img)
{
	ev_timer_stop(img->owner->jail->ev, &img->idle);
	if (img->owner->slot[img->id] == img)
		img->owner->slot[img->id] = NULL;
	image_config_done(&img->store.config);
	fd_close(&img->store.dir);
	fd_close(&img->store.lock);
	free(img);
}

static void drop_answered(void *ctx, const union jail_answer *a)
{
	/* Nothing to do either way: if jaild did not know the image, it is as gone as it should be.
	 */
	(void)ctx;
	(void)a;
}

static void image_idle(void *ctx)
{
	struct image *img = ctx;
	struct jail_image m = { .h = { .verb = JAIL_IMAGE }, .id = img->id, .drop = 1 };
	if (img->refs)
		return;
	if (!img->refused &&
	    jail_call(img->owner->jail, &m, sizeof(m), NULL, 0, drop_answered, NULL) == -EBUSY) {
		ev_timer_set(img->owner->jail->ev, &img->idle, clock_now() + IMAGE_IDLE_MS * MS_NS);
		return;
	}
	image_free(img);
}

static void image_answered(void *ctx, const union jail_answer *a)
{
	struct image *img = ctx;
	/* The CREATE that was sent behind it fails too, and tells its client. */
	if (a->h.verb == JAIL_ERROR)
		img->refused = true;
	image_unref(img);
}

static struct image *image_new(struct images *im, uint32_t id, const char *ref)
{
	struct image *img = calloc(1, sizeof(*img));
	if (!img)
		return NULL;
	img->owner = im;
	img->id = id;
	img->store = (struct store_image)STORE_IMAGE_INIT;
	img->idle = (struct ev_timer){ .fn = image_idle, .ctx = img };
	snprintf(img->ref, sizeof(img->ref), "%s", ref);
	im->slot[id] = img;
	return img;
}

static int host_image(struct images *im)
{
	struct image *img = image_new(im, 0, IMAGE_HOST);
	if (!img)
		return -ENOMEM;
	struct image_config *c = &img->store.config;
	snprintf(c->name, sizeof(c->name), "%s", IMAGE_HOST);
	snprintf(c->user.name, sizeof(c->user.name), "user");
	c->user.uid = c->user.gid = 1000;
	snprintf(c->user.home, sizeof(c->user.home), "/home/user");
	/* No workdir: a command starts in the home of its user, whoever that is. */
	int r = image_config_setenv(c, "PATH",
				    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (r == 0)
		r = image_config_setenv(c, "LANG", "C.UTF-8");
	img->refs = 1; /* never idle */
	return r;
}

int images_init(struct images *im, const char *data_dir, struct jail_link *jail)
{
	*im = (struct images){ .jail = jail, .store = STORE_INIT };
	if ((size_t)snprintf(im->data, sizeof(im->data), "%s", data_dir) >= sizeof(im->data))
		return -ENAMETOOLONG;
	return host_image(im);
}

void images_done(struct images *im)
{
	for (unsigned i = 0; i < JAIL_IMAGES_MAX; i++)
		if (im->slot[i])
			image_free(im->slot[i]);
	if (im->store_open)
		store_close(&im->store);
	im->store_open = false;
}

struct image *image_ref(struct image *img)
{
	img->refs++;
	ev_timer_stop(img->owner->jail->ev, &img->idle);
	return img;
}

void image_unref(struct image *img)
{
	if (!img || --img->refs)
		return;
	uint64_t wait = img->refused ? 0 : IMAGE_IDLE_MS * MS_NS;
	ev_timer_set(img->owner->jail->ev, &img->idle, clock_now() + wait);
}

static struct image *image_known(struct images *im, const struct image_digest *digest)
{
	for (unsigned i = 1; i < JAIL_IMAGES_MAX; i++) {
		struct image *img = im->slot[i];
		if (img && !img->refused &&
		    strcmp(img->store.config.digest.text, digest->text) == 0)
			return img;
	}
	return NULL;
}

/* Opens the image, gives it a number and tells jaild. */
static int image_learn(struct images *im, const char *ref, struct image **ret, struct brig_err *err)
{
	struct store_image si = STORE_IMAGE_INIT;
	uint32_t id = 1;
	while (id < JAIL_IMAGES_MAX && im->slot[id])
		id++;
	if (id == JAIL_IMAGES_MAX) {
		brig_err_set(err, BRIG_E_BUSY, 0, "%u images are in use at once",
			     JAIL_IMAGES_MAX - 1);
		return brig_fix(err, "remove sandboxes of other images");
	}
	if (store_lookup(&im->store, ref, &si, err) < 0)
		return -1;
	struct image *img = image_new(im, id, ref);
	if (!img) {
		store_image_done(&si);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember image '%s'", ref);
	}
	img->store = si;
	struct jail_image m = { .h = { .verb = JAIL_IMAGE }, .id = id };
	int r = FAILPOINT("image.send");
	if (r == 0)
		r = jail_call(im->jail, &m, sizeof(m), &si.dir, 1, image_answered, img);
	if (r < 0) {
		image_free(img);
		return brig_fail(err, r == -EPIPE ? BRIG_E_UNAVAILABLE : BRIG_E_BUSY, -r,
				 "tell brig-jaild of image '%s'", ref);
	}
	image_ref(img); /* of the answer */
	fd_close(&img->store.dir);
	*ret = img;
	return 0;
}

/* Its directory was closed when the former jaild had it. */
static int relearn(struct images *im, struct image *img, struct brig_err *err)
{
	struct store_image si = STORE_IMAGE_INIT;
	struct jail_image m = { .h = { .verb = JAIL_IMAGE }, .id = img->id };
	if (store_lookup(&im->store, img->store.config.digest.text, &si, err) < 0)
		return -1;
	int r = jail_call(im->jail, &m, sizeof(m), &si.dir, 1, image_answered, img);
	store_image_done(&si);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "tell brig-jaild of image '%s'", img->ref);
	image_ref(img); /* of the answer */
	return 0;
}

void images_relearn(struct images *im)
{
	for (unsigned i = 1; i < JAIL_IMAGES_MAX; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		/* Who wants it next meets the reason. */
		if (im->slot[i] && !im->slot[i]->refused && relearn(im, im->slot[i], &err) < 0)
			im->slot[i]->refused = true;
	}
}

int images_get(struct images *im, const char *ref, struct image **ret, struct brig_err *err)
{
	bool fallback = !ref;
	struct image_digest digest;
	struct image *img;
	if (ref && strcmp(ref, IMAGE_HOST) == 0) {
		*ret = image_ref(im->slot[0]);
		return 0;
	}
	ref = ref ? ref : IMAGE_DEFAULT;
	if (!im->store_open)
		im->store_open = store_open(im->data, &im->store, err) == 0;
	if (!im->store_open || store_resolve(&im->store, ref, &digest, err) < 0) {
		/* A default that is broken is an error; one that was never made is not. */
		if (!fallback || err->code != BRIG_E_NOT_FOUND)
			return im->store_open ? -1 : brig_ctx(err, "find image '%.128s'", ref);
		*err = (struct brig_err)BRIG_ERR_INIT;
		*ret = image_ref(im->slot[0]);
		return 0;
	}
	img = image_known(im, &digest);
	if (!img && image_learn(im, ref, &img, err) < 0)
		return -1;
	*ret = image_ref(img);
	return 0;
}

static int list_one(struct images *im, const char *ref, json_t *all, struct brig_err *err)
{
	struct image_digest digest;
	struct image_config config;
	json_t *o;
	if (strcmp(ref, IMAGE_HOST) == 0) {
		o = image_config_json(&im->slot[0]->store.config);
	} else {
		if (!im->store_open)
			im->store_open = store_open(im->data, &im->store, err) == 0;
		if (!im->store_open || store_resolve(&im->store, ref, &digest, err) < 0 ||
		    store_read_config(&im->store, &digest, &config, err) < 0)
			return -1;
		o = image_config_json(&config);
		image_config_done(&config);
		/* `name` in the file is the one it was made under. */
		if (image_name_ok(ref))
			json_object_set_new(o, "name", json_string(ref));
	}
	if (!o || json_array_append_new(all, o) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "describe image '%s'", ref);
	return 0;
}

int images_list(struct images *im, const char *ref, json_t **ret, struct brig_err *err)
{
	json_t *all = json_array();
	struct names d = { .list = NULL };
	struct brig_err ignored;
	if (ref) {
		if (list_one(im, ref, all, err) < 0) {
			json_decref(all);
			return -1;
		}
		*ret = all;
		return 0;
	}
	(void)list_one(im, IMAGE_HOST, all, &ignored);
	if (!im->store_open)
		im->store_open = store_open(im->data, &im->store, &ignored) == 0;
	AUTO_FD dir = im->store_open ? openat(im->store.names, ".",
					      O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				     : -1;
	if (dir >= 0 && names_read(dir, SIZE_MAX, &d) == 0)
		/* One that is broken, or removed in this moment, is left out. */
		for (size_t i = 0; i < d.n && json_array_size(all) < IMAGES_LISTED_MAX; i++)
			(void)list_one(im, d.list[i], all, &ignored);
	names_done(&d);
	size_t at;
	json_t *o;
	json_array_foreach(all, at, o)
	{
		static const char *const more[] = { "env",  "layers", "entrypoint",
						    "cmd",  "ports",  "labels" };
		for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
			json_object_del(o, more[i]);
	}
	*ret = all;
	return 0;
}
