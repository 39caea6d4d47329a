/* SPDX-License-Identifier: Apache-2.0 */
#include "image/name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int image_name_ok(const char *name)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = strnlen(name, IMAGE_NAME_MAX + 1);
	return n >= 1 && n <= IMAGE_NAME_MAX && strchr(first, name[0]) && strspn(name, rest) == n;
}

int image_digest_from_hex(const char *hex, struct image_digest *ret)
{
	if (strnlen(hex, IMAGE_HEX_LEN + 1) != IMAGE_HEX_LEN ||
	    strspn(hex, "0123456789abcdef") != IMAGE_HEX_LEN)
		return -EINVAL;
	memcpy(ret->text, "sha256:", 7);
	memcpy(ret->text + 7, hex, IMAGE_HEX_LEN + 1);
	memcpy(ret->dir, ret->text, sizeof(ret->dir));
	ret->dir[6] = '-';
	return 0;
}

int image_digest_parse(const char *text, struct image_digest *ret)
{
	if (strncmp(text, "sha256", 6) != 0 || (text[6] != ':' && text[6] != '-'))
		return -EINVAL;
	return image_digest_from_hex(text + 7, ret);
}

void image_digest_from_bytes(const unsigned char bytes[32], struct image_digest *ret)
{
	static const char digits[] = "0123456789abcdef";
	char hex[IMAGE_HEX_LEN + 1];
	for (unsigned i = 0; i < 32; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[IMAGE_HEX_LEN] = '\0';
	image_digest_from_hex(hex, ret);
}

char *image_name_print(const char *name, char *dst, size_t cap)
{
	size_t n = strlen(name), at = 0;
	/* Every byte may need four characters; "..." marks the cut. */
	size_t keep = cap > 8 ? (cap - 4) / 4 : 0;
	if (cap == 0)
		return dst;
	if (n > keep && n >= cap) {
		name += n - keep;
		at = (size_t)snprintf(dst, cap, "...");
	}
	for (; *name && at + 5 < cap; name++) {
		unsigned char c = (unsigned char)*name;
		if (c < 0x20 || c == 0x7f || c == '\\' || (c & 0xe0) == 0x80)
			at += (size_t)snprintf(dst + at, cap - at, "\\x%02x", c);
		else
			dst[at++] = (char)c;
	}
	dst[at < cap ? at : cap - 1] = '\0';
	return dst;
}
