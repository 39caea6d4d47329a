/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A unary call is plain JSON both ways; its error is the status of the code and a JSON body. A
 * stream answers 200 whatever happens, in frames; the last one carries the flag END, and the error
 * if there was one. A client that misses that last frame takes the stream for broken, which is what
 * it shall do when a sandbox was killed: then the connection is cut instead (http_abort).
 *
 * Compression is never offered by us, and a compressed frame is refused.
 */
#include "api/connect.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/fd.h"

#define KEEPALIVE_S 90u
#define KEEPALIVE_MAX_S 3600u
/* 31 days: more than any sandbox lives. */
#define TIMEOUT_MAX_MS (31ull * 24 * 3600 * 1000)
#define FIELD_MAX 64u

static const struct {
	const char *text;
	unsigned status;
} codes[] = {
#define X(name, text, status) { text, status },
	CONNECT_CODES(X)
#undef X
};

const char *connect_code_text(enum connect_code c)
{
	return c < CONNECT__N_CODES ? codes[c].text : "internal";
}

unsigned connect_code_status(enum connect_code c)
{
	return c < CONNECT__N_CODES ? codes[c].status : 500;
}

enum connect_code connect_code_of(enum brig_code code)
{
	switch (code) {
	case BRIG_E_OK:
		return CONNECT_OK;
	case BRIG_E_INVALID:
	case BRIG_E_LIMIT:
		return CONNECT_INVALID;
	case BRIG_E_NOT_FOUND:
		return CONNECT_NOT_FOUND;
	case BRIG_E_EXISTS:
		return CONNECT_EXISTS;
	case BRIG_E_DENIED:
		return CONNECT_DENIED;
	case BRIG_E_STATE:
		return CONNECT_PRECONDITION;
	case BRIG_E_BUSY:
	case BRIG_E_EXHAUSTED:
		return CONNECT_EXHAUSTED;
	case BRIG_E_UNSUPPORTED:
		return CONNECT_UNIMPLEMENTED;
	case BRIG_E_UNAVAILABLE:
		return CONNECT_UNAVAILABLE;
	case BRIG_E_PROTOCOL:
	case BRIG_E_CORRUPT:
	case BRIG_E_MISMATCH:
	case BRIG_E_INTERNAL:
	case BRIG_E__N_CODES:
		break;
	}
	return CONNECT_INTERNAL;
}

enum connect_code connect_code_errno(int err)
{
	switch (err) {
	case 0:
		return CONNECT_OK;
	case ENOENT:
		return CONNECT_NOT_FOUND;
	case EEXIST:
	case ENOTEMPTY:
		return CONNECT_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return CONNECT_DENIED;
	case ENOTDIR:
	case EISDIR:
	case EINVAL:
	case ELOOP:
	case ENAMETOOLONG:
	case ENXIO:
		return CONNECT_INVALID;
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return CONNECT_EXHAUSTED;
	default:
		return CONNECT_INTERNAL;
	}
}

/* ---- frames ---- */

int connect_frame_peek(struct buf *b, struct connect_frame *f, struct brig_err *err)
{
	if (buf_len(b) < CONNECT_HEAD)
		return 0;
	const uint8_t *h = buf_head(b);
	size_t n = (size_t)h[1] << 24 | (size_t)h[2] << 16 | (size_t)h[3] << 8 | h[4];
	if (h[0] & CONNECT_FLAG_COMPRESSED)
		return brig_fail(err, BRIG_E_INVALID, 0, "compressed messages are not understood");
	if (h[0])
		return brig_fail(err, BRIG_E_INVALID, 0, "a message has unknown flags 0x%02x",
				 h[0]);
	if (n > CONNECT_MESSAGE_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "a message is larger than %u bytes",
				 CONNECT_MESSAGE_MAX);
	if (buf_len(b) - CONNECT_HEAD < n)
		return 0;
	*f = (struct connect_frame){ .flags = h[0], .p = (const char *)h + CONNECT_HEAD, .n = n };
	return 1;
}

void connect_frame_head(uint8_t ret[CONNECT_HEAD], uint8_t flags, size_t n)
{
	ret[0] = flags;
	ret[1] = (uint8_t)(n >> 24);
	ret[2] = (uint8_t)(n >> 16);
	ret[3] = (uint8_t)(n >> 8);
	ret[4] = (uint8_t)n;
}

int connect_parse(const char *p, size_t n, json_t **ret, struct brig_err *err)
{
	json_error_t je;
	json_t *v = n ? json_loadb(p, n, JSON_REJECT_DUPLICATES, &je) : json_object();
	if (!v)
		return brig_fail(err, BRIG_E_INVALID, 0, "the message is not JSON: %s, byte %d",
				 n ? je.text : "out of memory", n ? je.position : 0);
	if (!json_is_object(v)) {
		json_decref(v);
		return brig_fail(err, BRIG_E_INVALID, 0, "the message is not a JSON object");
	}
	*ret = v;
	return 0;
}

int connect_parse_one(const char *p, size_t n, json_t **ret, struct brig_err *err)
{
	struct buf view = { .mem = (uint8_t *)(uintptr_t)p, .tail = n };
	struct connect_frame f;
	int r = connect_frame_peek(&view, &f, err);
	if (r < 0)
		return -1;
	if (r == 0 || connect_frame_size(&f) != n)
		return brig_fail(err, BRIG_E_INVALID, 0, "the request is not exactly one message");
	return connect_parse(f.p, f.n, ret, err);
}

/* ---- fields ---- */

json_t *connect_field(json_t *o, const char *key)
{
	char snake[FIELD_MAX];
	size_t at = 0;
	json_t *v = json_object_get(o, key);
	if (v)
		return json_is_null(v) ? NULL : v;
	for (const char *c = key; *c && at + 2 < sizeof(snake); c++) {
		if (isupper((unsigned char)*c))
			snake[at++] = '_';
		snake[at++] = (char)tolower((unsigned char)*c);
	}
	snake[at] = '\0';
	v = json_object_get(o, snake);
	return json_is_null(v) ? NULL : v;
}

static int field_type(const char *key, const char *what, struct brig_err *err)
{
	return brig_fail(err, BRIG_E_INVALID, 0, "'%s' must be %s", key, what);
}

int connect_str(json_t *o, const char *key, const char **ret, struct brig_err *err)
{
	json_t *v = connect_field(o, key);
	if (v && !json_is_string(v))
		return field_type(key, "a string", err);
	if (v)
		*ret = json_string_value(v);
	return 0;
}

int connect_bool(json_t *o, const char *key, bool *ret, struct brig_err *err)
{
	json_t *v = connect_field(o, key);
	if (v && !json_is_boolean(v))
		return field_type(key, "a boolean", err);
	if (v)
		*ret = json_is_true(v);
	return 0;
}

int connect_u32(json_t *o, const char *key, uint32_t *ret, struct brig_err *err)
{
	json_t *v = connect_field(o, key);
	json_int_t n = -1;
	if (!v)
		return 0;
	if (json_is_integer(v)) {
		n = json_integer_value(v);
	} else if (json_is_string(v)) {
		const char *s = json_string_value(v);
		size_t digits = strspn(s, "0123456789");
		n = digits && digits <= 10 && s[digits] == '\0' ? strtoll(s, NULL, 10) : -1;
	}
	if (n < 0 || n > UINT32_MAX)
		return field_type(key, "a number from 0 to 4294967295", err);
	*ret = (uint32_t)n;
	return 0;
}

int connect_object(json_t *o, const char *key, json_t **ret, struct brig_err *err)
{
	json_t *v = connect_field(o, key);
	if (v && !json_is_object(v))
		return field_type(key, "an object", err);
	if (v)
		*ret = v;
	return 0;
}

int connect_array(json_t *o, const char *key, json_t **ret, struct brig_err *err)
{
	json_t *v = connect_field(o, key);
	if (v && !json_is_array(v))
		return field_type(key, "an array", err);
	if (v)
		*ret = v;
	return 0;
}

int connect_timeout(const struct http_req *r, uint64_t *ret_ms, struct brig_err *err)
{
	const char *s = http_header(r, "Connect-Timeout-Ms");
	*ret_ms = 0;
	if (!s)
		return 0;
	size_t n = strspn(s, "0123456789");
	/* The protocol allows ten digits. */
	if (n == 0 || n > 10 || s[n])
		return brig_fail(err, BRIG_E_INVALID, 0, "Connect-Timeout-Ms is malformed");
	uint64_t ms = strtoull(s, NULL, 10);
	*ret_ms = ms > TIMEOUT_MAX_MS ? 0 : ms;
	return 0;
}

unsigned connect_keepalive(const struct http_req *r)
{
	const char *s = http_header(r, "Keepalive-Ping-Interval");
	size_t n = s ? strspn(s, "0123456789") : 0;
	unsigned long v = n && n < 6 && s[n] == '\0' ? strtoul(s, NULL, 10) : 0;
	return v && v <= KEEPALIVE_MAX_S ? (unsigned)v : KEEPALIVE_S;
}

/* ---- answers ---- */

void connect_reply(struct http_req *r, json_t *msg)
{
	if (msg)
		http_reply_json(r, 200, msg);
	else
		connect_fail(r, CONNECT_EXHAUSTED, "out of memory");
}

/* A message may quote bytes that are no UTF-8. */
static json_t *text_json(const char *text)
{
	json_t *v = json_string(text);
	return v ? v : json_string("an error whose text is not UTF-8");
}

static json_t *error_json(enum connect_code code, const char *text)
{
	const struct brig_err err = { .code = api_code(connect_code_status(code)) };
	/* Clients of the protocol read the first two, and pass over what they do not know. */
	return json_pack("{s:s,s:o,s:s}", "code", connect_code_text(code), "message",
			 text_json(text), "remediation", api_remedy(&err));
}

void connect_fail(struct http_req *r, enum connect_code code, const char *text)
{
	http_reply_json(r, connect_code_status(code), error_json(code, text));
}

void connect_stream_begin(struct http_req *r)
{
	if (!http_answered(r))
		http_stream_begin(r, 200, "application/connect+json", -1);
}

void connect_stream_raw(struct http_req *r, const void *p, size_t n)
{
	http_stream_write(r, p, n);
}

/* One write, so that a message is one chunk. Steals msg. */
static int stream_message(struct http_req *r, uint8_t flags, json_t *msg)
{
	size_t n = msg ? json_dumpb(msg, NULL, 0, JSON_COMPACT) : 0;
	AUTO_FREE uint8_t *p = n ? malloc(CONNECT_HEAD + n) : NULL;
	if (p && json_dumpb(msg, (char *)p + CONNECT_HEAD, n, JSON_COMPACT) == n) {
		connect_frame_head(p, flags, n);
		http_stream_write(r, p, CONNECT_HEAD + n);
	} else {
		n = 0;
	}
	json_decref(msg);
	return n ? 0 : -1;
}

void connect_stream_send(struct http_req *r, json_t *msg)
{
	/* A stream with a hole in it must not look whole. */
	if (stream_message(r, 0, msg) < 0)
		http_abort(r);
}

void connect_stream_end(struct http_req *r, enum connect_code code, const char *text)
{
	json_t *msg = json_object();
	if (msg && code != CONNECT_OK)
		json_object_set_new(msg, "error", error_json(code, text));
	connect_stream_begin(r);
	if (stream_message(r, CONNECT_FLAG_END, msg) < 0)
		http_abort(r);
	else
		http_stream_end(r);
}
