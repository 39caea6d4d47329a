/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_read.c: records of a writable layer into a tree.
 *
 * Theory of operation
 * -------------------
 * Runs in the confined process that makes a layer. The stream is checked by layer_parse(), and each of its
 * paths goes through the rules of tree.c like a name of an archive. Of a directory it tells all names that
 * the sandbox showed: what the layers below have and the sandbox did not show is hidden.
 *
 * Attributes of files (user.*) are left out, as in every image.
 */
#include "image/layer_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/layer.h"
#include "base/fd.h"
#include "image/lower.h"
#include "image/names.h"
#include "image/tree_inner.h"

#define BUFFER (2 * (sizeof(struct layer_rec) + LAYER_BODY_MAX))

struct reader {
	int fd;
	struct tree *t;
	const char *skip;
	uint8_t *buf;
	size_t n, at;
	bool eof, ended;
	char dir[TREE_PATH_MAX + 1]; /* whose names come */
	struct names shown;
	struct tree_file file; /* .fd < 0: none is open */
	bool skipping;	       /* the DATA that follow are of what is skipped */
	struct brig_err *err;
};

static int bad(struct reader *r, const char *why)
{
	return brig_fail(r->err, BRIG_E_CORRUPT, 0, "the sandbox's layer %s", why);
}

static struct tree_meta meta_of(const struct layer_rec *h)
{
	return (struct tree_meta){
		.mode = h->mode, .uid = h->uid, .gid = h->gid, .mtime = h->mtime_sec
	};
}

static int file_end(struct reader *r)
{
	return r->file.fd < 0 ? 0 : tree_file_finish(&r->file, r->err);
}

/* All names of a directory are known: hides what is below and not among them. */
static int hide_missing(struct reader *r)
{
	struct names below;
	char path[2 * TREE_PATH_MAX];
	int e = lower_names(r->t->lower, r->dir, r->t->max.entries, &below);
	if (e == -ENOENT || e == -ENOTDIR)
		return 0;
	if (e < 0)
		return tree_fail_sys(r->err, -e, "list what is below", r->dir);
	size_t k = 0;
	for (size_t i = 0; i < below.n && e == 0; i++) {
		int order = 1;
		while (k < r->shown.n && (order = strcmp(r->shown.list[k], below.list[i])) < 0)
			k++;
		if (k < r->shown.n && order == 0)
			continue;
		int len = snprintf(path, sizeof(path), "%s%s%s", r->dir, r->dir[0] ? "/" : "", below.list[i]);
		e = len > TREE_PATH_MAX ? bad(r, "has too long a path")
					: tree_hide(r->t, path, false, r->err);
	}
	names_done(&below);
	return e;
}

static int on_names(struct reader *r, const struct layer_item *i)
{
	const char *at = (const char *)i->value, *end = at + i->value_len;
	if (at == end) {
		int e = hide_missing(r);
		names_done(&r->shown);
		r->shown = (struct names){ .list = NULL };
		return e;
	}
	while (at < end) {
		/* layer_parse has seen the NUL of each. */
		if (names_add(&r->shown, r->t->max.entries, at) < 0)
			return bad(r, "has too many names in a directory");
		if (r->shown.n > 1 && strcmp(r->shown.list[r->shown.n - 2], at) >= 0)
			return bad(r, "has names in disorder");
		at += strlen(at) + 1;
	}
	return 0;
}

static int on_dir(struct reader *r, const struct layer_item *i)
{
	const struct tree_meta m = { .mode = 0755, .mtime = -1 };
	if (strlen(i->path) > TREE_PATH_MAX)
		return bad(r, "has too long a path");
	strcpy(r->dir, i->path);
	return tree_add_dir(r->t, i->path[0] ? i->path : ".", &m, r->err);
}

static int on_file(struct reader *r, const struct layer_item *i)
{
	struct tree_meta m = meta_of(&i->h);
	r->skipping = r->skip && strcmp(i->path, r->skip) == 0;
	return r->skipping ? 0 : tree_add_file(r->t, i->path, i->h.size, &m, &r->file, r->err);
}

static int on_item(struct reader *r, const struct layer_item *i)
{
	struct tree_meta m = meta_of(&i->h);
	if (i->h.type != LAYER_DATA && i->h.type != LAYER_XATTR && file_end(r) < 0)
		return -1;
	switch (i->h.type) {
	case LAYER_DIR:
		return on_dir(r, i);
	case LAYER_NAMES:
		return on_names(r, i);
	case LAYER_FILE:
		return on_file(r, i);
	case LAYER_DATA:
		if (r->skipping)
			return 0;
		return r->file.fd < 0 ? bad(r, "has data of no file")
				      : tree_file_write(&r->file, i->h.size, i->value, i->value_len, r->err);
	case LAYER_LINK:
		return tree_add_hardlink(r->t, i->path, i->target, r->err);
	case LAYER_SYMLINK:
		if (r->skip && strcmp(i->path, r->skip) == 0)
			return 0;
		return tree_add_symlink(r->t, i->path, i->target, &m, r->err);
	case LAYER_FIFO:
		return tree_add_device(r->t, i->path, r->err);
	case LAYER_XATTR:
	case LAYER_GONE: /* NAMES tell it, too */
		return 0;
	case LAYER_DIR_END:
		return tree_add_dir(r->t, i->path[0] ? i->path : ".", &m, r->err);
	case LAYER_END:
		r->ended = true;
		return 0;
	default:
		return bad(r, "has a record of an unknown type");
	}
}

/* More bytes; 0 at the end of the file as well. */
static int fill(struct reader *r)
{
	memmove(r->buf, r->buf + r->at, r->n - r->at);
	r->n -= r->at;
	r->at = 0;
	ssize_t got = fd_read_full(r->fd, r->buf + r->n, BUFFER - r->n);
	if (got < 0)
		return brig_fail(r->err, BRIG_E_CORRUPT, (int)-got, "read the sandbox's layer");
	r->eof = (size_t)got < BUFFER - r->n;
	r->n += (size_t)got;
	return 0;
}

static int run(struct reader *r)
{
	if (fill(r) < 0)
		return -1;
	ptrdiff_t used = layer_parse_head(r->buf, r->n);
	if (used <= 0)
		return bad(r, "is none");
	r->at = (size_t)used;
	while (!r->ended) {
		struct layer_item item;
		used = layer_parse(r->buf + r->at, r->n - r->at, &item);
		if (used < 0)
			return bad(r, "is malformed");
		if (used == 0 && r->eof)
			return bad(r, "ends too early");
		if (used == 0) {
			if (fill(r) < 0)
				return -1;
			continue;
		}
		r->at += (size_t)used;
		if (on_item(r, &item) < 0)
			return -1;
	}
	return 0;
}

int layer_read(int fd, const char *skip, struct tree *t, struct brig_err *err)
{
	struct reader *r = calloc(1, sizeof(*r));
	if (r) {
		*r = (struct reader){ .fd = fd, .t = t, .skip = skip, .file = { .fd = -1 }, .err = err };
		r->buf = malloc(BUFFER);
	}
	int e = r && r->buf ? run(r) : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the sandbox's layer");
	if (r) {
		tree_file_drop(&r->file);
		names_done(&r->shown);
		free(r->buf);
		free(r);
	}
	return e;
}
