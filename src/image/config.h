/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h: config.json of an image: what it is, and how a command starts in it by default.
 *
 *   { "name": "base", "digest": "sha256:..", "created": "2026-01-02T03:04:05Z",
 *     "size_bytes": 1, "files": 1, "arch": "amd64",
 *     "user": { "name": "user", "uid": 1000, "gid": 1000, "home": "/home/user" },
 *     "env": { "LANG": "C.UTF-8" }, "workdir": "/home/user" }
 *
 * `name` is the one it was made under; the names that lead to it today are in the store. Everything
 * is checked when it is read, so a reader may use a field without looking at it again.
 */
#ifndef BRIG_IMAGE_CONFIG_H
#define BRIG_IMAGE_CONFIG_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/name.h"

#define IMAGE_CONFIG_MAX 65536 /* bytes of config.json */
#define IMAGE_ENV_MAX 256
/* User and group ids of files and users: what a sandbox's range holds. */
#define IMAGE_ID_MAX 65535u
#define IMAGE_USER_MAX 32
#define IMAGE_DIR_MAX 512 /* JAIL_PATH_MAX: the jail takes no longer home or working directory */

struct image_config {
	char name[IMAGE_NAME_MAX + 1];
	struct image_digest digest;
	char created[32]; /* RFC 3339, UTC */
	uint64_t size_bytes, files;
	char arch[16]; /* as dpkg names it; "unknown" */
	struct {
		char name[IMAGE_USER_MAX + 1];
		uint32_t uid, gid;
		char home[IMAGE_DIR_MAX];
	} user;
	char workdir[IMAGE_DIR_MAX];
	char **env; /* NAME=VALUE, sorted by name, NULL at the end; owned */
	size_t env_n;
};

void image_config_done(struct image_config *c);
/* Sets NAME to VALUE, whatever it was before. -EINVAL: no proper name, -E2BIG: too many, -ENOMEM.
 */
int image_config_setenv(struct image_config *c, const char *name, const char *value);
/* 1 if p may be a home or working directory: absolute, clean, short enough. */
int image_config_dir_ok(const char *p);

/* *ret owns its memory afterwards: image_config_done. */
int image_config_parse(const char *text, size_t n, struct image_config *ret, struct brig_err *err);
/* A new reference, NULL for lack of memory. */
json_t *image_config_json(const struct image_config *c);

#endif
