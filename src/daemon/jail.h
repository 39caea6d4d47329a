/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail.h: brigd's end of jail_proto.h. Requests are sent without waiting; answers find their
 * request by its sequence number.
 */
#ifndef BRIG_DAEMON_JAIL_H
#define BRIG_DAEMON_JAIL_H

#include <stdbool.h>

#include "base/err.h"
#include "base/ev.h"
#include "brig/jail_proto.h"

/* One answer, checked for its size; h.verb tells which member holds. */
union jail_answer {
	struct jail_hdr h;
	struct jail_ref ref;
	struct jail_error error;
	struct jail_hello hello;
	struct jail_stats stats;
	struct jail_gone gone;
	struct jail_receipt receipt; /* its texts need not end */
	struct jail_box box;
	struct jail_link_is link;
	struct jail_volume_is volume;
};

/* Requests that may be without their last answer at one time. */
#define JAIL_PENDING_MAX 8192u
/* Requests that may wait for room in the socket. */
#define JAIL_QUEUE_MAX 4096u

/* Called for each answer; DESTROY gets STATS_IS, then GONE; a CREATE with a network LINK, then OK. ERROR is always the last. */
typedef void (*jail_answer_fn)(void *ctx, const union jail_answer *a);

struct jail_pending {
	uint32_t seq, verb; /* verb 0 = free */
	jail_answer_fn fn;
	void *ctx;
};

struct jail_queued;
struct jail_link {
	struct ev *ev;
	int fd;
	struct ev_io io;
	uint32_t seq;
	unsigned npending, nqueued;
	struct jail_pending *pending; /* JAIL_PENDING_MAX, by seq modulo its size */
	struct jail_queued *queue, **queue_end;
	/* Unasked: a sandbox's first process ended by itself; its last figures may come before. */
	void (*figures)(void *ctx, const struct jail_stats *st);
	void (*gone)(void *ctx, const struct jail_gone *g);
	void (*packets)(void *ctx, int fd); /* came with HELLO_OK: the log of refused packets, to be kept */
	void (*lost)(void *ctx, const char *why); /* the link ended; once */
	void *ctx;
	int answer_fd; /* came with the answer that is being handled; -1, or stolen from here */
};

/* Takes over fd. The callbacks must be set before the first round. */
int jail_link_init(struct jail_link *l, struct ev *ev, int fd);
void jail_link_done(struct jail_link *l);
/* The link to another jaild, in the place of one that is lost; takes over fd. What was asked must have been
 * answered: jail_fail_all(). 0 or -errno. */
int jail_link_renew(struct jail_link *l, int fd);
void jail_link_lose(struct jail_link *l, const char *why);
/* The link is lost: what is still to be answered is answered with an error, as if jaild had. */
void jail_fail_all(struct jail_link *l, const char *why);

/*
 * Sends a request whose jail_hdr.verb is set, of n bytes, with descriptors that stay the caller's,
 * and fills in jail_hdr.seq. -EBUSY when too much is under way, -EPIPE when the link is lost. fn
 * may not be called any more once the link is lost.
 */
int jail_call(struct jail_link *l, void *msg, size_t n, const int *fds, unsigned nfds,
	      jail_answer_fn fn, void *ctx);

/* Drops a request that will not be answered any more (a CREATE overtaken by its DESTROY). */
void jail_forget(struct jail_link *l, uint32_t seq);

/* An ERROR answer, or anything unexpected, as an error value. */
void jail_error_to(const union jail_answer *a, struct brig_err *err);

#endif
