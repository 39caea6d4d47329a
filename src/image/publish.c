/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c: making the store, and moving images in and out of it.
 *
 * Theory of operation
 * -------------------
 * Runs in brig-image as the owner of the store. A tree arrives finished: this file adds config.json
 * and the lock file beside it, flushes the file system, renames the whole, and only then the name.
 * Removal begins with the image, out of images/ under its exclusive lock (if it stays in use,
 * nothing has happened yet), then its names go, then the slow part. A crash in between leaves an image
 * without a name, a name without an image, or a staging directory without an owner; `brig image gc`
 * tells.
 */
#include "image/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "brig/ids.h"
#include "image/publish_inner.h"

#define UNUSED_MS 1500u

int publish_fail(struct brig_err *err, const char *path, int sys, const char *what)
{
	enum brig_code code = sys == EACCES || sys == EPERM || sys == EROFS ? BRIG_E_DENIED
			      : sys == ENOSPC || sys == EDQUOT		    ? BRIG_E_EXHAUSTED
									    : BRIG_E_INTERNAL;
	brig_fail(err, code, sys, "image store '%s': %s", path, what);
	if (code == BRIG_E_DENIED)
		return brig_fix(err,
				"run it as the owner of the store, or set BRIG_DATA to another");
	if (code == BRIG_E_EXHAUSTED)
		return brig_fix(err, "free bytes or inodes there (df, df -i), or set BRIG_DATA");
	return -1;
}

/* mkdir -p for the store's own path, which is the operator's word. */
static int make_path(const char *path)
{
	char at[PATH_MAX];
	size_t len = (size_t)snprintf(at, sizeof(at), "%s", path);
	if (len >= sizeof(at))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		at[i] = '\0';
		if (mkdir(at, 0755) < 0 && errno != EEXIST)
			return -errno;
		at[i] = path[i];
	}
	return 0;
}

/* A directory of the store with exactly this mode and, for root, group. */
static int make_part(int data, const char *name, mode_t mode, gid_t gid, bool root)
{
	struct stat st;
	if (mkdirat(data, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	AUTO_FD fd = openat(data, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (root && (st.st_uid != 0 || st.st_gid != gid) && fchown(fd, 0, gid) < 0)
		return -errno;
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

int publisher_open(const char *data, struct publisher *ret, struct brig_err *err)
{
	struct publisher p = PUBLISHER_INIT;
	char path[PATH_MAX];
	p.root = geteuid() == 0;
	if (data)
		snprintf(path, sizeof(path), "%s", data);
	else if (store_default_path(path, sizeof(path), err) < 0)
		return -1;
	int r = make_path(path);
	if (r < 0) {
		publish_fail(err, path, -r, "make the directory");
		return brig_fix(err, "set BRIG_DATA to a directory that you may write to");
	}
	AUTO_FD dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return publish_fail(err, path, errno, "open");
	if ((r = make_part(dir, "images", p.root ? 0710 : 0700, BRIG_DAEMON_GID, p.root)) < 0 ||
	    (r = make_part(dir, "names", p.root ? 0755 : 0700, 0, p.root)) < 0 ||
	    (r = make_part(dir, "tmp", 0700, 0, p.root)) < 0)
		return publish_fail(err, path, -r, "make its directories");
	if (store_open(path, &p.store, err) < 0)
		return -1;
	p.tmp = openat(dir, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	p.lock = openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p.tmp < 0 || p.lock < 0) {
		r = errno;
		publisher_close(&p);
		return publish_fail(err, path, r, "open");
	}
	*ret = p;
	return 0;
}

void publisher_close(struct publisher *p)
{
	store_close(&p->store);
	fd_close(&p->tmp);
	fd_close(&p->lock);
}

int publish_lock(const struct publisher *p, struct brig_err *err)
{
	while (flock(p->lock, LOCK_EX) < 0)
		if (errno != EINTR)
			return publish_fail(err, p->store.path, errno, "lock");
	return 0;
}

void publish_unlock(const struct publisher *p)
{
	flock(p->lock, LOCK_UN);
}

int publish_prepare(const struct publisher *p, const struct stage *s, struct brig_err *err)
{
	/* The umask of whoever calls is not the store's business. */
	if (mkdirat(s->dir, "image", 0700) < 0 || mkdirat(s->dir, "image/rootfs", 0700) < 0 ||
	    fchmodat(s->dir, "image", 0755, 0) < 0 || fchmodat(s->dir, "image/rootfs", 0755, 0) < 0)
		return publish_fail(err, p->store.path, errno, "make a directory for the image");
	int fd = openat(s->dir, "image/rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? publish_fail(err, p->store.path, errno, "open the image's directory") : fd;
}

int publish_prepare_layered(const struct publisher *p, const struct stage *s,
			    struct brig_err *err)
{
	if (mkdirat(s->dir, "image", 0700) < 0 || fchmodat(s->dir, "image", 0755, 0) < 0)
		return publish_fail(err, p->store.path, errno, "make a directory for the image");
	return 0;
}

int publish_write(int dir, const char *name, const char *text)
{
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = fd_write_full(fd, text, strlen(text));
	if (r == 0 && (fchmod(fd, 0644) < 0 || fsync(fd) < 0))
		r = -errno;
	return r;
}

int publish_sync(int dir)
{
	AUTO_FD fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int write_config(int dir, const char *name, const struct image_config *c,
			struct brig_err *err)
{
	json_t *json = image_config_json(c);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
	AUTO_FREE char *line = NULL;
	json_decref(json);
	if (!text)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "a variable of the image is no UTF-8 text");
	if (strlen(text) >= IMAGE_CONFIG_MAX - 1)
		return brig_fail(err, BRIG_E_LIMIT, 0,
				 "the image's variables are more than 64 KiB");
	if (asprintf(&line, "%s\n", text) < 0) {
		line = NULL;
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "write config.json");
	}
	int r = publish_write(dir, name, line);
	return r < 0 ? brig_fail(err, r == -ENOSPC ? BRIG_E_EXHAUSTED : BRIG_E_INTERNAL, -r,
				 "write config.json")
		     : 0;
}

/* Is what lies under this digest whole? */
static int image_sound(const struct store *s, const struct image_digest *digest)
{
	struct store_image i;
	if (store_lookup(s, digest->text, &i, NULL) < 0)
		return 0;
	store_image_done(&i);
	return 1;
}

/* A server keeps an image for a moment after the last sandbox that used it (IMAGE_IDLE_MS of
 * daemon/images.h), and a private one while it cleans up behind a `brig run` that has returned: so
 * long an image is waited for, and only then in use. 0 or -errno. */
int publish_lock_unused(int lock, bool patient)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	uint64_t until = clock_now() + UNUSED_MS * MS_NS;
	while (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		if (!patient || clock_now() >= until || (errno != EWOULDBLOCK && errno != EINTR))
			return -errno;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int publish_take_out(const struct publisher *p, const struct stage *s,
		     const struct image_digest *digest, const char *name, bool patient,
		     struct brig_err *err)
{
	AUTO_FD dir =
		openat(p->store.images, digest->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "there is no image %s", digest->text);
	if (dir < 0)
		return publish_fail(err, p->store.path, errno, "open an image");
	AUTO_FD lock = openat(dir, ".lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	/* Without its lock file nobody can have it in use. */
	if (lock < 0 && errno != ENOENT)
		return publish_fail(err, p->store.path, errno, "open an image's lock");
	if (lock >= 0 && publish_lock_unused(lock, patient) < 0) {
		brig_fail(err, BRIG_E_BUSY, 0, "image %s is in use", digest->text);
		return brig_fix(err, "remove the sandboxes that use it (brig ls), then try again");
	}
	if (renameat(p->store.images, digest->dir, s->dir, name) < 0)
		return publish_fail(err, p->store.path, errno, "move an image out");
	return 0;
}

/* The image of a tree that other images have as a layer: the tree stays, the image goes. */
static int forget_image(const struct publisher *p, const struct image_digest *digest,
			struct brig_err *err)
{
	AUTO_FD dir =
		openat(p->store.images, digest->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_FD lock = dir < 0 ? -1 : openat(dir, ".lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0)
		return publish_fail(err, p->store.path, errno, "open an image's lock");
	if (publish_lock_unused(lock, true) < 0) {
		brig_fail(err, BRIG_E_BUSY, 0, "image %s is in use", digest->text);
		return brig_fix(err, "remove the sandboxes that use it (brig ls), then try again");
	}
	if (unlinkat(dir, "config.json", 0) < 0 && errno != ENOENT)
		return publish_fail(err, p->store.path, errno, "remove an image's config.json");
	return publish_sync(dir) < 0 ? publish_fail(err, p->store.path, errno, "remove an image")
				     : 0;
}

static int replace_config(const struct publisher *p, const struct stage *s,
			  const struct image_config *c, struct brig_err *err)
{
	AUTO_FD dir = openat(p->store.images, c->digest.dir,
			     O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || renameat(s->dir, "image/config.json", dir, "config.json") < 0 ||
	    publish_sync(dir) < 0)
		return publish_fail(err, p->store.path, errno, "replace an image's config.json");
	return 0;
}

int publish_flush(const struct publisher *p, const struct stage *s, struct brig_err *err)
{
	AUTO_FD image = openat(s->dir, "image", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (FAILPOINT("image.sync") < 0 || image < 0 || syncfs(image) < 0)
		return publish_fail(err, p->store.path, errno, "write the image to the disk");
	return 0;
}

/* Under the store's lock. */
static int move_in(const struct publisher *p, const struct stage *s, const struct image_config *c,
		   bool new_config, bool flushed, bool *ret_reused, struct brig_err *err)
{
	if (image_sound(&p->store, &c->digest)) {
		*ret_reused = true;
		return new_config ? replace_config(p, s, c, err) : 0;
	}
	/* Its tree is there as a layer of others, who must not miss it for a moment. */
	if (c->layers_n == 0 && layer_sound(&p->store, &c->digest))
		return replace_config(p, s, c, err);
	if (!flushed && publish_flush(p, s, err) < 0)
		return -1;
	int r = renameat2(s->dir, "image", p->store.images, c->digest.dir, RENAME_NOREPLACE);
	if (r < 0 && errno == EEXIST) {
		/* Broken: this one is its repair. */
		if (publish_take_out(p, s, &c->digest, "removed", true, err) < 0)
			return -1;
		r = renameat2(s->dir, "image", p->store.images, c->digest.dir, RENAME_NOREPLACE);
	}
	if (r < 0 || publish_sync(p->store.images) < 0)
		return publish_fail(err, p->store.path, errno, "move the image in");
	return 0;
}

static int set_name(const struct publisher *p, const struct stage *s, const char *name,
		    const struct image_digest *digest, struct brig_err *err)
{
	char line[IMAGE_DIGEST_LEN + 2];
	snprintf(line, sizeof(line), "%s\n", digest->dir);
	int r = publish_write(s->dir, "name", line);
	if (r < 0 || renameat(s->dir, "name", p->store.names, name) < 0 ||
	    publish_sync(p->store.names) < 0)
		return publish_fail(err, p->store.path, r < 0 ? -r : errno, "write the name");
	return 0;
}

/* How many names lead to an image; with `remove`, none does afterwards. */
static int names_of(const struct publisher *p, const struct image_digest *digest, bool remove,
		    unsigned *ret_n, struct brig_err *err)
{
	struct names d;
	AUTO_FD list = openat(p->store.names, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = list < 0 ? -errno : names_read(list, SIZE_MAX, &d);
	if (r < 0)
		return publish_fail(err, p->store.path, -r, "list the names");
	*ret_n = 0;
	for (size_t i = 0; i < d.n && r == 0; i++) {
		struct image_digest one;
		char text[IMAGE_DIGEST_LEN + 16];
		if (!image_name_ok(d.list[i]) ||
		    fd_slurp_at(p->store.names, d.list[i], text, sizeof(text)) < 0 ||
		    image_digest_parse(text, &one) < 0 || strcmp(one.text, digest->text) != 0)
			continue;
		++*ret_n;
		if (remove && unlinkat(p->store.names, d.list[i], 0) < 0 && errno != ENOENT)
			r = publish_fail(err, p->store.path, errno, "remove a name");
	}
	names_done(&d);
	return r;
}

static void was_before(const struct publisher *p, const char *name,
		       const struct image_digest *now, struct image_digest *was)
{
	char text[IMAGE_DIGEST_LEN + 16];
	if (fd_slurp_at(p->store.names, name, text, sizeof(text)) < 0 ||
	    image_digest_parse(text, was) < 0 || strcmp(was->text, now->text) == 0)
		was->text[0] = '\0';
}

/* The file `layers`, for brig-jaild, which reads no JSON. */
static int write_layers(int dir, const struct image_config *c)
{
	AUTO_FREE char *text = malloc(c->layers_n * (IMAGE_DIGEST_LEN + 1) + 1);
	size_t at = 0;
	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < c->layers_n; i++)
		at += (size_t)sprintf(text + at, "%s\n", c->layers[i].digest.dir);
	return publish_write(dir, "layers", text);
}

int publish_image(const struct publisher *p, const struct stage *s, const struct image_config *c,
		  bool new_config, bool *ret_reused, struct image_digest *ret_was,
		  struct brig_err *err)
{
	return publish_image_as(p, s, c, c->name, new_config, ret_reused, ret_was, err);
}

int publish_image_as(const struct publisher *p, const struct stage *s,
		     const struct image_config *c, const char *name, bool new_config,
		     bool *ret_reused, struct image_digest *ret_was, struct brig_err *err)
{
	bool reused = false;
	struct image_digest was;
	unsigned left = 1;
	AUTO_FD image = openat(s->dir, "image", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (image < 0)
		return publish_fail(err, p->store.path, errno, "open the new image");
	int r = publish_write(image, ".lock", "");
	if (r < 0)
		return publish_fail(err, p->store.path, -r, "write the image's lock");
	if (c->layers_n && (r = write_layers(image, c)) < 0)
		return publish_fail(err, p->store.path, -r, "write the list of layers");
	if (write_config(image, "config.json", c, err) < 0)
		return -1;
	/* Without the lock, because it takes seconds; and not for a tree that is there already. */
	bool flushed = !image_sound(&p->store, &c->digest);
	if (flushed && publish_flush(p, s, err) < 0)
		return -1;
	if (publish_lock(p, err) < 0)
		return -1;
	was.text[0] = '\0';
	if (name)
		was_before(p, name, &c->digest, &was);
	r = FAILPOINT("image.move") < 0 ? publish_fail(err, p->store.path, EIO, "move the image in")
					: move_in(p, s, c, new_config, flushed, &reused, err);
	if (r == 0 && name)
		r = FAILPOINT("image.name") < 0
			    ? publish_fail(err, p->store.path, EIO, "write the name")
			    : set_name(p, s, name, &c->digest, err);
	if (r == 0 && was.text[0] && (names_of(p, &was, false, &left, NULL) < 0 || left > 0))
		was.text[0] = '\0';
	publish_unlock(p);
	if (r < 0)
		return -1;
	*ret_reused = reused;
	*ret_was = was;
	return 0;
}

/* Under the store's lock. */
static int remove_locked(const struct publisher *p, const struct stage *s, const char *ref,
			 struct publish_removed *out, struct brig_err *err)
{
	struct image_config c = { .size_bytes = 0 };
	unsigned n;
	bool by_name = image_name_ok(ref) && faccessat(p->store.names, ref, F_OK, 0) == 0;
	if (store_resolve(&p->store, ref, &out->digest, err) < 0) {
		/* A name that leads nowhere can still be removed, and nothing else would do it. */
		if (!by_name || (err && err->code != BRIG_E_CORRUPT))
			return -1;
		out->image = false;
		out->digest.text[0] = '\0';
		goto unlink_name;
	}
	if (names_of(p, &out->digest, false, &n, err) < 0)
		return -1;
	out->image = !by_name || n <= 1;
	if (out->image) {
		bool known = store_read_config(&p->store, &out->digest, &c, NULL) == 0;
		struct brig_err why = BRIG_ERR_INIT;
		unsigned users = 0;
		int r = layer_users(&p->store, &out->digest, &out->digest, &users, &why);
		if (r == 0 && !known && !by_name && users) {
			brig_fail(&why, BRIG_E_BUSY, 0, "layer %s is a part of %u images",
				  out->digest.text, users);
			r = brig_fix(&why, "remove these images; it goes with the last one");
		} else if (r == 0 && users)
			r = forget_image(p, &out->digest, &why);
		else if (r == 0)
			r = publish_take_out(p, s, &out->digest, "removed", true, &why);
		if (r == 0 && known)
			layers_drop(p, s, c.layers, c.layers_n);
		out->size_bytes = known ? c.size_bytes : 0;
		image_config_done(&c);
		if (r < 0 && !(by_name && why.code == BRIG_E_NOT_FOUND)) {
			if (err)
				*err = why;
			return -1;
		}
		if (names_of(p, &out->digest, true, &n, err) < 0)
			return -1;
		publish_sync(p->store.images);
		publish_sync(p->store.names);
		return 0;
	}
unlink_name:
	if (unlinkat(p->store.names, ref, 0) < 0)
		return publish_fail(err, p->store.path, errno, "remove the name");
	publish_sync(p->store.names);
	return 0;
}

int publish_remove(const struct publisher *p, const char *ref, struct publish_removed *ret,
		   struct brig_err *err)
{
	struct publish_removed out = { .image = false };
	struct stage s;
	if (strcmp(ref, IMAGE_HOST) == 0)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "'host' is built in and cannot be removed");
	if (stage_new(p->tmp, &s, err) < 0)
		return -1;
	int r = publish_lock(p, err);
	if (r == 0) {
		r = remove_locked(p, &s, ref, &out, err);
		publish_unlock(p);
	}
	stage_drop(&s); /* the slow part, without any lock but its own */
	if (r == 0)
		*ret = out;
	return r;
}

void publish_forget(const struct publisher *p, const struct image_digest *digest)
{
	struct publish_removed out = { .image = false };
	struct stage s;
	unsigned n = 1;
	if (stage_new(p->tmp, &s, NULL) < 0)
		return;
	if (publish_lock(p, NULL) == 0) {
		if (names_of(p, digest, false, &n, NULL) == 0 && n == 0)
			(void)remove_locked(p, &s, digest->text, &out, NULL);
		publish_unlock(p);
	}
	stage_drop(&s);
}
