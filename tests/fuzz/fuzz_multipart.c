/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A form as a client could send it, its bytes cut by the first byte of the input.
 *
 * Oracle: however it is cut, the same events come out, data bytes in the same order; data is never
 * more than was there; no state asks for bytes for ever once the end is known.
 */
#include <stdlib.h>
#include <string.h>

#include "api/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

struct trace {
	uint64_t hash;
	unsigned parts, ends;
	enum multipart_next last;
};

static void mix(struct trace *t, const void *p, size_t n)
{
	const uint8_t *at = p;
	for (size_t i = 0; i < n; i++)
		t->hash = (t->hash ^ at[i]) * 1099511628211u;
}

/* False: it is over. */
static int feed(struct multipart *m, struct buf *in, bool eof, struct trace *t)
{
	struct brig_err err = BRIG_ERR_INIT;
	for (;;) {
		size_t n = 0;
		t->last = multipart_next(m, in, eof, &n, &err);
		switch (t->last) {
		case MULTIPART_PART:
			must(strlen(m->name) < sizeof(m->name));
			must(strlen(m->filename) < sizeof(m->filename));
			mix(t, m->name, strlen(m->name) + 1);
			mix(t, m->filename, strlen(m->filename) + 1);
			t->parts++;
			break;
		case MULTIPART_DATA:
			must(n > 0 && n <= buf_len(in));
			mix(t, buf_head(in), n);
			buf_consume(in, n);
			break;
		case MULTIPART_PART_END:
			t->ends++;
			break;
		case MULTIPART_MORE:
			must(!eof);
			return 1;
		case MULTIPART_END:
		case MULTIPART_BAD:
			return 0;
		}
	}
}

static void run(const uint8_t *p, size_t n, size_t piece, struct trace *t)
{
	struct multipart m;
	struct brig_err err = BRIG_ERR_INIT;
	struct buf in = BUF_INIT(n + 1);
	int more = 1;
	*t = (struct trace){ .hash = 14695981039346656037u };
	must(multipart_init(&m, "multipart/form-data; boundary=AB", &err) == 0);
	for (size_t at = 0; at < n && more; at += piece) {
		size_t k = n - at < piece ? n - at : piece;
		must(buf_add(&in, p + at, k) == 0);
		more = feed(&m, &in, false, t);
	}
	if (more)
		feed(&m, &in, true, t);
	must(t->last == MULTIPART_END || t->last == MULTIPART_BAD);
	must(t->last == MULTIPART_BAD || t->parts == t->ends);
	buf_done(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct multipart m;
	struct brig_err err = BRIG_ERR_INIT;
	struct trace whole, cut;
	if (size < 1 || size > 65536)
		return 0;
	char *type = malloc(size + 1);
	memcpy(type, data, size);
	type[size] = '\0';
	(void)multipart_init(&m, type, &err);
	free(type);
	run(data + 1, size - 1, size, &whole);
	run(data + 1, size - 1, 1 + data[0] % 32u, &cut);
	must(whole.last == cut.last);
	must(whole.parts == cut.parts);
	/* What was refused was refused at the same place; how much of its last data came out may
	 * differ. */
	must(whole.last == MULTIPART_BAD || whole.hash == cut.hash);
	return 0;
}
