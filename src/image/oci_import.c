/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci_import.c: the steps of importing an image that others made.
 *
 * Theory of operation
 * -------------------
 * A confined process reads what the layout says and reports a plan (oci.h). For each layer of it
 * brig-image opens the one file, below the layout's directory and through no link, and hands it to
 * the process that unpacks it (layered.c). Whether a layer was unpacked before upon the same layers
 * is known by its diff_id: then its file is not even opened.
 */
#include "image/oci_import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/archive.h"
#include "image/confine.h"
#include "image/layered.h"
#include "image/oci.h"

_Static_assert(sizeof(struct oci_plan) <= CONFINE_ANSWER_MAX, "a plan is an answer");

static int read_plan(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	const struct import_options *o = ctx;
	(void)root;
	return oci_plan_read(input, o->tag, result, err);
}

/* In a staging directory of its own: a confined process needs a root, and this one has no tree. */
static int get_plan(const struct publisher *p, int layout, const struct import_options *o,
		    struct oci_plan *plan, struct brig_err *err)
{
	struct stage s;
	if (stage_new(p->tmp, &s, err) < 0)
		return -1;
	struct confine_job job = { .root = s.dir,
				   .input = layout,
				   .input_dir = true,
				   .run = read_plan,
				   .ctx = (void *)(uintptr_t)o,
				   .result = plan,
				   .result_size = sizeof(*plan),
				   .cancel = o->cancel };
	int r = confine_run(&job, err);
	stage_drop(&s);
	return r < 0 ? -1 : oci_plan_check(plan, err);
}

struct unpack {
	const struct oci_layer *layer;
	unsigned max_ratio;
};

static int unpack(int input, struct tree *t, void *ctx, struct brig_err *err)
{
	const struct unpack *u = ctx;
	const struct archive_layer in = { .fd = input,
					  .max_ratio = u->max_ratio,
					  .blob = u->layer->blob,
					  .diff = u->layer->diff };
	return archive_unpack_layer(&in, t, err);
}

static int open_blob(int layout, const struct oci_layer *one, struct brig_err *err)
{
	struct stat st;
	AUTO_FD fd = path_open_beneath(layout, one->path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return brig_fail(err, BRIG_E_CORRUPT, fd < 0 ? -fd : 0, "open '%s' of the image",
				 one->path);
	return fd_steal(&fd);
}

/* What makes this layer what it is: its archive, and, for what it hides, all that is below. */
static void key_of(const struct layered *l, const struct oci_layer *one, bool top,
		   struct image_digest *key)
{
	const char *texts[IMAGE_LAYERS_MAX + 4] = { "oci-layer-1", l->p->root ? "root" : "user",
						    top ? "top" : "below", one->diff };
	size_t n = 4;
	for (size_t i = 0; i < l->c.layers_n; i++)
		texts[n++] = l->c.layers[i].digest.text;
	layered_key(key, texts, n);
}

static int add_layers(struct layered *l, int layout, const struct oci_plan *plan,
		      const struct import_options *o, struct brig_err *err)
{
	for (unsigned i = 0; i < plan->n; i++) {
		const struct oci_layer *one = &plan->layer[i];
		struct unpack u = { .layer = one, .max_ratio = o->max_ratio };
		struct layer_job job = { .top = i + 1 == plan->n, .run = unpack, .ctx = &u };
		char what[64];
		bool reused;
		key_of(l, one, job.top, &job.key);
		if (layered_add_known(l, &job.key))
			continue;
		snprintf(what, sizeof(what), "unpacking layer %u of %u", i + 1, plan->n);
		if (o->progress)
			o->progress(o->ctx, what);
		AUTO_FD blob = open_blob(layout, one, err);
		job.input = blob;
		if (blob < 0 || layered_add(l, &job, &reused, err) < 0)
			return brig_ctx(err, "layer %u", i + 1);
	}
	return 0;
}

static int set_workdir(struct image_config *c, const char *dir, struct brig_err *err)
{
	size_t n = strlen(dir);
	while (n > 1 && dir[n - 1] == '/')
		n--;
	if (n >= sizeof(c->workdir))
		n = 0;
	snprintf(c->workdir, sizeof(c->workdir), "%.*s", (int)n, dir);
	if (image_config_dir_ok(c->workdir))
		return 0;
	brig_fail(err, BRIG_E_INVALID, 0,
		  "the working directory must be absolute, clean and shorter than %d", IMAGE_DIR_MAX);
	return brig_fix(err, "give another: --workdir DIR");
}

static int settle(struct layered *l, const struct oci_plan *plan, const struct import_options *o,
		  struct brig_err *err)
{
	const char *dir = o->workdir ? o->workdir : plan->workdir[0] ? plan->workdir : "/";
	const char *user = o->user ? o->user : plan->user[0] ? plan->user : "0";
	snprintf(l->c.arch, sizeof(l->c.arch), "%s", plan->arch);
	if (image_config_setenv(&l->c, "PATH",
				"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "the image's variables");
	return oci_plan_settings(plan, &l->c, err) < 0 || import_env(&l->c, o, err) < 0 ||
			       set_workdir(&l->c, dir, err) < 0 || layered_user(l, user, err) < 0
		       ? -1
		       : 0;
}

int oci_import(const struct publisher *p, int layout, const struct import_options *o,
	       struct import_result *ret, struct brig_err *err)
{
	struct layered l;
	AUTO_FREE struct oci_plan *plan = calloc(1, sizeof(*plan));
	if (!plan)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the image");
	if (get_plan(p, layout, o, plan, err) < 0)
		return -1;
	layered_init(&l, p, &o->max, o->cancel);
	int r = add_layers(&l, layout, plan, o, err);
	if (r == 0)
		r = settle(&l, plan, o, err);
	if (r == 0)
		r = layered_publish(&l, o->name, &ret->reused, &ret->unnamed, err);
	ret->digest = l.c.digest;
	ret->stats = l.stats;
	ret->size_bytes = l.c.size_bytes;
	ret->files = l.c.files;
	ret->layers = (unsigned)l.c.layers_n;
	layered_done(&l);
	return r;
}
