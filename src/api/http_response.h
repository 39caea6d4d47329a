/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_response.h: a response of HTTP/1.1 as a server inside a sandbox sends it, which is hostile
 * input: strict, bounded, and fed in pieces of any size.
 */
#ifndef BRIG_API_HTTP_RESPONSE_H
#define BRIG_API_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define RESPONSE_HEAD_MAX 65536u
#define RESPONSE_HEADERS_MAX 100u
/* A line of a chunked body: size and extensions. */
#define RESPONSE_LINE_MAX 4096u
#define RESPONSE_TRAILER_MAX 8192u

enum response_next {
	RESPONSE_MORE, /* append, then ask again */
	RESPONSE_HEAD, /* the head is complete; interim answers (1xx but 101) are passed over */
	RESPONSE_DATA, /* *ret_n bytes at the buffer's head are body: response_took() some or all of
			  them */
	RESPONSE_END,  /* the body is complete; what follows belongs to an upgrade, or means nothing
			*/
	RESPONSE_BAD,  /* err says why */
};

struct response_header {
	const char *name, *value;
};

struct response {
	int state;
	bool no_body;	  /* answer to HEAD: set by the caller before the first call */
	bool may_upgrade; /* 101 is an answer: likewise */
	unsigned status;
	char *head; /* whole head, cut into strings */
	struct response_header headers[RESPONSE_HEADERS_MAX];
	unsigned nheaders;
	bool chunked;
	int64_t length; /* of the body, -1 = to be seen at its end */
	uint64_t left;	/* of body or chunk */
	size_t trailer;
	unsigned interims;
};

void response_init(struct response *h);
void response_done(struct response *h);
enum response_next response_next(struct response *h, struct buf *in, bool eof, size_t *ret_n,
				 struct brig_err *err);
/* Takes n bytes of the data that RESPONSE_DATA told of out of the buffer. */
void response_took(struct response *h, struct buf *in, size_t n);
/* First value, or NULL. */
const char *response_header(const struct response *h, const char *name);
/* Whether a name is in a comma-separated list of tokens, as in Connection. */
bool header_list_has(const char *list, const char *token);

#endif
