/* SPDX-License-Identifier: Apache-2.0 */
#include "api/text.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Days since 1970 of a civil date, and back: years that begin in March, so that the leap day is
 * last. */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
	y -= m <= 2;
	int64_t era = y / 400;
	unsigned yoe = (unsigned)(y - era * 400);
	unsigned doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
	unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

void text_time(int64_t ms, char ret[TEXT_TIME_MAX])
{
	int64_t sec = ms / 1000;
	unsigned day = (unsigned)(sec / 86400), left = (unsigned)(sec % 86400);
	unsigned z = day + 719468, era = z / 146097, doe = z % 146097;
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	unsigned d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;
	unsigned y = yoe + era * 400 + (m <= 2);
	snprintf(ret, TEXT_TIME_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", y % 10000, m % 100,
		 d % 100, left / 3600 % 24, left / 60 % 60, left % 60,
		 (unsigned)((uint64_t)ms % 1000));
}

/* Exactly n digits. */
static int digits(const char **at, unsigned n, unsigned max, unsigned *ret)
{
	unsigned v = 0;
	for (unsigned i = 0; i < n; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return -EINVAL;
		v = v * 10 + (unsigned)(**at - '0');
	}
	*ret = v;
	return v <= max ? 0 : -EINVAL;
}

static int expect(const char **at, const char *set)
{
	if (!**at || !strchr(set, **at))
		return -EINVAL;
	(*at)++;
	return 0;
}

static int offset_parse(const char **at, int64_t *ret_s)
{
	unsigned h, m;
	int sign = **at == '-' ? -1 : 1;
	*ret_s = 0;
	if (**at == 'Z' || **at == 'z') {
		(*at)++;
		return 0;
	}
	if (expect(at, "+-") < 0 || digits(at, 2, 23, &h) < 0 || expect(at, ":") < 0 ||
	    digits(at, 2, 59, &m) < 0)
		return -EINVAL;
	*ret_s = sign * (int64_t)(h * 3600 + m * 60);
	return 0;
}

int text_time_parse(const char *text, int64_t *ret_ms)
{
	static const unsigned char month_days[] = {
		31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
	};
	unsigned y, mo, d, h, mi, s, ms = 0;
	int64_t offset;
	const char *at = text;
	if (digits(&at, 4, 9999, &y) < 0 || expect(&at, "-") < 0 || digits(&at, 2, 12, &mo) < 0 ||
	    expect(&at, "-") < 0 || digits(&at, 2, 31, &d) < 0 || expect(&at, "Tt ") < 0 ||
	    digits(&at, 2, 23, &h) < 0 || expect(&at, ":") < 0 || digits(&at, 2, 59, &mi) < 0 ||
	    expect(&at, ":") < 0 || digits(&at, 2, 60, &s) < 0)
		return -EINVAL;
	if (*at == '.') {
		unsigned unit = 100;
		at++;
		if (!isdigit((unsigned char)*at))
			return -EINVAL;
		for (; isdigit((unsigned char)*at); at++, unit /= 10)
			ms += unit * (unsigned)(*at - '0');
	}
	if (offset_parse(&at, &offset) < 0 || *at || y < 1970 || mo < 1 || d < 1 ||
	    d > month_days[mo - 1])
		return -EINVAL;
	*ret_ms = (days_of(y, mo, d) * 86400 + (int64_t)(h * 3600 + mi * 60 + s) - offset) * 1000 +
		  ms;
	return 0;
}

int text_token(const char *prefix, size_t n, char *ret, size_t cap)
{
	uint8_t raw[64];
	size_t at = strlen(prefix);
	if (n > sizeof(raw) || at + 2 * n + 1 > cap)
		return -EINVAL;
	if (getrandom(raw, n, 0) != (ssize_t)n)
		return -errno;
	memcpy(ret, prefix, at);
	for (size_t i = 0; i < n; i++)
		snprintf(ret + at + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

void text_sha256(const void *p, size_t n, uint8_t ret[32])
{
	SHA256(p, n, ret);
}

bool text_same_secret(const char *a, const char *b)
{
	size_t n = strlen(a);
	return n == strlen(b) && CRYPTO_memcmp(a, b, n) == 0;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

int text_percent_decode(const char *text, size_t n, bool form, char *ret)
{
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (c == '%') {
			int hi = n - i > 2 ? hex_digit(text[i + 1]) : -1;
			int lo = n - i > 2 ? hex_digit(text[i + 2]) : -1;
			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				return -EINVAL;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && form) {
			c = ' ';
		} else if (c == '\0') {
			return -EINVAL;
		}
		*ret++ = c;
	}
	*ret = '\0';
	return 0;
}

/* A part of the form: the form's encoding is undone, and then the client's own. */
static char *metadata_part(const char *p, size_t n)
{
	char *once = malloc(n + 1), *twice = malloc(n + 1);
	int r = once && twice ? text_percent_decode(p, n, true, once) : -ENOMEM;
	if (r == 0)
		r = text_percent_decode(once, strlen(once), false, twice);
	free(once);
	if (r == 0)
		return twice;
	free(twice);
	return NULL;
}

int text_metadata_parse(const char *query, json_t **ret, struct brig_err *err)
{
	json_t *o = json_object();
	int r = 0;
	while (*query && r == 0) {
		size_t n = strcspn(query, "&");
		size_t k = strcspn(query, "=");
		size_t value = k < n ? k + 1 : n;
		k = k < n ? k : n;
		char *key = metadata_part(query, k);
		char *text = metadata_part(query + value, n - value);
		if (!key || !text || json_object_size(o) >= TEXT_METADATA_MAX ||
		    (n && json_object_set_new(o, key, json_string(text)) < 0))
			r = brig_fail(err, BRIG_E_INVALID, 0,
				      "'metadata' is not a list of at most %u encoded pairs",
				      TEXT_METADATA_MAX);
		free(key);
		free(text);
		query += n + (query[n] == '&');
	}
	if (r < 0)
		json_decref(o);
	else
		*ret = o;
	return r;
}

int text_signature(const char *path, const char *op, const char *user, const char *token,
		   const char *expiry, char ret[TEXT_SIGNATURE_MAX])
{
	uint8_t hash[SHA256_DIGEST_LENGTH];
	char *raw = NULL;
	int n = asprintf(&raw, "%s:%s:%s:%s%s%s", path, op, user, token, expiry ? ":" : "",
			 expiry ? expiry : "");
	if (n < 0)
		return -ENOMEM;
	SHA256((const uint8_t *)raw, (size_t)n, hash);
	OPENSSL_cleanse(raw, (size_t)n);
	free(raw);
	memcpy(ret, "v1_", 3);
	n = EVP_EncodeBlock((uint8_t *)ret + 3, hash, sizeof(hash));
	ret[3 + n - 1] = '\0'; /* 32 bytes end with exactly one '=' */
	return 0;
}

/* Bytes that a sequence beginning with c has, 0 if none does. */
static unsigned utf8_length(uint8_t c)
{
	return c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

/* Whether the i-th byte (1 ..) may follow c. */
static bool utf8_follows(uint8_t c, unsigned i, uint8_t next)
{
	uint8_t low = 0x80, high = 0xbf;
	if (i == 1) {
		low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : low;
		high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : high;
	}
	return next >= low && next <= high;
}

size_t text_utf8(const void *p, size_t n, bool *ret_bad)
{
	const uint8_t *s = p;
	size_t at = 0;
	*ret_bad = false;
	while (at < n) {
		unsigned want = utf8_length(s[at]), have = 1;
		/* JSON of jansson has no NUL in a plain string. */
		if (want == 0 || s[at] == 0) {
			*ret_bad = true;
			return at;
		}
		while (have < want && at + have < n && utf8_follows(s[at], have, s[at + have]))
			have++;
		if (have < want) {
			*ret_bad = at + have < n;
			return at;
		}
		at += want;
	}
	return at;
}

char *text_base64(const void *p, size_t n)
{
	/* EVP counts in int. */
	size_t room = (n + 2) / 3 * 4 + 1;
	char *t = n < (1u << 30) ? malloc(room) : NULL;
	if (t)
		t[EVP_EncodeBlock((uint8_t *)t, p, (int)n)] = '\0';
	return t;
}

/* Value of a digit, 64 for anything else. */
static uint32_t base64_digit(char c)
{
	return c >= 'A' && c <= 'Z'   ? (uint32_t)(c - 'A')
	       : c >= 'a' && c <= 'z' ? (uint32_t)(c - 'a') + 26
	       : c >= '0' && c <= '9' ? (uint32_t)(c - '0') + 52
	       : c == '+'	      ? 62
	       : c == '/'	      ? 63
				      : 64;
}

int text_base64_decode(const char *text, size_t n, uint8_t **ret, size_t *ret_n)
{
	size_t pad = 0, body = n, at = 0;
	while (pad < 2 && body > 0 && text[body - 1] == '=') {
		pad++;
		body--;
	}
	if (n % 4)
		return -EINVAL;
	uint8_t *out = malloc(n / 4 * 3 + 1);
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < n; i += 4) {
		uint32_t v = 0, bad = 0;
		for (size_t k = i; k < i + 4; k++) {
			uint32_t d = k < body ? base64_digit(text[k]) : 0;
			bad |= d & 64;
			v = v << 6 | (d & 63);
		}
		if (bad) {
			free(out);
			return -EINVAL;
		}
		out[at++] = (uint8_t)(v >> 16);
		out[at++] = (uint8_t)(v >> 8);
		out[at++] = (uint8_t)v;
	}
	*ret = out;
	*ret_n = at - pad;
	return 0;
}
