/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import.c: the steps of an import.
 *
 * Theory of operation
 * -------------------
 *   staging directory                                          brig-image
 *   entries of the archive or directory -> tree                confined process 1
 *   mount points, default user, digest                         confined process 2, new
 *   config.json, flush, rename, name                           brig-image
 *
 * brig-image itself reads no byte of the source and resolves no name in the tree. The second
 * process is another one because the first may have been taken over by what it parsed. Whatever
 * fails, the staging directory goes; if this process is killed, the next import removes it.
 */
#include "image/import.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/archive.h"
#include "image/confine.h"
#include "image/copy.h"
#include "image/oci.h"
#include "image/oci_import.h"
#include "image/seal.h"

struct fill_result {
	struct tree_stats stats;
	bool image; /* what was unpacked is an image of layers, not a tree */
};

struct fill_job {
	const struct import_options *o;
	bool keep_owner, is_dir;
	dev_t store_dev;
	ino_t store_ino;
};

int import_prepare(struct brig_err *err)
{
	return archive_prepare(err) < 0 || digest_prepare(err) < 0 ? -1 : 0;
}

int import_check_name(const char *name, struct brig_err *err)
{
	char shown[128];
	if (!image_name_ok(name)) {
		brig_fail(err, BRIG_E_INVALID, 0, "'%s' cannot be the name of an image",
			  image_name_print(name, shown, sizeof(shown)));
		return brig_fix(err, "use 1 to 63 of a-z 0-9 . _ -, beginning with a-z or 0-9");
	}
	if (strcmp(name, IMAGE_HOST) == 0) {
		brig_fail(err, BRIG_E_INVALID, 0, "'host' is the name of the built-in image");
		return brig_fix(err, "choose another name");
	}
	return 0;
}

/* Process 1. */
static int fill(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	const struct fill_job *j = ctx;
	struct tree t;
	tree_init(&t, root, j->keep_owner, &j->o->max);
	int r;
	if (j->is_dir) {
		struct copy_source src = { .fd = input,
					   .cross = j->o->cross,
					   .avoid_dev = j->store_dev,
					   .avoid_ino = j->store_ino };
		r = copy_tree(&src, &t, err);
	} else {
		r = archive_unpack_fd(input, j->o->max_ratio, &t, err);
	}
	if (r == 0)
		r = tree_finish(&t, err);
	struct fill_result out = { .stats = t.stats,
				   .image = r == 0 && !j->is_dir && oci_recognise(root) };
	memcpy(result, &out, sizeof(out));
	tree_done(&t);
	return r;
}

/* Process 2. */
static int seal(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	(void)input;
	return seal_tree(root, ctx, result, err);
}

static int make_config(const struct import_options *o, const struct seal_facts *f,
		       struct image_config *c, struct brig_err *err)
{
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(c->created, sizeof(c->created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(c->name, sizeof(c->name), "%s", o->name);
	image_digest_from_bytes(f->tree.sha256, &c->digest);
	c->size_bytes = f->tree.size_bytes;
	c->files = f->tree.files;
	memcpy(c->arch, f->arch, sizeof(c->arch));
	memcpy(c->user.name, f->user_name, sizeof(c->user.name));
	memcpy(c->user.home, f->user_home, sizeof(c->user.home));
	c->user.uid = f->uid;
	c->user.gid = f->gid;
	if (o->workdir && !image_config_dir_ok(o->workdir))
		return brig_fail(
			err, BRIG_E_INVALID, 0,
			"the working directory must be absolute, clean and shorter than %d",
			IMAGE_DIR_MAX);
	snprintf(c->workdir, sizeof(c->workdir), "%s", o->workdir ? o->workdir : "/");
	int r = image_config_setenv(c, "PATH",
				    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "the image's variables");
	return import_env(c, o, err);
}

int import_env(struct image_config *c, const struct import_options *o, struct brig_err *err)
{
	int r = 0;
	for (size_t i = 0; i < o->env_n && r == 0; i++) {
		char name[129], shown[128];
		size_t n = strcspn(o->env[i], "=");
		if (o->env[i][n] == '\0' || n >= sizeof(name)) {
			r = -EINVAL;
		} else {
			memcpy(name, o->env[i], n);
			name[n] = '\0';
			r = image_config_setenv(c, name, o->env[i] + n + 1);
		}
		if (r < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is no NAME=VALUE",
					 image_name_print(o->env[i], shown, sizeof(shown)));
	}
	return r < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, -r, "the image's variables") : 0;
}

static void tell(const struct import_options *o, const char *what)
{
	if (o->progress)
		o->progress(o->ctx, what);
}

static int run_staged(const struct publisher *p, const struct stage *s,
		      const struct import_options *o, struct import_result *out,
		      struct brig_err *err)
{
	struct stat st, store;
	struct seal_facts facts;
	struct fill_result filled;
	AUTO_FD root = publish_prepare(p, s, err);
	if (root < 0)
		return -1;
	if (fstat(o->input, &st) < 0 || fstat(p->store.data, &store) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "look at the source");
	struct fill_job fill_job = { .o = o,
				     .keep_owner = p->root,
				     .is_dir = S_ISDIR(st.st_mode),
				     .store_dev = store.st_dev,
				     .store_ino = store.st_ino };
	struct seal_options seal_options = { .user = o->user,
					     .keep_owner = p->root,
					     .max_entries = o->max.entries };
	struct confine_job job = { .root = root,
				   .input = o->input,
				   .input_dir = fill_job.is_dir,
				   .max_file_bytes = o->max.bytes,
				   .run = fill,
				   .ctx = &fill_job,
				   .result = &filled,
				   .result_size = sizeof(filled),
				   .cancel = o->cancel };
	tell(o, fill_job.is_dir ? "copying" : "unpacking");
	if (confine_run(&job, err) < 0)
		return -1;
	if (o->confirm && o->confirm(o->ctx, err) < 0)
		return -1;
	out->stats = filled.stats;
	if (o->kind == IMPORT_DOCKER || (o->kind == IMPORT_AS_IT_LOOKS && filled.image))
		return oci_import(p, root, o, out, err);

	job = (struct confine_job){ .root = root,
				    .input = -1,
				    .max_file_bytes = 0,
				    .run = seal,
				    .ctx = &seal_options,
				    .result = &facts,
				    .result_size = sizeof(facts),
				    .cancel = o->cancel };
	tell(o, "hashing");
	if (confine_run(&job, err) < 0 || seal_check(&facts, err) < 0)
		return -1;

	struct image_config c = { .env = NULL };
	int r = make_config(o, &facts, &c, err);
	if (r == 0) {
		tell(o, "storing");
		r = publish_image(p, s, &c, o->user || o->workdir || o->env_n, &out->reused,
				  &out->unnamed, err);
	}
	out->digest = c.digest;
	out->size_bytes = c.size_bytes;
	out->files = c.files;
	image_config_done(&c);
	return r;
}

int import_run(const struct publisher *p, const struct import_options *o, struct import_result *ret,
	       struct brig_err *err)
{
	struct import_result out = { .reused = false };
	struct stage s;
	if (import_check_name(o->name, err) < 0)
		return -1;
	/* What others left behind needs space that this one may miss. A sweep that fails is no
	 * reason not to import. */
	stage_sweep(p->tmp, 1, NULL, NULL, NULL);
	if (stage_new(p->tmp, &s, err) < 0)
		return -1;
	int r = o->kind == IMPORT_LAYOUT ? oci_import(p, o->input, o, &out, err)
					 : run_staged(p, &s, o, &out, err);
	stage_drop(&s);
	if (r < 0)
		return brig_ctx(err, "import '%s'", o->name);
	*ret = out;
	return 0;
}
