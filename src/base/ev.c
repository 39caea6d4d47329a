/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Slots live in one array that doubles; unused ones form a list through `next`. A generation is
 * never 0 and grows each time a slot is given out, so a stale pair (slot, generation) cannot match
 * before 2^32 reuses of the same slot within one epoll_wait batch.
 *
 * A registration with events == 0 is taken out of the epoll set, because epoll reports EPOLLHUP and
 * EPOLLERR whether asked or not, and a paused descriptor whose peer is gone would spin the loop.
 *
 * Timers are a binary heap of pointers; each timer knows its position, so stopping one is
 * O(log n). Tasks are a queue: those queued by a task run in the next round.
 */
#include "base/ev.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define BATCH 64

struct ev_slot {
	ev_io_fn fn;
	void *ctx;
	int fd;
	uint32_t gen, events, next;
	int used;
};

int ev_init(struct ev *ev)
{
	*ev = (struct ev){ .epfd = epoll_create1(EPOLL_CLOEXEC) };
	if (ev->epfd < 0)
		return -errno;
	ev->tasks_end = &ev->tasks;
	ev->now = clock_now();
	return 0;
}

void ev_done(struct ev *ev)
{
	fd_close(&ev->epfd);
	free(ev->slots);
	free(ev->heap);
	*ev = (struct ev){ .epfd = -1 };
}

static int slots_grow(struct ev *ev)
{
	uint32_t n = ev->nslots ? ev->nslots * 2 : 16;
	struct ev_slot *s = reallocarray(ev->slots, n, sizeof(*s));
	if (!s)
		return -ENOMEM;
	for (uint32_t i = ev->nslots; i < n; i++)
		s[i] = (struct ev_slot){ .fd = -1, .next = i + 1 };
	/* The list was empty, and its end mark was the old nslots: the first new slot. */
	ev->slots = s;
	ev->nslots = n;
	return 0;
}

static struct ev_slot *slot_of(struct ev *ev, struct ev_io io)
{
	if (io.gen == 0 || io.slot >= ev->nslots)
		return NULL;
	struct ev_slot *s = &ev->slots[io.slot];
	return s->used && s->gen == io.gen ? s : NULL;
}

static int epoll_change(struct ev *ev, uint32_t slot, int op, uint32_t events)
{
	struct ev_slot *s = &ev->slots[slot];
	struct epoll_event e = { .events = events, .data.u64 = (uint64_t)s->gen << 32 | slot };
	return epoll_ctl(ev->epfd, op, s->fd, &e) == 0 ? 0 : -errno;
}

int ev_io_add(struct ev *ev, int fd, uint32_t events, ev_io_fn fn, void *ctx, struct ev_io *ret)
{
	if (ev->free >= ev->nslots) {
		int r = slots_grow(ev);
		if (r < 0)
			return r;
	}
	uint32_t slot = ev->free;
	struct ev_slot *s = &ev->slots[slot];
	uint32_t gen = s->gen + 1 ? s->gen + 1 : 1;
	uint32_t next = s->next;
	*s = (struct ev_slot){
		.fn = fn, .ctx = ctx, .fd = fd, .gen = gen, .used = 1, .next = next
	};
	if (events) {
		int r = epoll_change(ev, slot, EPOLL_CTL_ADD, events);
		if (r < 0) {
			s->used = 0;
			return r;
		}
	}
	s->events = events;
	ev->free = next;
	*ret = (struct ev_io){ .slot = slot, .gen = gen };
	return 0;
}

int ev_io_set(struct ev *ev, struct ev_io io, uint32_t events)
{
	struct ev_slot *s = slot_of(ev, io);
	if (!s)
		return -ENOENT;
	if (s->events == events)
		return 0;
	int op = !s->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	int r = epoll_change(ev, io.slot, op, events);
	if (r == 0)
		s->events = events;
	return r;
}

void ev_io_del(struct ev *ev, struct ev_io *io)
{
	struct ev_slot *s = slot_of(ev, *io);
	if (s) {
		if (s->events)
			epoll_change(ev, io->slot, EPOLL_CTL_DEL, 0);
		s->used = 0;
		s->next = ev->free;
		ev->free = io->slot;
	}
	*io = (struct ev_io){ 0 };
}

static void heap_put(struct ev *ev, size_t pos, struct ev_timer *t)
{
	ev->heap[pos] = t;
	t->pos = pos;
}

static void heap_up(struct ev *ev, size_t pos)
{
	struct ev_timer *t = ev->heap[pos];
	for (; pos > 1 && ev->heap[pos / 2]->deadline > t->deadline; pos /= 2)
		heap_put(ev, pos, ev->heap[pos / 2]);
	heap_put(ev, pos, t);
}

static void heap_down(struct ev *ev, size_t pos)
{
	struct ev_timer *t = ev->heap[pos];
	for (;;) {
		size_t kid = pos * 2;
		if (kid > ev->ntimers)
			break;
		if (kid < ev->ntimers && ev->heap[kid + 1]->deadline < ev->heap[kid]->deadline)
			kid++;
		if (ev->heap[kid]->deadline >= t->deadline)
			break;
		heap_put(ev, pos, ev->heap[kid]);
		pos = kid;
	}
	heap_put(ev, pos, t);
}

int ev_timer_set(struct ev *ev, struct ev_timer *t, uint64_t deadline)
{
	if (t->pos) {
		t->deadline = deadline;
		heap_up(ev, t->pos);
		heap_down(ev, t->pos);
		return 0;
	}
	if (ev->ntimers + 1 >= ev->heap_cap) {
		size_t cap = ev->heap_cap ? ev->heap_cap * 2 : 32;
		struct ev_timer **h = reallocarray(ev->heap, cap, sizeof(struct ev_timer *));
		if (!h)
			return -ENOMEM;
		ev->heap = h;
		ev->heap_cap = cap;
	}
	t->deadline = deadline;
	heap_put(ev, ++ev->ntimers, t);
	heap_up(ev, ev->ntimers);
	return 0;
}

void ev_timer_stop(struct ev *ev, struct ev_timer *t)
{
	size_t pos = t->pos;
	if (!pos)
		return;
	t->pos = 0;
	struct ev_timer *last = ev->heap[ev->ntimers--];
	if (last == t)
		return;
	heap_put(ev, pos, last);
	heap_up(ev, pos);
	heap_down(ev, last->pos);
}

void ev_task_queue(struct ev *ev, struct ev_task *task)
{
	if (task->queued)
		return;
	task->queued = 1;
	task->next = NULL;
	*ev->tasks_end = task;
	ev->tasks_end = &task->next;
}

/* Milliseconds until the next deadline, rounded up so that a due timer is never polled for. */
static int wait_ms(const struct ev *ev, int max_wait_ms)
{
	if (ev->tasks)
		return 0;
	if (ev->ntimers == 0)
		return max_wait_ms;
	uint64_t now = clock_now(), at = ev->heap[1]->deadline;
	if (at <= now)
		return 0;
	uint64_t ms = (at - now + MS_NS - 1) / MS_NS;
	if (max_wait_ms >= 0 && ms > (uint64_t)max_wait_ms)
		return max_wait_ms;
	return ms > 3600000 ? 3600000 : (int)ms;
}

int ev_round(struct ev *ev, int max_wait_ms)
{
	struct epoll_event events[BATCH];
	int ran = 0;
	int n = epoll_wait(ev->epfd, events, BATCH, wait_ms(ev, max_wait_ms));
	if (n < 0 && errno != EINTR)
		return -errno;
	ev->now = clock_now();
	for (int i = 0; i < n; i++) {
		struct ev_io io = { .slot = (uint32_t)events[i].data.u64,
				    .gen = (uint32_t)(events[i].data.u64 >> 32) };
		struct ev_slot *s = slot_of(ev, io);
		if (!s)
			continue;
		ran++;
		/* The slot array may move while the handler runs; nothing of it is used after. */
		s->fn(s->ctx, events[i].events);
	}
	while (ev->ntimers && ev->heap[1]->deadline <= ev->now) {
		struct ev_timer *t = ev->heap[1];
		ev_timer_stop(ev, t);
		ran++;
		t->fn(t->ctx);
	}
	struct ev_task *task = ev->tasks;
	ev->tasks = NULL;
	ev->tasks_end = &ev->tasks;
	while (task) {
		struct ev_task *next = task->next;
		task->queued = 0;
		task->fn(task->ctx);
		task = next;
	}
	return ran;
}
