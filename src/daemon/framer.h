/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framer.h: cuts a byte stream into frames without copying their bulk.
 *
 * Bytes are fed as they were read. A frame whose payload is bulk data (STDOUT, STDIN, FS_DATA) is
 * handed on piece by piece from the reader's own buffer, as soon as a piece is there; any other
 * frame is handed on whole. Only a header, a short prefix or a small frame that a read() cut in two
 * is kept until the rest arrives.
 */
#ifndef BRIG_DAEMON_FRAMER_H
#define BRIG_DAEMON_FRAMER_H

#include <stdbool.h>

#include "base/frame.h"

enum framer_shape { FRAMER_WHOLE, FRAMER_BULK };

/* Each returns 0, or a negative value that ends framer_feed() at once with that value. */
struct framer_ops {
	/* A look at a header whose length is in range; may be called more than once for one frame.
	 * With FRAMER_BULK, *ret_prefix bytes of payload are handed to open() in one piece. */
	int (*shape)(void *ctx, const struct brig_frame_hdr *h, enum framer_shape *ret,
		     uint32_t *ret_prefix);
	int (*frame)(void *ctx, const struct frame *f);
	/* A bulk frame begins; then data() until `last`. A frame without bulk bytes gets one data()
	 * with n == 0. */
	int (*open)(void *ctx, const struct brig_frame_hdr *h, const uint8_t *prefix);
	int (*data)(void *ctx, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		    bool last);
};

struct framer {
	const struct framer_ops *ops;
	void *ctx;
	struct buf carry;
	struct brig_frame_hdr h; /* of the bulk frame under way */
	uint32_t left;		 /* its bytes still to come */
};

void framer_init(struct framer *f, const struct framer_ops *ops, void *ctx);
void framer_done(struct framer *f);
/* 0; -EPROTO if a header breaks the frame format; -ENOMEM; or what a callback returned. */
int framer_feed(struct framer *f, const uint8_t *p, size_t n);
/* The payload of the bulk frame under way: bytes still to come, and that n <= those were taken from the
 * source without being fed. No data() is called for them. */
static inline uint32_t framer_bulk_left(const struct framer *f)
{
	return f->left;
}
static inline void framer_skip(struct framer *f, uint32_t n)
{
	f->left -= n;
}
/* Whether the stream now stands between two frames. */
static inline bool framer_idle(const struct framer *f)
{
	return f->left == 0 && buf_len(&f->carry) == 0;
}

#endif
