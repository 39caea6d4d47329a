/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * RFC 9112, and of it what all servers read alike: one space between the parts of the request line,
 * CR LF at every end, no folded field, no space before a colon, one Host, one way in which the body
 * ends. A request that two programs could cut differently is refused: the next request on the
 * connection would hide in what we took for a body.
 */
#include "net/head.h"

#include <string.h>
#include <strings.h>

#include "net/name.h"

#define METHOD_MAX 24u

struct span {
	const char *p;
	size_t n;
};

static bool token_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is(struct span s, const char *word)
{
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

static struct span trim(struct span s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* HOST[:PORT]; the port is `ret_port` as it comes if there is none. */
static bool authority(struct span s, struct span *ret_host, uint16_t *ret_port)
{
	const char *end = s.p + s.n, *colon = NULL;
	const char *from = s.n && s.p[0] == '[' ? memchr(s.p, ']', s.n) : s.p;
	if (!from)
		return false;
	colon = memchr(from, ':', (size_t)(end - from));
	*ret_host = (struct span){ s.p, (size_t)((colon ? colon : end) - s.p) };
	if (!ret_host->n || memchr(s.p, '@', s.n))
		return false;
	if (!colon)
		return true;
	unsigned v = 0;
	if (colon + 1 == end || end - colon > 6)
		return false;
	for (const char *d = colon + 1; d < end; d++) {
		if (*d < '0' || *d > '9')
			return false;
		v = v * 10 + (unsigned)(*d - '0');
	}
	if (v < 1 || v > 65535)
		return false;
	*ret_port = (uint16_t)v;
	return true;
}

static bool target_read(struct span t, bool connect, struct head *ret)
{
	struct span host = { NULL, 0 };
	if (connect) {
		uint16_t port = 0;
		if (!authority(t, &host, &port) || !port)
			return false;
		ret->target_port = port;
	} else if (t.n > 7 && strncasecmp(t.p, "http://", 7) == 0) {
		struct span a = { t.p + 7, t.n - 7 };
		size_t n = 0;
		while (n < a.n && !strchr("/?#", a.p[n]))
			n++;
		a.n = n;
		ret->target_port = 80;
		if (!authority(a, &host, &ret->target_port))
			return false;
		ret->absolute = true;
	} else {
		/* origin-form, or the asterisk of OPTIONS; other schemes are nobody's business
		 * here. */
		return t.p[0] == '/' || is(t, "*");
	}
	ret->target = host.p;
	ret->target_len = host.n;
	return true;
}

/* White space that some servers take for the blanks of a request line. */
static bool blank(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Whether n bytes without a line feed can be the beginning of a request line, also to a server that
 * reads kindly; a protocol that is no text, or has no method in front, shows it soon. */
static bool may_be_line(const char *s, size_t n)
{
	size_t m = 0;
	while (m < n && token_char((unsigned char)s[m]))
		m++;
	if (m < n && !blank((unsigned char)s[m]))
		return false;
	for (size_t i = m; i < n; i++)
		if ((unsigned char)s[i] < ' ' && !blank((unsigned char)s[i]))
			return false;
	return true;
}

/* The request line: METHOD SP TARGET SP HTTP/1.x. Whether a line is one is told by its end. */
static enum head_result line_read(struct span l, struct head *ret, bool *ret_old)
{
	size_t m = 0;
	if (!may_be_line(l.p, l.n) || l.n < 9 || strncasecmp(l.p + l.n - 9, " HTTP/", 6) != 0)
		return HEAD_OTHER;
	if (memcmp(l.p + l.n - 9, " HTTP/", 6) != 0 || l.p[l.n - 2] != '.')
		return HEAD_BAD;
	if (l.p[l.n - 3] != '1')
		return HEAD_OTHER; /* HTTP/2 says its names inside */
	if (l.p[l.n - 1] != '0' && l.p[l.n - 1] != '1')
		return HEAD_BAD;
	*ret_old = l.p[l.n - 1] == '0';
	while (m < l.n && token_char((unsigned char)l.p[m]))
		m++;
	if (m == 0 || m > METHOD_MAX || m + 1 + 9 >= l.n || l.p[m] != ' ')
		return HEAD_BAD;
	struct span t = { l.p + m + 1, l.n - 9 - m - 1 };
	for (size_t i = 0; i < t.n; i++)
		if ((unsigned char)t.p[i] <= ' ' || (unsigned char)t.p[i] == 0x7f)
			return HEAD_BAD;
	ret->connect = m == 7 && memcmp(l.p, "CONNECT", 7) == 0;
	return target_read(t, ret->connect, ret) ? HEAD_OK : HEAD_BAD;
}

struct seen {
	bool host, length, chunked;
	bool names_host; /* the Connection field would have a proxy drop what we judged by */
};

static bool connection_read(struct span v, struct seen *seen)
{
	while (v.n) {
		const char *comma = memchr(v.p, ',', v.n);
		struct span one = { v.p, comma ? (size_t)(comma - v.p) : v.n };
		one = trim(one);
		if (is(one, "host") || is(one, "content-length") || is(one, "transfer-encoding"))
			seen->names_host = true;
		if (!comma)
			break;
		v.n -= (size_t)(comma + 1 - v.p);
		v.p = comma + 1;
	}
	return !seen->names_host;
}

static bool length_read(struct span v, uint64_t *ret)
{
	uint64_t n = 0;
	if (v.n < 1 || v.n > 18)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	*ret = n;
	return true;
}

static bool field_read(struct span l, struct head *ret, struct seen *seen)
{
	size_t k = 0;
	while (k < l.n && token_char((unsigned char)l.p[k]))
		k++;
	if (k == 0 || k == l.n || l.p[k] != ':')
		return false;
	struct span name = { l.p, k }, value = trim((struct span){ l.p + k + 1, l.n - k - 1 });
	for (size_t i = 0; i < value.n; i++)
		if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 0x7f)
			return false;
	if (is(name, "host")) {
		struct span host = { NULL, 0 };
		uint16_t port = 0;
		if (seen->host || !authority(value, &host, &port))
			return false;
		seen->host = true;
		ret->host = host.p;
		ret->host_len = host.n;
	} else if (is(name, "content-length")) {
		if (seen->length || !length_read(value, &ret->length))
			return false;
		seen->length = true;
	} else if (is(name, "transfer-encoding")) {
		if (seen->chunked || !is(value, "chunked"))
			return false;
		seen->chunked = true;
	} else if (is(name, "upgrade")) {
		ret->websocket = !ret->upgrade && is(value, "websocket");
		ret->upgrade = true;
	} else if (is(name, "connection") || is(name, "proxy-connection")) {
		return connection_read(value, seen);
	}
	return true;
}

/* A first byte with which some servers still find a request behind it. */
static bool slack(uint8_t c)
{
	return c == '\r' || c == '\n' || c == ' ' || c == '\t';
}

enum head_result head_read(const uint8_t *p, size_t n, struct head *ret)
{
	const char *at = (const char *)p, *end = at + n;
	struct seen seen = { .host = false };
	bool old = false;
	*ret = (struct head){ .len = 0 };
	if (n > 0 && slack(p[0])) {
		size_t k = 1;
		while (k < n && slack(p[k]))
			k++;
		enum head_result r = k < n ? head_read(p + k, n - k, ret) : HEAD_MORE;
		return r == HEAD_OK ? HEAD_BAD : n == HEAD_MAX && r == HEAD_MORE ? HEAD_BAD : r;
	}
	if (n > 0 && !token_char(p[0]))
		return HEAD_OTHER;
	for (unsigned line = 0;; line++) {
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		if (!lf) {
			if (n >= HEAD_MAX)
				return line ? HEAD_BAD : HEAD_OTHER;
			return line || may_be_line(at, (size_t)(end - at)) ? HEAD_MORE : HEAD_OTHER;
		}
		if ((size_t)(lf + 1 - (const char *)p) > HEAD_MAX)
			return line ? HEAD_BAD : HEAD_OTHER;
		bool cr = lf > at && lf[-1] == '\r';
		struct span l = { at, (size_t)(lf - at) - cr };
		if (line == 0) {
			enum head_result r = line_read(l, ret, &old);
			if (r != HEAD_OK)
				return r;
			if (!cr)
				return HEAD_BAD;
		} else if (!cr || line > HEAD_FIELDS_MAX) {
			return HEAD_BAD;
		} else if (l.n == 0) {
			ret->len = (size_t)(lf + 1 - (const char *)p);
			break;
		} else if (!field_read(l, ret, &seen)) {
			return HEAD_BAD;
		}
		at = lf + 1;
	}
	if ((seen.length && seen.chunked) || (old && (seen.chunked || ret->upgrade)) ||
	    (!old && !seen.host) || (ret->connect && (seen.length || seen.chunked || ret->upgrade)))
		return HEAD_BAD;
	ret->body = seen.chunked		 ? HEAD_BODY_CHUNKED
		    : seen.length && ret->length ? HEAD_BODY_LENGTH
						 : HEAD_BODY_NONE;
	return HEAD_OK;
}

/* ---- chunks ---- */

enum {
	C_SIZE,
	C_EXT,
	C_SIZE_LF,
	C_DATA,
	C_DATA_CR,
	C_DATA_LF,
	C_TRAIL,
	C_TRAIL_LINE,
	C_TRAIL_LF,
	C_END_LF
};

#define CHUNK_EXT_MAX 256u
#define TRAILER_MAX 8192u

static int hex(uint8_t c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool chunk_byte(struct head_chunks *c, uint8_t b, bool *ret_end)
{
	int v;
	switch (c->state) {
	case C_SIZE:
		v = hex(b);
		if (v >= 0 && c->digits < 15) {
			c->left = c->left << 4 | (unsigned)v;
			c->digits++;
			return true;
		}
		c->line = 0;
		c->state = b == '\r' ? C_SIZE_LF : C_EXT;
		return c->digits && (b == '\r' || b == ';');
	case C_EXT:
		if (b == '\r')
			c->state = C_SIZE_LF;
		return (b == '\r' || (b >= ' ' && b != 0x7f)) && ++c->line <= CHUNK_EXT_MAX;
	case C_SIZE_LF:
		c->state = c->left ? C_DATA : C_TRAIL;
		c->digits = 0;
		c->line = 0;
		return b == '\n';
	case C_DATA_CR:
		c->state = C_DATA_LF;
		return b == '\r';
	case C_DATA_LF:
		c->state = C_SIZE;
		return b == '\n';
	case C_TRAIL:
		c->state = b == '\r' ? C_END_LF : C_TRAIL_LINE;
		return b == '\r' || (token_char(b) && ++c->line <= TRAILER_MAX);
	case C_TRAIL_LINE:
		if (b == '\r')
			c->state = C_TRAIL_LF;
		return (b == '\r' || b == '\t' || (b >= ' ' && b != 0x7f)) &&
		       ++c->line <= TRAILER_MAX;
	case C_TRAIL_LF:
		c->state = C_TRAIL;
		return b == '\n';
	case C_END_LF:
		*ret_end = b == '\n';
		return *ret_end;
	default:
		return false;
	}
}

long head_chunks_feed(struct head_chunks *c, const uint8_t *p, size_t n, bool *ret_end)
{
	*ret_end = false;
	for (size_t i = 0; i < n;) {
		if (c->state == C_DATA) {
			size_t k = c->left < n - i ? (size_t)c->left : n - i;
			c->left -= k;
			i += k;
			if (!c->left)
				c->state = C_DATA_CR;
			continue;
		}
		if (!chunk_byte(c, p[i++], ret_end))
			return -1;
		if (*ret_end)
			return (long)i;
	}
	return (long)n;
}
