/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c: hostile names and sizes into a directory.
 *
 * Theory of operation
 * -------------------
 * Runs in the confined process of confine.c, whose root directory is the tree itself; there these
 * rules are the inner of two walls. The unit tests and the fuzzer run it without the outer one.
 * Nobody else changes the tree meanwhile, so what was looked at is still there when it is used; the
 * only descriptors held across entries are the root's and that of a file being written.
 *
 * Directories are made with mode 0700 added and get their own mode at the end: an archive may hold
 * a read-only directory before the files in it.
 */
#include "image/tree_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/config.h"
#include "image/name.h"

struct tree_dirs {
	char *path; /* "" = the root */
	size_t seq;
	unsigned mode;
	int64_t mtime;
};

#define MTIME_MAX (1ll << 34) /* what ext4 can hold */

static const struct timespec no_time = { .tv_nsec = UTIME_OMIT };

void tree_init(struct tree *t, int root, bool keep_owner, const struct tree_limits *max)
{
	*t = (struct tree){ .root = root, .keep_owner = keep_owner, .max = *max };
}

void tree_done(struct tree *t)
{
	for (size_t i = 0; i < t->ndirs; i++)
		free(t->dirs[i].path);
	free(t->dirs);
	t->dirs = NULL;
	t->ndirs = t->cap = 0;
	tree_hide_done(t);
}

int tree_fail_sys(struct brig_err *err, int sys, const char *what, const char *name)
{
	char shown[160];
	image_name_print(name, shown, sizeof(shown));
	switch (sys) {
	case ENOSPC:
	case EDQUOT:
		brig_fail(err, BRIG_E_EXHAUSTED, sys, "%s '%s'", what, shown);
		return brig_fix(err, "free bytes or inodes where the images are (df, df -i), "
				     "or set BRIG_DATA to a place on another disk");
	case EFBIG:
		return brig_fail(err, BRIG_E_LIMIT, sys, "%s '%s'", what, shown);
	case ENOMEM:
		return brig_fail(err, BRIG_E_EXHAUSTED, sys, "%s '%s'", what, shown);
	case EACCES:
	case EPERM:
	case EROFS:
		return brig_fail(err, BRIG_E_DENIED, sys, "%s '%s'", what, shown);
	default:
		return brig_fail(err, BRIG_E_INVALID, sys, "%s '%s'", what, shown);
	}
}

int tree_refuse(struct brig_err *err, const char *name, const char *why)
{
	char shown[160];
	return brig_fail(err, BRIG_E_INVALID, 0, "entry '%s' %s",
			 image_name_print(name, shown, sizeof(shown)), why);
}

int tree_place_parse(const char *name, struct place *p, struct brig_err *err)
{
	size_t at = 0;
	unsigned depth = 0;
	p->base[0] = p->parent[0] = '\0';
	for (const char *c = name; *c;) {
		size_t n = strcspn(c, "/");
		const char *part = c;
		c += n + (c[n] == '/');
		if (n == 0 || (n == 1 && part[0] == '.'))
			continue;
		if (n == 2 && part[0] == '.' && part[1] == '.')
			return tree_refuse(err, name, "has '..' in its name");
		if (n > TREE_NAME_MAX)
			return tree_refuse(err, name, "has a component of more than 255 bytes");
		if (++depth > TREE_DEPTH_MAX)
			return tree_refuse(err, name, "is more than 256 directories deep");
		/* The component before this one was not the last. */
		size_t last = strlen(p->base);
		if (at + last + n + 2 > TREE_PATH_MAX)
			return tree_refuse(err, name, "has a name of more than 4095 bytes");
		if (last) {
			if (at)
				p->parent[at++] = '/';
			memcpy(p->parent + at, p->base, last);
			at += last;
		}
		memcpy(p->base, part, n);
		p->base[n] = '\0';
	}
	if (at)
		p->parent[at] = '\0';
	else
		memcpy(p->parent, ".", 2);
	return 0;
}

int tree_count_entry(struct tree *t, struct brig_err *err)
{
	if (t->stats.entries >= t->max.entries) {
		brig_fail(err, BRIG_E_LIMIT, 0, "there are more than %llu entries",
			  (unsigned long long)t->max.entries);
		return brig_fix(err, "raise the limit with --max-entries if this is expected");
	}
	t->stats.entries++;
	return 0;
}

static int check_meta(struct tree *t, const char *name, const struct tree_meta *m,
		      struct brig_err *err)
{
	if (m->uid < 0 || m->uid > IMAGE_ID_MAX || m->gid < 0 || m->gid > IMAGE_ID_MAX) {
		tree_refuse(err, name, "belongs to a user or group id outside of 0 to 65535");
		return brig_fix(err, "give the files other owners; a sandbox has no more ids");
	}
	if (m->mode & (S_ISUID | S_ISGID))
		t->stats.stripped++;
	return 0;
}

/* Why a directory on the way cannot be passed. */
static int blocked(struct brig_err *err, int sys, const char *name)
{
	switch (sys) {
	case ELOOP:
		return tree_refuse(err, name, "lies below a symbolic link");
	case ENOTDIR:
		return tree_refuse(err, name, "lies below something that is no directory");
	case EXDEV:
		return tree_refuse(err, name, "would leave the image");
	default:
		return tree_fail_sys(err, sys, "open the directory of", name);
	}
}

/* One directory that no entry has told of, so far. */
static int make_implied(struct tree *t, int at, const char *part, const char *path,
			struct brig_err *err)
{
	struct place p;
	struct tree_meta m = { .mode = 0755, .mtime = -1 };
	bool known = tree_implied(t, path, &m);
	if (tree_count_entry(t, err) < 0)
		return -1;
	if (mkdirat(at, part, 0755) < 0 || fchmodat(at, part, 0755, 0) < 0 ||
	    (t->keep_owner &&
	     fchownat(at, part, (uid_t)m.uid, (gid_t)m.gid, AT_SYMLINK_NOFOLLOW) < 0))
		return tree_fail_sys(err, errno, "make the directory of", path);
	if (known &&
	    (tree_place_parse(path, &p, err) < 0 || tree_dir_remember(t, &p, &m) < 0))
		return tree_fail_sys(err, ENOMEM, "remember", path);
	return 0;
}

int tree_place_open(struct tree *t, const struct place *p, const char *name, struct brig_err *err)
{
	int fd = path_open_beneath(t->root, p->parent, O_PATH | O_DIRECTORY, 0);
	if (fd >= 0)
		return fd;
	if (fd != -ENOENT)
		return blocked(err, -fd, name);

	AUTO_FD at = path_open_beneath(t->root, ".", O_PATH | O_DIRECTORY, 0);
	for (const char *c = p->parent; at >= 0 && *c;) {
		char part[TREE_NAME_MAX + 1];
		size_t n = strcspn(c, "/");
		memcpy(part, c, n);
		part[n] = '\0';
		const char *part_end = c + n;
		c += n + (c[n] == '/');
		int next = path_open_beneath(at, part, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT) {
			char path[TREE_PATH_MAX + 1];
			snprintf(path, sizeof(path), "%.*s", (int)(part_end - p->parent),
				 p->parent);
			if (make_implied(t, at, part, path, err) < 0)
				return -1;
			next = path_open_beneath(at, part, O_PATH | O_DIRECTORY, 0);
		}
		fd_close(&at);
		at = next;
	}
	return at < 0 ? blocked(err, -at, name) : fd_steal(&at);
}

/* Parses, counts and opens; every entry comes through here. The root itself is for directories. */
static int entry_begin(struct tree *t, const char *name, struct place *p, struct brig_err *err)
{
	if (tree_place_parse(name, p, err) < 0 || tree_count_entry(t, err) < 0)
		return -1;
	if (!p->base[0])
		return tree_refuse(err, name, "takes the place of the root directory");
	return tree_place_open(t, p, name, err);
}

/* Removes what an earlier entry left at this name. */
static int entry_replace(int dir, const char *base, const char *name, struct brig_err *err)
{
	struct stat st;
	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : tree_fail_sys(err, errno, "look at", name);
	if (unlinkat(dir, base, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0)
		return 0;
	if (errno == ENOTEMPTY || errno == EEXIST)
		return tree_refuse(err, name, "would replace a directory that is not empty");
	return tree_fail_sys(err, errno, "replace", name);
}

int tree_dir_remember(struct tree *t, const struct place *p, const struct tree_meta *m)
{
	if (t->ndirs == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 256;
		struct tree_dirs *d = realloc(t->dirs, cap * sizeof(*d));
		if (!d)
			return -ENOMEM;
		t->dirs = d;
		t->cap = cap;
	}
	char *path;
	int top = strcmp(p->parent, ".") == 0;
	if (asprintf(&path, "%s%s%s", top ? "" : p->parent, top ? "" : "/", p->base) < 0)
		return -ENOMEM;
	t->dirs[t->ndirs] = (struct tree_dirs){
		.path = path, .seq = t->ndirs, .mode = m->mode & 01777, .mtime = m->mtime
	};
	t->ndirs++;
	return 0;
}

int tree_add_dir(struct tree *t, const char *name, const struct tree_meta *m, struct brig_err *err)
{
	struct place p;
	struct stat st;
	if (tree_place_parse(name, &p, err) < 0 || tree_count_entry(t, err) < 0 ||
	    check_meta(t, name, m, err) < 0)
		return -1;
	AUTO_FD dir = tree_place_open(t, &p, name, err);
	if (dir < 0)
		return -1;
	const char *base = p.base[0] ? p.base : ".";
	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
		if (entry_replace(dir, base, name, err) < 0)
			return -1;
		if (mkdirat(dir, base, 0700) < 0)
			return tree_fail_sys(err, errno, "make directory", name);
	}
	if (t->keep_owner &&
	    fchownat(dir, base, (uid_t)m->uid, (gid_t)m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return tree_fail_sys(err, errno, "set the owner of", name);
	if (tree_dir_remember(t, &p, m) < 0)
		return tree_fail_sys(err, ENOMEM, "remember", name);
	return 0;
}

int tree_add_symlink(struct tree *t, const char *name, const char *target,
		     const struct tree_meta *m, struct brig_err *err)
{
	struct place p;
	size_t n = strlen(target);
	if (n == 0 || n > TREE_PATH_MAX)
		return tree_refuse(err, name, "is a symbolic link with an impossible target");
	if (check_meta(t, name, m, err) < 0)
		return -1;
	AUTO_FD dir = entry_begin(t, name, &p, err);
	if (dir < 0 || entry_replace(dir, p.base, name, err) < 0)
		return -1;
	if (symlinkat(target, dir, p.base) < 0)
		return tree_fail_sys(err, errno, "make symbolic link", name);
	if (t->keep_owner &&
	    fchownat(dir, p.base, (uid_t)m->uid, (gid_t)m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return tree_fail_sys(err, errno, "set the owner of", name);
	return 0;
}

int tree_add_hardlink(struct tree *t, const char *name, const char *target, struct brig_err *err)
{
	struct place from, p;
	struct stat st, old;
	if (tree_place_parse(target, &from, err) < 0)
		return brig_ctx(err, "target of a hard link");
	AUTO_FD dir = entry_begin(t, name, &p, err);
	if (dir < 0)
		return -1;
	AUTO_FD src = path_open_beneath(t->root, from.parent, O_PATH | O_DIRECTORY, 0);
	bool below = t->lower && from.base[0] &&
		     (src < 0 ? src == -ENOENT
			      : fstatat(src, from.base, &st, AT_SYMLINK_NOFOLLOW) < 0);
	if (below && tree_copy_up(t, &from, name, err) < 0)
		return -1;
	if (below && src < 0)
		src = path_open_beneath(t->root, from.parent, O_PATH | O_DIRECTORY, 0);
	if (src < 0 || !from.base[0] || fstatat(src, from.base, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return tree_refuse(err, name,
			      "is a hard link to what is not a regular file of this image (yet)");
	/* A link to itself: replacing it first would lose the file. */
	if (fstatat(dir, p.base, &old, AT_SYMLINK_NOFOLLOW) == 0 && old.st_dev == st.st_dev &&
	    old.st_ino == st.st_ino)
		return 0;
	if (entry_replace(dir, p.base, name, err) < 0)
		return -1;
	if (linkat(src, from.base, dir, p.base, 0) < 0)
		return tree_fail_sys(err, errno, "make hard link", name);
	return 0;
}

int tree_add_device(struct tree *t, const char *name, struct brig_err *err)
{
	struct place p;
	if (tree_place_parse(name, &p, err) < 0 || tree_count_entry(t, err) < 0)
		return -1;
	t->stats.devices++;
	return 0;
}

int tree_add_file(struct tree *t, const char *name, uint64_t size, const struct tree_meta *m,
		  struct tree_file *ret, struct brig_err *err)
{
	struct place p;
	if (check_meta(t, name, m, err) < 0)
		return -1;
	if (size > t->max.bytes - t->stats.bytes) {
		char shown[160];
		brig_fail(err, BRIG_E_LIMIT, 0,
			  "entry '%s' of %llu bytes: more than %llu bytes in all",
			  image_name_print(name, shown, sizeof(shown)), (unsigned long long)size,
			  (unsigned long long)t->max.bytes);
		return brig_fix(err, "raise the limit with --max-size if this is expected");
	}
	AUTO_FD dir = entry_begin(t, name, &p, err);
	if (dir < 0 || entry_replace(dir, p.base, name, err) < 0)
		return -1;
	int fd = path_open_beneath(dir, p.base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return tree_fail_sys(err, -fd, "make file", name);
	t->stats.bytes += size;
	*ret = (struct tree_file){
		.fd = fd, .size = size, .meta = *m, .keep_owner = t->keep_owner
	};
	return 0;
}

int tree_file_write(struct tree_file *f, uint64_t offset, const void *data, size_t n,
		    struct brig_err *err)
{
	if (offset > f->size || n > f->size - offset)
		return brig_fail(err, BRIG_E_INVALID, 0, "it has more bytes than it declares");
	for (size_t put = 0; put < n;) {
		ssize_t r = pwrite(f->fd, (const char *)data + put, n - put, (off_t)(offset + put));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return tree_fail_sys(err, errno, "write", "its bytes");
		put += (size_t)r;
	}
	return 0;
}

int tree_file_finish(struct tree_file *f, struct brig_err *err)
{
	AUTO_FD fd = fd_steal(&f->fd);
	struct timespec times[2] = { no_time, { .tv_sec = f->meta.mtime } };
	/* The end may be a hole. */
	if (ftruncate(fd, (off_t)f->size) < 0)
		return tree_fail_sys(err, errno, "set the size of", "it");
	if (f->keep_owner && fchown(fd, (uid_t)f->meta.uid, (gid_t)f->meta.gid) < 0)
		return tree_fail_sys(err, errno, "set the owner of", "it");
	if (fchmod(fd, f->meta.mode & 0777) < 0)
		return tree_fail_sys(err, errno, "set the mode of", "it");
	if (f->meta.mtime >= 0 && f->meta.mtime < MTIME_MAX && futimens(fd, times) < 0)
		return tree_fail_sys(err, errno, "set the time of", "it");
	return 0;
}

void tree_file_drop(struct tree_file *f)
{
	fd_close(&f->fd);
}

static int dir_compare(const void *x, const void *y)
{
	const struct tree_dirs *a = x, *b = y;
	int r = strcmp(a->path, b->path);
	return r ? r : (a->seq > b->seq) - (a->seq < b->seq);
}

/* In descending order of paths, so that a directory without x is closed after what is below it; and
 * of several entries for one directory the last is met first. */
int tree_finish(struct tree *t, struct brig_err *err)
{
	const char *last = NULL;
	if (tree_hide_apply(t, err) < 0)
		return -1;
	if (t->ndirs)
		qsort(t->dirs, t->ndirs, sizeof(*t->dirs), dir_compare);
	for (size_t i = t->ndirs; i-- > 0;) {
		struct tree_dirs *d = &t->dirs[i];
		struct timespec times[2] = { no_time, { .tv_sec = d->mtime } };
		if (last && strcmp(last, d->path) == 0)
			continue;
		last = d->path;
		AUTO_FD fd = path_open_beneath(t->root, d->path, O_RDONLY | O_DIRECTORY, 0);
		/* A later entry may have put something else in its place. */
		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
			continue;
		if (fd < 0 || fchmod(fd, d->mode) < 0)
			return tree_fail_sys(err, fd < 0 ? -fd : errno, "set the mode of", d->path);
		if (d->mtime >= 0 && d->mtime < MTIME_MAX && futimens(fd, times) < 0)
			return tree_fail_sys(err, errno, "set the time of", d->path);
	}
	return 0;
}
