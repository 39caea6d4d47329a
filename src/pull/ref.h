/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref.h: the name of an image in a registry, and what a registry answers to whom it does not know.
 *
 * Sources: the grammar of references of the distribution project (reference.go describes it), RFC 9110
 * 11.6.1 (WWW-Authenticate), the distribution project's "Token Authentication Specification".
 */
#ifndef BRIG_PULL_REF_H
#define BRIG_PULL_REF_H

#include <stddef.h>

#include "base/err.h"

struct pull_ref {
	char host[260];	 /* HOST or HOST:PORT */
	char repo[256];	 /* a/b/c */
	char what[136];	 /* a tag, or sha256:HEX */
	char digest[72]; /* sha256:HEX that the manifest must have; "" = a tag's word is taken */
};

/* [HOST[:PORT]/]NAME[:TAG][@sha256:HEX]; without HOST it is below `registry` (HOST[:PORT][/PREFIX]; NULL:
 * nobody has said which). */
int pull_ref_parse(const char *text, const char *registry, struct pull_ref *ret,
		   struct brig_err *err);
/* A name for it in the store: the last part, and the tag unless that is "latest". */
void pull_ref_name(const struct pull_ref *r, char *dst, size_t cap);

struct pull_challenge {
	enum { PULL_AUTH_NONE, PULL_AUTH_BASIC, PULL_AUTH_BEARER } kind;
	char realm[1024], service[256];
};
/* The value of one WWW-Authenticate field. -EINVAL: it is none that can be answered. */
int pull_challenge_parse(const char *text, size_t n, struct pull_challenge *ret);
/* The token in what a token server answered; -EINVAL. */
#define PULL_TOKEN_MAX 16384
int pull_token_parse(const char *text, size_t n, char ret[PULL_TOKEN_MAX]);

#endif
