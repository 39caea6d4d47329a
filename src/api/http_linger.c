/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A socket that is closed while bytes of its client are unread, or still come, is reset by the
 * kernel, and a reset makes the client throw away an answer that it has not read yet (RFC 9112,
 * 9.6). So when the library closes a connection whose request was not read to its end, a duplicate
 * of the descriptor stays here: our direction is shut down already, what comes is thrown away until
 * the client closes, too, or has had its time or its bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_conn.h"
#include "base/clock.h"
#include "base/fd.h"

#define LINGERS_MAX 128u
#define LINGER_MS 3000u
#define LINGER_BYTES (64u * 1024u * 1024u)
#define READS_PER_ROUND 16

struct http_linger {
	LIST_ENTRY(http_linger) all;
	struct http *h;
	int fd;
	struct ev_io io;
	struct ev_timer deadline;
	size_t bytes;
};

static void linger_free(void *ctx)
{
	struct http_linger *l = ctx;
	ev_io_del(l->h->ev, &l->io);
	ev_timer_stop(l->h->ev, &l->deadline);
	fd_close(&l->fd);
	LIST_REMOVE(l, all);
	l->h->nlingers--;
	free(l);
}

static void linger_event(void *ctx, uint32_t events)
{
	struct http_linger *l = ctx;
	static char junk[65536];
	(void)events;
	for (int i = 0; i < READS_PER_ROUND; i++) {
		ssize_t n = recv(l->fd, junk, sizeof(junk), MSG_DONTWAIT);
		if (n > 0) {
			l->bytes += (size_t)n;
			if (l->bytes <= LINGER_BYTES)
				continue;
		} else if (n < 0 && errno == EAGAIN) {
			return;
		}
		linger_free(l);
		return;
	}
}

void http_linger(struct http *h, int fd)
{
	struct http_linger *l = h->nlingers < LINGERS_MAX ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return;
	l->h = h;
	l->deadline = (struct ev_timer){ .fn = linger_free, .ctx = l };
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	LIST_INSERT_HEAD(&h->lingers, l, all);
	h->nlingers++;
	if (l->fd < 0 || ev_io_add(h->ev, l->fd, EPOLLIN, linger_event, l, &l->io) < 0 ||
	    ev_timer_set(h->ev, &l->deadline, clock_now() + LINGER_MS * MS_NS) < 0)
		linger_free(l);
}

void http_lingers_end(struct http *h)
{
	for (struct http_linger *l = LIST_FIRST(&h->lingers), *next; l; l = next) {
		next = LIST_NEXT(l, all);
		linger_free(l);
	}
}
