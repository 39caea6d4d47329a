/* SPDX-License-Identifier: Apache-2.0 */
/*
 * out.h: writing to an inherited descriptor without ever waiting in write(), and without switching
 * it to nonblocking mode: the flag belongs to the open file, which the shell and our neighbours in
 * the pipeline share.
 *
 * It also knows the pace of its reader. An output that is full for the moment asks its source to wait
 * (out_holds()), so that bulk is not copied into a queue first; one that took less than OUT_PACE_BYTES
 * in OUT_PACE_NS is slow, and nobody waits for it any more until it has caught up.
 */
#ifndef BRIG_CLI_OUT_H
#define BRIG_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

enum out_way {
	OUT_PLAIN,  /* a regular file or a device that does not wait: write() */
	OUT_SOCKET, /* send() with MSG_DONTWAIT */
	OUT_NOWAIT, /* a pipe or terminal: pwritev2() with RWF_NOWAIT (pipes: Linux 6.5) */
	OUT_LEND,   /* a pipe where that does not go: through a pipe of ours, by splice() */
	OUT_POLL,   /* a terminal, or without a pipe of ours: poll(), then a piece that fits for certain */
};

#define OUT_PACE_NS (10000000ull)
#define OUT_PACE_BYTES (64u * 1024u)

struct out {
	int fd;
	enum out_way way;
	bool fifo;
	bool splices;	  /* a pipe: a socket's bytes may go to it by reference */
	bool grown;	  /* .. was enlarged, or need not or cannot be */
	bool full;	  /* .. and it took no more of them */
	bool slow;	  /* its reader is */
	int error;	  /* errno that ended it, 0 = it works; what comes later is dropped */
	int lend[2];	  /* OUT_LEND: our pipe, -1 = not made */
	size_t lent;	  /* bytes in it */
	struct buf queue; /* what the descriptor did not take */
	uint64_t written; /* bytes taken (or dropped after an error) since the last
			     out_take_written() */
	uint64_t total;	  /* .. in all */
	uint64_t pace_at, pace_from; /* since when it waits, 0 = it does not; and total then */
};

/* max: bytes that may have to wait. */
void out_init(struct out *o, int fd, size_t max);
void out_done(struct out *o);
/* Writes what can be written now and queues the rest. 0, or -ENOBUFS, -ENOMEM: it was not queued. A
 * failing descriptor is not an error here: see o->error. */
int out_write(struct out *o, const void *p, size_t n);
/* Moves at most n bytes from the socket `from` to a pipe, when out_splices(). Returns how many; 0: the
 * pipe is full; -EAGAIN: the socket holds none now; -EOPNOTSUPP: they have to be read and written, which
 * also finds out what failed. */
ssize_t out_splice(struct out *o, int from, size_t n);
/* When the descriptor polls writable. */
void out_flush(struct out *o);
/* Bytes wait for it. */
static inline bool out_queued(const struct out *o)
{
	return buf_len(&o->queue) || o->lent;
}
/* It is to be polled. */
static inline bool out_waits(const struct out *o)
{
	return out_queued(o) || o->full;
}
static inline bool out_splices(const struct out *o)
{
	return o->splices && !o->error && !out_queued(o);
}
/* Whether its source should wait: 0 = no, else until when at most (CLOCK_MONOTONIC). */
uint64_t out_holds(struct out *o, uint64_t now);

#endif
