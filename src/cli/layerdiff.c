/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A layer is a hostile text: layer_parse() checks each record, and what is kept of it here is names and numbers,
 * which steer nothing. Contents are not kept but hashed (FNV-1a): that two files which were made to collide, of
 * one size and time, look the same is a wrong line for whoever made them.
 *
 * Two layers above the same image are compared path by path. What only one of them names is in the other as the
 * image has it, which LAYER_F_IMAGE and GONE of the one that names it tell: nobody needs the image.
 */
#include "cli/layerdiff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/layer.h"
#include "base/buf.h"

#define FNV_BASIS 14695981039346656037ull
#define FNV_PRIME 1099511628211ull

void layer_paths_done(struct layer_paths *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].path);
	free(l->v);
	*l = (struct layer_paths){ .v = NULL };
}

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;
	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * FNV_PRIME;
	return h;
}

static struct layer_path *add(struct layer_paths *l, const char *path)
{
	if ((l->n & (l->n - 1)) == 0) {
		struct layer_path *v = reallocarray(l->v, l->n ? 2 * l->n : 1, sizeof(*v));
		if (!v)
			return NULL;
		l->v = v;
	}
	struct layer_path *p = &l->v[l->n];
	*p = (struct layer_path){ .path = malloc(strlen(path) + 2), .hash = FNV_BASIS };
	if (!p->path)
		return NULL;
	p->path[0] = '/';
	memcpy(p->path + 1, path, strlen(path) + 1);
	l->n++;
	return p;
}

/* Directories that were begun and not ended, the innermost last. */
struct open_dirs {
	size_t *at; /* in the array of paths */
	size_t n;
};

static int dir_push(struct open_dirs *o, size_t at)
{
	if ((o->n & (o->n - 1)) == 0) {
		size_t *v = reallocarray(o->at, o->n ? 2 * o->n : 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		o->at = v;
	}
	o->at[o->n++] = at;
	return 0;
}

/* The one that a DIR_END ends, or NULL. */
static struct layer_path *dir_pop(struct open_dirs *o, const struct layer_paths *l, const char *path)
{
	struct layer_path *p = o->n ? &l->v[o->at[--o->n]] : NULL;
	return p && strcmp(p->path + 1, path) == 0 ? p : NULL;
}

static int take(struct layer_paths *l, struct open_dirs *open, const struct layer_item *it)
{
	struct layer_path *p = l->n ? &l->v[l->n - 1] : NULL;
	switch (it->h.type) {
	case LAYER_DIR:
	case LAYER_FILE:
	case LAYER_LINK:
	case LAYER_SYMLINK:
	case LAYER_FIFO:
	case LAYER_GONE:
		if (!(p = add(l, it->path)))
			return -ENOMEM;
		p->type = it->h.type;
		p->gone = it->h.type == LAYER_GONE;
		p->image = p->gone || (it->h.flags & LAYER_F_IMAGE);
		if (it->h.type == LAYER_DIR && dir_push(open, l->n - 1) < 0)
			return -ENOMEM;
		if (it->target)
			p->hash = hash(p->hash, it->target, strlen(it->target));
		break;
	case LAYER_DIR_END:
		if (!(p = dir_pop(open, l, it->path)))
			return -EINVAL;
		break;
	case LAYER_DATA:
	case LAYER_XATTR:
		if (!p)
			return -EINVAL;
		p->hash = hash(p->hash, &it->h.size, sizeof(it->h.size));
		if (it->path)
			p->hash = hash(p->hash, it->path, strlen(it->path) + 1);
		p->hash = hash(p->hash, it->value, it->value_len);
		return 0;
	default:
		return 0;
	}
	if (p->type != LAYER_DIR || it->h.type == LAYER_DIR_END) {
		p->mode = it->h.mode;
		p->uid = it->h.uid;
		p->gid = it->h.gid;
		p->mtime_sec = it->h.mtime_sec;
		p->mtime_nsec = it->h.mtime_nsec;
		p->size = it->h.size;
	}
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct layer_path *)a)->path, ((const struct layer_path *)b)->path);
}

static int damaged(struct brig_err *err)
{
	return brig_fail(err, BRIG_E_CORRUPT, 0, "what tells the files is damaged");
}

/* One record, or the head. 1: one was taken; 0: more bytes are needed; 2: the END; -errno. */
static int step(struct layer_paths *l, struct open_dirs *open, struct buf *in, bool *headed)
{
	struct layer_item it;
	const uint8_t *p = buf_head(in);
	ptrdiff_t n = *headed ? layer_parse(p, buf_len(in), &it) : layer_parse_head(p, buf_len(in));
	if (n <= 0)
		return (int)n;
	int r = *headed ? take(l, open, &it) : 0;
	bool end = *headed && it.h.type == LAYER_END;
	*headed = true;
	buf_consume(in, (size_t)n);
	return r < 0 ? r : end ? 2 : 1;
}

int layer_paths_read(int fd, struct layer_paths *ret, struct brig_err *err)
{
	struct buf in = BUF_INIT(sizeof(struct layer_rec) + 2 * LAYER_BODY_MAX);
	struct layer_paths l = { .v = NULL };
	struct open_dirs open = { .at = NULL };
	bool headed = false;
	off_t at = 0;
	int r = 0;
	while (r == 0) {
		uint8_t *room;
		if (buf_reserve(&in, LAYER_BODY_MAX, &room) < 0) {
			r = -EINVAL;
			break;
		}
		ssize_t n = pread(fd, room, LAYER_BODY_MAX, at);
		if (n <= 0) {
			r = n < 0 ? -errno : -EINVAL; /* the end comes before the END */
			break;
		}
		buf_commit(&in, (size_t)n);
		at += n;
		while ((r = step(&l, &open, &in, &headed)) == 1)
			;
	}
	buf_done(&in);
	free(open.at);
	if (r < 0) {
		layer_paths_done(&l);
		return r == -ENOMEM ? brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory") : damaged(err);
	}
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), by_path);
	*ret = l;
	return 0;
}

static bool same(const struct layer_path *a, const struct layer_path *b)
{
	return a->type == b->type && a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
	       a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec && a->size == b->size &&
	       a->hash == b->hash;
}

/* 0: no difference. a or b NULL: not named there, hence as the image has it. */
static char kind_of(const struct layer_path *a, const struct layer_path *b)
{
	const struct layer_path *any = a ? a : b;
	bool was = a ? !a->gone : any->image, is = b ? !b->gone : any->image;
	if (!was && !is)
		return 0;
	if (!was || !is)
		return was ? 'D' : 'A';
	return a && b && same(a, b) ? 0 : 'C';
}

void layer_paths_diff(const struct layer_paths *from, const struct layer_paths *to,
		      void (*fn)(void *ctx, char kind, const char *path), void *ctx)
{
	static const struct layer_paths none = { .v = NULL };
	size_t i = 0, k = 0;
	from = from ? from : &none;
	while (i < from->n || k < to->n) {
		int c = i == from->n ? 1 : k == to->n ? -1 : strcmp(from->v[i].path, to->v[k].path);
		const struct layer_path *a = c <= 0 ? &from->v[i++] : NULL, *b = c >= 0 ? &to->v[k++] : NULL;
		const char *path = a ? a->path : b->path;
		char kind = kind_of(a, b);
		if (kind && path[1]) /* not the root itself */
			fn(ctx, kind, path);
	}
}
