/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe_build.c: the steps of a build file, one after the other.
 *
 * Theory of operation
 * -------------------
 * The image grows in a struct layered: settings change it in memory, WORKDIR and COPY add a layer that a
 * confined process fills, RUN adds what a sandbox changed. For a RUN the image so far is stored without a
 * name, so that a sandbox can begin with it, and forgotten afterwards; its layers are held meanwhile.
 *
 * A RUN is known by the digests of the layers below it, its words, its variables, its user and working
 * directory, and the network it has. What is below is known by its content, so a COPY of files that changed
 * is seen, and one of files that only have other times is not.
 *
 * Every layer is made as if it were the last: a sandbox may begin with it.
 */
#include "image/recipe_build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/context.h"
#include "image/layer_read.h"
#include "image/layered.h"
#include "image/lower.h"
#include "image/oci.h"
#include "image/seal.h"
#include "image/step_run.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct build {
	const struct publisher *p;
	const struct recipe_options *o;
	struct layered l;
	struct image_words args; /* NAME=VALUE of each ARG that has a value */
	bool from, has_cmd;
	bool net; /* the sandboxes of RUN have a network */
};

static const char *value_of(char *const *pairs, size_t n, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = n; i-- > 0;)
		if (strncmp(pairs[i], name, len) == 0 && pairs[i][len] == '=')
			return pairs[i] + len + 1;
	return NULL;
}

static const char *lookup(void *ctx, const char *name)
{
	const struct build *b = ctx;
	const char *v = value_of(b->l.c.env, b->l.c.env_n, name);
	return v ? v : value_of(b->args.v, b->args.n, name);
}

static char *expand(struct build *b, const char *text, struct brig_err *err)
{
	return recipe_expand(text, lookup, b, err);
}

static int full(struct brig_err *err, int r, const char *what)
{
	if (r == -EINVAL)
		return brig_fail(err, BRIG_E_INVALID, 0, "%s", what);
	return brig_fail(err, r == -E2BIG ? BRIG_E_LIMIT : BRIG_E_EXHAUSTED, -r, "%s", what);
}

/* ---- settings ---- */

static int do_from(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	AUTO_FREE char *ref = expand(b, s->words.v[0], err);
	if (!ref)
		return -1;
	b->from = true;
	if (strcmp(ref, IMAGE_HOST) == 0) {
		brig_fail(err, BRIG_E_INVALID, 0, "the image `host` is this machine's own /usr, and is stored nowhere");
		return brig_fix(err, "begin with FROM base (brig image build base)");
	}
	if (strcmp(ref, "scratch") != 0)
		return layered_from(&b->l, ref, err);
	snprintf(b->l.c.arch, sizeof(b->l.c.arch), "%s", oci_arch);
	int r = image_config_setenv(&b->l.c, "PATH", PATH_DEFAULT);
	return r < 0 ? full(err, r, "set PATH") : 0;
}

static int do_arg(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	const char *eq = strchr(s->words.v[0], '=');
	AUTO_FREE char *name = eq ? strndup(s->words.v[0], (size_t)(eq - s->words.v[0]))
				  : strdup(s->words.v[0]);
	AUTO_FREE char *word = NULL;
	if (!name)
		return full(err, -ENOMEM, "remember an ARG");
	const char *given = value_of(b->o->args->v, b->o->args->n, name);
	AUTO_FREE char *def = !given && eq ? expand(b, eq + 1, err) : NULL;
	if (!given && eq && !def)
		return -1;
	if (!given && !def)
		return 0;
	if (asprintf(&word, "%s=%s", name, given ? given : def) < 0) {
		word = NULL;
		return full(err, -ENOMEM, "remember an ARG");
	}
	int r = image_words_add(&b->args, word);
	return r < 0 ? full(err, r, "ARG") : 0;
}

/* ENV and LABEL. */
static int do_pairs(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	for (size_t i = 0; i + 1 < s->words.n; i += 2) {
		AUTO_FREE char *name = expand(b, s->words.v[i], err);
		AUTO_FREE char *value = name ? expand(b, s->words.v[i + 1], err) : NULL;
		if (!value)
			return -1;
		int r = s->op == RECIPE_ENV ? image_config_setenv(&b->l.c, name, value)
					    : image_config_label(&b->l.c, name, value);
		char shown[128];
		if (r < 0)
			return brig_fail(err, r == -E2BIG ? BRIG_E_LIMIT : BRIG_E_INVALID, 0,
					 "'%s' cannot be set", image_name_print(name, shown, sizeof(shown)));
	}
	return 0;
}

/* dir, or dir below the working directory, without empty, "." and ".." components. */
static int clean_path(const struct build *b, const char *dir, char ret[IMAGE_DIR_MAX], struct brig_err *err)
{
	char text[2 * IMAGE_DIR_MAX];
	size_t at = 0;
	int n = snprintf(text, sizeof(text), "%s/%s", dir[0] == '/' ? "" : b->l.c.workdir, dir);
	if (n < 0 || n >= IMAGE_DIR_MAX)
		return brig_fail(err, BRIG_E_INVALID, 0, "the path has more than %d bytes", IMAGE_DIR_MAX);
	for (const char *c = text; *c;) {
		size_t k = strcspn(c, "/");
		if (k == 2 && c[0] == '.' && c[1] == '.') {
			while (at && ret[--at] != '/')
				;
		} else if (k && !(k == 1 && c[0] == '.')) {
			ret[at++] = '/';
			memcpy(ret + at, c, k);
			at += k;
		}
		c += k + (c[k] == '/');
	}
	if (at == 0)
		ret[at++] = '/';
	ret[at] = '\0';
	return 0;
}

/* ---- layers ---- */

static int add_layer(struct build *b, struct layer_job *job, struct brig_err *err)
{
	bool reused;
	job->top = true;
	if (b->o->no_cache)
		job->key.text[0] = '\0';
	return layered_add(&b->l, job, &reused, err);
}

static int make_workdir(int input, struct tree *t, void *ctx, struct brig_err *err)
{
	char path[TREE_PATH_MAX + 1];
	struct stat st;
	(void)input;
	int r = lower_resolve(t->lower, ctx, path);
	if (r == 0)
		r = lower_look(t->lower, path, &st);
	if (r == 0 && S_ISDIR(st.st_mode))
		return 0;
	if (r != -ENOENT)
		return tree_fail_sys(err, r < 0 ? -r : ENOTDIR, "make the working directory", ctx);
	const struct tree_meta m = { .mode = 0755, .mtime = -1 };
	return tree_add_dir(t, path, &m, err);
}

static int do_workdir(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	char dir[IMAGE_DIR_MAX];
	AUTO_FREE char *word = expand(b, s->words.v[0], err);
	if (!word || clean_path(b, word, dir, err) < 0)
		return -1;
	memcpy(b->l.c.workdir, dir, sizeof(dir));
	struct layer_job job = { .input = -1, .run = make_workdir, .ctx = dir, .may_be_empty = true };
	return add_layer(b, &job, err);
}

static int run_copy(int input, struct tree *t, void *ctx, struct brig_err *err)
{
	return context_copy(input, ctx, t, err);
}

static int copy_words(struct build *b, const struct recipe_step *s, struct context_copy *c,
		      struct brig_err *err)
{
	char to[IMAGE_DIR_MAX];
	for (size_t i = 0; i < s->words.n; i++) {
		AUTO_FREE char *word = s->exec ? strdup(s->words.v[i]) : expand(b, s->words.v[i], err);
		if (!word)
			return -1;
		if (i + 1 < s->words.n) {
			int r = image_words_add(&c->sources, word);
			if (r < 0)
				return full(err, r, "COPY");
			continue;
		}
		size_t n = strlen(word);
		bool dir = n && (word[n - 1] == '/' || strcmp(word, ".") == 0);
		if (clean_path(b, word, to, err) < 0)
			return -1;
		snprintf(c->to, sizeof(c->to), "%.*s%s", IMAGE_DIR_MAX - 2, to, dir && to[1] ? "/" : "");
	}
	return 0;
}

static int do_copy(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	struct context_copy c = { .uid = 0 };
	struct stat st;
	struct layer_job job = { .input = b->o->context, .input_dir = true, .run = run_copy, .ctx = &c };
	int r = copy_words(b, s, &c, err);
	if (r == 0 && s->chown) {
		struct seal_facts who = { .uid = 0 };
		AUTO_FREE char *name = expand(b, s->chown, err);
		r = name ? layered_who(&b->l, name, &who, err) : -1;
		c.uid = who.uid;
		c.gid = who.gid;
	}
	if (r == 0 && fstat(b->p->store.data, &st) == 0) {
		c.store_dev = st.st_dev;
		c.store_ino = st.st_ino;
	}
	if (r == 0)
		r = add_layer(b, &job, err);
	image_words_done(&c.sources);
	return r;
}

static int read_layer(int input, struct tree *t, void *ctx, struct brig_err *err)
{
	const struct build *b = ctx;
	/* With a network, brig itself has put a resolver there. */
	return layer_read(input, b->net ? "etc/resolv.conf" : NULL, t, err);
}

static void run_key(const struct build *b, const struct recipe_step *s, struct image_digest *key)
{
	const char *texts[IMAGE_LAYERS_MAX + 4 * IMAGE_WORDS_MAX + IMAGE_ENV_MAX + 16];
	char user[64];
	size_t n = 0;
	snprintf(user, sizeof(user), "%u:%u", b->l.c.user.uid, b->l.c.user.gid);
	texts[n++] = "run-1";
	texts[n++] = b->p->root ? "root" : "user";
	texts[n++] = user;
	texts[n++] = b->l.c.workdir;
	const struct image_words env = { b->l.c.env, b->l.c.env_n };
	const struct image_words *lists[] = { &s->words, &env, &b->args, b->o->flags };
	for (unsigned k = 0; k < 4; k++) {
		texts[n++] = "--";
		for (size_t i = 0; i < lists[k]->n; i++)
			texts[n++] = lists[k]->v[i];
	}
	for (size_t i = 0; i < b->l.c.layers_n; i++)
		texts[n++] = b->l.c.layers[i].digest.text;
	layered_key(key, texts, n);
}

static int run_in_sandbox(struct build *b, const struct recipe_step *s, int *ret_fd, struct brig_err *err)
{
	bool reused;
	struct image_digest was;
	if (b->l.c.layers_n == 0) {
		brig_fail(err, BRIG_E_INVALID, 0, "there is nothing that could be run");
		return brig_fix(err, "COPY a program first, or begin with another image than scratch");
	}
	if (layered_publish(&b->l, NULL, &reused, &was, err) < 0)
		return -1;
	const struct step_run run = { .data = b->p->store.path,
				      .image = &b->l.c.digest,
				      .flags = b->o->flags,
				      .env = &b->args,
				      .argv = &s->words,
				      .cancel = b->o->cancel };
	int r = step_run(&run, ret_fd, err);
	publish_forget(b->p, &b->l.c.digest);
	return r;
}

static int do_run(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	struct layer_job job = { .input = -1, .run = read_layer, .ctx = b };
	run_key(b, s, &job.key);
	if (!b->o->no_cache && layered_add_known(&b->l, &job.key)) {
		if (b->o->progress)
			b->o->progress(b->o->ctx, "  known: nothing was run");
		return 0;
	}
	AUTO_FD layer = -1;
	if (run_in_sandbox(b, s, &layer, err) < 0)
		return -1;
	struct image_digest key = job.key;
	bool reused;
	job.input = layer;
	job.top = true;
	job.key = key; /* also with --no-cache: the next build may know it */
	return layered_make(&b->l, &job, &reused, err);
}

/* ---- the whole ---- */

static int take_command(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	struct image_words *to = s->op == RECIPE_CMD ? &b->l.c.cmd : &b->l.c.entrypoint;
	int r = 0;
	image_words_done(to);
	/* What the image below runs is no argument of this program. */
	if (s->op == RECIPE_ENTRYPOINT && !b->has_cmd)
		image_words_done(&b->l.c.cmd);
	b->has_cmd |= s->op == RECIPE_CMD;
	for (size_t i = 0; i < s->words.n && r == 0; i++)
		r = image_words_add(to, s->words.v[i]);
	return r < 0 ? full(err, r, recipe_op_name(s->op)) : 0;
}

static int do_expose(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	for (size_t i = 0; i < s->words.n; i++) {
		AUTO_FREE char *word = expand(b, s->words.v[i], err);
		if (!word)
			return -1;
		if (image_config_port(&b->l.c, word) < 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "it takes PORT, PORT/tcp or PORT/udp");
	}
	return 0;
}

static int do_user(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	AUTO_FREE char *who = expand(b, s->words.v[0], err);
	return who ? layered_user(&b->l, who, err) : -1;
}

static int do_step(struct build *b, const struct recipe_step *s, struct brig_err *err)
{
	switch (s->op) {
	case RECIPE_FROM:
		return do_from(b, s, err);
	case RECIPE_RUN:
		return do_run(b, s, err);
	case RECIPE_COPY:
		return do_copy(b, s, err);
	case RECIPE_ENV:
	case RECIPE_LABEL:
		return do_pairs(b, s, err);
	case RECIPE_WORKDIR:
		return do_workdir(b, s, err);
	case RECIPE_USER:
		return do_user(b, s, err);
	case RECIPE_EXPOSE:
		return do_expose(b, s, err);
	case RECIPE_CMD:
	case RECIPE_ENTRYPOINT:
		return take_command(b, s, err);
	case RECIPE_ARG:
		return do_arg(b, s, err);
	default:
		return brig_fail(err, BRIG_E_INTERNAL, 0, "a step of no kind");
	}
}

/* Every --build-arg must mean something. */
static int args_used(const struct recipe *r, const struct image_words *args, struct brig_err *err)
{
	for (size_t i = 0; i < args->n; i++) {
		size_t n = strcspn(args->v[i], "=");
		bool used = false;
		for (size_t k = 0; k < r->n && !used; k++)
			used = r->steps[k].op == RECIPE_ARG && strncmp(r->steps[k].words.v[0], args->v[i], n) == 0 &&
			       (r->steps[k].words.v[0][n] == '=' || !r->steps[k].words.v[0][n]);
		if (!used) {
			brig_fail(err, BRIG_E_INVALID, 0, "no ARG of the build file is called '%.*s'",
				  n < 100 ? (int)n : 100, args->v[i]);
			return brig_fix(err, "add it, or leave --build-arg out");
		}
	}
	return 0;
}

static int all_steps(struct build *b, const struct recipe *r, struct brig_err *err)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct recipe_step *s = &r->steps[i];
		char what[200], shown[120];
		snprintf(what, sizeof(what), "step %zu of %zu: %s %s", i + 1, r->n, recipe_op_name(s->op),
			 image_name_print(s->text, shown, sizeof(shown)));
		if (b->o->progress)
			b->o->progress(b->o->ctx, what);
		if (do_step(b, s, err) < 0)
			return brig_ctx(err, "line %u: %s", s->line, recipe_op_name(s->op));
	}
	if (b->l.c.layers_n)
		return 0;
	brig_fail(err, BRIG_E_INVALID, 0, "the image would have no files");
	return brig_fix(err, "COPY something, or begin with another image than scratch");
}

int recipe_build(const struct publisher *p, const struct recipe *r, const struct recipe_options *o,
		 struct import_result *ret, struct brig_err *err)
{
	struct build b = { .p = p, .o = o };
	if (args_used(r, o->args, err) < 0)
		return -1;
	for (size_t i = 0; i < o->flags->n; i++)
		b.net |= strncmp(o->flags->v[i], "--allow", 7) == 0 || strncmp(o->flags->v[i], "--net", 5) == 0;
	stage_sweep(p->tmp, 1, NULL, NULL, NULL);
	for (size_t i = 0; i < r->n; i++)
		if (r->steps[i].op == RECIPE_RUN) {
			step_sweep(p->store.path);
			break;
		}
	layered_init(&b.l, p, &o->max, o->cancel);
	int e = all_steps(&b, r, err);
	if (e == 0)
		e = layered_publish(&b.l, o->name, &ret->reused, &ret->unnamed, err);
	ret->digest = b.l.c.digest;
	ret->stats = b.l.stats;
	ret->size_bytes = b.l.c.size_bytes;
	ret->files = b.l.c.files;
	ret->layers = (unsigned)b.l.c.layers_n;
	image_words_done(&b.args);
	layered_done(&b.l);
	return e;
}
