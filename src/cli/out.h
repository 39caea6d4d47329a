/* SPDX-License-Identifier: Apache-2.0 */
/*
 * out.h: writing to an inherited descriptor without ever waiting in write(), and without switching
 * it to nonblocking mode: the flag belongs to the open file, which the shell and our neighbours in
 * the pipeline share.
 */
#ifndef BRIG_CLI_OUT_H
#define BRIG_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum out_way {
	OUT_PLAIN,  /* a regular file or a device that does not wait: write() */
	OUT_SOCKET, /* send() with MSG_DONTWAIT */
	OUT_NOWAIT, /* a pipe or terminal: pwritev2() with RWF_NOWAIT (pipes: Linux 6.5) */
	OUT_POLL,   /* the same on older kernels: poll(), then a piece that fits for certain */
};

struct out {
	int fd;
	enum out_way way;
	int error;	  /* errno that ended it, 0 = it works; what comes later is dropped */
	struct buf queue; /* what the descriptor did not take */
	uint64_t written; /* bytes taken (or dropped after an error) since the last
			     out_take_written() */
};

/* max: bytes that may have to wait. */
void out_init(struct out *o, int fd, size_t max);
void out_done(struct out *o);
/* Writes what can be written now and queues the rest. 0, or -ENOBUFS, -ENOMEM: it was not queued. A
 * failing descriptor is not an error here: see o->error. */
int out_write(struct out *o, const void *p, size_t n);
/* When the descriptor polls writable. */
void out_flush(struct out *o);
static inline bool out_waits(const struct out *o)
{
	return buf_len(&o->queue) != 0;
}

#endif
