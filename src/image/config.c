/* SPDX-License-Identifier: Apache-2.0 */
#include "image/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/path.h"

void image_config_done(struct image_config *c)
{
	for (size_t i = 0; i < c->env_n; i++)
		free(c->env[i]);
	free(c->env);
	c->env = NULL;
	c->env_n = 0;
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

static int config_take(json_t *root, struct image_config *c, struct brig_err *err)
{
	const char *name, *digest, *created, *arch, *uname, *home, *workdir, *key;
	json_int_t size, files, uid, gid;
	json_t *env, *value;
	json_error_t je;
	if (json_unpack_ex(root, &je, JSON_STRICT,
			   "{s:s s:s s:s s:I s:I s:s s:{s:s s:I s:I s:s !} s:o s:s !}", "name",
			   &name, "digest", &digest, "created", &created, "size_bytes", &size,
			   "files", &files, "arch", &arch, "user", "name", &uname, "uid", &uid,
			   "gid", &gid, "home", &home, "env", &env, "workdir", &workdir) < 0)
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

json_t *image_config_json(const struct image_config *c)
{
	json_t *env = json_object();
	for (size_t i = 0; env && i < c->env_n; i++) {
		const char *eq = strchr(c->env[i], '=');
		char name[129];
		snprintf(name, sizeof(name), "%.*s", (int)(eq - c->env[i]), c->env[i]);
		/* A value that is no UTF-8 has no JSON; the caller's input is checked earlier. */
		if (json_object_set_new(env, name, json_string(eq + 1)) < 0) {
			json_decref(env);
			return NULL;
		}
	}
	return json_pack("{s:s s:s s:s s:I s:I s:s s:{s:s s:I s:I s:s} s:o s:s}", "name", c->name,
			 "digest", c->digest.text, "created", c->created, "size_bytes",
			 (json_int_t)c->size_bytes, "files", (json_int_t)c->files, "arch", c->arch,
			 "user", "name", c->user.name, "uid", (json_int_t)c->user.uid, "gid",
			 (json_int_t)c->user.gid, "home", c->user.home, "env", env, "workdir",
			 c->workdir);
}
