/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 *   FIRST   the first boundary, at the very beginning (a preamble is refused: no client sends one)
 *   TAIL    behind a boundary: CR LF begins a part, "--" ends the body
 *   HEAD    headers of a part, up to an empty line
 *   DATA    data, up to the next CR LF "--" boundary
 *   OVER
 *
 * Data that could be the beginning of a boundary is kept back until the bytes behind it tell. The
 * only header that is looked at is Content-Disposition. Browsers and undici write a quote in a name
 * as %22 (and CR, LF as %0D, %0A), others as \"; both are undone.
 */
#include "api/multipart.h"

#include <string.h>
#include <strings.h>

enum { ST_FIRST, ST_TAIL, ST_HEAD, ST_DATA, ST_OVER };

static bool token_char(char c)
{
	return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", c);
}

/* RFC 2046, 5.1.1 */
static bool boundary_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("'()+_,-./:=? ", c));
}

int multipart_init(struct multipart *m, const char *content_type, struct brig_err *err)
{
	static const char type[] = "multipart/form-data";
	const char *at = content_type;
	size_t n = 0;
	*m = (struct multipart){ .state = ST_FIRST };
	if (strncasecmp(at, type, sizeof(type) - 1) != 0)
		return brig_fail(err, BRIG_E_INVALID, 0, "the content is no multipart/form-data");
	at += sizeof(type) - 1;
	for (;;) {
		at += strspn(at, " \t");
		if (*at != ';')
			return brig_fail(err, BRIG_E_INVALID, 0, "multipart without a boundary");
		at++;
		at += strspn(at, " \t");
		if (strncasecmp(at, "boundary=", 9) == 0)
			break;
		at += strcspn(at, ";");
	}
	at += 9;
	bool quoted = *at == '"';
	memcpy(m->delim, "\r\n--", 4);
	m->delim_n = 4;
	for (at += quoted; boundary_char(*at) && (quoted || *at != ' ') && n < 70; at++, n++)
		m->delim[m->delim_n++] = *at;
	if (n == 0 || m->delim[m->delim_n - 1] == ' ' ||
	    (quoted ? *at != '"' : *at && *at != ';' && *at != ' '))
		return brig_fail(err, BRIG_E_INVALID, 0, "the multipart boundary is malformed");
	return 0;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A parameter's value at *at, token or quoted, into ret; *at moves behind it. */
static int param_value(const char **at, const char *end, char *ret, size_t cap)
{
	const char *p = *at;
	size_t n = 0;
	bool quoted = p < end && *p == '"';
	for (p += quoted; p < end && (quoted ? *p != '"' : token_char(*p)); p++) {
		char c = *p;
		if (quoted && c == '\\' && end - p > 1 && (p[1] == '"' || p[1] == '\\')) {
			c = *++p;
		} else if (quoted && c == '%' && end - p > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
			int v = hex(p[1]) << 4 | hex(p[2]);
			if (v == '"' || v == '\r' || v == '\n') {
				c = (char)v;
				p += 2;
			}
		}
		if (c == '\0' || n + 1 >= cap)
			return -1;
		ret[n++] = c;
	}
	if (quoted && (p >= end || *p++ != '"'))
		return -1;
	ret[n] = '\0';
	*at = p;
	return 0;
}

/* form-data; name="x"; filename="y" */
static int disposition(struct multipart *m, const char *at, const char *end)
{
	static const char kind[] = "form-data";
	bool named = false;
	if ((size_t)(end - at) < sizeof(kind) - 1 || strncasecmp(at, kind, sizeof(kind) - 1) != 0)
		return -1;
	at += sizeof(kind) - 1;
	for (;;) {
		char ignored[MULTIPART_FILENAME_MAX];
		while (at < end && (*at == ' ' || *at == '\t'))
			at++;
		if (at == end)
			return named ? 0 : -1;
		if (*at++ != ';')
			return -1;
		while (at < end && (*at == ' ' || *at == '\t'))
			at++;
		const char *key = at;
		while (at < end && token_char(*at))
			at++;
		size_t n = (size_t)(at - key);
		if (n == 0 || at == end || *at++ != '=')
			return -1;
		int r;
		if (n == 4 && strncasecmp(key, "name", 4) == 0) {
			r = param_value(&at, end, m->name, sizeof(m->name));
			named = true;
		} else if (n == 8 && strncasecmp(key, "filename", 8) == 0) {
			r = param_value(&at, end, m->filename, sizeof(m->filename));
			m->has_filename = true;
		} else {
			r = param_value(&at, end, ignored, sizeof(ignored));
		}
		if (r < 0)
			return -1;
	}
}

/* Lines up to the empty one; n bytes with it. */
static int head_parse(struct multipart *m, const char *at, size_t n)
{
	static const char want[] = "content-disposition";
	const char *end = at + n;
	bool seen = false;
	m->name[0] = m->filename[0] = '\0';
	m->has_filename = false;
	/* An empty buffer has no memory; the analysis of a sanitizer's build wants to be told. */
	while (at && at < end) {
		const char *nl = memmem(at, (size_t)(end - at), "\r\n", 2);
		if (!nl || nl == at)
			break;
		const char *colon = memchr(at, ':', (size_t)(nl - at));
		if (!colon || *at == ' ' || *at == '\t')
			return -1; /* also a folded line */
		if (colon - at == sizeof(want) - 1 &&
		    strncasecmp(at, want, sizeof(want) - 1) == 0) {
			const char *v = colon + 1;
			while (v < nl && (*v == ' ' || *v == '\t'))
				v++;
			if (seen || disposition(m, v, nl) < 0)
				return -1;
			seen = true;
		}
		at = nl + 2;
	}
	return seen ? 0 : -1;
}

static enum multipart_next bad(struct brig_err *err, const char *why)
{
	brig_err_set(err, BRIG_E_INVALID, 0, "malformed multipart body: %s", why);
	return MULTIPART_BAD;
}

static enum multipart_next more(bool eof, struct brig_err *err)
{
	return eof ? bad(err, "it ends too early") : MULTIPART_MORE;
}

/* Behind a boundary. */
static enum multipart_next step_tail(struct multipart *m, struct buf *in, bool eof,
				     struct brig_err *err)
{
	const uint8_t *p = buf_head(in);
	if (buf_len(in) < 2)
		return more(eof, err);
	if (memcmp(p, "--", 2) == 0) {
		m->state = ST_OVER;
		return MULTIPART_END;
	}
	if (memcmp(p, "\r\n", 2) != 0)
		return bad(err, "a boundary is followed by other text");
	buf_consume(in, 2);
	m->state = ST_HEAD;
	return MULTIPART_MORE;
}

static enum multipart_next step_head(struct multipart *m, struct buf *in, bool eof,
				     struct brig_err *err)
{
	const uint8_t *p = buf_head(in);
	size_t n = buf_len(in) < MULTIPART_HEAD_MAX ? buf_len(in) : MULTIPART_HEAD_MAX;
	const uint8_t *end = n ? memmem(p, n, "\r\n\r\n", 4) : NULL;
	if (!end)
		return n == MULTIPART_HEAD_MAX ? bad(err, "the headers of a part are too long")
					       : more(eof, err);
	size_t len = (size_t)(end - p) + 4;
	if (head_parse(m, (const char *)p, len) < 0)
		return bad(err, "a part has no proper Content-Disposition");
	buf_consume(in, len);
	m->state = ST_DATA;
	return MULTIPART_PART;
}

static enum multipart_next step_data(struct multipart *m, struct buf *in, bool eof, size_t *ret_n,
				     struct brig_err *err)
{
	const uint8_t *p = buf_head(in);
	size_t n = buf_len(in);
	const uint8_t *hit = n ? memmem(p, n, m->delim, m->delim_n) : NULL;
	if (hit == p && hit) {
		buf_consume(in, m->delim_n);
		m->state = ST_TAIL;
		return MULTIPART_PART_END;
	}
	/* Without a hit, the last bytes may be the beginning of one. */
	size_t keep = m->delim_n - 1;
	*ret_n = hit ? (size_t)(hit - p) : n > keep ? n - keep : 0;
	return *ret_n ? MULTIPART_DATA : more(eof, err);
}

enum multipart_next multipart_next(struct multipart *m, struct buf *in, bool eof, size_t *ret_n,
				   struct brig_err *err)
{
	for (;;) {
		enum multipart_next r;
		int before = m->state;
		switch (m->state) {
		case ST_FIRST:
			/* Without the line break that precedes all others. */
			if (buf_len(in) < m->delim_n - 2)
				return more(eof, err);
			if (memcmp(buf_head(in), m->delim + 2, m->delim_n - 2) != 0)
				return bad(err, "it does not begin with its boundary");
			buf_consume(in, m->delim_n - 2);
			m->state = ST_TAIL;
			r = MULTIPART_MORE;
			break;
		case ST_TAIL:
			r = step_tail(m, in, eof, err);
			break;
		case ST_HEAD:
			r = step_head(m, in, eof, err);
			break;
		case ST_DATA:
			return step_data(m, in, eof, ret_n, err);
		default:
			return MULTIPART_END;
		}
		if (r != MULTIPART_MORE || m->state == before)
			return r;
	}
}
