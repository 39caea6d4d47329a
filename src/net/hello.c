/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * RFC 8446 (and 5246 for the older): records of type handshake, and across them one message of type
 * client_hello. Nothing else may come before it. What is not understood is refused, never skipped
 * to something that may be a name: two server_name extensions, a list with two names, a name type
 * other than host_name, extensions that end elsewhere than the message. A server that reads more
 * kindly than we do must not find a name that we did not.
 */
#include "net/hello.h"

#include <string.h>

#define REC_HANDSHAKE 22u
#define MSG_CLIENT_HELLO 1u
#define EXT_SERVER_NAME 0u
#define EXT_ECH 0xfe0du
#define REC_MAX 16384u

struct cur {
	const uint8_t *p, *end;
	bool bad;
};

static size_t left(const struct cur *c)
{
	return (size_t)(c->end - c->p);
}

static unsigned take(struct cur *c, unsigned bytes)
{
	unsigned v = 0;
	if (left(c) < bytes) {
		c->bad = true;
		c->p = c->end;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | *c->p++;
	return v;
}

/* A vector with a length of `bytes` bytes in front. */
static struct cur vec(struct cur *c, unsigned bytes)
{
	unsigned n = take(c, bytes);
	struct cur in = { .p = c->p, .end = c->p, .bad = c->bad };
	if (left(c) < n) {
		c->bad = in.bad = true;
		c->p = c->end;
		return in;
	}
	in.end = c->p += n;
	return in;
}

static bool server_name(struct cur ext, struct hello *ret)
{
	struct cur list = vec(&ext, 2);
	unsigned type = take(&list, 1);
	struct cur name = vec(&list, 2);
	if (ext.bad || list.bad || left(&ext) || left(&list) || type != 0 || !left(&name))
		return false;
	ret->sni = (const char *)name.p;
	ret->sni_len = left(&name);
	return true;
}

static enum hello_result body_read(struct cur c, struct hello *ret)
{
	bool named = false;
	if (take(&c, 1) != 3) /* major version of every TLS */
		return HELLO_BAD;
	take(&c, 1);
	for (unsigned i = 0; i < 8; i++) /* random: 32 bytes */
		take(&c, 4);
	struct cur session = vec(&c, 1), suites = vec(&c, 2), methods = vec(&c, 1);
	if (c.bad || left(&session) > 32 || left(&suites) < 2 || !left(&methods))
		return HELLO_BAD;
	if (!left(&c)) /* no extensions at all */
		return HELLO_OK;
	struct cur exts = vec(&c, 2);
	if (c.bad || left(&c))
		return HELLO_BAD;
	while (left(&exts)) {
		unsigned type = take(&exts, 2);
		struct cur ext = vec(&exts, 2);
		if (exts.bad)
			return HELLO_BAD;
		if (type == EXT_SERVER_NAME) {
			if (named || !server_name(ext, ret))
				return HELLO_BAD;
			named = true;
		} else if (type == EXT_ECH) {
			ret->ech = true;
		}
	}
	return HELLO_OK;
}

enum hello_result hello_read(const uint8_t *p, size_t n, uint8_t *scratch, struct hello *ret)
{
	size_t have = 0, want = 4;
	*ret = (struct hello){ .sni = NULL };
	if (n > HELLO_BYTES_MAX)
		n = HELLO_BYTES_MAX;
	for (size_t at = 0;;) {
		if ((n > at && p[at] != REC_HANDSHAKE) || (n > at + 1 && p[at + 1] != 3))
			return HELLO_BAD;
		if (n - at < 5)
			break;
		size_t len = (size_t)p[at + 3] << 8 | p[at + 4];
		if (len == 0 || len > REC_MAX)
			return HELLO_BAD;
		at += 5;
		size_t got = len < n - at ? len : n - at;
		memcpy(scratch + have, p + at, got);
		have += got;
		at += got;
		if (have >= 1 && scratch[0] != MSG_CLIENT_HELLO)
			return HELLO_BAD;
		if (have >= 4) {
			want = 4 +
			       ((size_t)scratch[1] << 16 | (size_t)scratch[2] << 8 | scratch[3]);
			if (want > HELLO_BYTES_MAX - 64)
				return HELLO_BAD;
			if (have >= want) {
				/* What follows in its record would be another message. */
				if (have > want)
					return HELLO_BAD;
				struct cur body = { .p = scratch + 4, .end = scratch + want };
				return got == len ? body_read(body, ret) : HELLO_BAD;
			}
		}
		if (got < len)
			break;
	}
	return n < HELLO_BYTES_MAX ? HELLO_MORE : HELLO_BAD;
}
