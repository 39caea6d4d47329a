/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h: how a secret is kept: encrypted with AES-256-GCM, a nonce of its own for each write, and
 * bound to its tenant and its name, so that a record that was moved to another place does not open.
 *
 * The key is 32 random bytes, as 64 hexadecimal digits in a file outside the database. Its id is
 * told beside each secret: a wrong key is noticed as such, and not as damage.
 */
#ifndef BRIG_SECRET_SEAL_H
#define BRIG_SECRET_SEAL_H

#include <stddef.h>
#include <stdint.h>

#define SEAL_KEY_LEN 32
#define SEAL_KEY_TEXT (2 * SEAL_KEY_LEN)
#define SEAL_KEY_ID_MAX 17 /* 16 hexadecimal digits */
#define SEAL_NONCE_LEN 12
#define SEAL_TAG_LEN 16

struct seal_key; /* in a page that no core file has and that is not swapped, if the host allows it */

/* text: 64 hexadecimal digits, with or without a newline; 0, -EINVAL or -ENOMEM. */
int seal_key_parse(const char *text, size_t n, struct seal_key **ret);
/* Wipes it. */
void seal_key_free(struct seal_key *k);
/* Of a hash of it: tells nothing about the key. */
const char *seal_key_id(const struct seal_key *k);

/* ret: n + SEAL_TAG_LEN bytes. 0 or -1. */
int seal(const struct seal_key *k, const char *tenant, const char *name, const void *p, size_t n,
	 uint8_t ret_nonce[SEAL_NONCE_LEN], uint8_t *ret);
/* p: what seal() made, n bytes. ret: n - SEAL_TAG_LEN bytes. -1: another key, tenant or name, or it
 * was changed; ret is wiped. */
int unseal(const struct seal_key *k, const char *tenant, const char *name,
	   const uint8_t nonce[SEAL_NONCE_LEN], const uint8_t *p, size_t n, char *ret);

#endif
