/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receipt.c: GET /v1/sandboxes/{}/receipt: what really holds for a sandbox, signed (audit/receipt.h).
 *
 * brig-jaild measures and brigd tells; both are asked anew for each receipt, so that it is of the time that
 * it names. Here are added whose the sandbox is, when, and the digests of the parts that are compared most.
 */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/audit.h"
#include "api/call.h"
#include "api/text.h"
#include "audit/receipt.h"

/* SHA-256 of a value's canonical form, as signed receipts are written. */
static json_t *digest_of(const json_t *v)
{
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	unsigned char hash[SHA256_DIGEST_LENGTH];
	char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	if (!text)
		return NULL;
	SHA256((const unsigned char *)text, strlen(text), hash);
	free(text);
	for (unsigned i = 0; i < sizeof(hash); i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	return json_string(hex);
}

static void replied(void *ctx, json_t *ok)
{
	struct call *c = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	char now[TEXT_TIME_MAX];
	struct audit_key *key = auditor_key(c->api);
	call_op_done(c);
	json_t *o = json_copy(json_object_get(ok, "receipt"));
	text_time(wall_ms(), now);
	if (o) {
		json_object_set_new(o, "brig_receipt", json_integer(RECEIPT_VERSION));
		json_object_set_new(o, "time", json_string(now));
		/* null: made at brigd's own socket, which belongs to no tenant. */
		json_object_set_new(o, "tenant",
				    c->box ? json_string(c->box->tenant) : json_null());
		json_object_set_new(o, "server", json_string("brig " BRIG_VERSION));
		json_object_set_new(o, "egress_sha256", digest_of(json_object_get(o, "egress")));
		json_object_set_new(o, "mounts_sha256", digest_of(json_object_get(o, "mounts")));
	}
	if (o && key && receipt_sign(o, key) == 0) {
		http_reply_json(c->r, 200, o);
		return;
	}
	json_decref(o);
	brig_err_set(&err, BRIG_E_INTERNAL, 0, "the receipt could not be signed");
	call_fail(c, &err);
}

static void receipt_get(struct call *c)
{
	static const struct link_ops ops = { .reply = replied, .failed = call_op_failed };
	/* The operator may have one of every sandbox, those that brigd made for others included. */
	if (!c->operator || box_find(c->api, c->arg[0])) {
		if (!call_box(c))
			return;
	}
	call_op(c, json_pack("{s:s,s:s}", "op", "receipt", "id", c->arg[0]), &ops);
}

const struct route receipt_routes[] = {
	{ "GET", "/v1/sandboxes/{}/receipt", 0, PERM_BOX_READ, receipt_get },
	{ .method = NULL },
};
