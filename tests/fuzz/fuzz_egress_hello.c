/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of a connection as a TLS ClientHello.
 *
 * Oracle: the result does not depend on how the bytes were cut: what is decided of a part is what
 * is decided of the whole; a hello that was read says the same when each byte of it is in a record
 * of its own; a name lies within the message.
 */
#include <stdlib.h>
#include <string.h>

#include "net/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

/* The same message, a byte a record; 0 if it does not fit. */
static size_t shred(const uint8_t *p, size_t n, uint8_t *out, size_t cap)
{
	size_t at = 0, w = 0;
	while (n - at >= 5) {
		size_t len = (size_t)p[at + 3] << 8 | p[at + 4];
		at += 5;
		for (size_t i = 0; i < len && at < n; i++, at++) {
			if (w + 6 > cap)
				return 0;
			memcpy(out + w, (const uint8_t[]){ 22, 3, 1, 0, 1, p[at] }, 6);
			w += 6;
		}
	}
	return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t scratch[HELLO_BYTES_MAX], other[HELLO_BYTES_MAX],
		pieces[HELLO_BYTES_MAX - 1];
	struct hello whole, part;
	enum hello_result r = hello_read(data, size, scratch, &whole);
	if (r == HELLO_OK && whole.sni) {
		must((const uint8_t *)whole.sni >= scratch && whole.sni_len > 0);
		must((const uint8_t *)whole.sni + whole.sni_len <= scratch + HELLO_BYTES_MAX);
	}
	size_t step = size / 16 + 1;
	for (size_t n = 0; n < size; n += step) {
		enum hello_result p = hello_read(data, n, other, &part);
		must(p == HELLO_MORE || p == r || (p == HELLO_OK && r == HELLO_OK));
	}
	if (r != HELLO_OK)
		return 0;
	/* What follows the message is not in it. */
	size_t n = shred(data, size, pieces, sizeof(pieces));
	for (size_t i = 6; i <= n; i += 6) {
		enum hello_result p = hello_read(pieces, i, other, &part);
		if (p == HELLO_MORE)
			continue;
		must(p == HELLO_OK && part.ech == whole.ech && part.sni_len == whole.sni_len);
		must(!part.sni == !whole.sni);
		must(!part.sni || memcmp(part.sni, whole.sni, part.sni_len) == 0);
		break;
	}
	return 0;
}
