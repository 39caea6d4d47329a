/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Clients that find no room wait in the kernel's queue: the socket stays in the loop without events
 * until acceptor_resume(). Where the process has no descriptor or the kernel no memory, it is left
 * alone for a moment, because it would show an event all the time.
 */
#include "api/acceptor.h"

#include <errno.h>

#include "base/clock.h"
#include "base/fd.h"

#define PER_ROUND 64u
#define AGAIN_MS 100u

static void accept_some(void *ctx, uint32_t events)
{
	struct acceptor *a = ctx;
	(void)events;
	for (unsigned i = 0; i < PER_ROUND; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t n = sizeof(peer);
		a->full = !a->room(a->ctx);
		if (a->full) {
			(void)ev_io_set(a->ev, a->io, 0);
			return;
		}
		int fd = accept4(a->fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			a->accepted(a->ctx, fd, (const struct sockaddr *)&peer, n);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			(void)ev_io_set(a->ev, a->io, 0);
			(void)ev_timer_set(a->ev, &a->again, clock_now() + AGAIN_MS * MS_NS);
			return;
		}
		if (errno == EAGAIN)
			return;
		/* Of this client alone (accept(2)): the next may be better. */
	}
}

static void accept_again(void *ctx)
{
	struct acceptor *a = ctx;
	if (!a->full)
		(void)ev_io_set(a->ev, a->io, EPOLLIN);
}

int acceptor_open(struct acceptor *a, struct ev *ev, int fd)
{
	int r = ev_io_add(ev, fd, EPOLLIN, accept_some, a, &a->io);
	a->ev = ev;
	a->fd = r < 0 ? -1 : fd;
	a->full = false;
	a->again = (struct ev_timer){ .fn = accept_again, .ctx = a };
	return r;
}

void acceptor_resume(struct acceptor *a)
{
	if (a->full && a->fd >= 0) {
		a->full = false;
		(void)ev_io_set(a->ev, a->io, EPOLLIN);
	}
}

void acceptor_close(struct acceptor *a)
{
	if (a->fd < 0)
		return;
	ev_timer_stop(a->ev, &a->again);
	ev_io_del(a->ev, &a->io);
	fd_close(&a->fd);
}
