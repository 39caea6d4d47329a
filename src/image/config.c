/* SPDX-License-Identifier: Apache-2.0 */
#include "image/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/path.h"

void image_words_done(struct image_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->v[i]);
	free(w->v);
	*w = (struct image_words){ .v = NULL };
}

void image_config_done(struct image_config *c)
{
	struct image_words env = { c->env, c->env_n };
	image_words_done(&env);
	c->env = NULL;
	c->env_n = 0;
	image_words_done(&c->entrypoint);
	image_words_done(&c->cmd);
	image_words_done(&c->ports);
	image_words_done(&c->labels);
	free(c->layers);
	c->layers = NULL;
	c->layers_n = 0;
}

/* Puts text, which is owned from here on, at place `at`. */
static int words_insert(struct image_words *w, size_t at, char *text)
{
	char **v = text && w->n < IMAGE_WORDS_MAX ? realloc(w->v, (w->n + 2) * sizeof(*v)) : NULL;
	if (!v) {
		int full = text && w->n >= IMAGE_WORDS_MAX;
		free(text);
		return full ? -E2BIG : -ENOMEM;
	}
	w->v = v;
	memmove(v + at + 1, v + at, (w->n - at) * sizeof(*v));
	v[at] = text;
	v[++w->n] = NULL;
	return 0;
}

/* A text that has no JSON would be found out only when the image is stored. */
static int text_ok(const char *text)
{
	json_t *probe = json_string(text);
	json_decref(probe);
	return probe != NULL && strlen(text) <= IMAGE_CONFIG_MAX / 4;
}

int image_words_add(struct image_words *w, const char *text)
{
	return text_ok(text) ? words_insert(w, w->n, strdup(text)) : -EINVAL;
}

/* Sorted by the first n bytes; one with the same is replaced. */
static int words_set(struct image_words *w, const char *text, size_t n)
{
	size_t at = 0;
	while (at < w->n && strncmp(w->v[at], text, n) < 0)
		at++;
	if (at == w->n || strncmp(w->v[at], text, n) != 0)
		return words_insert(w, at, strdup(text));
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(w->v[at]);
	w->v[at] = copy;
	return 0;
}

int image_config_port(struct image_config *c, const char *text)
{
	char canon[16];
	size_t n = strspn(text, "0123456789");
	const char *proto = text[n] == '/' ? text + n + 1 : text[n] ? "" : "tcp";
	long port = n >= 1 && n <= 5 ? strtol(text, NULL, 10) : 0;
	if (port < 1 || port > 65535 || (strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0))
		return -EINVAL;
	int len = snprintf(canon, sizeof(canon), "%ld/%s", port, proto);
	return words_set(&c->ports, canon, (size_t)len + 1);
}

int image_config_label(struct image_config *c, const char *name, const char *value)
{
	AUTO_FREE char *text = NULL;
	size_t n = strlen(name);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] <= ' ' || name[i] == '=' || name[i] == 0x7f)
			return -EINVAL;
	if (n == 0 || n > 128 || !text_ok(name) || !text_ok(value))
		return -EINVAL;
	if (asprintf(&text, "%s=%s", name, value) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return words_set(&c->labels, text, n + 1);
}

int image_config_add_layer(struct image_config *c, const struct image_layer *l)
{
	if (c->layers_n == IMAGE_LAYERS_MAX)
		return -E2BIG;
	struct image_layer *v = realloc(c->layers, (c->layers_n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	c->layers = v;
	v[c->layers_n++] = *l;
	return 0;
}

static int words_copy(struct image_words *dst, const struct image_words *src)
{
	int r = 0;
	for (size_t i = 0; i < src->n && r == 0; i++)
		r = words_insert(dst, i, strdup(src->v[i]));
	return r;
}

int image_config_copy_settings(struct image_config *dst, const struct image_config *src)
{
	const struct image_words from = { src->env, src->env_n };
	struct image_words env = { .v = NULL };
	*dst = *src;
	dst->env = NULL;
	dst->env_n = 0;
	dst->layers = NULL;
	dst->layers_n = 0;
	dst->entrypoint = dst->cmd = dst->ports = dst->labels = env;
	int r = words_copy(&env, &from);
	dst->env = env.v;
	dst->env_n = env.n;
	if (r < 0 || (r = words_copy(&dst->entrypoint, &src->entrypoint)) < 0 ||
	    (r = words_copy(&dst->cmd, &src->cmd)) < 0 ||
	    (r = words_copy(&dst->ports, &src->ports)) < 0 ||
	    (r = words_copy(&dst->labels, &src->labels)) < 0)
		image_config_done(dst);
	return r;
}

static int env_name_ok(const char *name)
{
	/* Digits last: the first character must be found before them. */
	static const char chars[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	size_t n = strlen(name);
	return n >= 1 && n <= 128 && strspn(name, chars) == n && !strchr(chars + 53, name[0]);
}

int image_config_setenv(struct image_config *c, const char *name, const char *value)
{
	size_t at = 0, n = strlen(name);
	if (!env_name_ok(name) || strlen(value) > IMAGE_CONFIG_MAX / 4)
		return -EINVAL;
	AUTO_FREE char *text = NULL;
	if (asprintf(&text, "%s=%s", name, value) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	while (at < c->env_n && strncmp(c->env[at], text, n + 1) < 0)
		at++;
	if (at < c->env_n && strncmp(c->env[at], text, n + 1) == 0) {
		free(c->env[at]);
	} else {
		if (c->env_n == IMAGE_ENV_MAX)
			return -E2BIG;
		char **env = realloc(c->env, (c->env_n + 2) * sizeof(*env));
		if (!env)
			return -ENOMEM;
		c->env = env;
		memmove(env + at + 1, env + at, (c->env_n - at) * sizeof(*env));
		env[++c->env_n] = NULL;
	}
	c->env[at] = text;
	text = NULL;
	return 0;
}

int image_config_dir_ok(const char *p)
{
	return strcmp(p, "/") == 0 || path_is_clean(p, IMAGE_DIR_MAX);
}

/* Fails on what does not fit, so that no reader sees half a string. */
static int take_str(char *dst, size_t cap, const char *src)
{
	size_t n = strlen(src);
	if (n >= cap)
		return -1;
	memcpy(dst, src, n + 1);
	return 0;
}

static int take_layers(json_t *list, struct image_config *c)
{
	size_t i;
	json_t *o;
	if (!json_is_array(list) || json_array_size(list) == 0)
		return -1;
	json_array_foreach(list, i, o)
	{
		struct image_layer l;
		const char *digest;
		json_int_t size, files;
		if (json_unpack_ex(o, NULL, JSON_STRICT, "{s:s s:I s:I !}", "digest", &digest,
				   "size_bytes", &size, "files", &files) < 0 ||
		    image_digest_parse(digest, &l.digest) < 0 || size < 0 || files < 0)
			return -1;
		l.size_bytes = (uint64_t)size;
		l.files = (uint64_t)files;
		if (image_config_add_layer(c, &l) < 0)
			return -1;
	}
	return 0;
}

static int take_words(json_t *list, struct image_words *w)
{
	size_t i;
	json_t *o;
	if (list && !json_is_array(list))
		return -1;
	json_array_foreach(list, i, o)
	{
		if (!json_is_string(o) || image_words_add(w, json_string_value(o)) < 0)
			return -1;
	}
	return 0;
}

/* What only an image with layers has. */
static int take_more(json_t *ports, json_t *labels, struct image_config *c)
{
	size_t i;
	json_t *o;
	const char *key;
	if ((ports && !json_is_array(ports)) || (labels && !json_is_object(labels)))
		return -1;
	json_array_foreach(ports, i, o)
	{
		if (!json_is_string(o) || image_config_port(c, json_string_value(o)) < 0)
			return -1;
	}
	json_object_foreach(labels, key, o)
	{
		if (!json_is_string(o) || image_config_label(c, key, json_string_value(o)) < 0)
			return -1;
	}
	return 0;
}

static int config_take(json_t *root, struct image_config *c, struct brig_err *err)
{
	const char *name, *digest, *created, *arch, *uname, *home, *workdir, *key;
	json_int_t size, files, uid, gid;
	json_t *env, *value, *layers = NULL, *entrypoint = NULL, *cmd = NULL, *ports = NULL,
				   *labels = NULL;
	json_error_t je;
	if (json_unpack_ex(root, &je, JSON_STRICT,
			   "{s:s s:s s:s s:I s:I s:s s:{s:s s:I s:I s:s !} s:o s:s"
			   " s?o s?o s?o s?o s?o !}",
			   "name", &name, "digest", &digest, "created", &created, "size_bytes",
			   &size, "files", &files, "arch", &arch, "user", "name", &uname, "uid",
			   &uid, "gid", &gid, "home", &home, "env", &env, "workdir", &workdir,
			   "layers", &layers, "entrypoint", &entrypoint, "cmd", &cmd, "ports",
			   &ports, "labels", &labels) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "%s", je.text);
	if (!image_name_ok(name) || take_str(c->name, sizeof(c->name), name) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'name'");
	if (image_digest_parse(digest, &c->digest) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'digest'");
	if (take_str(c->created, sizeof(c->created), created) < 0 ||
	    take_str(c->arch, sizeof(c->arch), arch) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'created' or 'arch'");
	if (size < 0 || files < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'size_bytes' or 'files'");
	c->size_bytes = (uint64_t)size;
	c->files = (uint64_t)files;
	if (uid < 0 || uid > IMAGE_ID_MAX || gid < 0 || gid > IMAGE_ID_MAX ||
	    take_str(c->user.name, sizeof(c->user.name), uname) < 0 || !image_config_dir_ok(home) ||
	    take_str(c->user.home, sizeof(c->user.home), home) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'user'");
	c->user.uid = (uint32_t)uid;
	c->user.gid = (uint32_t)gid;
	if (!image_config_dir_ok(workdir) || take_str(c->workdir, sizeof(c->workdir), workdir) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'workdir'");
	if (!json_is_object(env))
		return brig_fail(err, BRIG_E_CORRUPT, 0, "'env' is no object");
	json_object_foreach(env, key, value)
	{
		if (!json_is_string(value) ||
		    image_config_setenv(c, key, json_string_value(value)) < 0)
			return brig_fail(err, BRIG_E_CORRUPT, 0, "bad variable in 'env'");
	}
	if (layers && take_layers(layers, c) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "bad 'layers'");
	if (take_words(entrypoint, &c->entrypoint) < 0 || take_words(cmd, &c->cmd) < 0 ||
	    take_more(ports, labels, c) < 0)
		return brig_fail(err, BRIG_E_CORRUPT, 0,
				 "bad 'entrypoint', 'cmd', 'ports' or 'labels'");
	return 0;
}

int image_config_parse(const char *text, size_t n, struct image_config *ret, struct brig_err *err)
{
	json_error_t je;
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
	if (!root)
		return brig_fail(err, BRIG_E_CORRUPT, 0, "line %d: %s", je.line, je.text);
	struct image_config c = { .env = NULL };
	int r = config_take(root, &c, err);
	json_decref(root);
	if (r < 0)
		image_config_done(&c);
	else
		*ret = c;
	return r;
}

/* NAME=VALUE pairs as an object. A value that is no UTF-8 has no JSON: NULL. */
static json_t *pairs_json(char *const *pairs, size_t n)
{
	json_t *o = json_object();
	for (size_t i = 0; o && i < n; i++) {
		const char *eq = strchr(pairs[i], '=');
		char name[129];
		snprintf(name, sizeof(name), "%.*s", (int)(eq - pairs[i]), pairs[i]);
		if (json_object_set_new(o, name, json_string(eq + 1)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

static json_t *words_json(const struct image_words *w)
{
	json_t *list = json_array();
	for (size_t i = 0; list && i < w->n; i++)
		if (json_array_append_new(list, json_string(w->v[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* short: the digests alone. */
static json_t *layers_json(const struct image_config *c, int only_digests)
{
	json_t *list = json_array();
	for (size_t i = 0; list && i < c->layers_n; i++) {
		const struct image_layer *l = &c->layers[i];
		json_t *o = only_digests ? json_string(l->digest.text)
					 : json_pack("{s:s s:I s:I}", "digest", l->digest.text,
						     "size_bytes", (json_int_t)l->size_bytes,
						     "files", (json_int_t)l->files);
		if (json_array_append_new(list, o) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Adds to o how the image starts; 0 or -1. */
static int settings_json(const struct image_config *c, json_t *o)
{
	return json_object_set_new(o, "entrypoint", words_json(&c->entrypoint)) < 0 ||
			       json_object_set_new(o, "cmd", words_json(&c->cmd)) < 0 ||
			       json_object_set_new(o, "ports", words_json(&c->ports)) < 0 ||
			       json_object_set_new(o, "labels",
						   pairs_json(c->labels.v, c->labels.n)) < 0
		       ? -1
		       : 0;
}

json_t *image_config_json(const struct image_config *c)
{
	json_t *env = pairs_json(c->env, c->env_n);
	json_t *o = env ? json_pack("{s:s s:s s:s s:I s:I s:s s:{s:s s:I s:I s:s} s:o s:s}",
				    "name", c->name, "digest", c->digest.text, "created",
				    c->created, "size_bytes", (json_int_t)c->size_bytes, "files",
				    (json_int_t)c->files, "arch", c->arch, "user", "name",
				    c->user.name, "uid", (json_int_t)c->user.uid, "gid",
				    (json_int_t)c->user.gid, "home", c->user.home, "env", env,
				    "workdir", c->workdir)
			: NULL;
	if (o && c->layers_n &&
	    (json_object_set_new(o, "layers", layers_json(c, 0)) < 0 || settings_json(c, o) < 0)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

char *image_config_text(const struct image_config *c)
{
	json_t *env = pairs_json(c->env, c->env_n), *layers = layers_json(c, 1);
	json_t *o = json_pack("{s:o* s:o* s:s s:s s:{s:s s:I s:I s:s}}", "env", env, "layers",
			      layers, "arch", c->arch, "workdir", c->workdir, "user", "name",
			      c->user.name, "uid", (json_int_t)c->user.uid, "gid",
			      (json_int_t)c->user.gid, "home", c->user.home);
	char *text = o && env && layers && settings_json(c, o) == 0
			     ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS)
			     : NULL;
	json_decref(o);
	return text;
}
