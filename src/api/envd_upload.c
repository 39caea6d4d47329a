/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * POST /files: what arrives waits in a buffer (`in`) from which one step after the other is made: a
 * part of a form begins, its data goes to the agent, it ends. A step that must wait (for the file
 * to be open, for credit, for the end of the write) leaves the rest where it is; above IN_HIGH
 * bytes the client is held back. So an upload of any size costs two small buffers. A body that is
 * gzip'd is inflated on the way, into a buffer of INFLATE_PIECE bytes; a bomb fills the sandbox's
 * disk limit and nothing else.
 *
 *   READY    between files: the next step comes from the buffer
 *   OPENING  FS_WRITE was sent; its first credit leads to WRITING
 *   WRITING  data flows
 *   CLOSING  the last data was sent; FS_DONE leads to READY
 *   DRAIN    failed: what still comes is thrown away, for a client that sends does not read; only
 * then (or after DRAIN_MAX bytes) it gets its answer OVER     answered
 *
 * Metadata headers replace the whole set of a file's attributes, none clears them. A file system
 * that cannot hold any (EOPNOTSUPP) has none to clear: the write is then repeated without.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "api/envd.h"
#include "api/multipart.h"
#include "base/fd.h"

#define IN_HIGH (512u * 1024u)
/* What the library hands over at a time, beyond IN_HIGH, is small. */
#define IN_MAX (4u * 1024u * 1024u)
#define INFLATE_PIECE (64u * 1024u)
#define FILES_MAX 4096u

#define DRAIN_MAX (4ull * 1024 * 1024 * 1024)

enum phase { UP_READY, UP_OPENING, UP_WRITING, UP_CLOSING, UP_DRAIN, UP_OVER };

struct upload {
	struct envd_call *c;
	enum phase phase;
	bool form, gzip, in_eof, started, held;
	struct buf in;
	struct multipart m;
	z_stream z;
	bool z_made, z_end;
	uint8_t *out; /* inflated, not written yet: out_at .. out_n */
	size_t out_at, out_n;
	uint32_t credit;
	bool plain; /* repeat of the write without attributes */
	char path[PATH_MAX];
	char *pairs[2 * BRIG_FS_META_PAIRS]; /* key, value .. */
	unsigned npairs;
	size_t pair_bytes;
	bool bad_pairs;
	unsigned status; /* DRAIN: the answer */
	char why[512];
	uint64_t drained;
	json_t *written; /* array of what is answered */
	json_t *paths;	 /* object: whose keys were written */
};

static void upload_step(struct upload *u);

static void upload_gone(struct envd_call *c)
{
	struct upload *u = c->priv;
	if (u->z_made)
		inflateEnd(&u->z);
	for (unsigned i = 0; i < u->npairs; i++)
		free(u->pairs[i]);
	json_decref(u->written);
	json_decref(u->paths);
	buf_done(&u->in);
	free(u->out);
	free(u);
	c->priv = NULL;
}

static void upload_fail(struct upload *u, unsigned status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void upload_fail(struct upload *u, unsigned status, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(u->why, sizeof(u->why), fmt, ap);
	va_end(ap);
	u->status = status;
	u->phase = u->started && !u->in_eof ? UP_DRAIN : UP_OVER;
	boxfs_close(&u->c->q);
	buf_done(&u->in);
	http_body_hold(u->c->r, false);
	u->held = false;
	if (u->phase == UP_OVER)
		api_fail_e2b_text(u->c->r, status, "%s", u->why);
}

static void drain_end(struct upload *u)
{
	u->phase = UP_OVER;
	api_fail_e2b_text(u->c->r, u->status, "%s", u->why);
}

static void upload_fail_errno(struct upload *u, int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		upload_fail(u, 507, "not enough disk space available for '%.300s'", u->path);
		break;
	case EISDIR:
		upload_fail(u, 400, "path is a directory: '%.300s'", u->path);
		break;
	case EOPNOTSUPP:
		upload_fail(u, 501, "the file system of '%.300s' holds no metadata", u->path);
		break;
	default:
		upload_fail(u, connect_code_status(connect_code_errno(err)),
			    "cannot write '%.300s': %s", u->path, strerror(err));
		break;
	}
}

/* ---- one file ---- */

static void write_credit(struct boxfs_req *q, uint32_t bytes)
{
	struct upload *u = ((struct envd_call *)q->ctx)->priv;
	u->credit += bytes;
	if (u->phase == UP_OPENING)
		u->phase = UP_WRITING;
	upload_step(u);
}

static int file_open(struct upload *u);

static void file_written(struct upload *u)
{
	json_t *one = json_pack("{s:s,s:s,s:s}", "name", envd_path_base(u->path), "type", "file",
				"path", u->path);
	json_t *meta = NULL;
	for (unsigned i = 0; i + 1 < u->npairs; i += 2) {
		if (!meta)
			meta = json_object();
		json_object_set_new(meta, u->pairs[i], json_string(u->pairs[i + 1]));
	}
	if (one && meta)
		json_object_set_new(one, "metadata", meta);
	else
		json_decref(meta);
	json_array_append_new(u->written, one);
	u->phase = UP_READY;
}

static void write_done(struct boxfs_req *q, int err, const char *text)
{
	struct upload *u = ((struct envd_call *)q->ctx)->priv;
	(void)text;
	if (err == EOPNOTSUPP && u->phase == UP_OPENING && u->npairs == 0 && !u->plain) {
		u->plain = true;
		file_open(u);
		return;
	}
	if (err || u->phase != UP_CLOSING) {
		upload_fail_errno(u, err ? err : EIO);
		return;
	}
	file_written(u);
	upload_step(u);
}

static int file_open(struct upload *u)
{
	static const struct boxfs_ops ops = { .credit = write_credit, .done = write_done };
	struct envd_call *c = u->c;
	const struct brig_fs_req h = { .flags = BRIG_FS_PARENTS | (u->plain ? 0 : BRIG_FS_XATTRS),
				       .arg2 = u->plain ? 0 : u->npairs / 2 };
	const char *strings[1 + 2 * BRIG_FS_META_PAIRS] = { u->path };
	for (unsigned i = 0; i < u->npairs; i++)
		strings[1 + i] = u->pairs[i];
	u->phase = UP_OPENING;
	u->credit = 0;
	int err = boxfs_open(c->fs.fs, &c->q, BRIG_FS_WRITE, &h, strings,
			     1 + (u->plain ? 0 : u->npairs), &ops, c);
	if (err == 0)
		return 0;
	upload_fail_errno(u, err);
	return -1;
}

/* Begins a file at the path that the client names. */
static int file_begin(struct upload *u, const char *asked)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (!asked || !asked[0]) {
		upload_fail(u, 400, "the file has no path");
		return -1;
	}
	if (envd_path(asked, boxfs_home(u->c->fs.fs), u->path, &err) < 0) {
		upload_fail(u, 400, "%s", err.msg);
		return -1;
	}
	if (json_object_get(u->paths, u->path)) {
		upload_fail(u, 400,
			    "you cannot upload multiple files to the same path '%.200s' in "
			    "one upload request",
			    u->path);
		return -1;
	}
	if (json_object_set_new(u->paths, u->path, json_true()) < 0) {
		upload_fail(u, 400, "the path is not UTF-8");
		return -1;
	}
	if (json_object_size(u->paths) > FILES_MAX) {
		upload_fail(u, 400, "more than %u files in one request", FILES_MAX);
		return -1;
	}
	return file_open(u);
}

static void file_end(struct upload *u)
{
	u->phase = UP_CLOSING;
	boxfs_write(&u->c->q, NULL, 0, true);
}

/* ---- where the data comes from ---- */

/* Data at p: as much as the credit allows goes. Returns how much. */
static size_t data_put(struct upload *u, const void *p, size_t n)
{
	n = n < u->credit ? n : u->credit;
	if (n)
		boxfs_write(&u->c->q, p, n, false);
	u->credit -= (uint32_t)n;
	return n;
}

/* A step of a raw body. False: it must wait. */
static bool step_raw(struct upload *u)
{
	size_t n = buf_len(&u->in);
	if (n == 0 && u->in_eof) {
		file_end(u);
		return false;
	}
	n = data_put(u, buf_head(&u->in), n);
	buf_consume(&u->in, n);
	return n > 0;
}

/* Inflates into the empty out buffer. -1: the upload has failed. */
static int inflate_more(struct upload *u)
{
	u->z.next_in = buf_head(&u->in);
	u->z.avail_in = (uInt)buf_len(&u->in);
	u->z.next_out = u->out;
	u->z.avail_out = INFLATE_PIECE;
	int r = inflate(&u->z, Z_NO_FLUSH);
	buf_consume(&u->in, buf_len(&u->in) - u->z.avail_in);
	u->out_at = 0;
	u->out_n = INFLATE_PIECE - u->z.avail_out;
	if (r == Z_STREAM_END) {
		/* gzip files may be concatenated. */
		if (buf_len(&u->in) && inflateReset(&u->z) == Z_OK)
			return 0;
		u->z_end = true;
		return 0;
	}
	if (r == Z_OK || r == Z_BUF_ERROR) {
		u->z_end = false;
		return 0;
	}
	upload_fail(u, 400, "the body is not gzip: %s", u->z.msg ? u->z.msg : "damaged");
	return -1;
}

static bool step_gzip(struct upload *u)
{
	if (u->out_at < u->out_n) {
		size_t n = data_put(u, u->out + u->out_at, u->out_n - u->out_at);
		u->out_at += n;
		return n > 0;
	}
	if (buf_len(&u->in)) {
		if (u->z_end && inflateReset(&u->z) != Z_OK) {
			upload_fail(u, 400, "the body is not gzip");
			return false;
		}
		u->z_end = false;
		return inflate_more(u) == 0;
	}
	/* The window may hold output that did not fit. */
	if (!u->z_end && u->out_n == INFLATE_PIECE) {
		if (inflate_more(u) < 0)
			return false;
		if (u->out_n)
			return true;
	}
	if (!u->in_eof)
		return false;
	if (!u->z_end) {
		upload_fail(u, 400, "the gzip body ends too early");
		return false;
	}
	file_end(u);
	return false;
}

static void upload_answer(struct upload *u)
{
	u->phase = UP_OVER;
	if (json_array_size(u->written) == 0)
		api_fail_e2b_text(u->c->r, 400, "the form has no part named 'file'");
	else
		http_reply_json(u->c->r, 200, json_incref(u->written));
}

static bool step_form(struct upload *u)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *path = http_query(u->c->r, "path");
	size_t n = 0, put;
	switch (multipart_next(&u->m, &u->in, u->in_eof, &n, &err)) {
	case MULTIPART_PART:
		if (strcmp(u->m.name, "file") != 0)
			return true; /* its data is passed over */
		return file_begin(u, path && path[0] ? path : u->m.filename) == 0;
	case MULTIPART_DATA:
		put = u->phase == UP_WRITING ? data_put(u, buf_head(&u->in), n) : n;
		buf_consume(&u->in, put);
		return put > 0;
	case MULTIPART_PART_END:
		if (u->phase != UP_WRITING)
			return true;
		file_end(u);
		return false;
	case MULTIPART_END:
		buf_consume(&u->in, buf_len(&u->in));
		if (!u->in_eof)
			return false;
		upload_answer(u);
		return false;
	case MULTIPART_BAD:
		upload_fail(u, 400, "%s", err.msg);
		return false;
	case MULTIPART_MORE:
		break;
	}
	return false;
}

/* A step. False: nothing can be done now. */
static bool step(struct upload *u)
{
	if (u->phase != UP_READY && u->phase != UP_WRITING)
		return false;
	if (u->form)
		return step_form(u);
	if (u->phase == UP_WRITING)
		return u->gzip ? step_gzip(u) : step_raw(u);
	if (json_array_size(u->written))
		upload_answer(u);
	else
		file_begin(u, http_query(u->c->r, "path"));
	return false;
}

static void upload_step(struct upload *u)
{
	if (!u->started)
		return;
	while (step(u))
		;
	bool hold = u->phase < UP_DRAIN && buf_len(&u->in) > IN_HIGH;
	if (hold != u->held) {
		u->held = hold;
		http_body_hold(u->c->r, hold);
	}
}

/* ---- headers ---- */

/* X-Metadata-<key>: value */
static int metadata_header(void *ctx, const char *name, const char *value)
{
	static const char prefix[] = "X-Metadata-";
	struct upload *u = ctx;
	if (strncasecmp(name, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	name += sizeof(prefix) - 1;
	size_t k = strlen(name), v = strlen(value);
	for (size_t i = 0; i < v; i++)
		if (value[i] < ' ' || value[i] > '~')
			u->bad_pairs = true;
	u->pair_bytes += k + v;
	if (k == 0 || k > BRIG_FS_META_KEY_MAX || u->pair_bytes > BRIG_FS_META_MAX ||
	    u->npairs + 2 > sizeof(u->pairs) / sizeof(u->pairs[0]))
		u->bad_pairs = true;
	if (u->bad_pairs)
		return 1;
	char *key = strdup(name), *text = strdup(value);
	for (char *c = key; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	for (unsigned i = 0; key && i < u->npairs; i += 2)
		if (strcmp(u->pairs[i], key) == 0)
			u->bad_pairs = true; /* which of the two? */
	if (!key || !text || u->bad_pairs) {
		free(key);
		free(text);
		u->bad_pairs = true;
		return 1;
	}
	u->pairs[u->npairs++] = key;
	u->pairs[u->npairs++] = text;
	return 0;
}

/* 0, or -1: the upload has failed. */
static int upload_kind(struct upload *u)
{
	struct http_req *r = u->c->r;
	struct brig_err err = BRIG_ERR_INIT;
	const char *type = http_header(r, "Content-Type"),
		   *coding = http_header(r, "Content-Encoding");
	type = type ? type : "";
	u->gzip = coding && strcasecmp(coding, "gzip") == 0;
	if (coding && !u->gzip && strcasecmp(coding, "identity") != 0) {
		upload_fail(u, 400, "unsupported Content-Encoding '%.40s'", coding);
		return -1;
	}
	if (strncasecmp(type, "multipart/form-data", 19) == 0) {
		u->form = true;
		if (u->gzip)
			upload_fail(u, 400, "a gzip'd form is not supported");
		else if (multipart_init(&u->m, type, &err) < 0)
			upload_fail(u, 400, "%s", err.msg);
	} else if (strncasecmp(type, "application/octet-stream", 24) != 0) {
		upload_fail(u, 400,
			    "unsupported Content-Type '%.80s': use multipart/form-data or "
			    "application/octet-stream",
			    type);
	}
	if (u->phase == UP_READY && u->gzip) {
		u->out = malloc(INFLATE_PIECE);
		/* 16: a gzip header and nothing else (zlib.h, inflateInit2). */
		u->z_made = u->out && inflateInit2(&u->z, 16 + MAX_WBITS) == Z_OK;
		if (!u->z_made)
			upload_fail(u, 503, "out of memory");
	}
	http_headers(r, metadata_header, u);
	if (u->phase == UP_READY && u->bad_pairs)
		upload_fail(
			u, 400,
			"X-Metadata headers are printable ASCII with different names of at most "
			"%u bytes, %u bytes in all",
			BRIG_FS_META_KEY_MAX, BRIG_FS_META_MAX);
	return u->phase == UP_READY ? 0 : -1;
}

static void upload_go(struct envd_call *c)
{
	struct upload *u = c->priv;
	u->started = true;
	http_body_hold(c->r, false);
	upload_step(u);
}

void envd_files_post(struct envd_call *c)
{
	struct upload *u = calloc(1, sizeof(*u));
	if (!u || !(u->written = json_array()) || !(u->paths = json_object())) {
		if (u)
			json_decref(u->written);
		free(u);
		http_body_hold(c->r, false);
		api_fail_e2b_text(c->r, 503, "out of memory");
		return;
	}
	u->c = c;
	u->in = (struct buf)BUF_INIT(IN_MAX);
	c->priv = u;
	c->gone = upload_gone;
	if (upload_kind(u) == 0)
		envd_with_fs(c, upload_go);
	else
		http_body_hold(c->r, false);
}

void envd_files_post_body(struct envd_call *c, const void *p, size_t n)
{
	struct upload *u = c->priv;
	if (!u || u->phase == UP_OVER)
		return;
	if (u->phase == UP_DRAIN) {
		u->drained += n;
		if (u->drained > DRAIN_MAX)
			drain_end(u);
		return;
	}
	/* What can go on at once is not copied. */
	if (u->phase == UP_WRITING && !u->form && !u->gzip && buf_len(&u->in) == 0) {
		size_t put = data_put(u, p, n);
		p = (const uint8_t *)p + put;
		n -= put;
		if (n == 0)
			return;
	}
	if (buf_add(&u->in, p, n) < 0) {
		upload_fail(u, 503, "out of memory");
		return;
	}
	upload_step(u);
}

void envd_files_post_ready(struct envd_call *c)
{
	struct upload *u = c->priv;
	if (!u)
		return;
	u->in_eof = true;
	if (u->phase == UP_DRAIN)
		drain_end(u);
	else
		upload_step(u);
}
