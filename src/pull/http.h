/* SPDX-License-Identifier: Apache-2.0 */
/* http.h: one GET at a time, with bounds on everything that a server could make grow. */
#ifndef BRIG_PULL_HTTP_H
#define BRIG_PULL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HTTP_URL_MAX 8192
#define HTTP_FIELD_MAX 4096

struct http;

struct http_options {
	const char *ca;	      /* PEM certificates, instead of the system's; NULL = none */
	size_t ca_n;
	bool insecure_tls;    /* any certificate will do */
	bool plain_http;      /* http:// is allowed */
	long stall_s;	      /* so long may less than 1000 bytes a second come */
};

struct http_answer {
	long status;
	char challenge[HTTP_FIELD_MAX]; /* the first WWW-Authenticate; "" = none */
	char type[160];			/* Content-Type, without parameters */
	char next[HTTP_URL_MAX];	/* where a redirection leads; "" = nowhere */
};

struct http_ask {
	const char *url;
	const char *accept;	   /* NULL = anything */
	const char *authorization; /* the whole value; NULL = none */
	uint64_t from;		   /* a part: the bytes from here on */
	/* Gets the body of an answer with status 200 or 206; what others carry is dropped. Begins with
	 * restart = true if the answer is not the part that was asked for. -1 with *err ends it. */
	int (*take)(void *ctx, bool restart, const void *data, size_t n, struct brig_err *err);
	void *ctx;
};

int http_new(const struct http_options *o, struct http **ret, struct brig_err *err);
void http_free(struct http *h);
/* 0: there is an answer, whatever its status. -1: there is none, or it was broken off;
 * BRIG_E_UNAVAILABLE: another try may help. Follows nothing. */
int http_get(struct http *h, const struct http_ask *ask, struct http_answer *ret,
	     struct brig_err *err);
/* Do both lead to the same scheme, host and port? */
bool http_same_origin(const char *a, const char *b);
/* To be freed; NULL for lack of memory. */
char *http_escape(const char *text);

#endif
