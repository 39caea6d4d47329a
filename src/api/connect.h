/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect.h: the Connect protocol with JSON messages, as far as the E2B clients speak it: unary
 * calls and streams of a server. Of protobuf's JSON mapping it has what these messages need: names
 * in lowerCamel or snake case, null for unset, 64-bit numbers also as text, unknown fields ignored.
 */
#ifndef BRIG_API_CONNECT_H
#define BRIG_API_CONNECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/http.h"
#include "base/buf.h"

/* X(name, text, HTTP status of a unary answer) */
#define CONNECT_CODES(X)                            \
	X(OK, "ok", 200)                            \
	X(CANCELED, "canceled", 499)                \
	X(UNKNOWN, "unknown", 500)                  \
	X(INVALID, "invalid_argument", 400)         \
	X(DEADLINE, "deadline_exceeded", 504)       \
	X(NOT_FOUND, "not_found", 404)              \
	X(EXISTS, "already_exists", 409)            \
	X(DENIED, "permission_denied", 403)         \
	X(EXHAUSTED, "resource_exhausted", 429)     \
	X(PRECONDITION, "failed_precondition", 400) \
	X(ABORTED, "aborted", 409)                  \
	X(UNIMPLEMENTED, "unimplemented", 501)      \
	X(INTERNAL, "internal", 500)                \
	X(UNAVAILABLE, "unavailable", 503)          \
	X(UNAUTHENTICATED, "unauthenticated", 401)

enum connect_code {
#define X(name, text, status) CONNECT_##name,
	CONNECT_CODES(X)
#undef X
		CONNECT__N_CODES
};
const char *connect_code_text(enum connect_code c);
unsigned connect_code_status(enum connect_code c);
/* What an error of brigd, or an errno inside, is to these clients. */
enum connect_code connect_code_of(enum brig_code code);
enum connect_code connect_code_errno(int err);

/* ---- frames: flags, length, message ---- */

#define CONNECT_FLAG_COMPRESSED 0x01u
#define CONNECT_FLAG_END 0x02u
#define CONNECT_HEAD 5u
/* A message of a client. */
#define CONNECT_MESSAGE_MAX (8u * 1024u * 1024u)

struct connect_frame {
	uint8_t flags;
	const char *p; /* not terminated; valid until the buffer changes */
	size_t n;
};
/* A frame at the head of b: 1, consume connect_frame_size(); 0: more bytes are needed; -1: err. */
int connect_frame_peek(struct buf *b, struct connect_frame *f, struct brig_err *err);
static inline size_t connect_frame_size(const struct connect_frame *f)
{
	return CONNECT_HEAD + f->n;
}
void connect_frame_head(uint8_t ret[CONNECT_HEAD], uint8_t flags, size_t n);

/* One message. New reference. */
int connect_parse(const char *p, size_t n, json_t **ret, struct brig_err *err);
/* The only frame of a stream's request. New reference. */
int connect_parse_one(const char *p, size_t n, json_t **ret, struct brig_err *err);

/* ---- fields; key in lowerCamel. Absent or null: 0 and *ret as it was. -1: of another type. ----
 */

json_t *connect_field(json_t *o, const char *key);
int connect_str(json_t *o, const char *key, const char **ret, struct brig_err *err);
int connect_bool(json_t *o, const char *key, bool *ret, struct brig_err *err);
int connect_u32(json_t *o, const char *key, uint32_t *ret, struct brig_err *err);
int connect_object(json_t *o, const char *key, json_t **ret, struct brig_err *err);
int connect_array(json_t *o, const char *key, json_t **ret, struct brig_err *err);

/* Headers: *ret_ms 0 = none. -1: malformed. */
int connect_timeout(const struct http_req *r, uint64_t *ret_ms, struct brig_err *err);
/* Seconds between signs of life; 90 if the client does not say. */
unsigned connect_keepalive(const struct http_req *r);

/* ---- answers ---- */

void connect_reply(struct http_req *r, json_t *msg); /* steals */
void connect_fail(struct http_req *r, enum connect_code code, const char *text);
void connect_stream_begin(struct http_req *r);
void connect_stream_send(struct http_req *r, json_t *msg); /* steals */
/* An encoded frame, head included. */
void connect_stream_raw(struct http_req *r, const void *p, size_t n);
/* Begins it if need be: a stream's error travels inside of it. */
void connect_stream_end(struct http_req *r, enum connect_code code, const char *text);

#endif
