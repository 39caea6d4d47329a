/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of a connection as HTTP, and the bodies behind it; and names of hosts.
 *
 * Oracle: what is decided of a part is what is decided of the whole. A head that was read ends with
 * an empty line and has exactly one Host where it is HTTP/1.1; what it names lies within it. A
 * chunked body ends at the same byte however it was cut. A name that was read is the same when it
 * is read again.
 */
#include <stdlib.h>
#include <string.h>

#include "net/head.h"
#include "net/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void name(const char *s, size_t n)
{
	char once[NET_NAME_MAX], again[NET_NAME_MAX], text[NET_ADDR_TEXT_MAX];
	struct net_addr a, b;
	switch (net_name_read(s, n, once, &a)) {
	case NET_NAME_HOST:
		must(strlen(once) <= n);
		must(net_name_read(once, strlen(once), again, &b) == NET_NAME_HOST);
		must(strcmp(once, again) == 0);
		(void)net_name_tunnel(once, strlen(once) / 2);
		break;
	case NET_NAME_ADDR:
		net_addr_text(&a, text);
		must(net_addr_parse(text, strlen(text), &b) && net_addr_eq(&a, &b));
		break;
	default:
		break;
	}
}

static void within(const uint8_t *p, size_t n, const char *s, size_t k)
{
	must(!s || ((const uint8_t *)s >= p && (const uint8_t *)s + k <= p + n && k > 0));
}

static void chunks(const uint8_t *p, size_t n)
{
	struct head_chunks whole = { .state = 0 };
	bool end = false;
	long all = head_chunks_feed(&whole, p, n, &end);
	must(all >= -1 && all <= (long)n && (!end || all > 0));
	struct head_chunks one = { .state = 0 };
	long sum = 0;
	bool e = false;
	for (size_t i = 0; i < n && !e && sum >= 0; i++) {
		long k = head_chunks_feed(&one, p + i, 1, &e);
		sum = k < 0 ? -1 : sum + k;
	}
	must(sum == all && e == end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct head h, part;
	enum head_result r = head_read(data, size, &h);
	name((const char *)data, size);
	size_t step = size / 16 + 1;
	for (size_t n = 0; n < size; n += step) {
		enum head_result p = head_read(data, n, &part);
		must(p == HEAD_MORE || p == r);
	}
	if (r != HEAD_OK) {
		chunks(data, size);
		return 0;
	}
	must(h.len >= 4 && h.len <= size && h.len <= HEAD_MAX);
	must(memcmp(data + h.len - 4, "\r\n\r\n", 4) == 0);
	within(data, h.len, h.target, h.target_len);
	within(data, h.len, h.host, h.host_len);
	must(!(h.connect && h.absolute) && !(h.connect && h.body != HEAD_BODY_NONE));
	must(!(h.connect || h.absolute) || (h.target && h.target_port));
	must(h.body != HEAD_BODY_LENGTH || h.length > 0);
	if (h.host)
		name(h.host, h.host_len);
	if (h.body == HEAD_BODY_CHUNKED)
		chunks(data + h.len, size - h.len);
	return 0;
}
