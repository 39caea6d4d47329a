/* SPDX-License-Identifier: Apache-2.0 */
/* url.h: BRIG_URL: http[s]://HOST[:PORT][/PATH], and nothing else that a URL may have. */
#ifndef BRIG_REMOTE_URL_H
#define BRIG_REMOTE_URL_H

#include <stdbool.h>

#include "base/err.h"

#define URL_MAX 1024u

struct url {
	bool tls;
	bool loopback;	    /* the host is this machine, by its name alone */
	char host[256];	    /* as in Host: with brackets if an IPv6 address, with :PORT if given */
	char path[URL_MAX]; /* before the route's own; "" or "/..", never ending with '/' */
	char base[URL_MAX]; /* scheme and host, for libcurl */
};

/* 0, or -1 with err, which says what is wrong and never repeats a password. */
int url_parse(const char *text, struct url *ret, struct brig_err *err);

#endif
