/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c: name or digest to a locked root directory.
 *
 * Theory of operation
 * -------------------
 * Runs in brigd (no privilege, gid BRIG_DAEMON_GID) and in brig-image (root or the user). Nothing
 * of an image is parsed but its config.json, which brig-image wrote. Removal renames an image away
 * while it holds the exclusive lock, so a reader that got the shared lock looks once more whether
 * the directory that it locked is still the one in its place.
 */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

int store_default_path(char *buf, size_t cap, struct brig_err *err)
{
	const char *data = getenv("BRIG_DATA"), *xdg = getenv("XDG_DATA_HOME"),
		   *home = getenv("HOME");
	int n;
	if (data && data[0])
		n = snprintf(buf, cap, "%s", data);
	else if (geteuid() == 0)
		n = snprintf(buf, cap, "/var/lib/brig");
	else if (xdg && xdg[0] == '/')
		n = snprintf(buf, cap, "%s/brig", xdg);
	else if (home && home[0] == '/')
		n = snprintf(buf, cap, "%s/.local/share/brig", home);
	else {
		brig_fail(err, BRIG_E_INVALID, 0, "no place for images is known");
		return brig_fix(err, "set BRIG_DATA or HOME to a directory");
	}
	if (n < 0 || (size_t)n >= cap)
		return brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "the image store's path");
	if (buf[0] != '/')
		return brig_fail(err, BRIG_E_INVALID, 0, "BRIG_DATA '%s' is not absolute", buf);
	return 0;
}

static int no_store(const char *path, struct brig_err *err)
{
	brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no image store at '%s'", path);
	return brig_fix(err, "make the default image: brig image build base");
}

int store_open(const char *data, struct store *ret, struct brig_err *err)
{
	struct store s = STORE_INIT;
	struct stat st;
	if (data)
		snprintf(s.path, sizeof(s.path), "%s", data);
	else if (store_default_path(s.path, sizeof(s.path), err) < 0)
		return -1;
	s.data = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s.data < 0 && errno == ENOENT)
		return no_store(s.path, err);
	if (s.data < 0)
		/* A directory that may only be passed through will do for looking things up. */
		s.data = open(s.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s.data < 0 || fstat(s.data, &st) < 0) {
		brig_fail(err, BRIG_E_DENIED, errno, "open image store '%s'", s.path);
		store_close(&s);
		return -1;
	}
	/* Whose process this was when it was executed: brigd may not ask any more, its filter lacks the call. */
	if ((st.st_uid != 0 && st.st_uid != getauxval(AT_EUID)) || st.st_mode & (S_IWGRP | S_IWOTH)) {
		brig_fail(err, BRIG_E_DENIED, 0, "the image store '%s' can be changed by others",
			  s.path);
		brig_fix(err, "chown it to the user that runs brig, and chmod go-w");
		store_close(&s);
		return -1;
	}
	s.images = openat(s.data, "images", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	s.names = openat(s.data, "names", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s.images < 0 || s.names < 0) {
		if (errno == ENOENT)
			no_store(s.path, err);
		else
			brig_fail(err, BRIG_E_CORRUPT, errno, "open image store '%s'", s.path);
		store_close(&s);
		return -1;
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	fd_close(&s->data);
	fd_close(&s->images);
	fd_close(&s->names);
}

static int not_found(const char *ref, struct brig_err *err)
{
	char shown[128];
	brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no image '%s'",
		  image_name_print(ref, shown, sizeof(shown)));
	if (strcmp(ref, "base") == 0)
		return brig_fix(err, "make it: brig image build base");
	if (strcmp(ref, "code-interpreter-v1") == 0)
		return brig_fix(err, "make it: brig image build code-interpreter");
	return brig_fix(err, "see `brig image ls`, or add it: brig image import NAME FILE.tar");
}

/* The one image whose digest begins with these digits. */
static int resolve_prefix(const struct store *s, const char *hex, struct image_digest *ret,
			  struct brig_err *err)
{
	size_t n = strlen(hex);
	int fd = openat(s->images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		fd_close(&fd);
		return not_found(hex, err);
	}
	struct dirent *e;
	unsigned found = 0;
	while ((e = readdir(d))) {
		struct image_digest one;
		if (image_digest_parse(e->d_name, &one) == 0 &&
		    strncmp(one.text + 7, hex, n) == 0) {
			*ret = one;
			found++;
		}
	}
	closedir(d);
	if (found == 0)
		return not_found(hex, err);
	if (found > 1) {
		brig_fail(err, BRIG_E_INVALID, 0, "%u images begin with '%s'", found, hex);
		return brig_fix(err, "give more digits; `brig image ls -o json` shows all");
	}
	return 0;
}

int store_resolve(const struct store *s, const char *ref, struct image_digest *ret,
		  struct brig_err *err)
{
	if (strcmp(ref, IMAGE_HOST) == 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "'host' is built in, not in the store");
	if (image_digest_parse(ref, ret) == 0)
		return 0;
	if (!image_name_ok(ref))
		return not_found(ref, err);

	char text[IMAGE_DIGEST_LEN + 16];
	ssize_t n = fd_slurp_at(s->names, ref, text, sizeof(text));
	if (n >= 0) {
		if (image_digest_parse(text, ret) == 0)
			return 0;
		brig_fail(err, BRIG_E_CORRUPT, 0, "'%s/names/%s' holds no digest", s->path, ref);
		return brig_fix(err, "make the image again, or: brig image rm %s", ref);
	}
	if (n != -ENOENT)
		return brig_fail(err, n == -EACCES ? BRIG_E_DENIED : BRIG_E_CORRUPT, (int)-n,
				 "read '%s/names/%s'", s->path, ref);
	size_t digits = strspn(ref, "0123456789abcdef");
	if (ref[digits] == '\0' && digits >= IMAGE_HEX_SHORT)
		return resolve_prefix(s, ref, ret, err);
	return not_found(ref, err);
}

static int read_config(int dir, const struct image_digest *digest, struct image_config *ret,
		       struct brig_err *err)
{
	AUTO_FREE char *text = malloc(IMAGE_CONFIG_MAX);
	struct image_config c;
	if (!text)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read config.json");
	ssize_t n = fd_slurp_at(dir, "config.json", text, IMAGE_CONFIG_MAX);
	if (n < 0)
		return brig_fail(err, BRIG_E_CORRUPT, (int)-n, "read config.json");
	if (image_config_parse(text, (size_t)n, &c, err) < 0)
		return brig_ctx(err, "config.json");
	if (strcmp(c.digest.text, digest->text) != 0) {
		image_config_done(&c);
		return brig_fail(err, BRIG_E_CORRUPT, 0, "config.json is that of another image");
	}
	*ret = c;
	return 0;
}

/* What to do about an image of which a part is missing. */
static int broken(const struct image_digest *digest, struct brig_err *err)
{
	brig_ctx(err, "image %s", digest->text);
	return brig_fix(err, "remove it and make it again: brig image rm %.19s", digest->text + 7);
}

int store_read_config(const struct store *s, const struct image_digest *digest,
		      struct image_config *ret, struct brig_err *err)
{
	AUTO_FD dir = openat(s->images, digest->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? not_found(digest->text, err)
				       : brig_fail(err, BRIG_E_CORRUPT, errno, "open image %s",
						   digest->text);
	return read_config(dir, digest, ret, err) < 0 ? broken(digest, err) : 0;
}

/* The tree of a digest, or -errno. */
static int tree_open(const struct store *s, const struct image_digest *digest, int flags)
{
	char path[IMAGE_DIGEST_LEN + 8];
	snprintf(path, sizeof(path), "%s/rootfs", digest->dir);
	int fd = openat(s->images, path, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int store_trees(const struct store *s, const struct image_config *c, int flags, int *ret,
		unsigned *ret_n, struct brig_err *err)
{
	unsigned n = 0, all = c->layers_n ? (unsigned)c->layers_n : 1;
	for (; n < all; n++) {
		const struct image_digest *d = c->layers_n ? &c->layers[n].digest : &c->digest;
		ret[n] = tree_open(s, d, flags);
		if (ret[n] >= 0)
			continue;
		brig_fail(err, BRIG_E_CORRUPT, -ret[n], "open its layer %s", d->text);
		while (n > 0)
			fd_close(&ret[--n]);
		return broken(&c->digest, err);
	}
	*ret_n = n;
	return 0;
}

/* Is every tree of it there? */
static int trees_there(const struct store *s, const struct image_config *c, struct brig_err *err)
{
	unsigned all = c->layers_n ? (unsigned)c->layers_n : 1;
	for (unsigned i = 0; i < all; i++) {
		const struct image_digest *d = c->layers_n ? &c->layers[i].digest : &c->digest;
		AUTO_FD fd = tree_open(s, d, O_PATH);
		if (fd < 0)
			return brig_fail(err, BRIG_E_CORRUPT, -fd, "open its root directory%s%s",
					 c->layers_n ? ": layer " : "", c->layers_n ? d->text : "");
	}
	return 0;
}

int store_lookup(const struct store *s, const char *ref, struct store_image *ret,
		 struct brig_err *err)
{
	struct image_digest digest;
	struct stat st, now;
	struct store_image i = STORE_IMAGE_INIT;
	if (store_resolve(s, ref, &digest, err) < 0)
		return -1;
	i.dir = openat(s->images, digest.dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (i.dir < 0 && errno == ENOENT)
		return not_found(ref, err);
	if (i.dir < 0 || fstat(i.dir, &st) < 0) {
		brig_fail(err, errno == EACCES ? BRIG_E_DENIED : BRIG_E_CORRUPT, errno,
			  "open image %s", digest.text);
		goto fail;
	}
	i.lock = openat(i.dir, ".lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (i.lock < 0) {
		brig_fail(err, BRIG_E_CORRUPT, errno, "open its lock");
		broken(&digest, err);
		goto fail;
	}
	if (flock(i.lock, LOCK_SH | LOCK_NB) < 0) {
		brig_fail(err, BRIG_E_BUSY, 0, "image '%s' is being removed", ref);
		goto fail;
	}
	if (fstatat(s->images, digest.dir, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
	    now.st_dev != st.st_dev || now.st_ino != st.st_ino) {
		not_found(ref, err);
		goto fail;
	}
	if (read_config(i.dir, &digest, &i.config, err) < 0) {
		broken(&digest, err);
		goto fail;
	}
	if (trees_there(s, &i.config, err) < 0) {
		broken(&digest, err);
		goto fail;
	}
	*ret = i;
	return 0;
fail:
	store_image_done(&i);
	return -1;
}

void store_image_done(struct store_image *i)
{
	fd_close(&i->dir);
	fd_close(&i->lock);
	image_config_done(&i->config);
}
