/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Lines are written by hand and read by jansson. What is hashed and signed are bytes, never values:
 * a line that says the same in other bytes is another line. Values that came from clients cannot
 * change the shape of a line: whatever is not printable ASCII, and the two characters that JSON
 * would escape, become '?'. So nothing is escaped, and a line's length is known before it is made.
 */
#include "audit/record.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"

#define SIG_TEXT 88 /* base64 of 64 bytes */
#define SIG_LEAD ",\"sig\":\""
#define SIG_TAIL "\"}\n"
#define SIG_ALL (sizeof(SIG_LEAD) - 1 + SIG_TEXT + sizeof(SIG_TAIL) - 1)

static const char *const why_names[] = { "good", "malformed", "hash", "order", "gap", "signature" };
_Static_assert(sizeof(why_names) / sizeof(why_names[0]) == AUDIT__N_WHY, "one name per reason");

const char *audit_why_name(enum audit_why why)
{
	return (unsigned)why < AUDIT__N_WHY ? why_names[why] : "malformed";
}

/* ---- writing ---- */

struct out {
	char *p;
	size_t n;
};

static void put(struct out *o, const char *text)
{
	size_t n = strlen(text);
	if (o->n + n < AUDIT_LINE_MAX)
		memcpy(o->p + o->n, text, n + 1);
	o->n += n;
}

static void put_text(struct out *o, const char *name, const char *value)
{
	char safe[AUDIT_TEXT_MAX + 1];
	size_t n = 0;
	if (!value || !value[0])
		return;
	for (; value[n] && n < AUDIT_TEXT_MAX; n++) {
		char c = value[n];
		safe[n] = c < ' ' || c > '~' || c == '"' || c == '\\' ? '?' : c;
	}
	safe[n] = '\0';
	put(o, ",\"");
	put(o, name);
	put(o, "\":\"");
	put(o, safe);
	put(o, "\"");
}

static void put_number(struct out *o, const char *name, uint64_t v)
{
	char text[64];
	snprintf(text, sizeof(text), ",\"%s\":%llu", name, (unsigned long long)v);
	put(o, text);
}

static void begin(struct out *o, const struct audit_chain *chain, uint64_t realtime_ns)
{
	char text[64], stamp[STAMP_MAX], hex[2 * AUDIT_HASH_LEN + 1];
	stamp_utc(realtime_ns, stamp);
	for (unsigned i = 0; i < AUDIT_HASH_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", chain->prev[i]);
	snprintf(text, sizeof(text), "{\"seq\":%llu", (unsigned long long)chain->seq);
	put(o, text);
	put_text(o, "time", stamp);
	put_text(o, "prev", hex);
}

static size_t finish(struct audit_chain *chain, const struct out *o)
{
	SHA256((const uint8_t *)o->p, o->n, chain->prev);
	chain->seq++;
	return o->n;
}

/* The longest line there can be: seven texts, each cut, with their names; what begin() writes; three
 * numbers, and the mark of the operator. */
_Static_assert(7 * (AUDIT_TEXT_MAX + 16) + 144 + 3 * 32 + 20 < AUDIT_LINE_MAX, "a line has room");

size_t audit_line(struct audit_chain *chain, const struct audit_event *e, uint64_t realtime_ns,
		  char ret[AUDIT_LINE_MAX])
{
	struct out o = { .p = ret };
	begin(&o, chain, realtime_ns);
	put_text(&o, "what", e->what);
	put_text(&o, "id", e->id);
	put_text(&o, "outcome", e->outcome);
	if (e->status)
		put_number(&o, "status", e->status);
	if (e->count)
		put_number(&o, "count", e->count);
	put_text(&o, "tenant", e->tenant);
	put_text(&o, "key", e->key);
	if (e->operator)
		put(&o, ",\"operator\":true");
	if (e->uid >= 0)
		put_number(&o, "uid", (uint64_t)e->uid);
	put_text(&o, "peer", e->peer);
	put_text(&o, "request_id", e->request_id);
	put(&o, "}\n");
	return finish(chain, &o);
}

size_t audit_line_head(struct audit_chain *chain, struct audit_key *key, uint64_t realtime_ns,
		       char ret[AUDIT_LINE_MAX])
{
	static const size_t label = sizeof(AUDIT_SIGN_LABEL) - 1;
	char message[sizeof(AUDIT_SIGN_LABEL) + AUDIT_LINE_MAX] = AUDIT_SIGN_LABEL;
	uint8_t sig[AUDIT_SIG_LEN], text[SIG_TEXT + 1];
	struct out o = { .p = ret };
	begin(&o, chain, realtime_ns);
	put_text(&o, "what", "head");
	put_text(&o, "key", audit_key_name(key));
	memcpy(message + label, ret, o.n);
	if (audit_key_sign(key, message, label + o.n, sig) < 0)
		return 0;
	EVP_EncodeBlock(text, sig, sizeof(sig));
	put(&o, SIG_LEAD);
	put(&o, (const char *)text);
	put(&o, SIG_TAIL);
	return finish(chain, &o);
}

/* ---- reading ---- */

struct parsed {
	uint64_t seq;
	uint8_t prev[AUDIT_HASH_LEN];
	char key[AUDIT_KEY_NAME_MAX]; /* of a head */
	bool head;
};

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int hex_parse(const char *text, uint8_t *ret, size_t n)
{
	if (!text || strlen(text) != 2 * n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int hi = digit(text[2 * i]), lo = digit(text[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return -1;
		ret[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

/* "2026-01-31T12:00:00.123Z" */
static bool time_ok(const char *t)
{
	static const char shape[] = "0000-00-00T00:00:00.000Z";
	if (!t || strlen(t) != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == '0' ? t[i] < '0' || t[i] > '9' : t[i] != shape[i])
			return false;
	return true;
}

static const char *fields_parse(json_t *o, struct parsed *ret)
{
	const char *what = json_string_value(json_object_get(o, "what"));
	json_t *seq = json_object_get(o, "seq");
	if (!json_is_integer(seq) || json_integer_value(seq) < 1)
		return "it has no number (seq)";
	if (hex_parse(json_string_value(json_object_get(o, "prev")), ret->prev, AUDIT_HASH_LEN) < 0)
		return "it has no hash of the record before it (prev)";
	if (!time_ok(json_string_value(json_object_get(o, "time"))))
		return "it has no time";
	if (!what || !what[0])
		return "it does not say what was done";
	ret->seq = (uint64_t)json_integer_value(seq);
	ret->head = strcmp(what, "head") == 0;
	const char *key = json_string_value(json_object_get(o, "key"));
	if (ret->head && (!key || strlen(key) != sizeof(ret->key) - 1))
		return "a head that names no key";
	if (ret->head)
		memcpy(ret->key, key, sizeof(ret->key));
	return NULL;
}

/* What is wrong with it, or NULL. */
static const char *parse(const char *line, size_t n, struct parsed *ret)
{
	*ret = (struct parsed){ .seq = 0 };
	if (n > AUDIT_LINE_MAX)
		return "it is too long";
	if (n < 2 || line[n - 1] != '\n' || memchr(line, '\n', n - 1))
		return "it is no whole line";
	for (size_t i = 0; i + 1 < n; i++)
		if (line[i] < ' ' || line[i] > '~')
			return "it has bytes other than printable ASCII";
	json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
	const char *bad = json_is_object(o) ? fields_parse(o, ret) : "it is no JSON object";
	json_decref(o);
	return bad;
}

/* -1 with a reason in detail. line was parsed. */
static int head_check(struct audit_key *key, const struct parsed *p, const char *line, size_t n,
		      char *detail, size_t cap)
{
	static const size_t label = sizeof(AUDIT_SIGN_LABEL) - 1;
	char message[sizeof(AUDIT_SIGN_LABEL) + AUDIT_LINE_MAX] = AUDIT_SIGN_LABEL;
	uint8_t sig[SIG_TEXT / 4 * 3 + 1];
	const char *at = n > SIG_ALL ? line + n - SIG_ALL : NULL;
	if (!at || memcmp(at, SIG_LEAD, sizeof(SIG_LEAD) - 1) != 0 ||
	    memcmp(line + n - sizeof(SIG_TAIL) + 1, SIG_TAIL, sizeof(SIG_TAIL) - 1) != 0 ||
	    EVP_DecodeBlock(sig, (const uint8_t *)at + sizeof(SIG_LEAD) - 1, SIG_TEXT) !=
		    AUDIT_SIG_LEN + 2) {
		snprintf(detail, cap, "a head without a signature");
		return -1;
	}
	if (!key)
		return 0;
	if (strcmp(p->key, audit_key_name(key)) != 0) {
		snprintf(detail, cap, "the head names the key %s, this is %s", p->key,
			 audit_key_name(key));
		return -1;
	}
	memcpy(message + label, line, n - SIG_ALL);
	if (audit_key_check(key, message, label + n - SIG_ALL, sig) == 0)
		return 0;
	snprintf(detail, cap, "the signature is not the key's");
	return -1;
}

enum audit_why audit_check_line(struct audit_check *c, const char *line, size_t n)
{
	struct parsed p;
	const char *bad = parse(line, n, &p);
	if (bad) {
		snprintf(c->detail, sizeof(c->detail), "%s", bad);
		return AUDIT_MALFORMED;
	}
	if (!c->begun) {
		static const uint8_t none[AUDIT_HASH_LEN];
		c->begun = true;
		c->first = c->next.seq = p.seq;
		/* Behind a removed file nothing is known of what was before. */
		memcpy(c->next.prev, p.seq == 1 ? none : p.prev, AUDIT_HASH_LEN);
	}
	if (p.seq != c->next.seq) {
		bool gap = p.seq > c->next.seq;
		snprintf(c->detail, sizeof(c->detail), "number %llu where %llu should be",
			 (unsigned long long)p.seq, (unsigned long long)c->next.seq);
		return gap ? AUDIT_GAP : AUDIT_ORDER;
	}
	if (memcmp(p.prev, c->next.prev, AUDIT_HASH_LEN) != 0) {
		snprintf(c->detail, sizeof(c->detail),
			 "its bytes do not give the hash that record %llu names",
			 (unsigned long long)p.seq);
		return AUDIT_HASH;
	}
	if (p.head && head_check(c->key, &p, line, n, c->detail, sizeof(c->detail)) < 0)
		return AUDIT_SIGNATURE;
	if (!p.head && ++c->since_head > 2ull * AUDIT_HEAD_RECORDS) {
		snprintf(c->detail, sizeof(c->detail), "more than %u records without a signed head",
			 2 * AUDIT_HEAD_RECORDS);
		return AUDIT_SIGNATURE;
	}
	if (p.head) {
		c->heads++;
		c->since_head = 0;
		c->signed_to = p.seq;
	}
	c->records++;
	c->next.seq = p.seq + 1;
	SHA256((const uint8_t *)line, n, c->next.prev);
	return AUDIT_GOOD;
}

enum audit_why audit_chain_after(const char *line, size_t n, struct audit_chain *ret,
				 bool *ret_head)
{
	struct parsed p;
	if (parse(line, n, &p))
		return AUDIT_MALFORMED;
	ret->seq = p.seq + 1;
	SHA256((const uint8_t *)line, n, ret->prev);
	*ret_head = p.head;
	return AUDIT_GOOD;
}
