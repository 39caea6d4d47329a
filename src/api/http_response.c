/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 *   HEAD     status line and headers, up to an empty line
 *   LENGTH   a body of `left` more bytes
 *   EOF      a body that ends with the connection
 *   SIZE     the size line of a chunk
 *   CHUNK    `left` bytes of it, then CR LF
 *   CRLF
 *   TRAILER  lines behind the last chunk, dropped
 *   OVER
 *
 * Where two readers could disagree about the end of a message it is refused: both Transfer-Encoding
 * and Content-Length, several lengths that differ, other codings than a single "chunked", folded
 * lines, blanks before a colon, bare CR or NUL. A line may end with a bare LF in no place.
 */
#include "api/http_response.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define INTERIMS_MAX 16u

enum { ST_HEAD, ST_LENGTH, ST_EOF, ST_SIZE, ST_CHUNK, ST_CRLF, ST_TRAILER, ST_OVER };

void response_init(struct response *h)
{
	*h = (struct response){ .state = ST_HEAD, .length = -1 };
}

void response_done(struct response *h)
{
	free(h->head);
	h->head = NULL;
	h->nheaders = 0;
}

void response_took(struct response *h, struct buf *in, size_t n)
{
	buf_consume(in, n);
	if (h->state != ST_EOF)
		h->left -= n < h->left ? n : h->left;
}

const char *response_header(const struct response *h, const char *name)
{
	for (unsigned i = 0; i < h->nheaders; i++)
		if (strcasecmp(h->headers[i].name, name) == 0)
			return h->headers[i].value;
	return NULL;
}

bool header_list_has(const char *list, const char *token)
{
	size_t t = strlen(token);
	while (*list) {
		list += strspn(list, ", \t");
		size_t n = strcspn(list, ", \t");
		if (n == t && strncasecmp(list, token, t) == 0)
			return true;
		list += n;
	}
	return false;
}

static enum response_next bad(struct brig_err *err, const char *why)
{
	brig_err_set(err, BRIG_E_PROTOCOL, 0, "malformed answer of the server inside: %s", why);
	return RESPONSE_BAD;
}

static enum response_next more(bool eof, struct brig_err *err)
{
	return eof ? bad(err, "it ends too early") : RESPONSE_MORE;
}

/* ---- the head ---- */

/* "HTTP/1.1 200 OK" */
static int status_line(struct response *h, const char *line)
{
	if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ')
		return -1;
	line += 9;
	for (int i = 0; i < 3; i++)
		if (!isdigit((unsigned char)line[i]))
			return -1;
	if (line[3] && line[3] != ' ')
		return -1;
	h->status = (unsigned)(line[0] - '0') * 100 + (unsigned)(line[1] - '0') * 10 +
		    (unsigned)(line[2] - '0');
	return h->status >= 100 && h->status <= 599 ? 0 : -1;
}

/* RFC 9110, 5.6.2 */
static bool token_valid(const char *s)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	return *s && s[strspn(s, token)] == '\0';
}

static int header_line(struct response *h, char *line)
{
	char *colon = strchr(line, ':');
	if (!colon || h->nheaders == RESPONSE_HEADERS_MAX)
		return -1;
	*colon = '\0';
	if (!token_valid(line))
		return -1;
	char *v = colon + 1;
	v += strspn(v, " \t");
	size_t n = strlen(v);
	while (n && (v[n - 1] == ' ' || v[n - 1] == '\t'))
		v[--n] = '\0';
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)v[i] < ' ' && v[i] != '\t')
			return -1;
	h->headers[h->nheaders++] = (struct response_header){ .name = line, .value = v };
	return 0;
}

/* Digits only; -1: no length. */
static int64_t length_parse(const char *s)
{
	size_t n = strspn(s, "0123456789");
	return n && n <= 18 && s[n] == '\0' ? strtoll(s, NULL, 10) : -1;
}

/* How the body ends. */
static int framing(struct response *h)
{
	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct response_header *x = &h->headers[i];
		if (strcasecmp(x->name, "Transfer-Encoding") == 0) {
			if (h->chunked || strcasecmp(x->value, "chunked") != 0)
				return -1;
			h->chunked = true;
		} else if (strcasecmp(x->name, "Content-Length") == 0) {
			int64_t n = length_parse(x->value);
			if (n < 0 || (h->length >= 0 && h->length != n))
				return -1;
			h->length = n;
		}
	}
	if (h->chunked && h->length >= 0)
		return -1;
	bool none = h->no_body || h->status < 200 || h->status == 204 || h->status == 304;
	if (none)
		h->state = ST_OVER;
	else if (h->chunked)
		h->state = ST_SIZE;
	else
		h->state = h->length >= 0 ? ST_LENGTH : ST_EOF;
	h->left = h->length > 0 ? (uint64_t)h->length : 0;
	return 0;
}

static enum response_next head_parse(struct response *h, struct brig_err *err)
{
	char *line = h->head, *nl = strstr(line, "\r\n");
	bool first = true;
	h->nheaders = 0;
	h->chunked = false;
	h->length = -1;
	for (; nl && nl != line; line = nl + 2, nl = strstr(line, "\r\n")) {
		*nl = '\0';
		/* A folded line begins with a blank, which no token has. */
		if (strpbrk(line, "\r\n") ||
		    (first ? status_line(h, line) : header_line(h, line)) < 0)
			return bad(err, first ? "its status line" : "a header");
		first = false;
	}
	if (first)
		return bad(err, "it has no status line");
	if (framing(h) < 0)
		return bad(err, "where its body ends cannot be told");
	return RESPONSE_HEAD;
}

static enum response_next step_head(struct response *h, struct buf *in, bool eof,
				    struct brig_err *err)
{
	size_t n = buf_len(in) < RESPONSE_HEAD_MAX ? buf_len(in) : RESPONSE_HEAD_MAX;
	const uint8_t *p = buf_head(in), *end = n && p ? memmem(p, n, "\r\n\r\n", 4) : NULL;
	if (!end)
		return n == RESPONSE_HEAD_MAX ? bad(err, "its headers are too long")
					      : more(eof, err);
	n = (size_t)(end - p) + 4;
	if (memchr(p, 0, n))
		return bad(err, "a NUL in its headers");
	free(h->head);
	h->head = malloc(n + 1);
	if (!h->head) {
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "read an answer");
		return RESPONSE_BAD;
	}
	memcpy(h->head, p, n);
	h->head[n] = '\0';
	buf_consume(in, n);
	enum response_next r = head_parse(h, err);
	if (r != RESPONSE_HEAD || h->status >= 200)
		return r;
	if (h->status == 101)
		return h->may_upgrade ? r : bad(err, "an upgrade that nobody asked for");
	if (++h->interims > INTERIMS_MAX)
		return bad(err, "too many interim answers");
	h->state = ST_HEAD;
	return RESPONSE_MORE;
}

/* ---- the body ---- */

static int hex(uint8_t c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static enum response_next step_size(struct response *h, struct buf *in, bool eof,
				    struct brig_err *err)
{
	size_t n = buf_len(in) < RESPONSE_LINE_MAX ? buf_len(in) : RESPONSE_LINE_MAX, i = 0;
	const uint8_t *p = buf_head(in), *nl = n ? memmem(p, n, "\r\n", 2) : NULL;
	uint64_t size = 0;
	if (!nl)
		return n == RESPONSE_LINE_MAX ? bad(err, "a chunk") : more(eof, err);
	for (; i < 15 && hex(p[i]) >= 0; i++)
		size = size << 4 | (uint64_t)hex(p[i]);
	size_t len = (size_t)(nl - p);
	if (i == 0 || (i < len && p[i] != ';' && p[i] != ' ' && p[i] != '\t') ||
	    memchr(p, '\n', len) || memchr(p, '\r', len))
		return bad(err, "a chunk");
	buf_consume(in, len + 2);
	h->left = size;
	h->state = size ? ST_CHUNK : ST_TRAILER;
	return RESPONSE_MORE;
}

static enum response_next step_trailer(struct response *h, struct buf *in, bool eof,
				       struct brig_err *err)
{
	size_t n = buf_len(in) < RESPONSE_LINE_MAX ? buf_len(in) : RESPONSE_LINE_MAX;
	const uint8_t *p = buf_head(in), *nl = n ? memmem(p, n, "\r\n", 2) : NULL;
	if (!nl)
		return n == RESPONSE_LINE_MAX ? bad(err, "a trailer") : more(eof, err);
	size_t len = (size_t)(nl - p);
	h->trailer += len;
	if (h->trailer > RESPONSE_TRAILER_MAX)
		return bad(err, "its trailer is too long");
	buf_consume(in, len + 2);
	if (len == 0)
		h->state = ST_OVER;
	return len == 0 ? RESPONSE_END : RESPONSE_MORE;
}

/* Data of a body or chunk. */
static enum response_next step_data(struct response *h, struct buf *in, bool eof, size_t *ret_n,
				    struct brig_err *err)
{
	size_t n = buf_len(in);
	if (h->state == ST_EOF) {
		*ret_n = n;
		if (n)
			return RESPONSE_DATA;
		if (!eof)
			return RESPONSE_MORE;
		h->state = ST_OVER;
		return RESPONSE_END;
	}
	if (h->left == 0) {
		h->state = h->state == ST_CHUNK ? ST_CRLF : ST_OVER;
		return h->state == ST_OVER ? RESPONSE_END : RESPONSE_MORE;
	}
	if (n == 0)
		return more(eof, err);
	*ret_n = n < h->left ? n : (size_t)h->left;
	return RESPONSE_DATA;
}

static enum response_next step_crlf(struct response *h, struct buf *in, bool eof,
				    struct brig_err *err)
{
	if (buf_len(in) < 2)
		return more(eof, err);
	if (memcmp(buf_head(in), "\r\n", 2) != 0)
		return bad(err, "a chunk");
	buf_consume(in, 2);
	h->state = ST_SIZE;
	return RESPONSE_MORE;
}

enum response_next response_next(struct response *h, struct buf *in, bool eof, size_t *ret_n,
				 struct brig_err *err)
{
	for (;;) {
		size_t before = buf_len(in);
		int state = h->state;
		enum response_next r;
		switch (state) {
		case ST_HEAD:
			r = step_head(h, in, eof, err);
			break;
		case ST_SIZE:
			r = step_size(h, in, eof, err);
			break;
		case ST_CRLF:
			r = step_crlf(h, in, eof, err);
			break;
		case ST_TRAILER:
			r = step_trailer(h, in, eof, err);
			break;
		case ST_LENGTH:
		case ST_EOF:
		case ST_CHUNK:
			r = step_data(h, in, eof, ret_n, err);
			break;
		default:
			return RESPONSE_END;
		}
		/* A step that got somewhere is followed by the next. */
		if (r != RESPONSE_MORE || (h->state == state && buf_len(in) == before))
			return r;
	}
}
