/* SPDX-License-Identifier: Apache-2.0 */
/* name.h: what an image may be called, and the two spellings of a digest. */
#ifndef BRIG_IMAGE_NAME_H
#define BRIG_IMAGE_NAME_H

#include <stddef.h>

#define IMAGE_NAME_MAX 63
#define IMAGE_HEX_LEN 64
#define IMAGE_HEX_SHORT 12 /* digits of a digest that may stand for it, and that tables show */
/* "sha256:<64 hex>" is what people and JSON see, "sha256-<64 hex>" the directory: some tools that
 * an administrator points at the store take a colon for a host name. */
#define IMAGE_DIGEST_LEN (7 + IMAGE_HEX_LEN)
#define IMAGE_HOST "host" /* the built-in image: the host's /usr; never in a store */

struct image_digest {
	char text[IMAGE_DIGEST_LEN + 1]; /* sha256:<hex> */
	char dir[IMAGE_DIGEST_LEN + 1];	 /* sha256-<hex> */
};

/* [a-z0-9][a-z0-9._-]{0,62}. IMAGE_HOST is a valid name; who writes names refuses it. */
int image_name_ok(const char *name);
/* Takes sha256:<hex> and sha256-<hex>, lower case; 0 or -EINVAL. */
int image_digest_parse(const char *text, struct image_digest *ret);
/* From the 64 hexadecimal digits alone; 0 or -EINVAL. */
int image_digest_from_hex(const char *hex, struct image_digest *ret);
void image_digest_from_bytes(const unsigned char bytes[32], struct image_digest *ret);
/* Copies a name of a file for a message: what a terminal would obey becomes \xNN, and a long name
 * keeps its end, which tells more than its beginning. Returns dst. */
char *image_name_print(const char *name, char *dst, size_t cap);

#endif
