/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * flow_step does everything that can be done without waiting, in both directions (flow_move.c),
 * and then tells the loop what it waits for. A descriptor from which nothing is wanted is not
 * registered at all: its hang-up would be reported again and again.
 */
#include "net/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define LOOK_NS (10 * SEC_NS)
#define TRY_NS (5 * SEC_NS)
#define LAST_WORDS_NS (3 * SEC_NS)
#define IDLE_NS (7200 * SEC_NS)
#define HALF_NS (600 * SEC_NS) /* one side has ended */

static void set_events(struct flow *f, int fd, struct ev_io *io, uint32_t *now, uint32_t want,
		       ev_io_fn fn)
{
	struct ev *ev = &f->gw->ev;
	int r = 0;
	if (*now == want)
		return;
	if (want == 0)
		ev_io_del(ev, io);
	else if (*now == 0)
		r = ev_io_add(ev, fd, want, fn, f, io);
	else
		r = ev_io_set(ev, *io, want);
	*now = want;
	if (r < 0)
		flow_close(f, true);
}

static void bury(void *ctx)
{
	struct gw *g = ctx;
	while (g->dead) {
		struct flow *f = g->dead;
		g->dead = f->next;
		free(f->buf);
		free(f->reply);
		free(f);
	}
}

void flow_up_close(struct flow *f)
{
	name_unwait(&f->wait);
	ev_io_del(&f->gw->ev, &f->uio);
	f->uev = 0;
	fd_close(&f->ufd);
	f->up = UP_NONE;
	f->ntries = f->try = 0;
	f->other_family = false;
	f->tried = 0;
}

void flow_close(struct flow *f, bool reset)
{
	struct gw *g = f->gw;
	const struct linger hard = { .l_onoff = 1, .l_linger = 0 };
	if (f->over)
		return;
	f->over = true;
	if (reset) {
		setsockopt(f->cfd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		if (f->ufd >= 0)
			setsockopt(f->ufd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	}
	flow_up_close(f);
	ev_io_del(&g->ev, &f->cio);
	fd_close(&f->cfd);
	ev_timer_stop(&g->ev, &f->timer);
	pump_done(g, &f->to_up);
	pump_done(g, &f->to_client);
	*f->pprev = f->next;
	if (f->next)
		f->next->pprev = f->pprev;
	f->l->connections--;
	g->nflows--;
	f->next = g->dead;
	g->dead = f;
	ev_task_queue(&g->ev, &g->bury);
}

void flow_arm(struct flow *f)
{
	uint64_t at = f->last + (f->to_up.shut || f->to_client.shut ? HALF_NS : IDLE_NS);
	if (f->over)
		return;
	if (f->refused)
		at = f->last + LAST_WORDS_NS;
	else if (f->up == UP_CONNECTING)
		at = f->tried + TRY_NS;
	else if (f->out == OUT_LOOK && f->up == UP_NONE)
		at = f->born + LOOK_NS;
	if (ev_timer_set(&f->gw->ev, &f->timer, at) < 0)
		flow_close(f, true);
}

static void timer(void *ctx)
{
	struct flow *f = ctx;
	uint64_t idle = f->to_up.shut || f->to_client.shut ? HALF_NS : IDLE_NS;
	if (f->refused) {
		flow_close(f, false);
	} else if (f->up == UP_CONNECTING && f->gw->ev.now >= f->tried + TRY_NS) {
		flow_connect_next(f, "no answer");
		flow_step(f);
	} else if (f->out == OUT_LOOK && f->up == UP_NONE && f->gw->ev.now >= f->born + LOOK_NS) {
		if (!flow_look(f, true))
			flow_refuse_as(f, EGRESS_R_NO_NAME);
		flow_step(f);
	} else if (f->up != UP_RESOLVING && f->gw->ev.now >= f->last + idle) {
		flow_close(f, true);
	} else {
		flow_arm(f);
	}
}

/* ---- the loop ---- */

static void up_event(void *ctx, uint32_t events)
{
	struct flow *f = ctx;
	if (f->up == UP_CONNECTING) {
		flow_connected(f);
	} else if (events & EPOLLERR) {
		flow_close(f, true);
		return;
	}
	flow_step(f);
}

static void client_event(void *ctx, uint32_t events)
{
	struct flow *f = ctx;
	if (events & EPOLLERR)
		flow_client_lost(f);
	else
		flow_step(f);
}

void flow_step(struct flow *f)
{
	struct flow_wants w = { .cr = false };
	enum flow_out before;
	do {
		if (f->over)
			return;
		w = (struct flow_wants){ .cr = false };
		before = f->out;
		flow_out_run(f, &w);
		flow_in_run(f, &w);
		/* An answer that was seen lets the sandbox go on. */
	} while (!f->over && !f->refused && before == OUT_ANSWER && f->out != OUT_ANSWER);
	if (f->over)
		return;
	if (f->refused) {
		w = (struct flow_wants){ .cr = false };
		flow_last_words(f, &w);
		if (f->over)
			return;
	} else if (f->to_up.shut && f->to_client.shut) {
		flow_close(f, false);
		return;
	}
	set_events(f, f->cfd, &f->cio, &f->cev, (w.cr ? EPOLLIN : 0u) | (w.cw ? EPOLLOUT : 0u),
		   client_event);
	if (f->over || f->ufd < 0)
		return;
	uint32_t want = (w.ur ? EPOLLIN : 0u) | (w.uw ? EPOLLOUT : 0u);
	set_events(f, f->ufd, &f->uio, &f->uev, f->up == UP_CONNECTING ? EPOLLOUT : want, up_event);
}

/* ---- beginning, and changes ---- */

void flows_resume(struct net_lease *l)
{
	for (struct flow *f = l->flows, *next; f; f = next) {
		next = f->next;
		if (f->paused) {
			f->paused = false;
			flow_step(f);
		}
	}
}

void flow_new(struct net_lease *l, int fd, const struct net_addr *dst, uint16_t port,
	      uint16_t source_port)
{
	struct gw *g = l->gw;
	struct flow *f = calloc(1, sizeof(*f));
	if (!f) {
		fd_close(&fd);
		return;
	}
	f->gw = g;
	f->l = l;
	f->cfd = fd;
	f->ufd = -1;
	f->dst = *dst;
	f->port = port;
	f->source_port = source_port;
	f->born = f->last = g->ev.now;
	f->timer = (struct ev_timer){ .fn = timer, .ctx = f };
	f->to_up.pipe[0] = f->to_up.pipe[1] = f->to_client.pipe[0] = f->to_client.pipe[1] = -1;
	f->next = l->flows;
	f->pprev = &l->flows;
	if (f->next)
		f->next->pprev = &f->next;
	l->flows = f;
	l->connections++;
	g->nflows++;
	g->bury.fn = bury;
	g->bury.ctx = g;
	flow_first(f);
	flow_arm(f);
	flow_step(f);
}

uint64_t flows_judge(struct net_lease *l)
{
	uint64_t cut = 0;
	for (struct flow *f = l->flows, *next; f; f = next) {
		next = f->next;
		if (!f->refused && !flow_still(f)) {
			flow_close(f, true);
			cut++;
		}
	}
	return cut;
}

void flows_cut(struct net_lease *l)
{
	while (l->flows)
		flow_close(l->flows, true);
}
