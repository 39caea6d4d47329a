/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receipt.h: isolation receipts: what a server measured of a sandbox, signed, and how that is checked
 * anywhere else.
 *
 * A receipt is a JSON object. Its last two fields are "key", the name of the key, and "signature", the
 * base64 of an Ed25519 signature of RECEIPT_LABEL and of the rest of the object in its canonical form:
 * keys sorted, no blanks, ASCII. So how the object is laid out does not matter, and everything in it does.
 * The key is that of the audit log's heads; the labels keep one from passing for the other.
 */
#ifndef BRIG_AUDIT_RECEIPT_H
#define BRIG_AUDIT_RECEIPT_H

#include <jansson.h>
#include <stddef.h>

#include "audit/key.h"

#define RECEIPT_LABEL "brig receipt 1\n"
#define RECEIPT_VERSION 1
/* Sixteen volumes with the longest paths are 20 KiB. */
#define RECEIPT_BYTES_MAX (128u * 1024u)

/* Adds "key" and "signature" to o. 0 or -1. */
int receipt_sign(json_t *o, struct audit_key *key);

enum receipt_why {
	RECEIPT_GOOD,
	RECEIPT_MALFORMED, /* no receipt */
	RECEIPT_OTHER_KEY, /* it names another key */
	RECEIPT_SIGNATURE, /* not the key's signature of this */
	RECEIPT__N_WHY
};
const char *receipt_why_name(enum receipt_why why);
/* Any bytes. With RECEIPT_GOOD *ret is the receipt (a new reference). */
enum receipt_why receipt_check(const char *text, size_t n, struct audit_key *key, json_t **ret);

#endif
