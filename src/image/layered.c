/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layered.c: the steps of making an image of layers.
 *
 * Theory of operation
 * -------------------
 *   staging directory                                          brig-image
 *   what the job reads -> tree upon the layers below           confined process 1
 *   mount points of the last layer, digest                     confined process 2, new
 *   flush, rename to images/, note in steps/                   brig-image
 *   .. the same for each layer ..
 *   who the user is, in what all layers show                   confined process
 *   config.json, list of layers, rename, name                  brig-image
 *
 * As in import.c, brig-image itself reads nothing of what it stores. A note in steps/ is a hint: it
 * is used only if the layer that it names is there, and `brig image gc` removes it with the layer.
 * Layers are held (layers.c) until the image is there.
 */
#include "image/layered.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "image/confine.h"
#include "image/publish_inner.h"
#include "image/seal.h"

void layered_init(struct layered *l, const struct publisher *p, const struct tree_limits *max,
		  int cancel)
{
	*l = (struct layered){ .p = p, .max = *max, .cancel = cancel };
	snprintf(l->c.workdir, sizeof(l->c.workdir), "/");
	snprintf(l->c.user.home, sizeof(l->c.user.home), "/");
}

void layered_done(struct layered *l)
{
	for (size_t i = 0; i < l->c.layers_n; i++) {
		fd_close(&l->hold[i]);
		fd_close(&l->tree[i]);
	}
	image_config_done(&l->c);
}

static uint64_t bytes_so_far(const struct layered *l)
{
	uint64_t n = 0;
	for (size_t i = 0; i < l->c.layers_n; i++)
		n += l->c.layers[i].size_bytes;
	return n;
}

static uint64_t files_so_far(const struct layered *l)
{
	uint64_t n = 0;
	for (size_t i = 0; i < l->c.layers_n; i++)
		n += l->c.layers[i].files;
	return n;
}

/* Takes hold as its own in every case. */
static int take_layer(struct layered *l, const struct image_layer *one, int hold,
		      struct brig_err *err)
{
	char path[IMAGE_DIGEST_LEN + 8];
	size_t at = l->c.layers_n;
	AUTO_FD lock = hold;
	snprintf(path, sizeof(path), "%s/rootfs", one->digest.dir);
	AUTO_FD tree = openat(l->p->store.images, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (tree < 0)
		return publish_fail(err, l->p->store.path, errno, "open a layer");
	int r = image_config_add_layer(&l->c, one);
	if (r == -E2BIG) {
		brig_fail(err, BRIG_E_LIMIT, 0, "the image has more than %u layers", IMAGE_LAYERS_MAX);
		return brig_fix(err, "put several steps into one (RUN a && b)");
	}
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "remember a layer");
	l->hold[at] = fd_steal(&lock);
	l->tree[at] = fd_steal(&tree);
	return 0;
}

int layered_from(struct layered *l, const char *ref, struct brig_err *err)
{
	struct store_image i;
	struct brig_err why = BRIG_ERR_INIT;
	if (store_lookup(&l->p->store, ref, &i, err) < 0)
		return -1;
	struct image_layer self = { .digest = i.config.digest,
				    .size_bytes = i.config.size_bytes,
				    .files = i.config.files };
	const struct image_layer *list = i.config.layers_n ? i.config.layers : &self;
	size_t n = i.config.layers_n ? i.config.layers_n : 1;
	image_config_done(&l->c);
	int r = image_config_copy_settings(&l->c, &i.config);
	if (r < 0)
		r = brig_fail(&why, BRIG_E_EXHAUSTED, -r, "read image '%s'", ref);
	for (size_t k = 0; k < n && r == 0; k++) {
		int hold = publish_hold(l->p, &list[k].digest, &why);
		r = hold < 0 ? -1 : take_layer(l, &list[k], hold, &why);
	}
	store_image_done(&i);
	if (r < 0 && err)
		*err = why;
	return r;
}

/* ---- steps/ ---- */

static int steps_open(const struct layered *l, bool make)
{
	if (make && mkdirat(l->p->store.data, "steps", 0700) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(l->p->store.data, "steps", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* "sha256-HEX SIZE FILES" */
static bool step_get(const struct layered *l, const struct image_digest *key,
		     struct image_layer *ret)
{
	char text[IMAGE_DIGEST_LEN + 64], digest[IMAGE_DIGEST_LEN + 1];
	unsigned long long size, files;
	AUTO_FD steps = steps_open(l, false);
	if (steps < 0 || fd_slurp_at(steps, key->dir, text, sizeof(text)) < 0 ||
	    sscanf(text, "%71s %llu %llu", digest, &size, &files) != 3 ||
	    image_digest_parse(digest, &ret->digest) < 0)
		return false;
	ret->size_bytes = size;
	ret->files = files;
	return true;
}

/* A hint that is lost costs time, nothing else. */
static void step_put(const struct layered *l, const struct stage *s, const struct image_digest *key,
		     const struct image_layer *one)
{
	char text[IMAGE_DIGEST_LEN + 64];
	AUTO_FD steps = steps_open(l, true);
	snprintf(text, sizeof(text), "%s %llu %llu\n", one->digest.dir,
		 (unsigned long long)one->size_bytes, (unsigned long long)one->files);
	if (steps >= 0 && publish_write(s->dir, "step", text) == 0)
		(void)renameat(s->dir, "step", steps, key->dir);
}

bool layered_add_known(struct layered *l, const struct image_digest *key)
{
	struct image_layer one;
	if (!key->text[0] || !step_get(l, key, &one))
		return false;
	int hold = publish_hold(l->p, &one.digest, NULL);
	return hold >= 0 && take_layer(l, &one, hold, NULL) == 0;
}

/* ---- one layer ---- */

/* Inside a confined process: the layers below. */
static struct lower lower_inside(unsigned n)
{
	struct lower low = { .n = n };
	for (unsigned i = 0; i < n; i++)
		low.fd[i] = CONFINE_EXTRA + (int)i;
	return low;
}

struct make {
	const struct layered *l;
	const struct layer_job *job;
	struct tree_limits max;
	unsigned below;
};

/* Process 1. */
static int make_tree(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	const struct make *m = ctx;
	struct lower low = lower_inside(m->below);
	struct tree t;
	struct stat st;
	tree_init(&t, root, m->l->p->root, &m->max);
	t.lower = &low;
	int r = 0;
	/* The uppermost root directory is the one whose owner and mode are seen. */
	if (low.n && lower_look(&low, "", &st) == 0) {
		struct tree_meta meta = { .mode = st.st_mode & 07777,
					  .uid = t.keep_owner ? st.st_uid : 0,
					  .gid = t.keep_owner ? st.st_gid : 0,
					  .mtime = st.st_mtim.tv_sec };
		r = tree_add_dir(&t, ".", &meta, err);
	}
	if (r == 0)
		r = m->job->run(input, &t, m->job->ctx, err);
	if (r == 0)
		r = tree_finish(&t, err);
	memcpy(result, &t.stats, sizeof(t.stats));
	tree_done(&t);
	return r;
}

/* Process 2. */
static int seal_inside(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	const struct make *m = ctx;
	const struct seal_options o = { .keep_owner = m->l->p->root, .max_entries = m->max.entries };
	struct lower low = lower_inside(m->below);
	(void)input;
	return seal_layer(root, &low, m->job->top, &o, result, err);
}

/* The roots of the layers so far, the topmost first. */
static unsigned below_of(const struct layered *l, int ret[IMAGE_LAYERS_MAX])
{
	unsigned n = (unsigned)l->c.layers_n;
	for (unsigned i = 0; i < n; i++)
		ret[i] = l->tree[n - 1 - i];
	return n;
}

static int make_staged(struct layered *l, const struct stage *s, const struct layer_job *job,
		       struct brig_err *err)
{
	int extra[IMAGE_LAYERS_MAX], hold;
	struct tree_stats stats = { .bytes = 0 };
	struct tree_digest digest;
	struct image_layer one;
	bool reused;
	uint64_t bytes = bytes_so_far(l), files = files_so_far(l);
	struct make m = { .l = l, .job = job };
	m.max = (struct tree_limits){ l->max.bytes > bytes ? l->max.bytes - bytes : 0,
				      l->max.entries > files ? l->max.entries - files : 0 };
	m.below = below_of(l, extra);
	AUTO_FD root = publish_prepare(l->p, s, err);
	if (root < 0)
		return -1;
	struct confine_job c = { .root = root,
				 .input = job->input,
				 .input_dir = job->input_dir,
				 .extra = extra,
				 .n_extra = m.below,
				 .max_file_bytes = m.max.bytes,
				 .run = make_tree,
				 .ctx = &m,
				 .result = &stats,
				 .result_size = sizeof(stats),
				 .cancel = l->cancel };
	if (confine_run(&c, err) < 0)
		return -1;
	/* The root directory is an entry of every layer. */
	if (job->may_be_empty && stats.entries <= 1)
		return 0;
	c.input = -1;
	c.input_dir = false;
	c.max_file_bytes = 0;
	c.run = seal_inside;
	c.result = &digest;
	c.result_size = sizeof(digest);
	if (confine_run(&c, err) < 0)
		return -1;
	if (digest.size_bytes > INT64_MAX || digest.files > INT64_MAX)
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "the process that looked at the layer reported nonsense");
	image_digest_from_bytes(digest.sha256, &one.digest);
	one.size_bytes = digest.size_bytes;
	one.files = digest.files;
	if (publish_layer(l->p, s, &one.digest, &hold, &reused, err) < 0)
		return -1;
	if (job->key.text[0])
		step_put(l, s, &job->key, &one);
	l->stats.devices += stats.devices;
	l->stats.stripped += stats.stripped;
	return take_layer(l, &one, hold, err);
}

int layered_add(struct layered *l, const struct layer_job *job, bool *ret_reused,
		struct brig_err *err)
{
	*ret_reused = layered_add_known(l, &job->key);
	return *ret_reused ? 0 : layered_make(l, job, ret_reused, err);
}

int layered_make(struct layered *l, const struct layer_job *job, bool *ret_reused,
		 struct brig_err *err)
{
	struct stage s;
	*ret_reused = false;
	if (stage_new(l->p->tmp, &s, err) < 0)
		return -1;
	int r = make_staged(l, &s, job, err);
	stage_drop(&s);
	return r;
}

/* ---- the whole ---- */

struct who {
	const char *name;
	unsigned below;
};

static int find_user(int root, int input, void *ctx, void *result, struct brig_err *err)
{
	const struct who *w = ctx;
	struct lower low = lower_inside(w->below);
	struct seal_facts *f = result;
	(void)root;
	(void)input;
	snprintf(f->arch, sizeof(f->arch), "any");
	return seal_find_user(&low, w->name, f, err);
}

int layered_who(const struct layered *l, const char *who, struct seal_facts *ret,
		struct brig_err *err)
{
	int extra[IMAGE_LAYERS_MAX];
	struct who w = { .name = who, .below = below_of(l, extra) };
	struct stage s;
	if (stage_new(l->p->tmp, &s, err) < 0)
		return -1;
	struct confine_job c = { .root = s.dir,
				 .input = -1,
				 .extra = extra,
				 .n_extra = w.below,
				 .run = find_user,
				 .ctx = &w,
				 .result = ret,
				 .result_size = sizeof(*ret),
				 .cancel = l->cancel };
	int r = confine_run(&c, err);
	stage_drop(&s);
	return r < 0 ? -1 : seal_check(ret, err);
}

int layered_user(struct layered *l, const char *who, struct brig_err *err)
{
	struct seal_facts f = { .uid = 0 };
	if (layered_who(l, who, &f, err) < 0)
		return -1;
	/* By its name a user would get the group of its passwd line. */
	if (strchr(who, ':'))
		f.user_name[0] = '\0';
	memcpy(l->c.user.name, f.user_name, sizeof(l->c.user.name));
	memcpy(l->c.user.home, f.user_home, sizeof(l->c.user.home));
	l->c.user.uid = f.uid;
	l->c.user.gid = f.gid;
	return 0;
}

static int digest_image(struct image_config *c, struct brig_err *err)
{
	static const char head[] = "brig-image-1\n";
	unsigned char sum[32];
	AUTO_FREE char *text = image_config_text(c);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int ok = text && md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
		 EVP_DigestUpdate(md, head, sizeof(head) - 1) &&
		 EVP_DigestUpdate(md, text, strlen(text)) && EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	if (!ok)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "name the image");
	image_digest_from_bytes(sum, &c->digest);
	return 0;
}

int layered_publish(struct layered *l, const char *name, bool *ret_reused,
		    struct image_digest *ret_was, struct brig_err *err)
{
	struct stage s;
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(l->c.created, sizeof(l->c.created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(l->c.name, sizeof(l->c.name), "%s", name ? name : "unnamed");
	l->c.size_bytes = bytes_so_far(l);
	l->c.files = files_so_far(l);
	if (digest_image(&l->c, err) < 0 || stage_new(l->p->tmp, &s, err) < 0)
		return -1;
	int r = publish_prepare_layered(l->p, &s, err);
	if (r == 0)
		r = publish_image_as(l->p, &s, &l->c, name, false, ret_reused, ret_was, err);
	stage_drop(&s);
	return r;
}

void layered_key(struct image_digest *key, const char *const *texts, size_t n)
{
	unsigned char sum[32];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	for (size_t i = 0; i < n && ok; i++) {
		char head[32];
		int k = snprintf(head, sizeof(head), "%zu:", strlen(texts[i]));
		ok = EVP_DigestUpdate(md, head, (size_t)k) &&
		     EVP_DigestUpdate(md, texts[i], strlen(texts[i]));
	}
	ok = ok && EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	if (ok)
		image_digest_from_bytes(sum, key);
	else
		key->text[0] = '\0'; /* then it is made */
}
