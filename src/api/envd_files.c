/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * GET /files: a STAT, then a READ whose data goes to the client as it comes. The agent sends as far
 * as it was granted, and it is granted again what the client's queue has taken, so a slow client
 * costs READ_WINDOW bytes. The length is promised from the STAT; a file that shrinks meanwhile
 * breaks the connection, since the promise cannot be kept. Files without a length (/proc) are sent
 * in chunks.
 *
 * Both routes for files are authorised by the token, or by a signature of it over path, operation,
 * user and expiry, in which case no header is needed: that is what a download URL is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "api/envd.h"
#include "api/text.h"
#include "base/clock.h"
#include "base/fd.h"

#define READ_WINDOW (2u * 1024u * 1024u)

/* ---- who may ---- */

const char *envd_files_auth(const struct box *b, const struct http_req *r)
{
	const char *token = http_header(r, "X-Access-Token");
	const char *sig = http_query(r, "signature");
	const char *expiry = http_query(r, "signature_expiration");
	const char *path = http_query(r, "path"), *user = http_query(r, "username");
	char want[TEXT_SIGNATURE_MAX];
	if (!b->token[0])
		return NULL;
	if (token)
		return text_same_secret(token, b->token)
			       ? NULL
			       : "unauthorized access, please provide a valid access token";
	if (!sig)
		return "missing signature query parameter";
	if (text_signature(path ? path : "", strcmp(http_method(r), "POST") == 0 ? "write" : "read",
			   user ? user : "", b->token, expiry, want) < 0 ||
	    !text_same_secret(want, sig))
		return "invalid signature";
	if (!expiry)
		return NULL;
	/* It is signed, so it is what we, or the token's owner, wrote. */
	char *end;
	long long at = strtoll(expiry, &end, 10);
	if (end == expiry || *end)
		return "invalid signature expiration format";
	return at < (long long)(clock_ns(CLOCK_REALTIME) / SEC_NS) ? "signature is already expired"
								   : NULL;
}

/* ---- GET ---- */

struct download {
	char path[PATH_MAX];
	uint64_t size, first, left; /* of the file; what is sent of it */
	int64_t mtime;
	bool partial, sized, begun;
	size_t owed;
};

static void download_gone(struct envd_call *c)
{
	free(c->priv);
	c->priv = NULL;
}

static void download_grant(struct envd_call *c)
{
	struct download *d = c->priv;
	if (http_stream_queued(c->r) > HTTP_QUEUE_HIGH)
		return;
	boxfs_grant(&c->q, d->owed);
	d->owed = 0;
}

/* Headers, when the first bytes are there to tell the type by. */
static void download_begin(struct envd_call *c, const void *p, size_t n)
{
	struct download *d = c->priv;
	const char *type = envd_type_by_name(d->path);
	char range[96];
	d->begun = true;
	if (d->partial) {
		snprintf(range, sizeof(range), "bytes %llu-%llu/%llu", (unsigned long long)d->first,
			 (unsigned long long)(d->first + d->left - 1), (unsigned long long)d->size);
		http_answer_header(c->r, "Content-Range", range);
	}
	http_stream_begin(c->r, d->partial ? 206 : 200, type ? type : envd_type_by_content(p, n),
			  d->sized ? (int64_t)d->left : -1);
}

static void read_data(struct boxfs_req *q, const void *p, size_t n, bool eof)
{
	struct envd_call *c = q->ctx;
	struct download *d = c->priv;
	(void)eof;
	if (n == 0)
		return;
	if (!d->begun)
		download_begin(c, p, n);
	if (d->sized && n > d->left)
		n = d->left; /* it cannot be: no more was asked for */
	http_stream_write(c->r, p, n);
	d->left -= d->sized ? n : 0;
	d->owed += n;
	download_grant(c);
}

static void read_done(struct boxfs_req *q, int err, const char *text)
{
	struct envd_call *c = q->ctx;
	struct download *d = c->priv;
	(void)text;
	if (!d->begun && err) {
		envd_fail(c, connect_code_errno(err), "cannot read '%s': %s", d->path,
			  strerror(err));
		return;
	}
	if (!d->begun && (!d->sized || d->left == 0)) {
		d->sized = true;
		d->left = 0;
		download_begin(c, "", 0);
	}
	if (err || d->left)
		http_abort(c->r);
	else
		http_stream_end(c->r);
}

static void download_read(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .data = read_data, .done = read_done };
	const struct download *d = c->priv;
	const struct brig_fs_req h = { .credit = READ_WINDOW,
				       .arg = d->first,
				       .arg2 = d->sized ? d->left : 0 };
	c->drained = download_grant;
	envd_request(c, BRIG_FS_READ, &h, d->path, NULL, &ops);
}

static bool since(const struct http_req *r, const char *header, int64_t *ret)
{
	const char *v = http_header(r, header);
	return v && envd_http_date_parse(v, ret) == 0;
}

/* Conditions and range. True: something is to be read. */
static bool download_wanted(struct envd_call *c)
{
	struct download *d = c->priv;
	const char *range = http_header(c->r, "Range");
	const char *if_range = http_header(c->r, "If-Range");
	char text[64];
	int64_t t;
	d->left = d->size;
	if (since(c->r, "If-Unmodified-Since", &t) && d->mtime > t) {
		api_fail_e2b_text(c->r, 412, "the file was modified");
		return false;
	}
	if (since(c->r, "If-Modified-Since", &t) && d->mtime <= t) {
		http_reply_empty(c->r, 304);
		return false;
	}
	if (!range || !d->sized || (if_range && (!since(c->r, "If-Range", &t) || t != d->mtime)))
		return true;
	int ok = envd_range(range, d->size, &d->first, &d->left);
	if (ok < 0) {
		snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)d->size);
		http_answer_header(c->r, "Content-Range", text);
		api_fail_e2b_text(c->r, 416, "the range lies outside of the file");
		return false;
	}
	d->partial = ok == 1;
	return true;
}

static void stat_entry(struct boxfs_req *q, const struct envd_entry *e)
{
	struct envd_call *c = q->ctx;
	struct download *d = c->priv;
	char date[ENVD_TIME_MAX];
	boxfs_close(q);
	if (S_ISDIR(e->e.mode)) {
		api_fail_e2b_text(c->r, 400, "path '%s' is a directory", d->path);
		return;
	}
	if (!S_ISREG(e->e.mode)) {
		api_fail_e2b_text(c->r, 400, "path '%s' is not a regular file", d->path);
		return;
	}
	AUTO_FREE char *disposition = envd_disposition(envd_path_base(d->path));
	d->size = e->e.size;
	d->sized = d->size > 0;
	d->mtime = e->e.mtime_sec;
	envd_http_date(d->mtime, date);
	http_answer_header(c->r, "Content-Disposition", disposition ? disposition : "inline");
	http_answer_header(c->r, "Vary", "Accept-Encoding");
	http_answer_header(c->r, "Last-Modified", date);
	http_answer_header(c->r, "Accept-Ranges", "bytes");
	if (download_wanted(c))
		download_read(c);
}

static void stat_done(struct boxfs_req *q, int err, const char *text)
{
	struct envd_call *c = q->ctx;
	const struct download *d = c->priv;
	(void)text;
	if (err == ENOENT || err == ENOTDIR)
		api_fail_e2b_text(c->r, 404, "path '%s' does not exist", d->path);
	else
		envd_fail(c, connect_code_errno(err ? err : EIO), "'%s': %s", d->path,
			  strerror(err ? err : EIO));
}

static void get_go(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .entry = stat_entry, .done = stat_done };
	const struct brig_fs_req h = { .flags = 0 };
	const char *asked = http_query(c->r, "path");
	struct download *d = c->priv;
	if (envd_call_path(c, asked ? asked : "", d->path) == 0)
		envd_request(c, BRIG_FS_STAT, &h, d->path, NULL, &ops);
}

void envd_files_get(struct envd_call *c)
{
	const char *accept = http_header(c->r, "Accept-Encoding");
	struct download *d = calloc(1, sizeof(*d));
	if (!d) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return;
	}
	c->priv = d;
	c->gone = download_gone;
	if (accept && envd_identity_refused(accept))
		api_fail_e2b_text(c->r, 406,
				  "no acceptable encoding; this server sends files as "
				  "they are (identity)");
	else
		envd_with_fs(c, get_go);
}
