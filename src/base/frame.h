/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h: encoding and decoding of the frames of include/brig/agent_proto.h. The same codec serves
 * the agent channel and the client socket; it knows no stream and no sandbox.
 */
#ifndef BRIG_BASE_FRAME_H
#define BRIG_BASE_FRAME_H

#include "base/buf.h"
#include "brig/agent_proto.h"

/* A decoded frame; payload points into the buffer and is valid until it is consumed or grown. */
struct frame {
	struct brig_frame_hdr h;
	const uint8_t *payload;
};

/* Looks for one whole frame at the head of b. 1: *f is set, consume frame_size(f) bytes when done;
 * 0: more bytes are needed; -EPROTO: the header breaks a rule (length, unknown flag bits). */
int frame_peek(struct buf *b, struct frame *f);
static inline size_t frame_size(const struct frame *f)
{
	return sizeof(struct brig_frame_hdr) + f->h.len;
}
/* Appends a frame whose payload is the concatenation of two parts (either may be empty). */
int frame_add(struct buf *b, uint16_t type, uint16_t flags, uint32_t stream, const void *p1,
	      size_t n1, const void *p2, size_t n2);

/* Name of a frame type ("EXEC"), or NULL. */
const char *frame_name(unsigned type);
enum frame_dir { FRAME_DIR_H = 1, FRAME_DIR_A = 2, FRAME_DIR_B = 3 };
/* Who may send it: a mask of FRAME_DIR_*, 0 for an unknown type. */
unsigned frame_dir(unsigned type);

/* Walks NUL-terminated strings in a payload: returns the next one and advances *at, or NULL when the
 * rest holds no terminated string. */
const char *frame_str(const uint8_t **at, const uint8_t *end);
/* Copies a fixed struct from the front of the payload and returns the rest; NULL if too short. */
const uint8_t *frame_struct(const struct frame *f, void *dst, size_t n);

#endif
