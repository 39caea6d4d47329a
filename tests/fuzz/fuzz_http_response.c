/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer as a program inside of a sandbox could send it; the first byte of the input says in
 * what pieces it comes and what was asked for.
 *
 * Oracle: however it is cut, status, body and end are the same; headers are terminated strings
 * without control characters; a length that was promised is the length that comes.
 */
#include <stdlib.h>
#include <string.h>

#include "api/http_response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

struct reading {
	uint64_t hash, bytes;
	unsigned status;
	enum response_next last;
};

static void check_head(const struct response *h)
{
	must(h->status >= 101 && h->status <= 599);
	must(h->nheaders <= RESPONSE_HEADERS_MAX);
	for (unsigned i = 0; i < h->nheaders; i++) {
		must(h->headers[i].name[0] != '\0');
		for (const char *c = h->headers[i].value; *c; c++)
			must((unsigned char)*c >= ' ' || *c == '\t');
	}
}

static int feed(struct response *h, struct buf *in, bool eof, struct reading *t)
{
	struct brig_err err = BRIG_ERR_INIT;
	for (;;) {
		size_t n = 0;
		t->last = response_next(h, in, eof, &n, &err);
		switch (t->last) {
		case RESPONSE_HEAD:
			check_head(h);
			t->status = h->status;
			break;
		case RESPONSE_DATA: {
			const uint8_t *p = buf_head(in);
			must(n > 0 && n <= buf_len(in));
			for (size_t i = 0; i < n; i++)
				t->hash = (t->hash ^ p[i]) * 1099511628211u;
			t->bytes += n;
			response_took(h, in, n);
			break;
		}
		case RESPONSE_MORE:
			must(!eof);
			return 1;
		case RESPONSE_END:
		case RESPONSE_BAD:
			return 0;
		}
	}
}

static void run(const uint8_t *p, size_t n, size_t piece, unsigned how, struct reading *t)
{
	struct response h;
	struct buf in = BUF_INIT(n + 1);
	int more = 1;
	*t = (struct reading){ .hash = 14695981039346656037u };
	response_init(&h);
	h.no_body = how & 1;
	h.may_upgrade = how & 2;
	for (size_t at = 0; at < n && more; at += piece) {
		size_t k = n - at < piece ? n - at : piece;
		must(buf_add(&in, p + at, k) == 0);
		more = feed(&h, &in, false, t);
	}
	if (more)
		feed(&h, &in, true, t);
	if (t->last == RESPONSE_END && h.length >= 0 && !h.no_body && h.status >= 200 &&
	    h.status != 204 && h.status != 304)
		must(t->bytes == (uint64_t)h.length);
	response_done(&h);
	buf_done(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading whole, cut;
	if (size < 1 || size > 100000)
		return 0;
	run(data + 1, size - 1, size, data[0] >> 6, &whole);
	run(data + 1, size - 1, 1 + data[0] % 64u, data[0] >> 6, &cut);
	must(whole.last == cut.last);
	must(whole.last == RESPONSE_BAD || (whole.hash == cut.hash && whole.status == cut.status));
	return 0;
}
