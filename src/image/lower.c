/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lower.c: lookups in a stack of layers.
 *
 * Theory of operation
 * -------------------
 * Runs in the confined processes that make a layer: they hold a read-only copy of each layer below,
 * and see no merged view of them. A path is walked one component after the other, and of each layer
 * it is known whether it still has a part in the directory at hand. An overlay mount would do the
 * same, but is one more thing that a process which parses hostile input would have to be allowed.
 */
#include "image/lower.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/tree.h"

/* As many as the kernel follows. */
#define LINKS_MAX 40

struct walk {
	bool part[IMAGE_LAYERS_MAX + 1]; /* layers that show something at the path */
	unsigned top;			 /* the first of them */
	struct stat st;			 /* what it shows */
};

static void stop_at(const struct lower *l, struct walk *w, unsigned from)
{
	for (unsigned k = from; k < l->n; k++)
		w->part[k] = false;
}

/* One prefix of the path. */
static int walk_step(const struct lower *l, struct walk *w, const char *prefix)
{
	bool found = false;
	for (unsigned k = 0; k < l->n; k++) {
		struct stat st;
		if (!w->part[k])
			continue;
		if (fstatat(l->fd[k], prefix, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT && errno != ENOTDIR)
				return -errno;
			w->part[k] = false;
			continue;
		}
		if (lower_is_whiteout(&st)) {
			stop_at(l, w, k);
			break;
		}
		if (!found) {
			w->st = st;
			w->top = k;
		} else if (!S_ISDIR(st.st_mode)) {
			stop_at(l, w, k);
			break;
		}
		found = true;
		if (!S_ISDIR(st.st_mode)) {
			stop_at(l, w, k + 1);
			break;
		}
	}
	return found ? 0 : -ENOENT;
}

static int walk_path(const struct lower *l, const char *path, struct walk *w)
{
	char prefix[TREE_PATH_MAX + 1];
	size_t at = 0, len = strlen(path);
	if (len > TREE_PATH_MAX)
		return -ENAMETOOLONG;
	for (unsigned k = 0; k < l->n; k++)
		w->part[k] = true;
	int r = walk_step(l, w, ".");
	while (r == 0 && at < len) {
		size_t n = at + strcspn(path + at, "/");
		if (!S_ISDIR(w->st.st_mode))
			return -ENOTDIR;
		memcpy(prefix, path, n);
		prefix[n] = '\0';
		r = walk_step(l, w, prefix);
		at = n + (path[n] == '/');
	}
	return r;
}

int lower_look(const struct lower *l, const char *path, struct stat *ret)
{
	struct walk w;
	int r = walk_path(l, path, &w);
	if (r == 0)
		*ret = w.st;
	return r;
}

int lower_open(const struct lower *l, const char *path, int flags)
{
	struct walk w;
	int r = walk_path(l, path, &w);
	return r < 0 ? r
		     : path_open_beneath(l->fd[w.top], path[0] ? path : ".", flags | O_NOFOLLOW, 0);
}

/* A name of one layer. */
struct seen {
	char *name;
	unsigned layer;
};

static int seen_compare(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	int r = strcmp(x->name, y->name);
	return r ? r : (x->layer > y->layer) - (x->layer < y->layer);
}

struct seen_list {
	struct seen *v;
	size_t n, cap;
};

/* All names of one layer's directory, whiteouts as well. */
static int seen_add(struct seen_list *s, int fd, unsigned layer, size_t max)
{
	struct names d;
	int r = names_read(fd, max, &d);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d.n && r == 0; i++) {
		if (s->n == s->cap) {
			size_t cap = s->cap ? s->cap * 2 : 64;
			struct seen *v = realloc(s->v, cap * sizeof(*v));
			if (!v) {
				r = -ENOMEM;
				break;
			}
			s->v = v;
			s->cap = cap;
		}
		s->v[s->n++] = (struct seen){ .name = d.list[i], .layer = layer };
		d.list[i] = NULL;
	}
	names_done(&d);
	return r;
}

int lower_names(const struct lower *l, const char *path, size_t max, struct names *ret)
{
	struct walk w;
	struct seen_list s = { .v = NULL };
	struct names out = { .list = NULL };
	const char *at = path[0] ? path : ".";
	int r = walk_path(l, path, &w);
	if (r == 0 && !S_ISDIR(w.st.st_mode))
		r = -ENOTDIR;
	for (unsigned k = 0; r == 0 && k < l->n; k++) {
		if (!w.part[k])
			continue;
		AUTO_FD fd = path_open_beneath(l->fd[k], at, O_RDONLY | O_DIRECTORY, 0);
		r = fd < 0 ? fd : seen_add(&s, fd, k, max);
	}
	if (r == 0 && s.n)
		qsort(s.v, s.n, sizeof(*s.v), seen_compare);
	for (size_t i = 0; i < s.n && r == 0; i++) {
		struct stat st;
		/* The topmost decides. */
		if (i && strcmp(s.v[i].name, s.v[i - 1].name) == 0)
			continue;
		AUTO_FD fd = path_open_beneath(l->fd[s.v[i].layer], at, O_PATH | O_DIRECTORY, 0);
		if (fd < 0)
			r = fd;
		else if (fstatat(fd, s.v[i].name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		else if (!lower_is_whiteout(&st))
			r = names_add(&out, max, s.v[i].name);
	}
	for (size_t i = 0; i < s.n; i++)
		free(s.v[i].name);
	free(s.v);
	if (r < 0)
		names_done(&out);
	else
		*ret = out;
	return r;
}

/* Appends one component to a path. */
static int path_push(char *path, const char *name, size_t n)
{
	size_t len = strlen(path);
	if (len + n + 1 > TREE_PATH_MAX)
		return -ENAMETOOLONG;
	if (len)
		path[len++] = '/';
	memcpy(path + len, name, n);
	path[len + n] = '\0';
	return 0;
}

static void path_pop(char *path)
{
	char *slash = strrchr(path, '/');
	*(slash ? slash : path) = '\0';
}

/* The target of the link at path, behind which `rest` goes on, becomes the new rest. */
static int follow(const struct lower *l, const char *path, const char *rest, char *ret)
{
	char target[TREE_PATH_MAX + 1];
	AUTO_FD fd = lower_open(l, path, O_PATH);
	if (fd < 0)
		return fd;
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	size_t len = strlen(rest);
	if ((size_t)n + 1 + len > TREE_PATH_MAX)
		return -ENAMETOOLONG;
	memmove(ret + n + 1, rest, len + 1); /* rest lies in ret */
	memcpy(ret, target, (size_t)n);
	ret[n] = '/';
	return 0;
}

int lower_resolve(const struct lower *l, const char *path, char *ret)
{
	char todo[TREE_PATH_MAX + 1];
	unsigned links = 0;
	struct stat st;
	if (strlen(path) > TREE_PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(todo, path);
	ret[0] = '\0';
	for (char *at = todo; *at;) {
		size_t n = strcspn(at, "/");
		char *rest = at + n + (at[n] == '/');
		if (n == 0 || (n == 1 && at[0] == '.')) {
			at = rest;
			continue;
		}
		if (n == 2 && at[0] == '.' && at[1] == '.') {
			path_pop(ret);
			at = rest;
			continue;
		}
		int r = n > TREE_NAME_MAX ? -ENAMETOOLONG : path_push(ret, at, n);
		if (r < 0)
			return r;
		r = lower_look(l, ret, &st);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && S_ISLNK(st.st_mode)) {
			if (++links > LINKS_MAX)
				return -ELOOP;
			if ((r = follow(l, ret, rest, todo)) < 0)
				return r;
			path_pop(ret);
			if (todo[0] == '/')
				ret[0] = '\0';
			at = todo;
			continue;
		}
		at = rest;
	}
	return 0;
}
