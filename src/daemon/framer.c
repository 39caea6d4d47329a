/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * framer_take() looks at the bytes at hand, wherever they are, and either consumes one step (a
 * whole frame, or the head of a bulk frame) or says how many contiguous bytes it wants. While the
 * carry buffer is empty that runs directly on the fed bytes, so a stream of large data frames is
 * never copied; a leftover shorter than one step moves to the carry and is completed from the next
 * read. The carry holds at most one header and BRIG_FRAME_MAX bytes.
 */
#include "daemon/framer.h"

#include <errno.h>
#include <string.h>

#define HDR sizeof(struct brig_frame_hdr)

void framer_init(struct framer *f, const struct framer_ops *ops, void *ctx)
{
	*f = (struct framer){ .ops = ops, .ctx = ctx, .carry = BUF_INIT(HDR + BRIG_FRAME_MAX) };
}

void framer_done(struct framer *f)
{
	buf_done(&f->carry);
}

/* Returns bytes consumed (> 0), 0 with *want set to the bytes needed in one piece, or an error. */
static ssize_t framer_take(struct framer *f, const uint8_t *p, size_t n, size_t *want)
{
	struct brig_frame_hdr h;
	if (n < HDR) {
		*want = HDR;
		return 0;
	}
	memcpy(&h, p, HDR);
	if (h.len > BRIG_FRAME_MAX || (h.flags & ~BRIG_FF_EOF))
		return -EPROTO;
	enum framer_shape shape = FRAMER_WHOLE;
	uint32_t prefix = 0;
	int r = f->ops->shape(f->ctx, &h, &shape, &prefix);
	if (r < 0)
		return r;
	size_t need = HDR + (shape == FRAMER_BULK ? prefix : h.len);
	if (n < need) {
		*want = need;
		return 0;
	}
	if (shape == FRAMER_WHOLE) {
		struct frame frame = { .h = h, .payload = p + HDR };
		r = f->ops->frame(f->ctx, &frame);
		return r < 0 ? r : (ssize_t)need;
	}
	if (h.len < prefix)
		return -EPROTO;
	r = f->ops->open(f->ctx, &h, p + HDR);
	if (r < 0)
		return r;
	f->h = h;
	f->left = h.len - prefix;
	if (f->left == 0) {
		r = f->ops->data(f->ctx, &f->h, p + need, 0, true);
		if (r < 0)
			return r;
	}
	return (ssize_t)need;
}

/* Moves bytes to the carry until it holds one step, and takes that step. Returns bytes used. */
static ssize_t framer_take_carried(struct framer *f, const uint8_t *p, size_t n)
{
	size_t used = 0, want = 0;
	for (;;) {
		ssize_t r = framer_take(f, buf_head(&f->carry), buf_len(&f->carry), &want);
		if (r < 0)
			return r;
		if (r > 0) {
			buf_consume(&f->carry, (size_t)r);
			return (ssize_t)used;
		}
		size_t more = want - buf_len(&f->carry);
		if (more > n - used)
			more = n - used;
		if (more == 0)
			return (ssize_t)used;
		int e = buf_add(&f->carry, p + used, more);
		if (e < 0)
			return e;
		used += more;
	}
}

int framer_feed(struct framer *f, const uint8_t *p, size_t n)
{
	while (n || buf_len(&f->carry)) {
		ssize_t used;
		if (f->left) {
			if (n == 0)
				break;
			size_t k = n < f->left ? n : f->left;
			f->left -= (uint32_t)k;
			int r = f->ops->data(f->ctx, &f->h, p, k, f->left == 0);
			if (r < 0)
				return r;
			used = (ssize_t)k;
		} else if (buf_len(&f->carry)) {
			used = framer_take_carried(f, p, n);
			if (used == 0)
				break;
		} else {
			size_t want;
			used = framer_take(f, p, n, &want);
			if (used == 0) {
				int r = buf_add(&f->carry, p, n);
				return r < 0 ? r : 0;
			}
		}
		if (used < 0)
			return (int)used;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}
