/* SPDX-License-Identifier: Apache-2.0 */
/* layer.c: the format of layer.h: its parser, and the lists of names that both ends need. */
#include "agent/layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

bool layer_name_ok(const char *name)
{
	size_t n = strlen(name);
	return n >= 1 && n <= NAME_MAX && !memchr(name, '/', n) && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

bool layer_path_ok(const char *path)
{
	if (strlen(path) >= PATH_MAX)
		return false;
	if (!*path)
		return true;
	for (;;) {
		size_t n = strcspn(path, "/");
		if (n == 0 || n > NAME_MAX || (n == 1 && path[0] == '.') ||
		    (n == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (!path[n])
			return true;
		path += n + 1;
	}
}

bool layer_xattr_ok(const char *name)
{
	return strlen(name) <= NAME_MAX && strncmp(name, "user.", 5) == 0 && name[5] &&
	       strncmp(name, "user.overlay.", 13) != 0;
}

ptrdiff_t layer_parse_head(const uint8_t *p, size_t n)
{
	struct layer_head h;
	if (n < sizeof(h))
		return 0;
	memcpy(&h, p, sizeof(h));
	if (h.magic != LAYER_MAGIC || h.version != LAYER_VERSION || h.marks > 1)
		return -EINVAL;
	return sizeof(h);
}

/* Which fields a type has. */
#define HAS_MODE 1u
#define HAS_OWNER 2u /* uid, gid, mtime */
#define HAS_SIZE 4u
#define HAS_MARK 8u

static unsigned fields_of(uint16_t type)
{
	switch (type) {
	case LAYER_FILE:
		return HAS_MODE | HAS_OWNER | HAS_SIZE | HAS_MARK;
	case LAYER_DIR:
	case LAYER_LINK:
		return HAS_MARK;
	case LAYER_DATA:
		return HAS_SIZE;
	case LAYER_SYMLINK:
		return HAS_OWNER | HAS_MARK;
	case LAYER_FIFO:
		return HAS_MODE | HAS_OWNER | HAS_MARK;
	case LAYER_DIR_END:
		return HAS_MODE | HAS_OWNER;
	default:
		return 0;
	}
}

static bool fields_ok(const struct layer_rec *h)
{
	unsigned has = fields_of(h->type);
	if (h->flags > (has & HAS_MARK ? LAYER_F_IMAGE : 0u) || h->mode > (has & HAS_MODE ? 07777u : 0u))
		return false;
	if (!(has & HAS_OWNER) && (h->uid || h->gid || h->mtime_sec || h->mtime_nsec))
		return false;
	return h->mtime_nsec < 1000000000u && h->size <= (has & HAS_SIZE ? (uint64_t)INT64_MAX : 0);
}

/* The next string of a body, or NULL. */
static const char *body_str(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *start = *at,
		      *nul = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
	if (!nul)
		return NULL;
	*at = nul + 1;
	return (const char *)start;
}

static bool names_ok(const uint8_t *at, const uint8_t *end)
{
	const char *last = "";
	while (at < end) {
		const char *name = body_str(&at, end);
		if (!name || !layer_name_ok(name) || strcmp(last, name) >= 0)
			return false;
		last = name;
	}
	return true;
}

static bool body_ok(struct layer_item *it, const uint8_t *at, const uint8_t *end)
{
	switch (it->h.type) {
	case LAYER_DIR:
	case LAYER_DIR_END:
		it->path = body_str(&at, end);
		return it->path && layer_path_ok(it->path) && at == end;
	case LAYER_FILE:
	case LAYER_FIFO:
	case LAYER_GONE:
		it->path = body_str(&at, end);
		return it->path && it->path[0] && layer_path_ok(it->path) && at == end;
	case LAYER_LINK:
	case LAYER_SYMLINK:
		it->path = body_str(&at, end);
		it->target = it->path ? body_str(&at, end) : NULL;
		if (!it->target || at != end || !it->path[0] || !layer_path_ok(it->path))
			return false;
		if (it->h.type == LAYER_LINK)
			return it->target[0] && layer_path_ok(it->target);
		return it->target[0] && strlen(it->target) < PATH_MAX;
	case LAYER_NAMES:
		it->value = at;
		it->value_len = (size_t)(end - at);
		return names_ok(at, end);
	case LAYER_DATA:
		it->value = at;
		it->value_len = (size_t)(end - at);
		return it->value_len && it->value_len <= (uint64_t)INT64_MAX - it->h.size;
	case LAYER_XATTR:
		it->path = body_str(&at, end);
		it->value = at;
		it->value_len = (size_t)(end - at);
		return it->path && layer_xattr_ok(it->path);
	default: /* END */
		return at == end;
	}
}

ptrdiff_t layer_parse(const uint8_t *p, size_t n, struct layer_item *ret)
{
	*ret = (struct layer_item){ .path = NULL };
	if (n < sizeof(ret->h))
		return 0;
	memcpy(&ret->h, p, sizeof(ret->h));
	if (ret->h.type < LAYER_DIR || ret->h.type > LAYER_GONE || ret->h.len > LAYER_BODY_MAX ||
	    !fields_ok(&ret->h))
		return -EINVAL;
	size_t all = sizeof(ret->h) + ret->h.len;
	if (n < all)
		return 0;
	return body_ok(ret, p + sizeof(ret->h), p + all) ? (ptrdiff_t)all : -EINVAL;
}

void layer_names_init(struct layer_names *l)
{
	*l = (struct layer_names){ .text = NULL };
}

void layer_names_done(struct layer_names *l)
{
	free(l->text);
	free(l->at);
	layer_names_init(l);
}

static int names_add(struct layer_names *l, const char *name)
{
	size_t n = strlen(name) + 1;
	if (l->len + n > LAYER_NAMES_MAX)
		return -E2BIG;
	if (l->len + n > l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 4096;
		char *text = realloc(l->text, cap);
		if (!text)
			return -ENOMEM;
		l->text = text;
		l->cap = cap;
	}
	if (l->n == l->n_cap) {
		uint32_t cap = l->n_cap ? l->n_cap * 2 : 256;
		uint32_t *at = reallocarray(l->at, cap, sizeof(*at));
		if (!at)
			return -ENOMEM;
		l->at = at;
		l->n_cap = cap;
	}
	l->at[l->n++] = (uint32_t)l->len;
	memcpy(l->text + l->len, name, n);
	l->len += n;
	return 0;
}

static int by_bytes(const void *a, const void *b, void *text)
{
	const uint32_t *x = a, *y = b;
	return strcmp((const char *)text + *x, (const char *)text + *y);
}

int layer_names_read(struct layer_names *l, int fd)
{
	int r = 0, copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e = NULL;
	if (!d) {
		r = -errno;
		fd_close(&copy);
		return r;
	}
	layer_names_done(l);
	while (r == 0) {
		errno = 0;
		e = readdir(d);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = names_add(l, e->d_name);
	}
	closedir(d);
	if (r < 0)
		layer_names_done(l);
	else if (l->n)
		qsort_r(l->at, l->n, sizeof(*l->at), by_bytes, l->text);
	return r;
}
