/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context.c: which files of a context a COPY means, and where they go.
 *
 * Theory of operation
 * -------------------
 * Runs in the confined process that makes a layer; copy.c reads the files, which never follows a link and
 * never leaves the folder. Only the destination follows links: those of the image, as a process inside would,
 * so that COPY x /bin/ goes to /usr/bin where /bin is a link.
 *
 * .dockerignore: one pattern a line, # and empty lines left out; * and ? within a name, ** any number of
 * them; ! takes back. The last pattern that fits a path, or a folder above it, decides. A folder that is left
 * out is entered all the same if any pattern takes something back.
 */
#include "image/context.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/copy.h"
#include "image/lower.h"
#include "image/names.h"
#include "image/tree_inner.h"

#define IGNORE_MAX (64 * 1024)
#define DEPTH_MAX 64
/* Comparisons for one pattern and path: several ** in one pattern may try very many ways. */
#define GLOB_STEPS 20000

struct context {
	const struct context_copy *c;
	char *ignore; /* text of .dockerignore, "" */
	bool takes_back;
	struct copy_source src;
	struct tree *t;
	char into[TREE_PATH_MAX + 1];
	bool into_dir;
	unsigned found;
	struct brig_err *err;
};

/* ---- patterns ---- */

/* Component by component; ** stands for any number of them. */
static bool glob(const char *pat, const char *path, unsigned depth, unsigned *steps)
{
	char p[TREE_NAME_MAX + 1], s[TREE_NAME_MAX + 1];
	if (depth > DEPTH_MAX || ++*steps > GLOB_STEPS)
		return false;
	if (!*pat)
		return !*path;
	size_t n = strcspn(pat, "/");
	const char *rest = pat + n + (pat[n] == '/');
	if (n == 2 && pat[0] == '*' && pat[1] == '*') {
		for (;;) {
			if (glob(rest, path, depth + 1, steps))
				return true;
			if (!*path)
				return false;
			size_t k = strcspn(path, "/");
			path += k + (path[k] == '/');
		}
	}
	size_t k = strcspn(path, "/");
	if (!*path || n >= sizeof(p) || k >= sizeof(s))
		return false;
	memcpy(p, pat, n);
	p[n] = '\0';
	memcpy(s, path, k);
	s[k] = '\0';
	return fnmatch(p, s, 0) == 0 && glob(rest, path + k + (path[k] == '/'), depth + 1, steps);
}

/* path or a folder above it. */
static bool glob_above(const char *pat, const char *path)
{
	char prefix[TREE_PATH_MAX + 1];
	unsigned steps = 0;
	for (size_t n = 0; path[n]; n += path[n] == '/') {
		n += strcspn(path + n, "/");
		if (n > TREE_PATH_MAX)
			return false;
		memcpy(prefix, path, n);
		prefix[n] = '\0';
		if (glob(pat, prefix, 0, &steps))
			return true;
	}
	return false;
}

bool context_ignored(const char *text, const char *path)
{
	bool ignored = false;
	while (*text) {
		char pat[1024];
		size_t n = strcspn(text, "\n"), len = n;
		const char *at = text;
		text += n + (text[n] == '\n');
		while (len && strchr(" \t\r/", at[len - 1]))
			len--;
		while (len && (*at == ' ' || *at == '\t')) {
			at++;
			len--;
		}
		bool back = len && *at == '!';
		at += back;
		len -= back;
		while (len && *at == '/') {
			at++;
			len--;
		}
		if (len > 2 && at[0] == '.' && at[1] == '/') {
			at += 2;
			len -= 2;
		}
		if (len == 0 || len >= sizeof(pat) || (*at == '#' && !back))
			continue;
		memcpy(pat, at, len);
		pat[len] = '\0';
		if (ignored == back && glob_above(pat, path))
			ignored = !back;
	}
	return ignored;
}

static bool skip(void *ctx, const char *path, bool is_dir)
{
	const struct context *x = ctx;
	return context_ignored(x->ignore, path) && !(is_dir && x->takes_back);
}

static int read_ignore(struct context *x)
{
	struct stat st;
	x->ignore = calloc(1, IGNORE_MAX);
	AUTO_FD fd = path_open_beneath(x->src.fd, ".dockerignore", O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
	if (!x->ignore)
		return brig_fail(x->err, BRIG_E_EXHAUSTED, ENOMEM, "read .dockerignore");
	if (fd == -ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size >= IGNORE_MAX)
		return brig_fail(x->err, BRIG_E_INVALID, fd < 0 ? -fd : 0,
				 ".dockerignore is no file of less than 64 KiB");
	ssize_t n = fd_read_full(fd, x->ignore, IGNORE_MAX - 1);
	if (n < 0)
		return brig_fail(x->err, BRIG_E_DENIED, (int)-n, "read .dockerignore");
	x->ignore[n] = '\0';
	x->takes_back = x->ignore[0] == '!' || strstr(x->ignore, "\n!") != NULL;
	return 0;
}

/* ---- sources ---- */

/* "./a//b/" is a/b; ".." is refused. */
static int source_clean(struct context *x, const char *text, char ret[TREE_PATH_MAX + 1])
{
	struct place p;
	struct brig_err why = BRIG_ERR_INIT;
	if (tree_place_parse(text, &p, &why) < 0) {
		brig_fail(x->err, BRIG_E_DENIED, 0, "COPY: %.200s", why.msg);
		return brig_fix(x->err, "name files of the context only");
	}
	bool top = strcmp(p.parent, ".") == 0;
	char *at = ret;
	if (!top)
		at = stpcpy(stpcpy(ret, p.parent), "/");
	strcpy(at, p.base);
	return 0;
}

/* The directories of the destination that the image has not belong to whom the files belong. whole: the
 * destination is one itself. */
static int make_missing(struct context *x, bool whole)
{
	const struct tree_meta m = { .mode = 0755, .uid = x->c->uid, .gid = x->c->gid, .mtime = -1 };
	char prefix[TREE_PATH_MAX + 1];
	struct stat st;
	for (size_t n = 0; x->into[n]; n += x->into[n] == '/') {
		n += strcspn(x->into + n, "/");
		if (!x->into[n] && !whole)
			break;
		memcpy(prefix, x->into, n);
		prefix[n] = '\0';
		if (lower_look(x->t->lower, prefix, &st) < 0 && tree_add_dir(x->t, prefix, &m, x->err) < 0)
			return -1;
	}
	return 0;
}

static int copy_one(struct context *x, const char *path)
{
	char into[TREE_PATH_MAX + 1];
	struct stat st;
	const char *base = strrchr(path, '/');
	if (path[0] && skip(x, path, false) && !x->takes_back)
		return 0;
	base = base ? base + 1 : path;
	AUTO_FD fd = path[0] ? path_open_beneath(x->src.fd, path, O_PATH | O_NOFOLLOW, 0) : -1;
	bool dir = !path[0] || (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode));
	int n = snprintf(into, sizeof(into), "%s%s%s", x->into, !dir && x->into_dir && x->into[0] ? "/" : "",
			 !dir && x->into_dir ? base : "");
	if (n < 0 || (size_t)n >= sizeof(into))
		return tree_refuse(x->err, path, "goes to a path of more than 4095 bytes");
	if (make_missing(x, dir || x->into_dir) < 0)
		return -1;
	x->found++;
	return copy_path(&x->src, path, into, x->t, x->err);
}

/* Follows the components of a pattern: those with * ? [ are looked for. */
static int expand(struct context *x, const char *done, const char *pat, unsigned depth)
{
	char next[2 * TREE_PATH_MAX], part[TREE_NAME_MAX + 1];
	struct names d;
	size_t n = strcspn(pat, "/");
	const char *rest = pat + n + (pat[n] == '/');
	if (!*pat)
		return copy_one(x, done);
	if (n > TREE_NAME_MAX || depth > TREE_DEPTH_MAX)
		return tree_refuse(x->err, pat, "is no name that a file could have");
	memcpy(part, pat, n);
	part[n] = '\0';
	if (!strpbrk(part, "*?[")) {
		int k = snprintf(next, sizeof(next), "%s%s%s", done, done[0] ? "/" : "", part);
		return k > TREE_PATH_MAX ? tree_refuse(x->err, pat, "has a name of more than 4095 bytes")
					 : expand(x, next, rest, depth + 1);
	}
	AUTO_FD fd = path_open_beneath(x->src.fd, done[0] ? done : ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return 0;
	int r = names_read(fd, x->t->max.entries, &d);
	if (r < 0)
		return tree_fail_sys(x->err, -r, "list", done);
	for (size_t i = 0; i < d.n && r == 0; i++) {
		if (fnmatch(part, d.list[i], 0) != 0)
			continue;
		int k = snprintf(next, sizeof(next), "%s%s%s", done, done[0] ? "/" : "", d.list[i]);
		AUTO_FD below = *rest ? path_open_beneath(x->src.fd, next, O_PATH | O_DIRECTORY, 0) : -1;
		if (k <= TREE_PATH_MAX && (!*rest || below >= 0))
			r = expand(x, next, rest, depth + 1);
	}
	names_done(&d);
	return r;
}

/* ---- the destination ---- */

static int destination(struct context *x)
{
	const char *to = x->c->to;
	size_t n = strlen(to);
	struct stat st;
	int r = lower_resolve(x->t->lower, to, x->into);
	if (r < 0)
		return tree_fail_sys(x->err, -r, "find the destination", to);
	r = lower_look(x->t->lower, x->into, &st);
	x->into_dir = (n && to[n - 1] == '/') || x->c->sources.n > 1 || !x->into[0] ||
		      (r == 0 && S_ISDIR(st.st_mode));
	if (x->into_dir && r == 0 && !S_ISDIR(st.st_mode))
		return tree_refuse(x->err, to, "is no directory in the image");
	return 0;
}

static int run(struct context *x)
{
	char path[TREE_PATH_MAX + 1];
	if (read_ignore(x) < 0 || destination(x) < 0)
		return -1;
	for (size_t i = 0; i < x->c->sources.n; i++) {
		const char *source = x->c->sources.v[i];
		char shown[160];
		x->found = 0;
		if (source_clean(x, source, path) < 0 || expand(x, "", path, 0) < 0)
			return -1;
		if (x->found == 0) {
			brig_fail(x->err, BRIG_E_NOT_FOUND, 0, "COPY: there is no '%s' in the context",
				  image_name_print(source, shown, sizeof(shown)));
			return brig_fix(x->err, "name files below the context's folder that .dockerignore "
						"does not leave out");
		}
	}
	return 0;
}

int context_copy(int context, const struct context_copy *c, struct tree *t, struct brig_err *err)
{
	struct context x = { .c = c, .t = t, .err = err };
	x.src = (struct copy_source){ .fd = context,
				      .avoid_dev = c->store_dev,
				      .avoid_ino = c->store_ino,
				      .cross = true,
				      .owned = true,
				      .uid = c->uid,
				      .gid = c->gid,
				      .skip = skip,
				      .ctx = &x };
	int r = run(&x);
	free(x.ignore);
	return r;
}
