/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head.h: the heads of HTTP/1 requests as they pass, and where their bodies end. Pure.
 */
#ifndef BRIG_NET_HEAD_H
#define BRIG_NET_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_MAX 32768u
#define HEAD_FIELDS_MAX 200u

enum head_result {
	HEAD_MORE,  /* whole so far; may still turn out to be something else */
	HEAD_OTHER, /* no HTTP/1 */
	HEAD_BAD,   /* HTTP that servers may read in different ways */
	HEAD_OK,
};

enum head_body { HEAD_BODY_NONE, HEAD_BODY_LENGTH, HEAD_BODY_CHUNKED };

struct head {
	size_t len; /* bytes of the head, with its empty line */
	bool connect, absolute;
	/* Of the target (absolute-form, CONNECT) and of the Host field, without port; NULL = none.
	 * They point into the bytes that were read, and are what was sent: not yet checked to be
	 * names. */
	const char *target, *host;
	size_t target_len, host_len;
	uint16_t target_port; /* of the target */
	enum head_body body;
	uint64_t length;
	bool upgrade, websocket; /* an Upgrade field; it says websocket and nothing else */
};

enum head_result head_read(const uint8_t *p, size_t n, struct head *ret);

/* Where a chunked body is; all 0 is its beginning. */
struct head_chunks {
	uint8_t state;
	uint8_t digits;
	uint16_t line; /* bytes of the trailer so far */
	uint64_t left; /* of this chunk's data */
};
/* How many of n bytes belong to the body; *ret_end: it ended there. -1: it breaks a rule. */
long head_chunks_feed(struct head_chunks *c, const uint8_t *p, size_t n, bool *ret_end);

#endif
