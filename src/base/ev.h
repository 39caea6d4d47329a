/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ev.h: the event loop of a single-threaded process: descriptors by epoll, timers by deadline, and
 * tasks that run when the round is over.
 *
 * A descriptor's registration is a slot and a generation; the pair travels through the kernel in
 * epoll_data. An event of a registration that was deleted earlier in the same round finds another
 * generation in its slot and is dropped, so a handler may delete any registration, its own too.
 * Memory that handlers further down the same round may still point at is freed by a task.
 *
 * All functions return 0 or -errno; none logs. Handlers must not block.
 */
#ifndef BRIG_BASE_EV_H
#define BRIG_BASE_EV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

typedef void (*ev_io_fn)(void *ctx, uint32_t events);
typedef void (*ev_fn)(void *ctx);

/* A registration; gen 0 is none. */
struct ev_io {
	uint32_t slot, gen;
};

/* Embedded in the object that owns it; ctx is what fn gets. pos 0 is not armed. */
struct ev_timer {
	ev_fn fn;
	void *ctx;
	uint64_t deadline;
	size_t pos;
};

/* Runs once, after all handlers of this round; may be queued again from its own fn. */
struct ev_task {
	ev_fn fn;
	void *ctx;
	struct ev_task *next;
	int queued;
};

struct ev_slot;
struct ev {
	int epfd;
	struct ev_slot *slots;
	uint32_t nslots, free;	/* free: head of the list of unused slots, nslots = none */
	struct ev_timer **heap; /* 1-based: heap[1] is the earliest */
	size_t ntimers, heap_cap;
	struct ev_task *tasks, **tasks_end;
	uint64_t now; /* CLOCK_MONOTONIC at the start of this round's handlers */
};

int ev_init(struct ev *ev);
void ev_done(struct ev *ev);

/* The loop does not own fd. events as in epoll_event; 0 = registered, but nothing is reported. */
int ev_io_add(struct ev *ev, int fd, uint32_t events, ev_io_fn fn, void *ctx, struct ev_io *ret);
int ev_io_set(struct ev *ev, struct ev_io io, uint32_t events);
/* Before fd is closed. Deleting none is allowed. */
void ev_io_del(struct ev *ev, struct ev_io *io);

/* Arms, or moves, the timer to an absolute deadline (ns, CLOCK_MONOTONIC); -ENOMEM. */
int ev_timer_set(struct ev *ev, struct ev_timer *t, uint64_t deadline);
void ev_timer_stop(struct ev *ev, struct ev_timer *t);
static inline int ev_timer_armed(const struct ev_timer *t)
{
	return t->pos != 0;
}

void ev_task_queue(struct ev *ev, struct ev_task *task);

/* One round: waits for events or the next deadline, at most max_wait_ms (-1 = no bound), runs the
 * handlers, then the timers that are due, then the tasks. Returns the number of handlers and timers
 * that ran, or -errno. */
int ev_round(struct ev *ev, int max_wait_ms);

#endif
