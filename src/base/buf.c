/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A buffer that ran empty keeps at most this much. */
#define KEEP 16384u

char *buf_text(const void *p, size_t n)
{
	char *text = malloc(n + 1);
	if (!text)
		return NULL;
	if (n)
		memcpy(text, p, n);
	text[n] = '\0';
	return text;
}

void buf_done(struct buf *b)
{
	free(b->mem);
	b->mem = NULL;
	b->cap = b->head = b->tail = 0;
}

int buf_reserve(struct buf *b, size_t n, uint8_t **ret)
{
	size_t len = buf_len(b);
	if (n > b->max || len > b->max - n)
		return -ENOBUFS;
	if (b->cap - b->tail < n && b->head) {
		memmove(b->mem, b->mem + b->head, len);
		b->head = 0;
		b->tail = len;
	}
	if (b->cap - b->tail < n) {
		size_t want = b->cap ? b->cap : 512;
		while (want < len + n)
			want *= 2;
		if (want > b->max)
			want = b->max;
		uint8_t *mem = realloc(b->mem, want);
		if (!mem)
			return -ENOMEM;
		b->mem = mem;
		b->cap = want;
	}
	*ret = b->mem + b->tail;
	return 0;
}

void buf_commit(struct buf *b, size_t n)
{
	b->tail += n;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
	uint8_t *at;
	if (n == 0)
		return 0;
	int r = buf_reserve(b, n, &at);
	if (r < 0)
		return r;
	memcpy(at, data, n);
	b->tail += n;
	return 0;
}

int buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s) + 1);
}

void buf_consume(struct buf *b, size_t n)
{
	b->head += n;
	if (b->head < b->tail)
		return;
	b->head = b->tail = 0;
	if (b->cap > (b->keep ? b->keep : KEEP))
		buf_done(b);
}

ssize_t buf_read_fd(struct buf *b, int fd, size_t at_most)
{
	uint8_t *at;
	int e = buf_reserve(b, at_most, &at);
	if (e < 0)
		return e;
	ssize_t r;
	do
		r = read(fd, at, at_most);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	b->tail += (size_t)r;
	return r;
}

ssize_t buf_write_fd(struct buf *b, int fd)
{
	if (buf_len(b) == 0)
		return 0;
	ssize_t r;
	do
		r = write(fd, buf_head(b), buf_len(b));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	buf_consume(b, (size_t)r);
	return r;
}
