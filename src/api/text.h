/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h: the small texts of the API: times, tokens, metadata of a query, signatures of file URLs.
 * Pure functions over input that anybody may have sent.
 */
#ifndef BRIG_API_TEXT_H
#define BRIG_API_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* RFC 3339 in UTC with milliseconds: "2026-01-31T12:00:00.123Z". */
#define TEXT_TIME_MAX 32
void text_time(int64_t ms, char ret[TEXT_TIME_MAX]);
/* RFC 3339 with any fraction and offset, years 1970 to 9999; 0 or -EINVAL. */
int text_time_parse(const char *text, int64_t *ret_ms);

/* prefix and 2 * n random hexadecimal digits. */
int text_token(const char *prefix, size_t n, char *ret, size_t cap);
/* SHA-256 of a text. */
void text_sha256(const void *p, size_t n, uint8_t ret[32]);
/* Equal, in a time that depends on the lengths only. */
bool text_same_secret(const char *a, const char *b);

/* Percent-decodes, and '+' too with `form`; 0, -EINVAL for a malformed escape or a NUL. ret has
 * room for strlen(text) + 1. */
int text_percent_decode(const char *text, size_t n, bool form, char *ret);

/*
 * The metadata filter of the E2B clients: they encode key and value, make a form of the pairs, and
 * put that into the query. `query` is the argument with the query's own encoding undone. New
 * reference.
 */
#define TEXT_METADATA_MAX 64u
int text_metadata_parse(const char *query, json_t **ret, struct brig_err *err);

/* Signature of a file URL: "v1_" + base64 without '=' of SHA-256 of "path:op:user:token[:expiry]".
 */
#define TEXT_SIGNATURE_MAX 48
int text_signature(const char *path, const char *op, const char *user, const char *token,
		   const char *expiry, char ret[TEXT_SIGNATURE_MAX]);

/* Length of the longest prefix of p that is whole UTF-8. *ret_bad: what follows can never become
 * UTF-8, as opposed to a sequence that was cut. */
size_t text_utf8(const void *p, size_t n, bool *ret_bad);
/* Base64, standard alphabet with '='; free() it. NULL: no memory. */
char *text_base64(const void *p, size_t n);
/* The reverse; blanks are not skipped. 0 and *ret (free() it, never NULL), or -EINVAL, -ENOMEM. */
int text_base64_decode(const char *text, size_t n, uint8_t **ret, size_t *ret_n);

#endif
