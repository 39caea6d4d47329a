/* SPDX-License-Identifier: Apache-2.0 */
/* acceptor.h: a listening socket in the loop that hands out its clients. */
#ifndef BRIG_API_ACCEPTOR_H
#define BRIG_API_ACCEPTOR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/ev.h"

struct acceptor {
	struct ev *ev;
	int fd; /* -1: closed */
	struct ev_io io;
	struct ev_timer again; /* after it could not accept */
	bool full;	       /* there was no room */
	/* Whether one more may come; asked before each. */
	bool (*room)(void *ctx);
	/* fd (nonblocking) is the callee's. */
	void (*accepted)(void *ctx, int fd, const struct sockaddr *peer, socklen_t n);
	void *ctx;
};

/* a has room, accepted and ctx. fd: bound, listening, nonblocking; taken over, not on error. 0 or
 * -errno. */
int acceptor_open(struct acceptor *a, struct ev *ev, int fd);
/* There may be room again. */
void acceptor_resume(struct acceptor *a);
/* Closes the socket; again is allowed. */
void acceptor_close(struct acceptor *a);

#endif
