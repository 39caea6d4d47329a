/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolvwatch.h: the host's name servers as they change. brig-egress reads /etc/resolv.conf when it starts
 * and may open no file afterwards, so its supervisor looks, and sends it the text when it is another.
 */
#ifndef BRIG_CLI_RESOLVWATCH_H
#define BRIG_CLI_RESOLVWATCH_H

#include <stddef.h>

#define RESOLV_TEXT_MAX 8192u

struct resolvwatch {
	int inotify; /* -1 = nothing is watched */
	int to;	     /* brig-egress's socket, ours to close; -1 */
	size_t n;
	char text[RESOLV_TEXT_MAX]; /* as it was told last, or was read at its start */
};
#define RESOLVWATCH_NONE              \
	{                             \
		.inotify = -1, .to = -1 \
	}

/* Before brig-egress starts: *ret is its end of a socket, the caller's to close. -1: it has to do with what it
 * reads at its start. */
int resolvwatch_open(struct resolvwatch *w, int *ret);
/* w->inotify is readable. */
void resolvwatch_work(struct resolvwatch *w);
void resolvwatch_close(struct resolvwatch *w);

#endif
