/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h: a growable byte queue with a hard maximum. Bytes are appended at the tail and consumed at
 * the head; memory is returned when it runs empty after having been large.
 */
#ifndef BRIG_BASE_BUF_H
#define BRIG_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buf {
	uint8_t *mem;
	size_t cap, head, tail;
	size_t max;  /* bytes held at most; an append beyond it is -ENOBUFS */
	size_t keep; /* memory that an empty one keeps; 0 = a little. Fresh pages cost more than copying */
};

#define BUF_INIT(maximum) { .mem = NULL, .max = (maximum) }

static inline size_t buf_len(const struct buf *b)
{
	return b->tail - b->head;
}
static inline uint8_t *buf_head(struct buf *b)
{
	return b->mem + b->head;
}
/* A copy of n bytes, which need not end with a NUL, with a NUL behind them; to be freed. NULL: out of memory. */
char *buf_text(const void *p, size_t n);
void buf_done(struct buf *b);
/* Makes room for n more bytes and lends the place; 0 or -ENOBUFS, -ENOMEM. The pointer is valid
 * until the next call. buf_commit then adds the bytes that were really written. */
int buf_reserve(struct buf *b, size_t n, uint8_t **ret);
void buf_commit(struct buf *b, size_t n);
int buf_add(struct buf *b, const void *data, size_t n);
/* Adds a NUL-terminated string with its NUL. */
int buf_add_str(struct buf *b, const char *s);
void buf_consume(struct buf *b, size_t n);
/* One read()/write() on a nonblocking descriptor. Bytes moved, 0 at end of file, -EAGAIN, -errno. */
ssize_t buf_read_fd(struct buf *b, int fd, size_t at_most);
ssize_t buf_write_fd(struct buf *b, int fd);

#endif
