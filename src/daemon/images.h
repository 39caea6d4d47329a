/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images.h: the images that brigd has told jaild about, and what their commands start with.
 *
 * An image is looked up by name on every request, so a rebuilt one is used at once; the directory
 * and its configuration are opened when its digest is new. jaild is told in the same breath as it
 * is asked for the first sandbox: requests are handled in order, so nobody waits for the answer.
 *
 * The shared lock that keeps an image from being removed is held while a sandbox uses it and for
 * IMAGE_IDLE_MS more, so that a series of short runs does not open it again each time.
 */
#ifndef BRIG_DAEMON_IMAGES_H
#define BRIG_DAEMON_IMAGES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ev.h"
#include "brig/jail_proto.h"
#include "daemon/jail.h"
#include "image/store.h"

struct images;

struct image {
	struct images *owner;
	uint32_t id; /* jaild's number; 0 = the host image */
	unsigned refs;
	bool refused;		  /* jaild did not take it: forgotten at the last unref */
	char ref[129];		  /* as it was asked for first */
	struct store_image store; /* config; lock and dir are -1 for the host image */
	struct ev_timer idle;
};

struct images {
	struct jail_link *jail;
	char data[PATH_MAX];
	bool store_open;
	struct store store;
	struct image *slot[JAIL_IMAGES_MAX]; /* by id; [0] is the host image */
};

#define IMAGE_DEFAULT "base"
#define IMAGE_IDLE_MS 1000u

int images_init(struct images *im, const char *data_dir, struct jail_link *jail);
void images_done(struct images *im);
/* ref: as store_resolve, or "host"; NULL: "base" if the store has it, else "host". On success a
 * reference is returned. */
int images_get(struct images *im, const char *ref, struct image **ret, struct brig_err *err);
/* Another jaild knows none of them: tells it those that are in use. */
void images_relearn(struct images *im);
struct image *image_ref(struct image *img);
/* The configurations, without env, of the named images (the first 128), the host's among them; or
 * the whole one of the image that ref names. "name" is what it is called here. New reference. */
int images_list(struct images *im, const char *ref, json_t **ret, struct brig_err *err);
void image_unref(struct image *img);

#endif
