/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One datagram, one message; every field is checked, although brigd has checked it, since the text
 * of a policy is a tenant's. Answers wait in a queue when brigd does not read, and then no request
 * is read either, so that the queue is bounded by what one request can cause. Records of refusals
 * are never queued. The end of the channel is the end of the process: without brigd there is nobody
 * who could change or take back what was allowed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "net/control.h"
#include "net/gw.h"

struct out_msg {
	struct out_msg *next;
	size_t n;
	uint8_t bytes[];
};

#define QUEUE_MAX 64u

static void want(struct gw *g)
{
	uint32_t events = g->queue ? EPOLLOUT : EPOLLIN;
	if (ev_io_set(&g->ev, g->control_io, events) < 0)
		g->quit = true;
}

static void queue_flush(struct gw *g)
{
	while (g->queue) {
		struct out_msg *m = g->queue;
		if (send(g->control_fd, m->bytes, m->n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			if (errno != EAGAIN && errno != ENOBUFS)
				g->quit = true;
			return;
		}
		g->queue = m->next;
		if (!g->queue)
			g->queue_end = &g->queue;
		g->nqueued--;
		free(m);
	}
}

void control_send(struct gw *g, const void *msg, size_t n, bool keep)
{
	const struct egress_hdr *h = msg;
	if (!g->queue && send(g->control_fd, msg, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n) {
		if (h->verb == EGRESS_DENIAL)
			g->lost = 0;
		return;
	}
	if (!keep) {
		g->lost++;
		return;
	}
	struct out_msg *m = g->nqueued < QUEUE_MAX ? malloc(sizeof(*m) + n) : NULL;
	if (!m) {
		/* brigd would wait for ever for what got lost here. */
		g->quit = true;
		g->exit_code = 1;
		return;
	}
	m->next = NULL;
	m->n = n;
	memcpy(m->bytes, msg, n);
	*g->queue_end = m;
	g->queue_end = &m->next;
	g->nqueued++;
}

static void fail(struct gw *g, uint32_t seq, const char *id, const struct brig_err *err)
{
	struct egress_error m = { .h = { .verb = EGRESS_ERROR, .seq = seq }, .code = err->code };
	snprintf(m.id, sizeof(m.id), "%s", id);
	snprintf(m.msg, sizeof(m.msg), "%.383s", err->msg);
	snprintf(m.remedy, sizeof(m.remedy), "%s", err->remedy);
	control_send(g, &m, sizeof(m), true);
}

static void on_lease(struct gw *g, const struct egress_lease *m, const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct egress_applied a = { .h = { .verb = EGRESS_APPLIED, .seq = m->h.seq },
				    .generation = m->generation };
	if (lease_set(g, m, text, &a.cut, &err) < 0) {
		fail(g, m->h.seq, m->id, &err);
		return;
	}
	strcpy(a.id, m->id);
	log_line(&g->log, LOG_DEBUG, m->id, "policy %llu applies, %llu connections cut",
		 (unsigned long long)a.generation, (unsigned long long)a.cut);
	control_send(g, &a, sizeof(a), true);
}

static void on_ref(struct gw *g, const struct egress_ref *m)
{
	struct net_lease *l = lease_find(g, m->id);
	if (l) {
		struct egress_figures f = { .h = { .verb = EGRESS_FIGURES, .seq = m->h.seq } };
		lease_figures(l, &f);
		if (m->h.verb == EGRESS_REMOVE)
			lease_free(l);
		control_send(g, &f, sizeof(f), true);
	} else if (m->h.verb == EGRESS_ASK) {
		struct brig_err err = BRIG_ERR_INIT;
		brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "no lease of this sandbox");
		fail(g, m->h.seq, m->id, &err);
	}
	if (m->h.verb == EGRESS_REMOVE) {
		struct egress_ref gone = *m;
		gone.h.verb = EGRESS_GONE;
		control_send(g, &gone, sizeof(gone), true);
	}
}

static void control_event(void *ctx, uint32_t events)
{
	static union {
		struct egress_hdr h;
		struct egress_lease lease;
		struct egress_ref ref;
		uint8_t bytes[EGRESS_MSG_MAX + 1];
	} m;
	struct gw *g = ctx;
	(void)events;
	queue_flush(g);
	while (!g->queue && !g->quit) {
		ssize_t n = recv(g->control_fd, m.bytes, sizeof(m.bytes), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			log_line(&g->log, LOG_INFO, NULL, "brigd has ended; ending");
			g->quit = true;
			return;
		}
		struct brig_err err = BRIG_ERR_INIT;
		if (control_check(m.bytes, (size_t)n, &err) < 0) {
			fail(g, (size_t)n >= sizeof(m.h) ? m.h.seq : 0, "", &err);
			continue;
		}
		if (m.h.verb == EGRESS_LEASE)
			on_lease(g, &m.lease, (const char *)m.bytes + sizeof(m.lease));
		else
			on_ref(g, &m.ref);
	}
	want(g);
}

int control_open(struct gw *g, int fd, struct brig_err *err)
{
	/* Whole policies come in one datagram; answers should not wait for brigd's next round. */
	const int room = 1 << 20;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	g->queue_end = &g->queue;
	g->control_fd = fd;
	int r = fd_set_nonblock(fd, 1);
	if (r == 0)
		r = ev_io_add(&g->ev, fd, EPOLLIN, control_event, g, &g->control_io);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "the control channel") : 0;
}

void control_done(struct gw *g)
{
	ev_io_del(&g->ev, &g->control_io);
	while (g->queue) {
		struct out_msg *m = g->queue;
		g->queue = m->next;
		free(m);
	}
}
