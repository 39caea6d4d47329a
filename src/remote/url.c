/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict where libcurl is lenient: a URL that needs guessing names another server than its author
 * meant, and the key would go there.
 */
#include "remote/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static int bad(struct brig_err *err, const char *why)
{
	brig_err_set(err, BRIG_E_INVALID, 0, "BRIG_URL %s", why);
	return brig_fix(err, "set it to https://HOST:PORT, or http://127.0.0.1:PORT for this "
			     "machine");
}

static bool port_ok(const char *s, size_t n)
{
	char text[8];
	if (n < 1 || n > 5 || strspn(s, DIGITS) < n)
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	unsigned long v = strtoul(text, NULL, 10);
	return v >= 1 && v <= 65535;
}

static bool is_loopback(const char *host, size_t n)
{
	return (n == 9 && strncasecmp(host, "localhost", n) == 0) ||
	       (n == 5 && strncmp(host, "[::1]", n) == 0) ||
	       (n > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, DIGITS ".") >= n);
}

/* host[:port], n bytes. */
static int authority(const char *s, size_t n, struct url *u, struct brig_err *err)
{
	size_t host = 0;
	if (memchr(s, '@', n))
		return bad(err, "must not hold a user or password; the key is BRIG_API_KEY");
	if (n && s[0] == '[') {
		const char *end = memchr(s, ']', n);
		if (!end || strspn(s + 1, DIGITS "abcdefABCDEF:.") != (size_t)(end - s - 1) ||
		    end == s + 1)
			return bad(err, "has a malformed IPv6 address");
		host = (size_t)(end - s) + 1;
	} else {
		host = strspn(s, LETTERS DIGITS "-._");
		host = host < n ? host : n;
	}
	if (host == 0 || n >= sizeof(u->host))
		return bad(err, "names no host");
	if (host < n && (s[host] != ':' || !port_ok(s + host + 1, n - host - 1)))
		return bad(err, "has a malformed host or port");
	memcpy(u->host, s, n);
	u->host[n] = '\0';
	u->loopback = is_loopback(s, host);
	return 0;
}

int url_parse(const char *text, struct url *ret, struct brig_err *err)
{
	struct url u = { .tls = strncasecmp(text, "https://", 8) == 0 };
	size_t scheme = u.tls ? 8 : strncasecmp(text, "http://", 7) == 0 ? 7 : 0;
	if (strlen(text) >= URL_MAX)
		return bad(err, "is too long");
	if (!scheme)
		return bad(err, "does not begin with https:// or http://");
	for (const char *p = text; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f || *p == '\\')
			return bad(err, "has characters that no URL has");
	const char *at = text + scheme;
	size_t n = strcspn(at, "/?#");
	if (strpbrk(at, "?#"))
		return bad(err, "must not have a query or a fragment");
	if (authority(at, n, &u, err) < 0)
		return -1;
	size_t path = strlen(at + n);
	while (path && at[n + path - 1] == '/')
		path--;
	memcpy(u.path, at + n, path);
	u.path[path] = '\0';
	snprintf(u.base, sizeof(u.base), "%s://%s/", u.tls ? "https" : "http", u.host);
	*ret = u;
	return 0;
}
