/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h: config.json of an image: what it is, and how a command starts in it by default.
 *
 *   { "name": "base", "digest": "sha256:..", "created": "2026-01-02T03:04:05Z",
 *     "size_bytes": 1, "files": 1, "arch": "amd64",
 *     "user": { "name": "user", "uid": 1000, "gid": 1000, "home": "/home/user" },
 *     "env": { "LANG": "C.UTF-8" }, "workdir": "/home/user" }
 *
 * and of one that is made of layers, besides:
 *
 *     "layers": [ { "digest": "sha256:..", "size_bytes": 1, "files": 1 }, .. ], the lowest first,
 *     "entrypoint": [ "/bin/x" ], "cmd": [ "-v" ], "ports": [ "80/tcp" ], "labels": { "a": "b" }
 *
 * `name` is the one it was made under; the names that lead to it today are in the store. Everything
 * is checked when it is read, so a reader may use a field without looking at it again.
 *
 * The digest of an image without layers is that of its tree (digest.h). With layers it is over
 * image_config_text(): what the image is and how it starts, so the same layers with another
 * variable are another image.
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
#define IMAGE_LAYERS_MAX 120u /* JAIL_LAYERS_MAX; docker stops at 127 */
#define IMAGE_WORDS_MAX 256   /* of a command, ports or labels */

struct image_layer {
	struct image_digest digest;
	uint64_t size_bytes, files;
};

/* Strings, NULL at the end; owned. */
struct image_words {
	char **v;
	size_t n;
};

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
	/* An image of layers; layers_n is 0 for one that is a single tree. */
	struct image_layer *layers; /* the lowest first; owned */
	size_t layers_n;
	struct image_words entrypoint, cmd;
	struct image_words ports;  /* PORT/tcp or PORT/udp, sorted */
	struct image_words labels; /* NAME=VALUE, sorted */
};

void image_config_done(struct image_config *c);
/* Sets NAME to VALUE, whatever it was before. -EINVAL: no proper name, -E2BIG: too many, -ENOMEM.
 */
int image_config_setenv(struct image_config *c, const char *name, const char *value);
int image_config_add_layer(struct image_config *c, const struct image_layer *l);
/* -E2BIG, -ENOMEM; -EINVAL for what is not UTF-8. */
int image_words_add(struct image_words *w, const char *text);
void image_words_done(struct image_words *w);
/* "80", "80/tcp", "53/udp": adds it once, in order. -EINVAL for what is no port. */
int image_config_port(struct image_config *c, const char *text);
/* As image_config_setenv, for a label, whose name may have any printable character but '='. */
int image_config_label(struct image_config *c, const char *name, const char *value);
/* Everything but the layers: *dst is empty before. -ENOMEM. */
int image_config_copy_settings(struct image_config *dst, const struct image_config *src);
/* 1 if p may be a home or working directory: absolute, clean, short enough. */
int image_config_dir_ok(const char *p);

/* *ret owns its memory afterwards: image_config_done. */
int image_config_parse(const char *text, size_t n, struct image_config *ret, struct brig_err *err);
/* A new reference, NULL for lack of memory. */
json_t *image_config_json(const struct image_config *c);
/* What the digest of an image with layers is over, after "brig-image-1\n": one line of JSON with
 * sorted keys and without spaces. To be freed; NULL for lack of memory. */
char *image_config_text(const struct image_config *c);

#endif
