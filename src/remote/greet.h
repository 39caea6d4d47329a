/* SPDX-License-Identifier: Apache-2.0 */
/* greet.h: the one HTTP exchange of a connection: the request to be upgraded, and the answer. */
#ifndef BRIG_REMOTE_GREET_H
#define BRIG_REMOTE_GREET_H

#include <stdbool.h>

#include "api/http_response.h"
#include "base/buf.h"
#include "base/err.h"
#include "remote/url.h"

#define GREET_PROTOCOL "brig/1"
/* Head and body of a refusal. */
#define GREET_ANSWER_MAX (RESPONSE_HEAD_MAX + 65536u)

/* Appends the request; the key is known to have no control characters. 0 or -errno. */
int greet_request(struct buf *out, const struct url *u, const char *key);

/* Appends the head of another request, whose body of n bytes follows. method and path are brig's own. The
 * server closes behind its answer. 0 or -errno. */
int greet_call(struct buf *out, const struct url *u, const char *key, const char *method,
	       const char *path, size_t n);

struct greet {
	struct response head;
	bool have_head;
	struct buf body;
};
void greet_init(struct greet *g);
void greet_done(struct greet *g);
/* Takes what has come. 1: the connection is brig's from here on, and what is left in `in` are its
 * first bytes; 0: more is needed; -1: refused, or no brig server: err. eof: nothing more comes. */
int greet_answer(struct greet *g, struct buf *in, bool eof, struct brig_err *err);

/* An API key as it was given: without the white space at its end; -1 with err if it cannot be one.
 */
int greet_key(char *key, struct brig_err *err);

#endif
