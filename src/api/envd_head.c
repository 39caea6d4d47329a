/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers of envd's HTTP routes say, in both directions (envd_entry.h). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "api/envd_entry.h"
#include "api/text.h"
#include "base/fd.h"

/* ---- what a file is ---- */

static const struct {
	const char *suffix, *type;
} types[] = {
	{ "avif", "image/avif" },
	{ "css", "text/css; charset=utf-8" },
	{ "csv", "text/csv; charset=utf-8" },
	{ "gif", "image/gif" },
	{ "gz", "application/gzip" },
	{ "htm", "text/html; charset=utf-8" },
	{ "html", "text/html; charset=utf-8" },
	{ "jpeg", "image/jpeg" },
	{ "jpg", "image/jpeg" },
	{ "js", "text/javascript; charset=utf-8" },
	{ "json", "application/json" },
	{ "md", "text/markdown; charset=utf-8" },
	{ "mjs", "text/javascript; charset=utf-8" },
	{ "mp3", "audio/mpeg" },
	{ "mp4", "video/mp4" },
	{ "pdf", "application/pdf" },
	{ "png", "image/png" },
	{ "svg", "image/svg+xml" },
	{ "tar", "application/x-tar" },
	{ "txt", "text/plain; charset=utf-8" },
	{ "wasm", "application/wasm" },
	{ "webp", "image/webp" },
	{ "xml", "text/xml; charset=utf-8" },
	{ "zip", "application/zip" },
};

const char *envd_type_by_name(const char *path)
{
	const char *name = envd_path_base(path), *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcasecmp(dot + 1, types[i].suffix) == 0)
			return types[i].type;
	return NULL;
}

const char *envd_type_by_content(const void *p, size_t n)
{
	const unsigned char *s = p;
	static const struct {
		const char *magic, *type;
		size_t n;
	} magics[] = {
		{ "\x89PNG\r\n\x1a\n", "image/png", 8 },
		{ "\xff\xd8\xff", "image/jpeg", 3 },
		{ "GIF8", "image/gif", 4 },
		{ "%PDF-", "application/pdf", 5 },
		{ "PK\x03\x04", "application/zip", 4 },
		{ "\x1f\x8b\x08", "application/x-gzip", 3 },
	};
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		if (n >= magics[i].n && memcmp(p, magics[i].magic, magics[i].n) == 0)
			return magics[i].type;
	/* The bytes that the MIME Sniffing Standard (5.) calls binary. */
	n = n < 512 ? n : 512;
	for (size_t i = 0; i < n; i++)
		if (s[i] <= 8 || s[i] == 11 || (s[i] >= 14 && s[i] <= 26) ||
		    (s[i] >= 28 && s[i] <= 31))
			return "application/octet-stream";
	return "text/plain; charset=utf-8";
}

char *envd_disposition(const char *name)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t n = strlen(name);
	bool plain = name[strspn(name, token)] == '\0', ascii = true;
	for (size_t i = 0; i < n; i++)
		ascii = ascii && name[i] >= ' ' && name[i] < 0x7f;
	char *out = malloc(40 + 3 * n + 1);
	if (!out)
		return NULL;
	char *at = stpcpy(out, "inline; filename");
	if (plain) {
		*at++ = '=';
		(void)stpcpy(at, name);
	} else if (ascii) {
		at = stpcpy(at, "=\"");
		for (size_t i = 0; i < n; i++) {
			if (name[i] == '"' || name[i] == '\\')
				*at++ = '\\';
			*at++ = name[i];
		}
		(void)stpcpy(at, "\"");
	} else {
		at = stpcpy(at, "*=utf-8''"); /* RFC 8187 */
		for (size_t i = 0; i < n; i++) {
			unsigned char c = (unsigned char)name[i];
			if (isalnum(c) && c < 0x80)
				*at++ = (char)c;
			else
				at += sprintf(at, "%%%02X", c);
		}
		*at = '\0';
	}
	return out;
}

/* ---- who asks ---- */

bool envd_user_sane(const char *name)
{
	size_t n = strlen(name);
	return n > 0 && n < 33 && name[0] != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
		       n;
}

int envd_basic_user(const char *header, char ret[ENVD_USER_MAX])
{
	AUTO_FREE uint8_t *plain = NULL;
	size_t n = 0;
	if (strncasecmp(header, "Basic ", 6) != 0)
		return -EINVAL;
	header += 6;
	header += strspn(header, " ");
	int r = text_base64_decode(header, strlen(header), &plain, &n);
	if (r < 0)
		return r;
	const uint8_t *colon = memchr(plain, ':', n);
	size_t k = colon ? (size_t)(colon - plain) : n;
	if (k >= ENVD_USER_MAX || memchr(plain, 0, k))
		return -EINVAL;
	memcpy(ret, plain, k);
	ret[k] = '\0';
	return 0;
}

int envd_passwd_home(const char *text, size_t n, const char *user, char *ret, size_t cap)
{
	size_t u = strlen(user);
	while (n) {
		const char *nl = memchr(text, '\n', n);
		size_t line = nl ? (size_t)(nl - text) : n;
		if (line > u && memcmp(text, user, u) == 0 && text[u] == ':') {
			const char *at = text, *end = text + line;
			for (int i = 0; i < 5 && at; i++) {
				at = memchr(at, ':', (size_t)(end - at));
				at = at ? at + 1 : NULL;
			}
			const char *stop = at ? memchr(at, ':', (size_t)(end - at)) : NULL;
			size_t k = stop ? (size_t)(stop - at) : 0;
			if (k == 0 || at[0] != '/' || k >= cap || memchr(at, 0, k))
				return -ENOENT;
			memcpy(ret, at, k);
			ret[k] = '\0';
			return 0;
		}
		text += line + (nl != NULL);
		n -= line + (nl != NULL);
	}
	return -ENOENT;
}

/* ---- conditions ---- */

/* Digits of at most 18 places; *at moves behind them. */
static bool number(const char **at, uint64_t *ret)
{
	size_t n = strspn(*at, "0123456789");
	if (n == 0 || n > 18)
		return false;
	*ret = strtoull(*at, NULL, 10);
	*at += n;
	return true;
}

int envd_range(const char *header, uint64_t size, uint64_t *ret_first, uint64_t *ret_n)
{
	uint64_t first = 0, last = 0;
	const char *at = header;
	if (strncasecmp(at, "bytes=", 6) != 0)
		return 0;
	at += 6;
	if (*at == '-') {
		at++;
		if (!number(&at, &last) || *at)
			return 0;
		if (last == 0 || size == 0)
			return -1;
		*ret_first = last < size ? size - last : 0;
		*ret_n = size - *ret_first;
		return 1;
	}
	if (!number(&at, &first) || *at++ != '-')
		return 0;
	last = size ? size - 1 : 0;
	if (*at && (!number(&at, &last) || *at || last < first))
		return 0;
	if (first >= size)
		return -1;
	if (last >= size)
		last = size - 1;
	*ret_first = first;
	*ret_n = last - first + 1;
	return 1;
}

void envd_http_date(int64_t sec, char ret[ENVD_TIME_MAX])
{
	static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t t = sec;
	struct tm tm;
	if (!gmtime_r(&t, &tm) || tm.tm_year < 0 || tm.tm_year > 9999 - 1900) {
		t = 0;
		gmtime_r(&t, &tm);
	}
	snprintf(ret, ENVD_TIME_MAX, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
		 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		 tm.tm_sec);
}

int envd_http_date_parse(const char *text, int64_t *ret_sec)
{
	struct tm tm = { 0 };
	/* The process never leaves the C locale. */
	const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	if (!end || *end)
		return -EINVAL;
	*ret_sec = timegm(&tm);
	return 0;
}

/* q=0, 0.0 ..: not acceptable. */
static bool weight_zero(const char *params, size_t n)
{
	const char *q = memmem(params, n, "q=", 2);
	if (!q)
		return false;
	size_t left = n - (size_t)(q + 2 - params), zeros = strspn(q + 2, "0.");
	return zeros > 0 && (zeros >= left || !isdigit((unsigned char)q[2 + zeros]));
}

bool envd_identity_refused(const char *accept)
{
	bool named = false, refused = false, any_refused = false;
	while (*accept) {
		accept += strspn(accept, " \t,");
		size_t n = strcspn(accept, ","), name = strcspn(accept, ";, \t");
		bool zero = n > name && weight_zero(accept + name, n - name);
		if (name == 8 && strncasecmp(accept, "identity", 8) == 0) {
			named = true;
			refused = zero;
		} else if (name == 1 && *accept == '*') {
			any_refused = zero;
		}
		accept += n;
	}
	return named ? refused : any_refused;
}
