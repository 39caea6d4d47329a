/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.c: what the distribution specification calls pulling.
 *
 * Theory of operation
 * -------------------
 * Runs in brig-pull, which has nothing but the network and the folder of the layout. The manifest is
 * asked for by its tag or digest; an index leads to the one for this machine; then the configuration
 * and the layers follow, each by its digest. A registry that wants to know who asks says where a token
 * is to be had: one for pulling this repository is asked for, whatever it proposes.
 *
 * A token, or a password, goes to the registry and to the server of tokens that it named, and nowhere
 * else: behind a redirection to another scheme, host or port there is no Authorization. A layer that
 * breaks off is asked for again from where it stopped. A blob that has more bytes than its descriptor
 * says is left at once, and everything is hashed as it comes; who imports the layout hashes it again.
 *
 * Source: OCI distribution specification 1.1, "Pull".
 */
#include "pull/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "image/oci.h"

#define HOPS_MAX 5
#define TRIES_MAX 4
#define INDEX_DEPTH 4
#define TOKEN_ANSWER_MAX 65536
static const char accept_manifests[] =
	"application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
	"application/vnd.docker.distribution.manifest.list.v2+json, "
	"application/vnd.docker.distribution.manifest.v2+json";

struct registry {
	const struct pull_options *o;
	struct http *http;
	int dir;
	char base[700]; /* https://HOST/v2/REPO */
	char auth[PULL_TOKEN_MAX + 16];
};

/* ---- bodies ---- */

/* A body in memory, of at most `max` bytes. */
struct text {
	char *p;
	size_t n, max;
};

static int text_take(void *ctx, bool restart, const void *data, size_t n, struct brig_err *err)
{
	struct text *t = ctx;
	t->n = restart ? 0 : t->n;
	if (n > t->max - t->n)
		return brig_fail(err, BRIG_E_LIMIT, 0, "the registry's answer is more than %zu bytes",
				 t->max);
	char *p = realloc(t->p, t->n + n + 1);
	if (!p)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the registry's answer");
	memcpy(p + t->n, data, n);
	t->p = p;
	t->n += n;
	return 0;
}

/* A body that becomes a file, of exactly `size` bytes. */
struct blob {
	int fd;
	uint64_t got, size;
	EVP_MD_CTX *md;
};

static int blob_take(void *ctx, bool restart, const void *data, size_t n, struct brig_err *err)
{
	struct blob *b = ctx;
	if (restart) {
		b->got = 0;
		if (ftruncate(b->fd, 0) < 0 || lseek(b->fd, 0, SEEK_SET) < 0 ||
		    !EVP_DigestInit_ex(b->md, EVP_sha256(), NULL))
			return brig_fail(err, BRIG_E_INTERNAL, errno, "begin a blob again");
	}
	if (n > b->size - b->got)
		return brig_fail(err, BRIG_E_CORRUPT, 0,
				 "a blob has more than the %" PRIu64 " bytes that it should have",
				 b->size);
	int r = fd_write_full(b->fd, data, n);
	if (r < 0) {
		brig_fail(err, r == -ENOSPC || r == -EDQUOT ? BRIG_E_EXHAUSTED : BRIG_E_LIMIT, -r,
			  "write a blob");
		return brig_fix(err, "free space where the images are, or set BRIG_DATA");
	}
	if (!EVP_DigestUpdate(b->md, data, n))
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "hash a blob");
	b->got += n;
	return 0;
}

/* ---- who asks ---- */

static int set_basic(struct registry *r, char *dst, size_t cap, struct brig_err *err)
{
	char pair[600];
	unsigned char code[4 * ((sizeof(pair) + 2) / 3) + 1];
	int n = snprintf(pair, sizeof(pair), "%s:%s", r->o->user, r->o->password);
	if (n < 0 || (size_t)n >= sizeof(pair))
		return brig_fail(err, BRIG_E_INVALID, 0, "the registry's user or password is too long");
	EVP_EncodeBlock(code, (const unsigned char *)pair, n);
	snprintf(dst, cap, "Basic %s", (const char *)code);
	explicit_bzero(pair, sizeof(pair));
	return 0;
}

static int denied(const struct registry *r, struct brig_err *err)
{
	brig_fail(err, BRIG_E_DENIED, 0, "the registry does not let %s have the image",
		  r->o->user ? "this user" : "everybody");
	return brig_fix(err, r->o->user ? "check BRIG_REGISTRY_USER and BRIG_REGISTRY_PASSWORD, and the name"
					: "check its name, or set BRIG_REGISTRY_USER and "
					  "BRIG_REGISTRY_PASSWORD");
}

static int token_url(const struct registry *r, const struct pull_challenge *c, char *url, size_t cap)
{
	char scope[300];
	snprintf(scope, sizeof(scope), "repository:%s:pull", r->o->ref.repo);
	AUTO_FREE char *s = http_escape(scope);
	AUTO_FREE char *v = http_escape(c->service);
	if (!s || !v)
		return -1;
	int n = snprintf(url, cap, "%s%cscope=%s%s%s", c->realm, strchr(c->realm, '?') ? '&' : '?', s,
			 c->service[0] ? "&service=" : "", v);
	return n < 0 || (size_t)n >= cap ? -1 : 0;
}

static int get_token(struct registry *r, const struct pull_challenge *c, struct brig_err *err)
{
	char url[HTTP_URL_MAX], basic[1024] = "", token[PULL_TOKEN_MAX];
	struct text t = { .max = TOKEN_ANSWER_MAX };
	struct http_answer a;
	if (token_url(r, c, url, sizeof(url)) < 0)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the registry's server of tokens is malformed");
	if (r->o->user && set_basic(r, basic, sizeof(basic), err) < 0)
		return -1;
	struct http_ask ask = { .url = url,
				.authorization = basic[0] ? basic : NULL,
				.take = text_take,
				.ctx = &t };
	int e = http_get(r->http, &ask, &a, err);
	explicit_bzero(basic, sizeof(basic));
	if (e == 0 && (a.status == 401 || a.status == 403))
		e = denied(r, err);
	else if (e == 0 && (a.status != 200 || pull_token_parse(t.p ? t.p : "", t.n, token) < 0))
		e = brig_fail(err, BRIG_E_PROTOCOL, 0, "the registry's server of tokens gave none (status %ld)",
			      a.status);
	if (e == 0)
		snprintf(r->auth, sizeof(r->auth), "Bearer %s", token);
	free(t.p);
	return e < 0 ? brig_ctx(err, "get a token") : 0;
}

static int authenticate(struct registry *r, const char *text, struct brig_err *err)
{
	struct pull_challenge c;
	if (pull_challenge_parse(text, strlen(text), &c) < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, 0,
				 "the registry wants to know who asks in a way that is not known");
	if (c.kind == PULL_AUTH_BEARER)
		return get_token(r, &c, err);
	return r->o->user ? set_basic(r, r->auth, sizeof(r->auth), err) : denied(r, err);
}

/* ---- one request ---- */

static int bad_status(const struct registry *r, const struct http_answer *a, struct brig_err *err)
{
	if (a->status == 401 || a->status == 403)
		return denied(r, err);
	if (a->status == 404) {
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "the registry has no such image");
		return brig_fix(err, "check its name and tag");
	}
	return brig_fail(err, a->status == 429 || a->status >= 500 ? BRIG_E_UNAVAILABLE : BRIG_E_PROTOCOL,
			 0, "the registry answered with status %ld", a->status);
}

/* GET base/path, through redirections. */
static int get(struct registry *r, const char *path, struct http_ask *ask, struct http_answer *a,
	       struct brig_err *err)
{
	char first[1024], url[HTTP_URL_MAX];
	bool asked = false;
	snprintf(first, sizeof(first), "%s/%s", r->base, path);
	strcpy(url, first);
	for (unsigned hop = 0; hop <= HOPS_MAX;) {
		bool own = http_same_origin(first, url);
		ask->url = url;
		ask->authorization = own && r->auth[0] ? r->auth : NULL;
		if (http_get(r->http, ask, a, err) < 0)
			return -1;
		if (a->status == 401 && own && !asked && a->challenge[0]) {
			if (authenticate(r, a->challenge, err) < 0)
				return -1;
			asked = true;
			strcpy(url, first);
			continue;
		}
		if (a->status / 100 == 3 && a->next[0]) {
			strcpy(url, a->next);
			hop++;
			continue;
		}
		return a->status == 200 || a->status == 206 ? 0 : bad_status(r, a, err);
	}
	return brig_fail(err, BRIG_E_PROTOCOL, 0, "the registry redirects without end");
}

/* Another try may help, after a while. */
static bool again(unsigned tries, const struct brig_err *err)
{
	const struct timespec pause = { .tv_nsec = 100000000l << tries };
	if (err->code != BRIG_E_UNAVAILABLE || tries + 1 >= TRIES_MAX)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

/* ---- blobs ---- */

static int layout_write(struct registry *r, const char *name, const void *data, size_t n,
			struct brig_err *err)
{
	AUTO_FD fd = openat(r->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int e = fd < 0 ? -errno : fd_write_full(fd, data, n);
	return e < 0 ? brig_fail(err, BRIG_E_INTERNAL, -e, "write '%.100s'", name) : 0;
}

static void sha256_hex(const void *data, size_t n, char hex[IMAGE_HEX_LEN + 1])
{
	unsigned char sum[32];
	struct image_digest d;
	hex[0] = '\0';
	if (!EVP_Digest(data, n, sum, NULL, EVP_sha256(), NULL))
		return;
	image_digest_from_bytes(sum, &d);
	memcpy(hex, d.text + 7, IMAGE_HEX_LEN + 1);
}

static int wrong_digest(const char *what, const char *hex, struct brig_err *err)
{
	brig_fail(err, BRIG_E_CORRUPT, 0, "%s that came has the digest sha256:%.12s..", what, hex);
	return brig_fix(err, "try again; if it persists, the registry is broken or hostile");
}

/* One manifest or index, checked if its digest is known, kept as a blob. *ret is to be freed. */
static int fetch_manifest(struct registry *r, const char *what, struct text *ret, char type[160],
			  char hex[IMAGE_HEX_LEN + 1], struct brig_err *err)
{
	char path[200];
	struct http_answer a;
	struct http_ask ask = { .accept = accept_manifests, .take = text_take, .ctx = ret };
	int e;
	snprintf(path, sizeof(path), "manifests/%s", what);
	for (unsigned tries = 0;; tries++) {
		e = get(r, path, &ask, &a, err);
		if (e == 0 || !again(tries, err))
			break;
	}
	if (e < 0)
		return brig_ctx(err, "the manifest");
	sha256_hex(ret->p ? ret->p : "", ret->n, hex);
	if (strncmp(what, "sha256:", 7) == 0 && strcmp(what + 7, hex) != 0)
		return wrong_digest("the manifest", hex, err);
	json_t *o = json_loadb(ret->p ? ret->p : "", ret->n, 0, NULL);
	const char *own = json_string_value(json_object_get(o, "mediaType"));
	snprintf(type, 160, "%s", own ? own : a.type);
	json_decref(o);
	snprintf(path, sizeof(path), "blobs/sha256/%s", hex);
	return layout_write(r, path, ret->p ? ret->p : "", ret->n, err);
}

static int blob_try(struct registry *r, const char *path, struct blob *b, struct brig_err *err)
{
	struct http_answer a;
	struct http_ask ask = { .from = b->got, .take = blob_take, .ctx = b };
	if (get(r, path, &ask, &a, err) < 0)
		return -1;
	return b->got == b->size ? 0
				 : brig_fail(err, BRIG_E_UNAVAILABLE, 0,
					     "a blob ended after %" PRIu64 " of %" PRIu64 " bytes", b->got,
					     b->size);
}

static int blob_fill(struct registry *r, const char *hex, struct blob *b, struct brig_err *err)
{
	unsigned char sum[32];
	struct image_digest d;
	char path[100];
	snprintf(path, sizeof(path), "blobs/sha256:%s", hex);
	for (unsigned tries = 0;; tries++) {
		if (blob_try(r, path, b, err) == 0)
			break;
		if (!again(tries, err))
			return -1;
	}
	if (!EVP_DigestFinal_ex(b->md, sum, NULL))
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "hash a blob");
	image_digest_from_bytes(sum, &d);
	return strcmp(d.text + 7, hex) == 0 ? 0 : wrong_digest("a blob", d.text + 7, err);
}

static int fetch_blob(struct registry *r, const char *hex, uint64_t size, struct brig_err *err)
{
	char path[100];
	snprintf(path, sizeof(path), "blobs/sha256/%s", hex);
	/* The same layer may be there twice. */
	if (faccessat(r->dir, path, F_OK, 0) == 0)
		return 0;
	struct blob b = { .size = size, .md = EVP_MD_CTX_new() };
	/* In its own directory: to move a file to another one is a right that Landlock learnt later. */
	char part[108];
	snprintf(part, sizeof(part), "%.99s.part", path);
	b.fd = openat(r->dir, part, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int e = b.fd < 0 || !b.md || !EVP_DigestInit_ex(b.md, EVP_sha256(), NULL)
			? brig_fail(err, BRIG_E_INTERNAL, errno, "make a file for a blob")
			: blob_fill(r, hex, &b, err);
	if (e == 0 && renameat(r->dir, part, r->dir, path) < 0)
		e = brig_fail(err, BRIG_E_INTERNAL, errno, "keep a blob");
	fd_close(&b.fd);
	EVP_MD_CTX_free(b.md);
	return e < 0 ? brig_ctx(err, "blob sha256:%.12s", hex) : 0;
}

/* ---- an image ---- */

static int write_index(struct registry *r, const char *type, const char *hex, size_t size,
		       struct brig_err *err)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	char digest[80];
	snprintf(digest, sizeof(digest), "sha256:%s", hex);
	json_t *o = json_pack("{s:i s:[{s:s s:s s:I}]}", "schemaVersion", 2, "manifests", "mediaType", type,
			      "digest", digest, "size", (json_int_t)size);
	AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "the manifest's type is no text");
	return layout_write(r, "index.json", text, strlen(text), err) < 0
		       ? -1
		       : layout_write(r, "oci-layout", layout, sizeof(layout) - 1, err);
}

static int fetch_parts(struct registry *r, const struct oci_ref *config, const struct oci_plan *plan,
		       struct brig_err *err)
{
	uint64_t all = config->size;
	for (unsigned i = 0; i < plan->n; i++) {
		if (plan->layer[i].size > r->o->max_bytes || all > r->o->max_bytes - plan->layer[i].size) {
			brig_fail(err, BRIG_E_LIMIT, 0, "the image has more than %" PRIu64 " bytes",
				  r->o->max_bytes);
			return brig_fix(err, "raise the limit with --max-size if this is expected");
		}
		all += plan->layer[i].size;
	}
	if (config->size > OCI_JSON_MAX)
		return brig_fail(err, BRIG_E_LIMIT, 0, "the image's configuration is more than 4 MiB");
	if (fetch_blob(r, config->hex, config->size, err) < 0)
		return -1;
	for (unsigned i = 0; i < plan->n; i++) {
		char size[SIZE_TEXT_MAX];
		size_format_bytes(plan->layer[i].size, size);
		if (!r->o->quiet)
			fprintf(stderr, "brig: fetching layer %u of %u (%s)\n", i + 1, plan->n, size);
		if (fetch_blob(r, plan->layer[i].blob, plan->layer[i].size, err) < 0)
			return -1;
	}
	return 0;
}

static int fetch_image(struct registry *r, struct brig_err *err)
{
	static struct oci_plan plan;
	struct oci_ref at = { .index = false }, config;
	char what[136], type[160], hex[IMAGE_HEX_LEN + 1];
	snprintf(what, sizeof(what), "%s", r->o->ref.what);
	for (unsigned depth = 0; depth < INDEX_DEPTH; depth++) {
		struct text t = { .max = OCI_JSON_MAX };
		int e = fetch_manifest(r, what, &t, type, hex, err);
		bool index = e == 0 && (strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 ||
					strstr(type, "manifest.list") != NULL);
		if (e == 0)
			e = index ? oci_index_pick(t.p ? t.p : "", t.n, NULL, &at, err)
				  : oci_manifest_read(t.p ? t.p : "", t.n, &config, &plan, err);
		size_t n = t.n;
		free(t.p);
		if (e < 0)
			return -1;
		if (!index)
			return fetch_parts(r, &config, &plan, err) < 0 ? -1
								       : write_index(r, type, hex, n, err);
		snprintf(what, sizeof(what), "sha256:%s", at.hex);
	}
	return brig_fail(err, BRIG_E_CORRUPT, 0, "its indexes name each other without end");
}

int pull_image(const struct pull_options *o, int dir, struct brig_err *err)
{
	static struct registry r;
	r.o = o;
	r.dir = dir;
	snprintf(r.base, sizeof(r.base), "%s://%s/v2/%s", o->http.plain_http ? "http" : "https",
		 o->ref.host, o->ref.repo);
	if (http_new(&o->http, &r.http, err) < 0)
		return -1;
	int e = fetch_image(&r, err);
	http_free(r.http);
	explicit_bzero(r.auth, sizeof(r.auth));
	return e < 0 ? brig_ctx(err, "pull %s/%s", o->ref.host, o->ref.repo) : 0;
}
