/* SPDX-License-Identifier: Apache-2.0 */
/* ref.c: texts of the caller and of a registry; pure. */
#include "pull/ref.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int refuse(struct brig_err *err, const char *why)
{
	brig_fail(err, BRIG_E_INVALID, 0, "the name of the image %s", why);
	return brig_fix(err, "write it as HOST/NAME:TAG or HOST/NAME@sha256:HEX");
}

/* The first component names a host if it cannot be a part of a repository's name, or says so. */
static int is_host(const char *s, size_t n)
{
	return memchr(s, '.', n) || memchr(s, ':', n) || memchr(s, '[', n) ||
	       (n == 9 && memcmp(s, "localhost", 9) == 0);
}

static int host_ok(const char *s)
{
	size_t n = strspn(s, LOWER UPPER DIGITS ".-");
	if (s[0] == '[')
		n = strspn(s, LOWER UPPER DIGITS "[]:.");
	else if (n && s[n] == ':')
		n += 1 + strspn(s + n + 1, DIGITS);
	return n > 0 && !s[n] && s[0] != '-' && s[0] != '.' && s[n - 1] != ':';
}

/* Components of a-z 0-9, between which a separator may stand. */
static int repo_ok(const char *s)
{
	size_t n = strlen(s);
	for (size_t i = 0; i < n; i++) {
		int alnum = strchr(LOWER DIGITS, s[i]) != NULL;
		int edge = i == 0 || i + 1 == n || s[i - 1] == '/' || s[i + 1] == '/';
		if (!alnum && (s[i] == '/' ? i == 0 || i + 1 == n || s[i - 1] == '/'
					   : edge || !strchr("._-", s[i])))
			return 0;
	}
	return n > 0;
}

static int digest_ok(const char *s)
{
	return strncmp(s, "sha256:", 7) == 0 && strspn(s + 7, DIGITS "abcdef") == 64 && !s[71];
}

static int tag_ok(const char *s)
{
	size_t n = strspn(s, LOWER UPPER DIGITS "_.-");
	return n >= 1 && n <= 128 && !s[n] && s[0] != '.' && s[0] != '-';
}

/* Into dst, if it fits. */
static int put(char *dst, size_t cap, const char *s, size_t n)
{
	if (n >= cap)
		return -1;
	memcpy(dst, s, n);
	dst[n] = '\0';
	return 0;
}

/* Takes the host off a text; *rest is what follows it. */
static int take_host(const char *text, struct pull_ref *r, const char **rest)
{
	size_t n = strcspn(text, "/");
	*rest = text[n] ? text + n + 1 : "";
	return put(r->host, sizeof(r->host), text, n);
}

int pull_ref_parse(const char *text, const char *registry, struct pull_ref *ret,
		   struct brig_err *err)
{
	struct pull_ref r = { .what = "latest" };
	char prefix[256] = "", name[256];
	const char *rest = text;
	size_t first = strcspn(text, "/");
	if (text[first] && is_host(text, first)) {
		if (take_host(text, &r, &rest) < 0)
			return refuse(err, "is too long");
	} else if (registry && registry[0]) {
		const char *more;
		if (take_host(registry, &r, &more) < 0 ||
		    put(prefix, sizeof(prefix), more, strlen(more)) < 0)
			return refuse(err, "is too long");
	} else {
		brig_fail(err, BRIG_E_INVALID, 0, "'%.128s' does not say which registry has it", text);
		return brig_fix(err, "write HOST/%.128s, or set BRIG_REGISTRY to the host", text);
	}
	const char *at = strchr(rest, '@');
	size_t n = at ? (size_t)(at - rest) : strlen(rest);
	if (at && (!digest_ok(at + 1) || put(r.digest, sizeof(r.digest), at + 1, 71) < 0))
		return refuse(err, "has a digest that is not sha256: and 64 hexadecimal digits");
	const char *colon = memrchr(rest, ':', n);
	if (colon) {
		size_t len = n - (size_t)(colon + 1 - rest);
		if (put(r.what, sizeof(r.what), colon + 1, len) < 0 || !tag_ok(r.what))
			return refuse(err, "has an impossible tag");
		n = (size_t)(colon - rest);
	}
	if (at)
		memcpy(r.what, r.digest, sizeof(r.digest));
	if (put(name, sizeof(name), rest, n) < 0 ||
	    (size_t)snprintf(r.repo, sizeof(r.repo), "%s%s%s", prefix, prefix[0] ? "/" : "", name) >=
		    sizeof(r.repo))
		return refuse(err, "is too long");
	if (!host_ok(r.host))
		return refuse(err, "has an impossible host");
	if (!repo_ok(r.repo))
		return refuse(err, "has other characters than a-z 0-9 and separators . _ - /");
	*ret = r;
	return 0;
}

void pull_ref_name(const struct pull_ref *r, char *dst, size_t cap)
{
	const char *slash = strrchr(r->repo, '/');
	int plain = strcmp(r->what, "latest") == 0 || r->digest[0];
	snprintf(dst, cap, "%s%s%s", slash ? slash + 1 : r->repo, plain ? "" : "-",
		 plain ? "" : r->what);
	for (char *c = dst; *c; c++)
		*c = (char)tolower((unsigned char)*c);
}

/* ---- WWW-Authenticate ---- */

struct scan {
	const char *p, *end;
};

static void skip(struct scan *s, const char *what)
{
	while (s->p < s->end && strchr(what, *s->p) && *s->p)
		s->p++;
}

/* A token (RFC 9110 5.6.2) of at most cap - 1 characters. */
static int token(struct scan *s, char *dst, size_t cap)
{
	size_t n = 0;
	while (s->p < s->end &&
	       (isalnum((unsigned char)*s->p) || (*s->p && strchr("!#$%&'*+-.^_`|~", *s->p)))) {
		if (n + 1 >= cap)
			return -EINVAL;
		dst[n++] = *s->p++;
	}
	dst[n] = '\0';
	return n ? 0 : -EINVAL;
}

static int value(struct scan *s, char *dst, size_t cap)
{
	size_t n = 0;
	if (s->p == s->end || *s->p != '"')
		return token(s, dst, cap);
	for (s->p++; s->p < s->end && *s->p != '"'; s->p++) {
		if (*s->p == '\\' && ++s->p == s->end)
			return -EINVAL;
		/* What goes into a URL or a header has no control characters. */
		if ((unsigned char)*s->p < ' ' || *s->p == 0x7f || n + 1 >= cap)
			return -EINVAL;
		dst[n++] = *s->p;
	}
	if (s->p == s->end)
		return -EINVAL;
	s->p++;
	dst[n] = '\0';
	return 0;
}

int pull_challenge_parse(const char *text, size_t n, struct pull_challenge *ret)
{
	struct pull_challenge c = { .kind = PULL_AUTH_NONE };
	struct scan s = { text, text + n };
	char scheme[32], key[64], val[1024];
	skip(&s, " \t");
	if (token(&s, scheme, sizeof(scheme)) < 0)
		return -EINVAL;
	if (strcasecmp(scheme, "Bearer") == 0)
		c.kind = PULL_AUTH_BEARER;
	else if (strcasecmp(scheme, "Basic") == 0)
		c.kind = PULL_AUTH_BASIC;
	else
		return -EINVAL;
	for (;;) {
		skip(&s, " \t,");
		if (s.p == s.end)
			break;
		if (token(&s, key, sizeof(key)) < 0)
			return -EINVAL;
		skip(&s, " \t");
		if (s.p == s.end || *s.p != '=')
			break; /* another challenge begins here */
		s.p++;
		skip(&s, " \t");
		if (value(&s, val, sizeof(val)) < 0)
			return -EINVAL;
		if (strcasecmp(key, "realm") == 0)
			strcpy(c.realm, val);
		else if (strcasecmp(key, "service") == 0 && strlen(val) < sizeof(c.service))
			strcpy(c.service, val);
	}
	if (c.kind == PULL_AUTH_BEARER && strncasecmp(c.realm, "https://", 8) != 0 &&
	    strncasecmp(c.realm, "http://", 7) != 0)
		return -EINVAL;
	*ret = c;
	return 0;
}

int pull_token_parse(const char *text, size_t n, char ret[PULL_TOKEN_MAX])
{
	json_t *o = json_loadb(text, n, 0, NULL);
	const char *t = json_string_value(json_object_get(o, "token"));
	if (!t)
		t = json_string_value(json_object_get(o, "access_token"));
	size_t len = t ? strlen(t) : 0;
	int ok = len > 0 && len < PULL_TOKEN_MAX;
	for (size_t i = 0; ok && i < len; i++)
		ok = (unsigned char)t[i] > ' ' && (unsigned char)t[i] < 0x7f;
	if (ok)
		memcpy(ret, t, len + 1);
	json_decref(o);
	return ok ? 0 : -EINVAL;
}
