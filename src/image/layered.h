/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layered.h: an image that is put together layer by layer: by an import (oci_import.h) or by a build
 * (recipe.h). Layers that are in the store already are used again.
 */
#ifndef BRIG_IMAGE_LAYERED_H
#define BRIG_IMAGE_LAYERED_H

#include <stdbool.h>

#include "base/err.h"
#include "image/lower.h"
#include "image/publish.h"
#include "image/tree.h"

struct layered {
	const struct publisher *p;
	struct image_config c; /* owned; the layers so far among it */
	int hold[IMAGE_LAYERS_MAX];
	int tree[IMAGE_LAYERS_MAX]; /* their roots, the lowest first */
	struct tree_limits max;	    /* of all layers together */
	struct tree_stats stats;    /* of those that were made here */
	int cancel;		    /* as in confine.h */
};

void layered_init(struct layered *l, const struct publisher *p, const struct tree_limits *max,
		  int cancel);
void layered_done(struct layered *l);

/* Begins with the layers and settings of an image. */
int layered_from(struct layered *l, const char *ref, struct brig_err *err);

struct layer_job {
	/* What makes this layer out of the layers below: if it was made before, that one is used.
	 * "" = it is always made. */
	struct image_digest key;
	bool top; /* the last one */
	int input; /* lent: what run() reads, -1 = nothing */
	bool input_dir;
	/* Runs confined: fills t, whose `lower` is what the layers below show. */
	int (*run)(int input, struct tree *t, void *ctx, struct brig_err *err);
	void *ctx;
	bool may_be_empty; /* then it is not stored */
};
/* *ret_reused: it was there. */
int layered_add(struct layered *l, const struct layer_job *job, bool *ret_reused,
		struct brig_err *err);
/* The same, whether it was made before or not. */
int layered_make(struct layered *l, const struct layer_job *job, bool *ret_reused,
		 struct brig_err *err);
/* The layer that a key made before; false if there is none. */
bool layered_add_known(struct layered *l, const struct image_digest *key);

struct seal_facts;
/* Who `who` is (seal.h) in what the layers show. */
int layered_who(const struct layered *l, const char *who, struct seal_facts *ret,
		struct brig_err *err);
/* The same, into l->c.user. */
int layered_user(struct layered *l, const char *who, struct brig_err *err);

/* Stores the image, and lets `name` lead to it (NULL: it gets none). l->c is complete afterwards. */
int layered_publish(struct layered *l, const char *name, bool *ret_reused,
		    struct image_digest *ret_was, struct brig_err *err);

/* Hashes texts, each with its length before it, into a key. */
void layered_key(struct image_digest *key, const char *const *texts, size_t n);

#endif
