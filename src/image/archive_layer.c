/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive_layer.c: a layer as registries keep it: compressed bytes with a digest, and in them an
 * archive with another one.
 *
 * Theory of operation
 * -------------------
 * Two readers of libarchive, one behind the other, because each digest is taken where its bytes
 * pass: the first takes the file's and gives what it unpacks to, as one piece of data; the second
 * takes that as an archive. Both digests are compared when everything was read, what stands behind
 * the archive's end included. Until then a tree may have been made of a lie, and is thrown away.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/archive_inner.h"
#include "image/name.h"

#define CHUNK (256 * 1024)

struct pipeline {
	const struct archive_layer *in;
	struct archive *unpacker;
	EVP_MD_CTX *blob, *diff;
	unsigned char *chunk;
	uint64_t bytes_in, bytes_out;
	bool ended;
	struct brig_err err; /* why the second reader got no more */
};

/* libarchive asks for bytes of the file. */
static la_ssize_t read_file(struct archive *a, void *ctx, const void **ret)
{
	struct pipeline *p = ctx;
	ssize_t n = fd_read_full(p->in->fd, p->chunk, CHUNK);
	if (n < 0 || (n > 0 && !EVP_DigestUpdate(p->blob, p->chunk, (size_t)n))) {
		archive_set_error(a, n < 0 ? (int)-n : ENOMEM, "the layer cannot be read");
		return -1;
	}
	p->bytes_in += (uint64_t)n;
	*ret = p->chunk;
	return n;
}

/* The second reader, or who reads on to the end, asks for what they unpack to. Returns the count, 0 at
 * the end, -1 with p->err. */
static la_ssize_t next_piece(struct pipeline *p, const void **ret)
{
	size_t n = 0;
	int64_t offset;
	while (!p->ended && n == 0) {
		int r = archive_read_data_block(p->unpacker, ret, &n, &offset);
		if (r == ARCHIVE_EOF)
			p->ended = true;
		else if (r != ARCHIVE_OK)
			return archive_fail(&p->err, p->unpacker);
	}
	if (p->ended)
		return 0;
	p->bytes_out += n;
	if (p->bytes_out > ARCHIVE_RATIO_FREE && p->bytes_out / p->in->max_ratio > p->bytes_in) {
		brig_fail(&p->err, BRIG_E_LIMIT, 0, "the layer unpacks to more than %u times its size",
			  p->in->max_ratio);
		return brig_fix(&p->err, "raise the limit with --max-ratio if this is expected");
	}
	if (!EVP_DigestUpdate(p->diff, *ret, n))
		return brig_fail(&p->err, BRIG_E_EXHAUSTED, ENOMEM, "hash the layer");
	return (la_ssize_t)n;
}

static la_ssize_t read_piece(struct archive *a, void *ctx, const void **ret)
{
	la_ssize_t n = next_piece(ctx, ret);
	if (n < 0)
		archive_set_error(a, EIO, "the layer cannot be unpacked");
	return n;
}

static int digest_check(EVP_MD_CTX *md, const char *want, const char *what, struct brig_err *err)
{
	unsigned char sum[32];
	struct image_digest d;
	if (!EVP_DigestFinal_ex(md, sum, NULL))
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "hash the layer");
	image_digest_from_bytes(sum, &d);
	if (!want[0] || strcmp(d.text + 7, want) == 0)
		return 0;
	brig_fail(err, BRIG_E_CORRUPT, 0, "%s has the digest %.19s.., not sha256:%.12s..", what, d.text,
		  want);
	return brig_fix(err, "fetch the image again; if it persists, what offers it is broken or hostile");
}

static int unpacker_open(struct pipeline *p, struct brig_err *err)
{
	struct archive_entry *e;
	struct archive *a = p->unpacker;
	if (archive_read_support_format_raw(a) != ARCHIVE_OK ||
	    archive_read_support_format_empty(a) != ARCHIVE_OK ||
	    archive_add_filters(a) != ARCHIVE_OK ||
	    archive_read_open(a, p, NULL, read_file, NULL) != ARCHIVE_OK)
		return archive_fail(err, a);
	if (archive_filter_count(a) > 2)
		return brig_fail(err, BRIG_E_INVALID, 0, "the layer is compressed more than once");
	int r = archive_read_next_header(a, &e);
	p->ended = r == ARCHIVE_EOF;
	return r == ARCHIVE_OK || p->ended ? 0 : archive_fail(err, a);
}

static int run(struct pipeline *p, struct tree *t, struct brig_err *err)
{
	const void *rest;
	la_ssize_t n;
	if (unpacker_open(p, err) < 0)
		return -1;
	struct archive *a = archive_read_new();
	if (!a || archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_support_format_empty(a) != ARCHIVE_OK) {
		archive_read_free(a);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the layer");
	}
	/* What it reads is bounded here, not by the second reader. */
	int r = archive_unpack_opened(a, archive_read_open(a, p, NULL, read_piece, NULL),
				      p->in->max_ratio, t, err);
	if (r < 0 && p->err.code != BRIG_E_OK && err)
		*err = p->err;
	if (r < 0)
		return -1;
	while ((n = next_piece(p, &rest)) > 0)
		;
	if (n < 0) {
		if (err)
			*err = p->err;
		return -1;
	}
	while ((n = fd_read_full(p->in->fd, p->chunk, CHUNK)) > 0)
		if (!EVP_DigestUpdate(p->blob, p->chunk, (size_t)n))
			return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "hash the layer");
	if (n < 0)
		return brig_fail(err, BRIG_E_CORRUPT, (int)-n, "read the layer");
	return digest_check(p->blob, p->in->blob, "the layer", err) < 0 ||
			       digest_check(p->diff, p->in->diff, "the archive in the layer", err) < 0
		       ? -1
		       : 0;
}

int archive_unpack_layer(const struct archive_layer *in, struct tree *t, struct brig_err *err)
{
	struct pipeline p = { .in = in,
			      .unpacker = archive_read_new(),
			      .blob = EVP_MD_CTX_new(),
			      .diff = EVP_MD_CTX_new(),
			      .chunk = malloc(CHUNK),
			      .err = BRIG_ERR_INIT };
	int r = p.unpacker && p.blob && p.diff && p.chunk &&
				EVP_DigestInit_ex(p.blob, EVP_sha256(), NULL) &&
				EVP_DigestInit_ex(p.diff, EVP_sha256(), NULL)
			? run(&p, t, err)
			: brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the layer");
	archive_read_free(p.unpacker);
	EVP_MD_CTX_free(p.blob);
	EVP_MD_CTX_free(p.diff);
	free(p.chunk);
	return r;
}
