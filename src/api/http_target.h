/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_target.h: the target of a request line, "/path?query", taken apart.
 *
 * Only the form that begins with a slash is understood. A full URL would bring a second host beside
 * the Host header, and requests are routed by that.
 */
#ifndef BRIG_API_HTTP_TARGET_H
#define BRIG_API_HTTP_TARGET_H

#include <stddef.h>

#include "base/err.h"

#define HTTP_TARGET_ARGS_MAX 256u

struct http_target_arg {
	const char *name, *value;
};

struct http_target {
	char *raw;	   /* as it came */
	char *path;	   /* decoded, NUL-terminated, holds no other NUL */
	const char *query; /* in raw, behind the '?'; "" if none */
	char *text;	   /* decoded arguments, into which args point */
	struct http_target_arg *args;
	unsigned nargs;
};

/* 0, or -1 with BRIG_E_INVALID for a malformed target and BRIG_E_EXHAUSTED without memory. Whatever
 * it returns, t may and must be given to http_target_done(). */
int http_target_parse(struct http_target *t, const char *raw, struct brig_err *err);
void http_target_done(struct http_target *t);
/* First argument of that name, "" if it has no value, NULL if absent. */
const char *http_target_arg(const struct http_target *t, const char *name);

#endif
