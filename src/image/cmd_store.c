/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_store.c: `brig image ls`, `rm`, `inspect` and `gc`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "image/cli.h"
#include "image/names.h"
#include "image/publish_inner.h"
#include "image/stage.h"
#include "image/step_run.h"
#include "image/store.h"

static const struct option common_longs[] = { CLI_LONG };

static int common_options(struct cli *cli, const struct cli_command *c, int argc, char **argv,
			  int *ret_exit)
{
	int opt;
	while ((opt = getopt_long(argc, argv, CLI_SHORT, common_longs, NULL)) != -1)
		if (cli_option(cli, c, opt, argv, ret_exit) < 0)
			return -1;
	return 0;
}

static int list_dir(int at, struct names *ret)
{
	AUTO_FD fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : names_read(fd, SIZE_MAX, ret);
}

/* One line of a listing. */
struct row {
	const char *name; /* NULL = none */
	struct image_digest digest;
	struct image_config config;
	bool broken; /* no config.json that can be read */
};

static int print_row(const struct row *r, json_t *list)
{
	if (list) {
		json_t *o = json_pack("{s:s? s:s s:b s:b}", "name", r->name, "digest",
				      r->digest.text, "builtin", 0, "broken", r->broken);
		if (o && !r->broken)
			json_object_update_new(o, json_pack("{s:s s:I s:I s:s}", "created",
							    r->config.created, "size_bytes",
							    (json_int_t)r->config.size_bytes,
							    "files", (json_int_t)r->config.files,
							    "arch", r->config.arch));
		return json_array_append_new(list, o);
	}
	char size[SIZE_TEXT_MAX] = "-";
	if (!r->broken)
		size_format_bytes(r->config.size_bytes, size);
	printf("%-24s %.12s  %-20s  %8s  %s\n", r->name ? r->name : "-", r->digest.text + 7,
	       r->broken ? "-" : r->config.created, size, r->broken ? "broken" : r->config.arch);
	return 0;
}

static int list_image(const struct store *s, const char *name, const struct image_digest *digest,
		      json_t *list)
{
	struct row r = { .name = name, .digest = *digest };
	r.broken = store_read_config(s, digest, &r.config, NULL) < 0;
	int e = print_row(&r, list);
	if (!r.broken)
		image_config_done(&r.config);
	return e;
}

/* The digest that a name leads to; -1 if it leads nowhere readable. */
static int name_digest(const struct store *s, const char *name, struct image_digest *ret)
{
	char text[IMAGE_DIGEST_LEN + 16];
	return fd_slurp_at(s->names, name, text, sizeof(text)) < 0 ||
			       image_digest_parse(text, ret) < 0
		       ? -1
		       : 0;
}

static int list_all(const struct store *s, json_t *list, struct brig_err *err)
{
	struct names named, stored;
	int r = list_dir(s->names, &named);
	if (r < 0)
		return brig_fail(err, BRIG_E_DENIED, -r, "list the names of '%s'", s->path);
	bool *seen = NULL;
	r = list_dir(s->images, &stored);
	if (r < 0)
		brig_fail(err, BRIG_E_DENIED, -r, "list the images of '%s'", s->path);
	else if (!(seen = calloc(stored.n + 1, sizeof(*seen))))
		r = brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "list the images");
	for (size_t i = 0; i < named.n && r == 0; i++) {
		struct image_digest d;
		if (name_digest(s, named.list[i], &d) < 0)
			continue; /* `gc --prove` tells */
		for (size_t k = 0; k < stored.n; k++)
			seen[k] |= strcmp(stored.list[k], d.dir) == 0;
		r = list_image(s, named.list[i], &d, list);
	}
	for (size_t k = 0; seen && k < stored.n && r == 0; k++) {
		struct image_digest d;
		if (!seen[k] && image_digest_parse(stored.list[k], &d) == 0 &&
		    (layer_is_image(s, &d) || !layer_sound(s, &d)))
			r = list_image(s, NULL, &d, list);
	}
	free(seen);
	if (seen)
		names_done(&stored);
	names_done(&named);
	return r;
}

#define HOST_TEXT "built-in: the host's /usr, read-only, with an /etc made up for it"

static json_t *host_json(void)
{
	return json_pack("{s:s s:n s:b s:b s:s}", "name", IMAGE_HOST, "digest", "builtin", 1,
			 "broken", 0, "description", HOST_TEXT);
}

int cmd_ls(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *c = cli_command_find("ls");
	struct brig_err err = BRIG_ERR_INIT;
	struct store s = STORE_INIT;
	int code;
	if (common_options(cli, c, argc, argv, &code) < 0)
		return code;
	if (argc != optind)
		return cli_usage(c, "it takes no arguments");
	/* No store yet: then the built-in image is all there is. */
	if (store_open(cli->data, &s, &err) < 0 && err.code != BRIG_E_NOT_FOUND)
		return cli_fail(&err);
	json_t *list = cli->json ? json_array() : NULL;
	if (cli->json)
		json_array_append_new(list, host_json());
	else
		printf("%-24s %-12s  %-20s  %8s  %s\n%-24s %-12s  %-20s  %8s  %s\n", "NAME",
		       "DIGEST", "CREATED", "SIZE", "ARCH", IMAGE_HOST, "-", "built-in", "-", "-");
	int r = s.data < 0 ? 0 : list_all(&s, list, &err);
	store_close(&s);
	if (r < 0) {
		json_decref(list);
		return cli_fail(&err);
	}
	return cli->json ? cli_print_json(list) : cli_finish();
}

static void steps_forget(const struct publisher *p);

int cmd_rm(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *c = cli_command_find("rm");
	struct brig_err err = BRIG_ERR_INIT;
	struct publisher p = PUBLISHER_INIT;
	struct store s = STORE_INIT;
	int code, result = EXIT_OK;
	if (common_options(cli, c, argc, argv, &code) < 0)
		return code;
	if (argc == optind)
		return cli_usage(c, "it takes the name or digest of an image");
	/* Opening for change would make a store where there is none. */
	if (store_open(cli->data, &s, &err) < 0)
		return cli_fail(&err);
	store_close(&s);
	if (publisher_open(cli->data, &p, &err) < 0)
		return cli_fail(&err);
	json_t *list = cli->json ? json_array() : NULL;
	for (int i = optind; i < argc; i++) {
		struct publish_removed gone;
		if (publish_remove(&p, argv[i], &gone, &err) < 0) {
			result = cli_fail(&err);
			continue;
		}
		if (list)
			json_array_append_new(list, json_pack("{s:s s:s s:b s:I}", "removed",
							      argv[i], "digest", gone.digest.text,
							      "image", gone.image, "size_bytes",
							      (json_int_t)gone.size_bytes));
		else
			printf("%s %s\n", gone.image ? "removed" : "removed the name", argv[i]);
	}
	steps_forget(&p);
	publisher_close(&p);
	code = list ? cli_print_json(list) : cli_finish();
	return result ? result : code;
}

static void print_words(const char *what, const struct image_words *w)
{
	for (size_t i = 0; i < w->n; i++) {
		char shown[1024];
		printf("%s:%*s%s\n", what, 9 - (int)strlen(what), "",
		       image_name_print(w->v[i], shown, sizeof(shown)));
	}
}

static void print_config(const struct image_config *c)
{
	char size[SIZE_TEXT_MAX];
	size_format_bytes(c->size_bytes, size);
	printf("name:     %s\ndigest:   %s\ncreated:  %s\nsize:     %s\nfiles:    %" PRIu64 "\n"
	       "arch:     %s\nuser:     %s (uid %u, gid %u, home %s)\nworkdir:  %s\n",
	       c->name, c->digest.text, c->created, size, c->files, c->arch,
	       c->user.name[0] ? c->user.name : "-", c->user.uid, c->user.gid, c->user.home,
	       c->workdir);
	const struct image_words env = { c->env, c->env_n };
	print_words("env", &env);
	print_words("entry", &c->entrypoint);
	print_words("cmd", &c->cmd);
	print_words("port", &c->ports);
	print_words("label", &c->labels);
	for (size_t i = 0; i < c->layers_n; i++) {
		size_format_bytes(c->layers[i].size_bytes, size);
		printf("layer:    %s  %s\n", c->layers[i].digest.text, size);
	}
}

int cmd_inspect(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *c = cli_command_find("inspect");
	struct brig_err err = BRIG_ERR_INIT;
	struct store s = STORE_INIT;
	int code, result = EXIT_OK;
	if (common_options(cli, c, argc, argv, &code) < 0)
		return code;
	if (argc == optind)
		return cli_usage(c, "it takes the name or digest of an image");
	json_t *list = cli->json ? json_array() : NULL;
	for (int i = optind; i < argc; i++) {
		struct image_digest digest;
		struct image_config config;
		if (strcmp(argv[i], IMAGE_HOST) == 0) {
			if (list)
				json_array_append_new(list, host_json());
			else
				printf("name:     %s\n%s\n", IMAGE_HOST, HOST_TEXT);
			continue;
		}
		if ((s.data < 0 && store_open(cli->data, &s, &err) < 0) ||
		    store_resolve(&s, argv[i], &digest, &err) < 0 ||
		    store_read_config(&s, &digest, &config, &err) < 0) {
			result = cli_fail(&err);
			continue;
		}
		if (list)
			json_array_append_new(list, image_config_json(&config));
		else
			print_config(&config);
		image_config_done(&config);
	}
	store_close(&s);
	code = list ? cli_print_json(list) : cli_finish();
	return result ? result : code;
}

/* --- gc --------------------------------------------------------------------------------------- */

struct gc {
	const struct publisher *p;
	bool prove;
	unsigned unexplained;
	struct names cached; /* directories of the layers that steps of builds name */
};

static void gc_line(struct gc *g, const char *kind, const char *name, const char *state,
		    const char *detail)
{
	char shown[280]; /* a foreign file may have any name; JSON takes UTF-8 only */
	json_t *o = json_pack("{s:s s:s s:s s:s}", "kind", kind, "name",
			      image_name_print(name, shown, sizeof(shown)), "state", state,
			      "detail", detail);
	if (o)
		json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
	g->unexplained += strcmp(state, "unexplained") == 0;
}

static void gc_stage(void *ctx, const char *name, enum stage_state state, int error)
{
	switch (state) {
	case STAGE_LIVE:
		gc_line(ctx, "image-staging", name, "live", "an import or removal is at work");
		break;
	case STAGE_REMOVED:
		gc_line(ctx, "image-staging", name, "removed", "left by an interrupted import");
		break;
	case STAGE_STALE:
		gc_line(ctx, "image-staging", name, error ? "unexplained" : "stale",
			error ? strerror(error) : "left by an interrupted import");
		break;
	case STAGE_UNKNOWN:
		gc_line(ctx, "image-staging", name, "unexplained", "not made by brig image");
		break;
	}
}

/* The steps of builds, each a file that names the layer it made: open, with their names in *ret; < 0: none. */
static int steps_read(const struct publisher *p, struct names *ret)
{
	AUTO_FD steps = openat(p->store.data, "steps", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (steps < 0 || names_read(steps, SIZE_MAX, ret) < 0)
		return -1;
	return fd_steal(&steps);
}

static bool step_layer(int steps, const char *name, struct image_digest *ret)
{
	char text[IMAGE_DIGEST_LEN + 64];
	if (fd_slurp_at(steps, name, text, sizeof(text)) < 0)
		return false;
	text[strcspn(text, " ")] = '\0';
	return image_digest_parse(text, ret) == 0;
}

static void gc_cached(struct gc *g)
{
	struct names d;
	struct image_digest layer;
	AUTO_FD steps = steps_read(g->p, &d);
	if (steps < 0)
		return;
	for (size_t i = 0; i < d.n; i++)
		if (step_layer(steps, d.list[i], &layer))
			(void)names_add(&g->cached, SIZE_MAX, layer.dir);
	names_done(&d);
}

static bool is_cached(const struct gc *g, const struct image_digest *d)
{
	for (size_t i = 0; i < g->cached.n; i++)
		if (strcmp(g->cached.list[i], d->dir) == 0)
			return true;
	return false;
}

/* A tree that is no image of its own: it goes if no image is made of it and nobody is just about to
 * make one. */
static void gc_layer(struct gc *g, const struct stage *trash, const struct image_digest *d)
{
	struct brig_err err = BRIG_ERR_INIT;
	unsigned users = 0;
	char text[64];
	if (layer_users(&g->p->store, d, NULL, &users, &err) < 0) {
		gc_line(g, "image-layer", d->text, "unexplained", err.msg);
		return;
	}
	snprintf(text, sizeof(text), "a part of %u images", users);
	if (users) {
		if (g->prove)
			gc_line(g, "image-layer", d->text, "live", text);
	} else if (g->prove && is_cached(g, d)) {
		gc_line(g, "image-layer", d->text, "live", "kept for the next build or import; `brig image gc` forgets it");
	} else if (g->prove) {
		gc_line(g, "image-layer", d->text, "stale", "no image is made of it");
	} else if (publish_take_out(g->p, trash, d, d->dir, false, &err) == 0) {
		gc_line(g, "image-layer", d->text, "removed", "no image was made of it");
	} else {
		gc_line(g, "image-layer", d->text,
			err.code == BRIG_E_BUSY ? "live" : "unexplained",
			err.code == BRIG_E_BUSY ? "an import is at work" : err.msg);
	}
}

static void gc_layers(struct gc *g, const struct stage *trash, struct names *stored)
{
	for (size_t i = 0; i < stored->n; i++) {
		struct image_digest d;
		if (image_digest_parse(stored->list[i], &d) == 0 &&
		    !layer_is_image(&g->p->store, &d) && layer_sound(&g->p->store, &d))
			gc_layer(g, trash, &d);
	}
}

/* Every image: whole, named? */
static void gc_images(struct gc *g, struct names *stored, struct names *named)
{
	const struct store *s = &g->p->store;
	for (size_t i = 0; i < stored->n; i++) {
		struct image_digest d, one;
		struct store_image image;
		struct brig_err err = BRIG_ERR_INIT;
		unsigned names = 0;
		if (image_digest_parse(stored->list[i], &d) < 0) {
			gc_line(g, "image", stored->list[i], "unexplained",
				"not made by brig image");
			continue;
		}
		if (!layer_is_image(s, &d) && layer_sound(s, &d))
			continue; /* gc_layers */
		for (size_t k = 0; k < named->n; k++)
			names += name_digest(s, named->list[k], &one) == 0 &&
				 strcmp(one.text, d.text) == 0;
		if (store_lookup(s, d.text, &image, &err) < 0) {
			gc_line(g, "image", d.text,
				err.code == BRIG_E_BUSY ? "live" : "unexplained", err.msg);
			continue;
		}
		/* Whether it is in use could only be found out by taking the lock, and that would
		 * turn away a sandbox that starts at this moment. */
		gc_line(g, "image", d.text, "live",
			names ? "named" : "has no name; `brig image rm` removes it");
		store_image_done(&image);
	}
}

/* What made a layer is of no use once that is gone. */
static void gc_steps(struct gc *g)
{
	struct names d;
	struct image_digest key, layer;
	AUTO_FD steps = steps_read(g->p, &d);
	if (steps < 0)
		return;
	for (size_t i = 0; i < d.n; i++) {
		if (image_digest_parse(d.list[i], &key) < 0) {
			gc_line(g, "image-step", d.list[i], "unexplained", "not made by brig image");
			continue;
		}
		if (step_layer(steps, d.list[i], &layer) && layer_sound(&g->p->store, &layer))
			continue;
		bool gone = !g->prove && unlinkat(steps, d.list[i], 0) == 0;
		gc_line(g, "image-step", d.list[i], gone ? "removed" : "stale", "its layer is gone");
	}
	names_done(&d);
}

/* Without a word, after images were removed. A step of a layer that is just being made is not there yet. */
static void steps_forget(const struct publisher *p)
{
	struct names d;
	struct image_digest layer;
	AUTO_FD steps = steps_read(p, &d);
	if (steps < 0)
		return;
	for (size_t i = 0; i < d.n; i++)
		if (step_layer(steps, d.list[i], &layer) && !layer_sound(&p->store, &layer))
			(void)unlinkat(steps, d.list[i], 0);
	names_done(&d);
}

static void gc_names(struct gc *g, struct names *named)
{
	for (size_t i = 0; i < named->n; i++) {
		struct image_digest d;
		struct stat st;
		const char *name = named->list[i];
		if (!image_name_ok(name) || name_digest(&g->p->store, name, &d) < 0) {
			gc_line(g, "image-name", name, "unexplained", "holds no digest");
			continue;
		}
		if (fstatat(g->p->store.images, d.dir, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			gc_line(g, "image-name", name, "live", d.text);
			continue;
		}
		bool gone = !g->prove && unlinkat(g->p->store.names, name, 0) == 0;
		gc_line(g, "image-name", name, gone ? "removed" : "stale",
			"leads to an image that is gone");
	}
}

static int gc_run(struct gc *g, struct brig_err *err)
{
	struct names stored, named;
	struct stage trash = STAGE_INIT;
	if (stage_sweep(g->p->tmp, !g->prove, gc_stage, g, err) < 0 ||
	    (!g->prove && stage_new(g->p->tmp, &trash, err) < 0))
		return -1;
	/* So that no name is seen without the image that it is about to get. */
	if (flock(g->p->lock, LOCK_EX) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "lock '%s'", g->p->store.path);
	int r = list_dir(g->p->store.images, &stored);
	if (r == 0 && (r = list_dir(g->p->store.names, &named)) == 0) {
		if (g->prove) {
			gc_cached(g);
			gc_images(g, &stored, &named);
		}
		gc_layers(g, &trash, &stored);
		gc_names(g, &named);
		gc_steps(g);
		names_done(&g->cached);
		names_done(&named);
		names_done(&stored);
	}
	flock(g->p->lock, LOCK_UN);
	stage_drop(&trash); /* what was taken out, which takes a while */
	return r < 0 ? brig_fail(err, BRIG_E_DENIED, -r, "list '%s'", g->p->store.path) : 0;
}

int cmd_gc(struct cli *cli, int argc, char **argv)
{
	enum { OPT_PROVE = 256 };
	static const struct option longs[] = { { "prove", 0, NULL, OPT_PROVE }, CLI_LONG };
	const struct cli_command *c = cli_command_find("gc");
	struct brig_err err = BRIG_ERR_INIT;
	struct publisher p = PUBLISHER_INIT;
	struct store s = STORE_INIT;
	struct gc g = { .p = &p };
	int opt, code;
	while ((opt = getopt_long(argc, argv, CLI_SHORT, longs, NULL)) != -1) {
		if (opt == OPT_PROVE)
			g.prove = true;
		else if (cli_option(cli, c, opt, argv, &code) < 0)
			return code;
	}
	if (argc != optind)
		return cli_usage(c, "it takes no arguments");
	/* Where there is no store there is nothing to clean, and none is made. */
	if (store_open(cli->data, &s, &err) < 0)
		return err.code == BRIG_E_NOT_FOUND ? EXIT_OK : cli_fail(&err);
	store_close(&s);
	int r = publisher_open(cli->data, &p, &err);
	/* Only where `brig image` has said which brig that is. */
	if (r == 0 && !g.prove && getenv("BRIG_PROGRAM"))
		step_sweep(p.store.path);
	if (r == 0)
		r = gc_run(&g, &err);
	publisher_close(&p);
	if (r < 0)
		return cli_fail(&err);
	code = cli_finish();
	return code ? code : g.unexplained ? EXIT_UNEXPLAINED : EXIT_OK;
}
