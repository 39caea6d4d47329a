/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree_layer.c: a tree that lies upon others.
 *
 * Theory of operation
 * -------------------
 * Runs where tree.c runs. Which names are hidden is told by entries that may stand anywhere in an
 * archive, so it is only noted, and done when everything else is there. A name becomes a whiteout
 * if the layers below show something at it and this one does not. A directory that is there in both
 * and hides what is below gets a whiteout for each name that it lacks, and so on down: overlayfs
 * has an attribute for that, but writing it needs a privilege, and reading it depends on how the
 * overlay is mounted. A whiteout needs neither (Linux 5.8).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/lower.h"
#include "image/tree_inner.h"

#define CHUNK (64 * 1024)

struct tree_hidden {
	char *path; /* "" = the root */
	bool opaque;
};

static struct tree_meta meta_of(const struct stat *st)
{
	return (struct tree_meta){ .mode = st->st_mode & 07777,
				   .uid = st->st_uid,
				   .gid = st->st_gid,
				   .mtime = st->st_mtim.tv_sec };
}

bool tree_implied(const struct tree *t, const char *path, struct tree_meta *ret)
{
	struct stat st;
	if (!t->lower || lower_look(t->lower, path, &st) < 0 || !S_ISDIR(st.st_mode))
		return false;
	*ret = meta_of(&st);
	if (!t->keep_owner)
		ret->uid = ret->gid = 0;
	return true;
}

static void place_path(const struct place *p, char path[TREE_PATH_MAX + 1])
{
	char *at = path;
	/* tree_place_parse has made sure that it fits. */
	if (strcmp(p->parent, ".") != 0)
		at = stpcpy(stpcpy(path, p->parent), "/");
	strcpy(at, p->base);
}

/* The bytes of a file below into one of the layer. */
static int copy_bytes(int in, struct tree_file *out, struct brig_err *err)
{
	AUTO_FREE char *chunk = malloc(CHUNK);
	uint64_t at = 0;
	ssize_t n = -ENOMEM;
	while (chunk && (n = fd_read_full(in, chunk, CHUNK)) > 0) {
		if (tree_file_write(out, at, chunk, (size_t)n, err) < 0)
			return -1;
		at += (uint64_t)n;
	}
	return n < 0 ? tree_fail_sys(err, (int)-n, "copy", "a file of the layers below") : 0;
}

int tree_copy_up(struct tree *t, const struct place *p, const char *name, struct brig_err *err)
{
	char path[TREE_PATH_MAX + 1];
	struct tree_file out;
	struct stat st;
	place_path(p, path);
	AUTO_FD in = lower_open(t->lower, path, O_RDONLY | O_NONBLOCK);
	if (in < 0 || fstat(in, &st) < 0 || !S_ISREG(st.st_mode))
		return tree_refuse(err, name,
				   "is a hard link to what is not a regular file of this image (yet)");
	struct tree_meta m = meta_of(&st);
	if (!t->keep_owner)
		m.uid = m.gid = 0;
	if (tree_add_file(t, path, (uint64_t)st.st_size, &m, &out, err) < 0)
		return -1;
	if (copy_bytes(in, &out, err) < 0) {
		tree_file_drop(&out);
		return -1;
	}
	return tree_file_finish(&out, err);
}

int tree_hide(struct tree *t, const char *name, bool opaque, struct brig_err *err)
{
	struct place p;
	char path[TREE_PATH_MAX + 1];
	if (tree_place_parse(name, &p, err) < 0 || tree_count_entry(t, err) < 0)
		return -1;
	if (!p.base[0] && !opaque)
		return tree_refuse(err, name, "would hide the root directory");
	place_path(&p, path);
	if (t->n_hidden == t->hidden_cap) {
		size_t cap = t->hidden_cap ? t->hidden_cap * 2 : 64;
		struct tree_hidden *v = realloc(t->hidden, cap * sizeof(*v));
		if (!v)
			return tree_fail_sys(err, ENOMEM, "remember", name);
		t->hidden = v;
		t->hidden_cap = cap;
	}
	char *copy = strdup(path);
	if (!copy)
		return tree_fail_sys(err, ENOMEM, "remember", name);
	t->hidden[t->n_hidden++] = (struct tree_hidden){ .path = copy, .opaque = opaque };
	return 0;
}

void tree_hide_done(struct tree *t)
{
	for (size_t i = 0; i < t->n_hidden; i++)
		free(t->hidden[i].path);
	free(t->hidden);
	t->hidden = NULL;
	t->n_hidden = t->hidden_cap = 0;
}

static int whiteout(struct tree *t, const char *path, struct brig_err *err)
{
	struct place p;
	if (tree_place_parse(path, &p, err) < 0 || tree_count_entry(t, err) < 0)
		return -1;
	AUTO_FD dir = tree_place_open(t, &p, path, err);
	if (dir < 0)
		return -1;
	if (mknodat(dir, p.base, S_IFCHR, 0) < 0)
		return tree_fail_sys(err, errno, "hide", path);
	if (t->keep_owner && fchownat(dir, p.base, 0, 0, AT_SYMLINK_NOFOLLOW) < 0)
		return tree_fail_sys(err, errno, "set the owner of", path);
	return 0;
}

/* What this layer has at path, which may lie below what is none of its directories. 0 or -errno. */
static int own_look(const struct tree *t, const char *path, struct stat *st)
{
	struct place p;
	if (tree_place_parse(path, &p, NULL) < 0)
		return -EINVAL;
	AUTO_FD dir = path_open_beneath(t->root, p.parent, O_PATH | O_DIRECTORY, 0);
	if (dir < 0)
		return dir;
	return fstatat(dir, p.base[0] ? p.base : ".", st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int hide_below(struct tree *t, const char *path, unsigned depth, struct brig_err *err);

/* Something below shows at path: hides it, as far as this layer does not show something else. */
static int hide_one(struct tree *t, const char *path, unsigned depth, struct brig_err *err)
{
	struct stat own, st;
	int r = own_look(t, path, &own);
	if (r == -ENOENT)
		return whiteout(t, path, err);
	/* A link or file of this layer covers it, here or further up. */
	if (r == -ENOTDIR || r == -ELOOP || (r == 0 && !S_ISDIR(own.st_mode)))
		return 0;
	if (r < 0)
		return tree_fail_sys(err, -r, "look at", path);
	if (lower_look(t->lower, path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	return hide_below(t, path, depth + 1, err);
}

static int hide_below(struct tree *t, const char *path, unsigned depth, struct brig_err *err)
{
	struct names d;
	char child[TREE_PATH_MAX + 1];
	if (depth > TREE_DEPTH_MAX)
		return tree_refuse(err, path, "is more than 256 directories deep");
	int r = lower_names(t->lower, path, t->max.entries, &d);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return tree_fail_sys(err, -r, "list what is below", path);
	for (size_t i = 0; i < d.n && r == 0; i++) {
		int n = snprintf(child, sizeof(child), "%s%s%s", path, path[0] ? "/" : "",
				 d.list[i]);
		r = n < 0 || (size_t)n >= sizeof(child)
			    ? tree_refuse(err, path, "has a name of more than 4095 bytes")
			    : hide_one(t, child, depth, err);
	}
	names_done(&d);
	return r;
}

int tree_hide_apply(struct tree *t, struct brig_err *err)
{
	for (size_t i = 0; i < t->n_hidden; i++) {
		const struct tree_hidden *h = &t->hidden[i];
		struct stat st;
		if (lower_look(t->lower, h->path, &st) < 0)
			continue;
		int own = h->opaque ? own_look(t, h->path, &st) : 0, r = 0;
		if (!h->opaque)
			r = hide_one(t, h->path, 0, err);
		else if (own == -ENOENT || (own == 0 && S_ISDIR(st.st_mode)))
			r = hide_below(t, h->path, 0, err);
		if (r < 0)
			return -1;
	}
	return 0;
}
