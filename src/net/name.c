/* SPDX-License-Identifier: Apache-2.0 */
#include "net/name.h"

/* A name whose last label is a number, or 0x and hexadecimal digits, is an address to some
 * resolvers (inet_aton: octal, hexadecimal, fewer than four parts) and a name to others. There is
 * no such top-level domain, so it is neither to us. */
static bool looks_like_number(const char *label)
{
	size_t n = strlen(label);
	if (label[0] == '0' && label[1] == 'x')
		return strspn(label + 2, "0123456789abcdef") == n - 2;
	return strspn(label, "0123456789") == n;
}

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

enum net_name_kind net_name_read(const char *s, size_t n, char out[NET_NAME_MAX],
				 struct net_addr *ret_addr)
{
	out[0] = '\0';
	if (n >= 2 && s[0] == '[' && s[n - 1] == ']' && memchr(s, ':', n))
		return net_addr_parse(s + 1, n - 2, ret_addr) ? NET_NAME_ADDR : NET_NAME_BAD;
	if (net_addr_parse(s, n, ret_addr))
		return NET_NAME_ADDR;
	if (n > 0 && s[n - 1] == '.')
		n--;
	if (n == 0 || n >= NET_NAME_MAX)
		return NET_NAME_BAD;
	size_t label = 0;
	for (size_t i = 0; i <= n; i++) {
		char c = i < n ? s[i] : '.';
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c == '.') {
			if (i == label || i - label > 63 || out[label] == '-')
				return NET_NAME_BAD;
			label = i + 1;
		} else if (!name_char(c)) {
			return NET_NAME_BAD;
		}
		out[i] = i < n ? c : '\0';
	}
	const char *last = strrchr(out, '.');
	if (looks_like_number(last ? last + 1 : out)) {
		out[0] = '\0';
		return NET_NAME_BAD;
	}
	return NET_NAME_HOST;
}

bool net_name_below(const char *name, const char *suffix)
{
	size_t n = strlen(name), k = strlen(suffix);
	return n > k + 1 && name[n - k - 1] == '.' && memcmp(name + n - k, suffix, k) == 0;
}

/* The most that a label below a wildcard may be, from names that are in use: load balancers and
 * content networks have up to 45 characters in one label and four labels below their domain. */
#define LABELS_MAX 6u
#define LABEL_MAX 48u
#define BITS_MAX 240u

/* Bits that a label could carry: each character is one of as many as the label has different ones,
 * so that words and repetitions weigh less than what looks random. */
static unsigned label_bits(const char *s, size_t n)
{
	static const unsigned char log2_x8[] = {
		0,  0,	8,  13, 16, 19, 21, 22, 24, 25, 27, 28, 29, 30, 30, 31, 32, 33, 33, 34,
		35, 35, 36, 36, 37, 37, 38, 38, 38, 39, 39, 40, 40, 40, 41, 41, 41, 42, 42
	};
	bool seen[256] = { false };
	unsigned kinds = 0;
	for (size_t i = 0; i < n; i++) {
		kinds += !seen[(unsigned char)s[i]];
		seen[(unsigned char)s[i]] = true;
	}
	if (kinds >= sizeof(log2_x8))
		kinds = sizeof(log2_x8) - 1;
	return (unsigned)n * log2_x8[kinds] / 8;
}

bool net_name_tunnel(const char *name, size_t keep)
{
	size_t n = strlen(name);
	unsigned labels = 0, bits = 0;
	if (keep >= n)
		return false;
	n -= keep;
	for (size_t i = 0; i < n;) {
		size_t k = strcspn(name + i, ".");
		if (k > n - i)
			k = n - i;
		if (k > LABEL_MAX || (k && ++labels > LABELS_MAX))
			return true;
		bits += label_bits(name + i, k);
		i += k + 1;
	}
	return bits > BITS_MAX;
}
