/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h: one line of the audit log: how it is made, and how it is checked.
 *
 * A line is a JSON object and a newline, at most AUDIT_LINE_MAX bytes:
 *
 *   {"seq":7,"time":"2026-01-31T12:00:00.123Z","prev":"<64 hex>","what":"run","id":"..",
 *    "outcome":"ok","status":200,"tenant":"..","key":"..","peer":"..","uid":0,"request_id":".."}
 *
 * seq counts from 1 without a gap. prev is the SHA-256 of the exact bytes of the record before it,
 * newline included; 64 zeros before the first. So `sed -n 6p | sha256sum` gives the prev of line 7.
 *
 * A head is a record, too, with what "head", the name of the key and, last, the signature:
 * ,"sig":"<88 characters of base64>"}. It is an Ed25519 signature of AUDIT_SIGN_LABEL and of the
 * line's bytes before ,"sig". As prev is among them, a head vouches for every record before it.
 */
#ifndef BRIG_AUDIT_RECORD_H
#define BRIG_AUDIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/key.h"

#define AUDIT_LINE_MAX 1024u
#define AUDIT_HASH_LEN 32
#define AUDIT_SIGN_LABEL "brig audit head 1\n"
/* A head is written behind so many records, if not earlier; one log without a head for twice as
 * many is not brig's. */
#define AUDIT_HEAD_RECORDS 128u
/* Of a value that came from a client; what is longer is cut. */
#define AUDIT_TEXT_MAX 80u

/* Where the chain stands: the number and the prev of the next record. */
struct audit_chain {
	uint64_t seq;
	uint8_t prev[AUDIT_HASH_LEN];
};

/* Texts are borrowed; NULL and "" are left out. Bytes that are no printable ASCII are shown as '?'.
 */
struct audit_event {
	const char *what;     /* never NULL */
	const char *id;	      /* of the sandbox, key, secret .. it was done to */
	const char *outcome;  /* "ok", "refused", "failed", "unanswered" */
	const char *tenant, *key, *peer, *request_id;
	bool operator;	      /* who may open the server's sockets */
	int64_t uid;	      /* of the process at a unix socket, -1 = none */
	unsigned status;      /* of HTTP, 0 = none */
	uint64_t count;	      /* of what is told as a number only, 0 = none */
};

/* The line of the chain's next record, in ret; moves the chain on. Its length. */
size_t audit_line(struct audit_chain *chain, const struct audit_event *e, uint64_t realtime_ns,
		  char ret[AUDIT_LINE_MAX]);
/* The same for a head; 0 if it cannot be signed. */
size_t audit_line_head(struct audit_chain *chain, struct audit_key *key, uint64_t realtime_ns,
		       char ret[AUDIT_LINE_MAX]);

enum audit_why {
	AUDIT_GOOD,
	AUDIT_MALFORMED, /* no record */
	AUDIT_HASH,	 /* the record before it was changed */
	AUDIT_ORDER,	 /* a number that was there already */
	AUDIT_GAP,	 /* records are missing */
	AUDIT_SIGNATURE, /* a head that the key did not make, or too few heads */
	AUDIT__N_WHY
};
const char *audit_why_name(enum audit_why why);

/* What a verifier knows between two lines. Zeroed, with key set or NULL, before the first. */
struct audit_check {
	struct audit_key *key;	/* NULL: signatures are not looked at */
	bool begun;
	struct audit_chain next;
	uint64_t first, records, heads;
	uint64_t signed_to;	/* the highest number that a head vouches for, 0 = none */
	uint64_t since_head;
	char detail[160];	/* what is wrong, for people */
};
/* One line with its newline: any bytes. On AUDIT_HASH the record to blame is the one before. */
enum audit_why audit_check_line(struct audit_check *c, const char *line, size_t n);
/* Takes the chain up behind the last whole record of a log, without looking at what is before it.
 */
enum audit_why audit_chain_after(const char *line, size_t n, struct audit_chain *ret,
				 bool *ret_head);

#endif
