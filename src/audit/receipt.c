/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/receipt.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define SIG_TEXT 88 /* base64 of 64 bytes */
#define DEPTH_MAX 16

static const char *const why_names[] = {
	[RECEIPT_GOOD] = "good",
	[RECEIPT_MALFORMED] = "malformed",
	[RECEIPT_OTHER_KEY] = "other key",
	[RECEIPT_SIGNATURE] = "signature",
};
_Static_assert(sizeof(why_names) / sizeof(why_names[0]) == RECEIPT__N_WHY, "one name per reason");

const char *receipt_why_name(enum receipt_why why)
{
	return why < RECEIPT__N_WHY ? why_names[why] : "?";
}

/* The label and the canonical form of what is signed; NULL without memory. */
static char *signed_text(const json_t *o, size_t *ret_n)
{
	char *json = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	size_t n = json ? strlen(json) : 0, label = sizeof(RECEIPT_LABEL) - 1;
	char *text = json ? malloc(label + n) : NULL;
	if (text) {
		memcpy(text, RECEIPT_LABEL, label);
		memcpy(text + label, json, n);
		*ret_n = label + n;
	}
	free(json);
	return text;
}

int receipt_sign(json_t *o, struct audit_key *key)
{
	uint8_t sig[AUDIT_SIG_LEN];
	unsigned char text[SIG_TEXT + 1];
	size_t n = 0;
	if (json_object_set_new(o, "key", json_string(audit_key_name(key))) < 0)
		return -1;
	char *what = signed_text(o, &n);
	int r = what ? audit_key_sign(key, what, n, sig) : -1;
	free(what);
	if (r < 0)
		return -1;
	EVP_EncodeBlock(text, sig, sizeof(sig));
	return json_object_set_new(o, "signature", json_string((const char *)text));
}

/* Nesting, before a parser that recurses sees it. */
static int shallow(const char *text, size_t n)
{
	unsigned depth = 0;
	int in_text = 0;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (in_text) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_text = 0;
		} else if (c == '"')
			in_text = 1;
		else if ((c == '{' || c == '[') && ++depth > DEPTH_MAX)
			return 0;
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
	}
	return 1;
}

/* Numbers with a fraction have no one form. */
static int only_integers(const json_t *v)
{
	const char *key;
	json_t *each;
	size_t i;
	if (json_is_real(v))
		return 0;
	if (json_is_object(v)) {
		/* The macro wants what it could change. */
		json_object_foreach((json_t *)(uintptr_t)v, key, each)
			if (!only_integers(each))
				return 0;
	}
	if (json_is_array(v)) {
		json_array_foreach(v, i, each)
			if (!only_integers(each))
				return 0;
	}
	return 1;
}

static int signature_of(const json_t *o, uint8_t ret[AUDIT_SIG_LEN])
{
	uint8_t raw[SIG_TEXT / 4 * 3];
	const json_t *v = json_object_get(o, "signature");
	const char *text = json_string_value(v);
	if (!text || json_string_length(v) != SIG_TEXT ||
	    EVP_DecodeBlock(raw, (const uint8_t *)text, SIG_TEXT) != sizeof(raw))
		return -1;
	memcpy(ret, raw, AUDIT_SIG_LEN);
	return 0;
}

static enum receipt_why check(json_t *o, struct audit_key *key)
{
	uint8_t sig[AUDIT_SIG_LEN];
	size_t n = 0;
	const char *name = json_string_value(json_object_get(o, "key"));
	if (!json_is_object(o) || !only_integers(o) || !name ||
	    json_integer_value(json_object_get(o, "brig_receipt")) != RECEIPT_VERSION ||
	    signature_of(o, sig) < 0)
		return RECEIPT_MALFORMED;
	if (strcmp(name, audit_key_name(key)) != 0)
		return RECEIPT_OTHER_KEY;
	json_t *rest = json_copy(o);
	json_object_del(rest, "signature");
	char *what = rest ? signed_text(rest, &n) : NULL;
	json_decref(rest);
	int r = what ? audit_key_check(key, what, n, sig) : -1;
	free(what);
	return r == 0 ? RECEIPT_GOOD : RECEIPT_SIGNATURE;
}

enum receipt_why receipt_check(const char *text, size_t n, struct audit_key *key, json_t **ret)
{
	if (n > RECEIPT_BYTES_MAX || !shallow(text, n))
		return RECEIPT_MALFORMED;
	json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	enum receipt_why why = o ? check(o, key) : RECEIPT_MALFORMED;
	if (why == RECEIPT_GOOD)
		*ret = o;
	else
		json_decref(o);
	return why;
}
