/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c: libcurl, told to do as little as possible by itself.
 *
 * Theory of operation
 * -------------------
 * Redirections are not followed here, because who follows must decide what goes along: a token is for
 * one host. No cookies, no netrc, no decoding of bodies (a layer is what its digest says), HTTP and
 * HTTPS only. A server that sends too slowly, or more than somebody takes, is left.
 */
#include "pull/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONNECT_S 30L
#define SLOW_BYTES 1000L

struct http {
	CURL *curl;
	struct http_options o;
	const struct http_ask *ask;
	struct http_answer *answer;
	struct brig_err *err;
	bool begun, refused;
	char why[CURL_ERROR_SIZE];
};

/* The value of a field of this name, and its length; NULL if the line is another's. */
static const char *field(const char *line, size_t n, const char *name, size_t *ret_n)
{
	size_t k = strlen(name);
	if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':')
		return NULL;
	const char *at = line + k + 1, *end = line + n;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (end > at && strchr(" \t\r\n", end[-1]))
		end--;
	*ret_n = (size_t)(end - at);
	return at;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
	struct http *h = ctx;
	size_t n = size * count, k;
	const char *v = field(line, n, "www-authenticate", &k);
	if (v && !h->answer->challenge[0] && k < sizeof(h->answer->challenge)) {
		memcpy(h->answer->challenge, v, k);
		h->answer->challenge[k] = '\0';
	}
	v = field(line, n, "content-type", &k);
	if (v) {
		const char *semi = memchr(v, ';', k);
		k = semi ? (size_t)(semi - v) : k;
		k = k < sizeof(h->answer->type) ? k : 0;
		memcpy(h->answer->type, v, k);
		h->answer->type[k] = '\0';
	}
	return n;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
	struct http *h = ctx;
	size_t n = size * count;
	long status = 0;
	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 && status != 206)
		return n;
	bool restart = !h->begun && !(status == 206 && h->ask->from);
	h->begun = true;
	if (h->ask->take(h->ask->ctx, restart, data, n, h->err) == 0)
		return n;
	h->refused = true;
	return 0;
}

int http_new(const struct http_options *o, struct http **ret, struct brig_err *err)
{
	struct http *h = calloc(1, sizeof(*h));
	if (!h || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->curl = curl_easy_init())) {
		free(h);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare a connection");
	}
	h->o = *o;
	*ret = h;
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->curl);
	free(h);
}

static const struct {
	CURLcode code;
	enum brig_code ours;
	const char *remedy;
} reasons[] = {
	{ CURLE_COULDNT_RESOLVE_HOST, BRIG_E_UNAVAILABLE, "check the host of the registry" },
	{ CURLE_COULDNT_CONNECT, BRIG_E_UNAVAILABLE, "check host and port of the registry" },
	{ CURLE_OPERATION_TIMEDOUT, BRIG_E_UNAVAILABLE, "try again; --stall-timeout waits longer" },
	{ CURLE_SSL_CONNECT_ERROR, BRIG_E_DENIED,
	  "if the registry speaks HTTP without TLS and that is good enough: --plain-http" },
	{ CURLE_PEER_FAILED_VERIFICATION, BRIG_E_DENIED,
	  "name the certificate of who signed it: --cacert FILE" },
	{ CURLE_SSL_CACERT_BADFILE, BRIG_E_INVALID, "--cacert takes a file of PEM certificates" },
	{ CURLE_UNSUPPORTED_PROTOCOL, BRIG_E_DENIED, "if HTTP without TLS is good enough: --plain-http" },
};

static int failed(const struct http *h, CURLcode code, struct brig_err *err)
{
	const char *why = h->why[0] ? h->why : curl_easy_strerror(code);
	for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].code == code) {
			brig_err_set(err, reasons[i].ours, 0, "%.300s", why);
			return brig_fix(err, "%s", reasons[i].remedy);
		}
	return brig_fail(err, BRIG_E_UNAVAILABLE, 0, "%.300s", why);
}

#define SET(option, value) (r = r == CURLE_OK ? curl_easy_setopt(h->curl, CURLOPT_##option, value) : r)

static CURLcode options(struct http *h, struct curl_slist *fields, char *range, size_t cap)
{
	CURLcode r = CURLE_OK;
	curl_easy_reset(h->curl);
	SET(ERRORBUFFER, h->why);
	SET(URL, h->ask->url);
	SET(PROTOCOLS_STR, h->o.plain_http ? "http,https" : "https");
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CONNECTTIMEOUT, CONNECT_S);
	SET(LOW_SPEED_LIMIT, SLOW_BYTES);
	SET(LOW_SPEED_TIME, h->o.stall_s);
	SET(NOSIGNAL, 1L);
	SET(FOLLOWLOCATION, 0L);
	SET(NETRC, (long)CURL_NETRC_IGNORED);
	SET(HTTPHEADER, fields);
	SET(HEADERFUNCTION, on_header);
	SET(HEADERDATA, h);
	SET(WRITEFUNCTION, on_body);
	SET(WRITEDATA, h);
	SET(USERAGENT, "brig");
	if (h->ask->from) {
		snprintf(range, cap, "%llu-", (unsigned long long)h->ask->from);
		SET(RANGE, range);
	}
	if (h->o.insecure_tls) {
		SET(SSL_VERIFYPEER, 0L);
		SET(SSL_VERIFYHOST, 0L);
	}
	if (h->o.ca) {
		struct curl_blob ca = { .data = (void *)(uintptr_t)h->o.ca,
					.len = h->o.ca_n,
					.flags = CURL_BLOB_COPY };
		SET(CAINFO_BLOB, &ca);
		/* Or the system's folder of certificates would be trusted besides. */
		SET(CAPATH, (char *)NULL);
	}
	return r;
}

static int add_field(struct curl_slist **list, const char *name, const char *value)
{
	char *line;
	if (!value)
		return 0;
	if (asprintf(&line, "%s: %s", name, value) < 0)
		return -1;
	struct curl_slist *more = curl_slist_append(*list, line);
	explicit_bzero(line, strlen(line));
	free(line);
	if (!more)
		return -1;
	*list = more;
	return 0;
}

int http_get(struct http *h, const struct http_ask *ask, struct http_answer *ret,
	     struct brig_err *err)
{
	struct curl_slist *fields = NULL;
	char range[32], *next = NULL;
	memset(ret, 0, sizeof(*ret));
	h->ask = ask;
	h->answer = ret;
	h->err = err;
	h->begun = h->refused = false;
	h->why[0] = '\0';
	if (add_field(&fields, "Accept", ask->accept) < 0 ||
	    add_field(&fields, "Authorization", ask->authorization) < 0) {
		curl_slist_free_all(fields);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare a request");
	}
	CURLcode r = options(h, fields, range, sizeof(range));
	if (r == CURLE_OK)
		r = curl_easy_perform(h->curl);
	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &ret->status);
	if (r == CURLE_OK && curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &next) == CURLE_OK &&
	    next && strlen(next) < sizeof(ret->next))
		strcpy(ret->next, next);
	curl_slist_free_all(fields);
	if (r == CURLE_OK)
		return 0;
	return h->refused ? -1 : failed(h, r, err);
}

/* One part of a URL; "" if it has none. */
static void part(CURLU *u, CURLUPart what, char *dst, size_t cap)
{
	char *text = NULL;
	dst[0] = '\0';
	if (curl_url_get(u, what, &text, CURLU_DEFAULT_PORT) == CURLUE_OK && strlen(text) < cap)
		strcpy(dst, text);
	curl_free(text);
}

bool http_same_origin(const char *a, const char *b)
{
	static const CURLUPart parts[] = { CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT };
	CURLU *u = curl_url(), *v = curl_url();
	bool same = u && v && curl_url_set(u, CURLUPART_URL, a, 0) == CURLUE_OK &&
		    curl_url_set(v, CURLUPART_URL, b, 0) == CURLUE_OK;
	for (unsigned i = 0; i < 3 && same; i++) {
		char x[512], y[512];
		part(u, parts[i], x, sizeof(x));
		part(v, parts[i], y, sizeof(y));
		same = x[0] && strcasecmp(x, y) == 0;
	}
	curl_url_cleanup(u);
	curl_url_cleanup(v);
	return same;
}

char *http_escape(const char *text)
{
	char *e = curl_easy_escape(NULL, text, 0), *copy = e ? strdup(e) : NULL;
	curl_free(e);
	return copy;
}
