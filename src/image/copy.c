/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.c: reads a directory by descriptors and hands it to the tree.
 *
 * Theory of operation
 * -------------------
 * Runs in the confined process of confine.c. The source is a detached, read-only copy of the host's
 * mounts at that directory, so its own ".." ends there. Other processes may change the source at
 * any time: whatever is opened is opened without following links, and looked at again once it is
 * open. A FIFO put in the place of a file blocks nobody, because everything is opened nonblocking.
 */
#include "image/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/inodes.h"
#include "image/name.h"
#include "image/names.h"

#define CHUNK (256 * 1024)

struct copy {
	const struct copy_source *src;
	struct tree *t;
	struct inodes linked; /* files with several names: the first of them */
	char path[TREE_PATH_MAX + 1]; /* in the tree */
	const char *from;	      /* the path in the source that .. */
	size_t strip;		      /* .. this much of `path` stands for */
	unsigned char *chunk;
	struct brig_err *err;
};

static int copy_fail(struct copy *c, enum brig_code code, int sys, const char *why)
{
	char shown[160];
	return brig_fail(c->err, code, sys, "'%s' %s",
			 image_name_print(c->path, shown, sizeof(shown)), why);
}

static int copy_open(struct copy *c, int dir, const char *name, int flags)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS |
					   (c->src->cross ? 0ull : (unsigned)RESOLVE_NO_XDEV) };
	long r = syscall(SYS_openat2, dir, name, &how, sizeof(how));
	return r < 0 ? -errno : (int)r;
}

static struct tree_meta meta_of(const struct copy *c, const struct stat *st)
{
	if (c->src->owned)
		return (struct tree_meta){ .mode = st->st_mode & 07777,
					   .uid = c->t->keep_owner ? c->src->uid : 0,
					   .gid = c->t->keep_owner ? c->src->gid : 0,
					   .mtime = st->st_mtim.tv_sec };
	/* Where owners are not kept, whose files they were here does not matter either. */
	return (struct tree_meta){ .mode = st->st_mode & 07777,
				   .uid = c->t->keep_owner ? (int64_t)st->st_uid : 0,
				   .gid = c->t->keep_owner ? (int64_t)st->st_gid : 0,
				   .mtime = st->st_mtim.tv_sec };
}

/* From data to hole to data; a file system without holes is all data. */
static int copy_bytes(struct copy *c, int in, struct tree_file *out)
{
	off_t end = (off_t)out->size;
	for (off_t at = 0; at < end;) {
		at = lseek(in, at, SEEK_DATA);
		if (at < 0 && errno == ENXIO)
			return 0; /* only a hole remains */
		if (at < 0 || at > end)
			return copy_fail(c, BRIG_E_BUSY, 0, "changed while it was read");
		off_t hole = lseek(in, at, SEEK_HOLE);
		if (hole < 0)
			return copy_fail(c, BRIG_E_BUSY, errno, "changed while it was read");
		for (hole = hole < end ? hole : end; at < hole;) {
			size_t want = hole - at < CHUNK ? (size_t)(hole - at) : CHUNK;
			ssize_t n = pread(in, c->chunk, want, at);
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return copy_fail(c, n < 0 ? BRIG_E_DENIED : BRIG_E_BUSY,
						 n < 0 ? errno : 0, "cannot be read to its end");
			if (tree_file_write(out, (uint64_t)at, c->chunk, (size_t)n, c->err) < 0)
				return -1;
			at += n;
		}
	}
	return 0;
}

static int copy_file(struct copy *c, int dir, const char *name)
{
	struct stat st, end;
	struct tree_file out;
	AUTO_FD in = copy_open(c, dir, name, O_RDONLY | O_NONBLOCK);
	if (in < 0)
		return copy_fail(c, in == -EACCES ? BRIG_E_DENIED : BRIG_E_BUSY, -in,
				 "cannot be opened");
	if (fstat(in, &st) < 0 || !S_ISREG(st.st_mode))
		return copy_fail(c, BRIG_E_BUSY, 0, "changed while it was read");
	void **first = NULL;
	if (st.st_nlink > 1) {
		first = inodes_at(&c->linked, st.st_dev, st.st_ino);
		if (!first)
			return copy_fail(c, BRIG_E_EXHAUSTED, ENOMEM, "cannot be copied");
		if (*first)
			return tree_add_hardlink(c->t, c->path, *first, c->err);
	}
	struct tree_meta m = meta_of(c, &st);
	if (tree_add_file(c->t, c->path, (uint64_t)st.st_size, &m, &out, c->err) < 0)
		return -1;
	if (copy_bytes(c, in, &out) < 0) {
		tree_file_drop(&out);
		return -1;
	}
	if (fstat(in, &end) < 0 || end.st_size != st.st_size) {
		tree_file_drop(&out);
		return copy_fail(c, BRIG_E_BUSY, 0, "changed while it was read");
	}
	if (tree_file_finish(&out, c->err) < 0)
		return brig_ctx(c->err, "'%s'", name);
	if (first && !(*first = strdup(c->path)))
		return copy_fail(c, BRIG_E_EXHAUSTED, ENOMEM, "cannot be copied");
	return 0;
}

static int copy_dir(struct copy *c, int fd, size_t len, unsigned depth);

static int copy_subdir(struct copy *c, int dir, const char *name, const struct stat *seen,
		       size_t len, unsigned depth)
{
	struct stat st = *seen;
	AUTO_FD fd = copy_open(c, dir, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0 && fd != -EXDEV)
		return copy_fail(c, fd == -EACCES ? BRIG_E_DENIED : BRIG_E_BUSY, -fd,
				 "cannot be opened");
	if (fd >= 0 && fstat(fd, &st) < 0)
		return copy_fail(c, BRIG_E_BUSY, errno, "cannot be looked at");
	struct tree_meta m = meta_of(c, &st);
	if (tree_add_dir(c->t, c->path, &m, c->err) < 0)
		return -1;
	return fd < 0 ? 0 : copy_dir(c, fd, len, depth);
}

static bool skipped(const struct copy *c, bool is_dir)
{
	char path[2 * TREE_PATH_MAX];
	const char *rest = c->path + c->strip;
	if (!c->src->skip)
		return false;
	snprintf(path, sizeof(path), "%s%s%s", c->from, c->from[0] && *rest && *rest != '/' ? "/" : "",
		 c->from[0] ? rest : rest + (*rest == '/'));
	return c->src->skip(c->src->ctx, path, is_dir);
}

static int copy_entry(struct copy *c, int dir, const char *name, size_t len, unsigned depth)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0; /* gone since it was listed */
		return copy_fail(c, BRIG_E_DENIED, errno, "cannot be looked at");
	}
	if (skipped(c, S_ISDIR(st.st_mode)))
		return 0;
	if (S_ISREG(st.st_mode))
		return copy_file(c, dir, name);
	if (S_ISDIR(st.st_mode))
		return copy_subdir(c, dir, name, &st, len, depth + 1);
	if (S_ISLNK(st.st_mode)) {
		char target[TREE_PATH_MAX + 2];
		struct tree_meta m = meta_of(c, &st);
		ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return copy_fail(c, BRIG_E_BUSY, errno, "cannot be read");
		target[n] = '\0';
		return tree_add_symlink(c->t, c->path, target, &m, c->err);
	}
	return tree_add_device(c->t, c->path, c->err);
}

static int copy_dir(struct copy *c, int fd, size_t len, unsigned depth)
{
	struct names d;
	struct stat st;
	if (fstat(fd, &st) == 0 && st.st_dev == c->src->avoid_dev && st.st_ino == c->src->avoid_ino)
		return copy_fail(c, BRIG_E_INVALID, 0,
				 "is the image store, which it would go into");
	if (depth > TREE_DEPTH_MAX)
		return copy_fail(c, BRIG_E_INVALID, 0, "is more than 256 directories deep");
	int r = names_read(fd, c->t->max.entries, &d);
	if (r == -E2BIG)
		return copy_fail(c, BRIG_E_LIMIT, 0,
				 "holds more entries than --max-entries allows");
	if (r < 0)
		return copy_fail(c, BRIG_E_DENIED, -r, "cannot be listed");
	for (size_t i = 0; i < d.n && r == 0; i++) {
		size_t n = strlen(d.list[i]), at = len + (len > 0);
		if (at + n > TREE_PATH_MAX) {
			r = copy_fail(c, BRIG_E_INVALID, 0, "has too long a path in it");
			break;
		}
		if (len)
			c->path[len] = '/';
		memcpy(c->path + at, d.list[i], n + 1);
		r = copy_entry(c, fd, d.list[i], at + n, depth);
	}
	c->path[len] = '\0';
	names_done(&d);
	return r;
}

int copy_tree(const struct copy_source *src, struct tree *t, struct brig_err *err)
{
	struct copy c = { .src = src, .t = t, .from = "", .chunk = malloc(CHUNK), .err = err };
	struct stat st;
	int r = -1;
	AUTO_FD fd = copy_open(&c, src->fd, ".", O_RDONLY | O_DIRECTORY);
	if (!c.chunk)
		brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "copy the directory");
	else if (fd < 0 || fstat(fd, &st) < 0)
		brig_fail(err, BRIG_E_DENIED, fd < 0 ? -fd : errno, "open the directory");
	else {
		struct tree_meta m = meta_of(&c, &st);
		r = tree_add_dir(t, ".", &m, err);
		if (r == 0)
			r = copy_dir(&c, fd, 0, 0);
	}
	inodes_done(&c.linked);
	free(c.chunk);
	return r;
}

/* The directory that holds the last component of path, and that component. */
static int parent_open(struct copy *c, const char *path, const char **ret_base)
{
	char parent[TREE_PATH_MAX + 1] = ".";
	const char *slash = strrchr(path, '/');
	if (slash) {
		memcpy(parent, path, (size_t)(slash - path));
		parent[slash - path] = '\0';
	}
	*ret_base = slash ? slash + 1 : path;
	return copy_open(c, c->src->fd, parent, O_RDONLY | O_DIRECTORY);
}

static int copy_from(struct copy *c, const char *path, const char *into)
{
	const char *base = ".";
	struct stat st;
	AUTO_FD dir = path[0] ? parent_open(c, path, &base)
			      : copy_open(c, c->src->fd, ".", O_RDONLY | O_DIRECTORY);
	snprintf(c->path, sizeof(c->path), "%s", path);
	if (dir < 0 || fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		int sys = dir < 0 ? -dir : errno;
		copy_fail(c, sys == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, sys, "cannot be copied");
		return brig_fix(c->err, "name a file or folder of the context; no link is followed");
	}
	snprintf(c->path, sizeof(c->path), "%s", into);
	c->from = path;
	c->strip = strlen(into);
	if (!S_ISDIR(st.st_mode))
		return copy_entry(c, dir, base, c->strip, 0);
	AUTO_FD fd = copy_open(c, dir, base, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? copy_fail(c, BRIG_E_DENIED, -fd, "cannot be opened")
		      : copy_dir(c, fd, c->strip, 0);
}

int copy_path(const struct copy_source *src, const char *path, const char *into, struct tree *t,
	      struct brig_err *err)
{
	struct copy c = { .src = src, .t = t, .from = "", .chunk = malloc(CHUNK), .err = err };
	int r = c.chunk ? copy_from(&c, path, into)
			: brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "copy '%.100s'", path);
	inodes_done(&c.linked);
	free(c.chunk);
	return r;
}
