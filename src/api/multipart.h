/* SPDX-License-Identifier: Apache-2.0 */
/*
 * multipart.h: multipart/form-data (RFC 7578) as it comes, in pieces of any size. The caller owns
 * the bytes: it appends what arrives to a buffer, asks what is next, and takes the data of a part
 * out of it at its own pace. Nothing of a part's data is kept or copied here.
 */
#ifndef BRIG_API_MULTIPART_H
#define BRIG_API_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define MULTIPART_NAME_MAX 256u
#define MULTIPART_FILENAME_MAX 4096u
/* Headers of one part. */
#define MULTIPART_HEAD_MAX 16384u
/* What the buffer must be able to hold for the parser to get on. */
#define MULTIPART_WINDOW (MULTIPART_HEAD_MAX + 512u)

enum multipart_next {
	MULTIPART_MORE, /* append, then ask again */
	MULTIPART_PART, /* a part begins: name and filename are set */
	MULTIPART_DATA, /* *ret_n bytes at the buffer's head are data: consume some or all of them
			 */
	MULTIPART_PART_END, /* and that was all of it */
	MULTIPART_END,	    /* the last boundary was there; what follows means nothing */
	MULTIPART_BAD,	    /* err says why */
};

struct multipart {
	char delim[80]; /* CR LF "--" boundary */
	size_t delim_n;
	int state;
	char name[MULTIPART_NAME_MAX];
	char filename[MULTIPART_FILENAME_MAX];
	bool has_filename;
};

/* content_type: "multipart/form-data; boundary=.."; -1: it is none, or has no good boundary. */
int multipart_init(struct multipart *m, const char *content_type, struct brig_err *err);
/* eof: nothing will be appended. */
enum multipart_next multipart_next(struct multipart *m, struct buf *in, bool eof, size_t *ret_n,
				   struct brig_err *err);

#endif
