/* SPDX-License-Identifier: Apache-2.0 */
#include "base/frame.h"

#include <errno.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian and copied");

int frame_peek(struct buf *b, struct frame *f)
{
	if (buf_len(b) < sizeof(f->h))
		return 0;
	memcpy(&f->h, buf_head(b), sizeof(f->h));
	if (f->h.len > BRIG_FRAME_MAX || (f->h.flags & ~BRIG_FF_EOF))
		return -EPROTO;
	if (buf_len(b) < frame_size(f))
		return 0;
	f->payload = buf_head(b) + sizeof(f->h);
	return 1;
}

int frame_add(struct buf *b, uint16_t type, uint16_t flags, uint32_t stream, const void *p1,
	      size_t n1, const void *p2, size_t n2)
{
	if (n1 > BRIG_FRAME_MAX || n2 > BRIG_FRAME_MAX - n1)
		return -EMSGSIZE;
	struct brig_frame_hdr h = {
		.len = (uint32_t)(n1 + n2), .type = type, .flags = flags, .stream = stream
	};
	uint8_t *at;
	int r = buf_reserve(b, sizeof(h) + n1 + n2, &at);
	if (r < 0)
		return r;
	memcpy(at, &h, sizeof(h));
	if (n1)
		memcpy(at + sizeof(h), p1, n1);
	if (n2)
		memcpy(at + sizeof(h) + n1, p2, n2);
	buf_commit(b, sizeof(h) + n1 + n2);
	return 0;
}

const char *frame_name(unsigned type)
{
	switch (type) {
#define X(name, number, dir) \
	case number:         \
		return #name;
		BRIG_FRAMES(X)
#undef X
	default:
		return NULL;
	}
}

unsigned frame_dir(unsigned type)
{
	switch (type) {
#define X(name, number, dir) \
	case number:         \
		return FRAME_DIR_##dir;
		BRIG_FRAMES(X)
#undef X
	default:
		return 0;
	}
}

const char *frame_str(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *start = *at;
	const uint8_t *nul = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
	if (!nul)
		return NULL;
	*at = nul + 1;
	return (const char *)start;
}

const uint8_t *frame_struct(const struct frame *f, void *dst, size_t n)
{
	if (f->h.len < n)
		return NULL;
	memcpy(dst, f->payload, n);
	return f->payload + n;
}
