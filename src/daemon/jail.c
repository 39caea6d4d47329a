/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in brigd, without privilege; the peer is brig-jaild, which is trusted with the host. Its
 * answers are checked all the same (size by verb, known sequence number), because a confused peer
 * must show as a lost link and not as memory corruption.
 *
 * A request that the socket has no room for waits in a queue with duplicates of its descriptors and
 * goes out in order. The queue and the table of pending requests are bounded; one more is -EBUSY,
 * which the client sees as `busy`.
 */
#include "daemon/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

/* Answers handled in one round, so that a busy link cannot starve the clients. */
#define ANSWERS_PER_ROUND 64

struct jail_queued {
	struct jail_queued *next;
	size_t n;
	unsigned nfds;
	int fds[FD_MSG_MAX];
	union {
		struct jail_hello hello;
		struct jail_image image;
		struct jail_spec spec;
		struct jail_ref ref;
		struct jail_list list;
		struct jail_volume_ask volume;
	} msg;
};

static void queued_free(struct jail_queued *q)
{
	for (unsigned i = 0; i < q->nfds; i++)
		fd_close(&q->fds[i]);
	free(q);
}

void jail_link_lose(struct jail_link *l, const char *why)
{
	if (l->fd < 0)
		return;
	ev_io_del(l->ev, &l->io);
	fd_close(&l->fd);
	if (l->lost)
		l->lost(l->ctx, why);
}

static void queue_drop(struct jail_link *l)
{
	while (l->queue) {
		struct jail_queued *q = l->queue;
		l->queue = q->next;
		queued_free(q);
	}
	l->queue_end = &l->queue;
	l->nqueued = 0;
}

static size_t answer_size(uint32_t verb)
{
	switch (verb) {
	case JAIL_OK:
		return sizeof(struct jail_ref);
	case JAIL_ERROR:
		return sizeof(struct jail_error);
	case JAIL_HELLO_OK:
		return sizeof(struct jail_hello);
	case JAIL_STATS_IS:
		return sizeof(struct jail_stats);
	case JAIL_GONE:
		return sizeof(struct jail_gone);
	case JAIL_RECEIPT_IS:
		return sizeof(struct jail_receipt);
	case JAIL_BOX_IS:
		return sizeof(struct jail_box);
	case JAIL_LINK:
		return sizeof(struct jail_link_is);
	case JAIL_VOLUME_IS:
		return sizeof(struct jail_volume_is);
	default:
		return 0;
	}
}

/* The answers that a request may get, and whether more follow. */
static bool answer_fits(uint32_t request, uint32_t answer, bool *last)
{
	*last = true;
	if (answer == JAIL_ERROR)
		return true;
	switch (request) {
	case JAIL_HELLO:
		return answer == JAIL_HELLO_OK;
	case JAIL_CREATE:
		*last = answer != JAIL_LINK;
		return answer == JAIL_OK || answer == JAIL_LINK;
	case JAIL_IMAGE:
	case JAIL_PEER:
	case JAIL_PAUSE:
	case JAIL_RESUME:
		return answer == JAIL_OK;
	case JAIL_STATS:
	case JAIL_MEASURE:
		return answer == JAIL_STATS_IS;
	case JAIL_RECEIPT:
		return answer == JAIL_RECEIPT_IS;
	case JAIL_VOLUME:
		return answer == JAIL_VOLUME_IS;
	case JAIL_LIST:
		return answer == JAIL_BOX_IS;
	case JAIL_DESTROY:
		*last = answer == JAIL_GONE;
		return answer == JAIL_STATS_IS || answer == JAIL_GONE;
	default:
		return false;
	}
}

static int answer_handle(struct jail_link *l, union jail_answer *a, size_t n)
{
	if (n < sizeof(a->h) || n != answer_size(a->h.verb))
		return -EPROTO;
	if (a->h.verb == JAIL_ERROR) {
		a->error.msg[sizeof(a->error.msg) - 1] = '\0';
		a->error.remedy[sizeof(a->error.remedy) - 1] = '\0';
	}
	if (a->h.verb == JAIL_STATS_IS)
		a->stats.id[sizeof(a->stats.id) - 1] = '\0';
	if (a->h.verb == JAIL_BOX_IS)
		a->box.id[sizeof(a->box.id) - 1] = '\0';
	if (a->h.verb == JAIL_GONE)
		a->gone.id[sizeof(a->gone.id) - 1] = '\0';
	if (a->h.seq == 0) {
		if (a->h.verb == JAIL_STATS_IS && l->figures)
			l->figures(l->ctx, &a->stats);
		else if (a->h.verb == JAIL_GONE && l->gone)
			l->gone(l->ctx, &a->gone);
		else
			return -EPROTO;
		return 0;
	}
	struct jail_pending *p = &l->pending[a->h.seq % JAIL_PENDING_MAX];
	bool last;
	if (p->verb == 0 || p->seq != a->h.seq || !answer_fits(p->verb, a->h.verb, &last))
		return -EPROTO;
	jail_answer_fn fn = p->fn;
	void *ctx = p->ctx;
	if (last) {
		p->verb = 0;
		l->npending--;
	}
	fn(ctx, a);
	return 0;
}

static int queue_flush(struct jail_link *l)
{
	while (l->queue) {
		struct jail_queued *q = l->queue;
		int r = fd_send(l->fd, &q->msg, q->n, q->fds, q->nfds);
		if (r == -EAGAIN)
			return 0;
		if (r < 0)
			return r;
		l->queue = q->next;
		if (!l->queue)
			l->queue_end = &l->queue;
		l->nqueued--;
		queued_free(q);
	}
	return ev_io_set(l->ev, l->io, EPOLLIN);
}

static void link_event(void *ctx, uint32_t events)
{
	struct jail_link *l = ctx;
	if ((events & EPOLLOUT) && queue_flush(l) < 0) {
		jail_link_lose(l, "brig-jaild takes no requests");
		return;
	}
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	for (int i = 0; i < ANSWERS_PER_ROUND; i++) {
		union jail_answer a;
		unsigned nfds = 1;
		ssize_t n = fd_recv(l->fd, &a, sizeof(a), &l->answer_fd, &nfds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n == sizeof(a.hello) && a.h.verb == JAIL_HELLO_OK && l->answer_fd >= 0 && l->packets)
			l->packets(l->ctx, fd_steal(&l->answer_fd));
		if (n <= 0) {
			/* ECONNRESET: it ended with requests of ours unread. */
			jail_link_lose(l, n == 0 || n == -ECONNRESET ? "brig-jaild ended"
								: "cannot read from brig-jaild");
			return;
		}
		int r = answer_handle(l, &a, (size_t)n);
		fd_close(&l->answer_fd);
		if (r < 0) {
			jail_link_lose(l, "brig-jaild broke the protocol");
			return;
		}
		if (l->fd < 0)
			return;
	}
}

static int link_use(struct jail_link *l, int fd)
{
	l->fd = fd;
	/* A CREATE message is 9 KiB; room for a burst of them. */
	int room = 1024 * 1024;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	int r = fd_set_nonblock(fd, 1);
	return r < 0 ? r : ev_io_add(l->ev, fd, EPOLLIN, link_event, l, &l->io);
}

int jail_link_init(struct jail_link *l, struct ev *ev, int fd)
{
	*l = (struct jail_link){ .ev = ev, .fd = fd, .answer_fd = -1 };
	l->queue_end = &l->queue;
	l->pending = calloc(JAIL_PENDING_MAX, sizeof(*l->pending));
	return l->pending ? link_use(l, fd) : -ENOMEM;
}

int jail_link_renew(struct jail_link *l, int fd)
{
	queue_drop(l);
	int r = link_use(l, fd);
	if (r < 0)
		fd_close(&l->fd);
	return r;
}

void jail_fail_all(struct jail_link *l, const char *why)
{
	union jail_answer a = { .error = { .h = { .verb = JAIL_ERROR }, .code = BRIG_E_UNAVAILABLE } };
	snprintf(a.error.msg, sizeof(a.error.msg), "%s", why);
	snprintf(a.error.remedy, sizeof(a.error.remedy), "try again");
	queue_drop(l);
	/* The oldest first. */
	for (uint32_t i = 1; i <= JAIL_PENDING_MAX && l->npending; i++) {
		struct jail_pending *p = &l->pending[(l->seq + i) % JAIL_PENDING_MAX];
		if (!p->verb)
			continue;
		a.h.seq = p->seq;
		p->verb = 0;
		l->npending--;
		p->fn(p->ctx, &a);
	}
}

void jail_link_done(struct jail_link *l)
{
	if (l->fd >= 0)
		ev_io_del(l->ev, &l->io);
	fd_close(&l->fd);
	queue_drop(l);
	free(l->pending);
	l->pending = NULL;
}

static int queue_add(struct jail_link *l, const void *msg, size_t n, const int *fds, unsigned nfds)
{
	if (l->nqueued >= JAIL_QUEUE_MAX)
		return -EBUSY;
	struct jail_queued *q = malloc(sizeof(*q));
	if (!q || n > sizeof(q->msg) || nfds > FD_MSG_MAX) {
		free(q);
		return q ? -EMSGSIZE : -ENOMEM;
	}
	q->next = NULL;
	q->n = n;
	q->nfds = 0;
	memcpy(&q->msg, msg, n);
	for (unsigned i = 0; i < nfds; i++) {
		q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (q->fds[i] < 0) {
			int e = -errno;
			queued_free(q);
			return e;
		}
		q->nfds++;
	}
	int r = l->queue ? 0 : ev_io_set(l->ev, l->io, EPOLLIN | EPOLLOUT);
	if (r < 0) {
		queued_free(q);
		return r;
	}
	*l->queue_end = q;
	l->queue_end = &q->next;
	l->nqueued++;
	return 0;
}

/* A sequence number whose place in the table is free; 0 is kept for unasked messages. */
static struct jail_pending *pending_take(struct jail_link *l)
{
	if (l->npending >= JAIL_PENDING_MAX)
		return NULL;
	for (;;) {
		uint32_t seq = ++l->seq;
		struct jail_pending *p = &l->pending[seq % JAIL_PENDING_MAX];
		if (seq != 0 && p->verb == 0) {
			p->seq = seq;
			return p;
		}
	}
}

int jail_call(struct jail_link *l, void *msg, size_t n, const int *fds, unsigned nfds,
	      jail_answer_fn fn, void *ctx)
{
	struct jail_hdr *h = msg;
	if (l->fd < 0)
		return -EPIPE;
	struct jail_pending *p = pending_take(l);
	if (!p)
		return -EBUSY;
	h->seq = p->seq;
	int r = l->queue ? -EAGAIN : fd_send(l->fd, msg, n, fds, nfds);
	if (r == -EAGAIN)
		r = queue_add(l, msg, n, fds, nfds);
	if (r < 0)
		return r == -ECONNRESET ? -EPIPE : r;
	p->verb = h->verb;
	p->fn = fn;
	p->ctx = ctx;
	l->npending++;
	return 0;
}

void jail_forget(struct jail_link *l, uint32_t seq)
{
	struct jail_pending *p = &l->pending[seq % JAIL_PENDING_MAX];
	if (seq == 0 || p->verb == 0 || p->seq != seq)
		return;
	p->verb = 0;
	l->npending--;
}

void jail_error_to(const union jail_answer *a, struct brig_err *err)
{
	if (a->h.verb != JAIL_ERROR) {
		brig_err_set(err, BRIG_E_INTERNAL, 0, "unexpected answer of brig-jaild");
		return;
	}
	/* msg already ends with the text of sys, so that errno is not added again. */
	brig_err_set(err, (enum brig_code)a->error.code, 0, "%s", a->error.msg);
	err->sys = a->error.sys;
	if (a->error.remedy[0])
		brig_err_remedy(err, "%s", a->error.remedy);
}
