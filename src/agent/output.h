/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.h: one output of a command, from its pipe or terminal through a ring to the channel.
 *
 * Offsets count the bytes produced since the start. The ring holds the last `size` of them. Bytes
 * in [sent, end) wait for credit and for the channel; the `pinned` bytes before `sent` are lent to
 * the channel and must not be overwritten.
 *
 * Bulk of a lossless output does not pass the ring: it goes from the command's pipe to the channel by
 * reference, and its last bytes are kept so, too (hist.h). They are put into the ring when it is needed:
 * before a read, and for a host that attaches again.
 *
 * With a window, bytes that the host may not have passed on yet are not overwritten either: of all that
 * was granted, the last `window`.
 *
 * Lossless: nothing is read while there is no room beside the waiting bytes, so the command is held
 * back by its full pipe. Droppable and without credit: it is read on, and the oldest waiting bytes
 * are lost.
 */
#ifndef BRIG_AGENT_OUTPUT_H
#define BRIG_AGENT_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/chan.h"
#include "agent/hist.h"
#include "base/ev.h"

struct agent;

struct output {
	struct source src;
	struct agent *agent;
	uint32_t stream;
	uint16_t type; /* BRIG_STDOUT or BRIG_STDERR */
	/* End of file was reached, or everything that may be sent was. */
	void (*settled)(void *ctx);
	void *ctx;

	int fd;
	struct ev_io io;
	uint8_t *ring;
	uint32_t size;
	uint64_t end, sent;
	uint32_t pinned, credit;
	uint32_t window;  /* 0 = none */
	uint32_t lent;	  /* of the frame under way, in the channel's pipe */
	struct hist hist; /* the bytes before `end` that are not in the ring */
	bool bulk;	  /* the last read brought much */
	bool by_value;	  /* references do not work for it */
	bool running; /* may be read */
	bool droppable;
	bool eof;
	bool grown;   /* the pipe was enlarged, or cannot be */
	bool mute;    /* EXIT was sent: nothing follows it */
	int64_t last; /* >= 0: take this many bytes more, then call it the end */
};

void output_init(struct output *o, struct agent *a, uint32_t stream, uint16_t type, uint32_t size,
		 uint32_t credit, bool droppable);
/* Takes over fd (nonblocking); nothing is read before output_resume(). 0 or -errno; fd is taken in
 * any case. */
int output_start(struct output *o, int fd);
void output_resume(struct output *o);
/* There is no such output: it is at its end from the start. */
void output_none(struct output *o);
/* Everything back; bytes lent to the channel are copied. */
void output_done(struct output *o);

/* 0, or -EPROTO. */
int output_credit(struct output *o, uint32_t bytes);
/* Sends again from `offset`, or from the oldest byte kept; -EPROTO beyond what was produced. */
int output_rewind(struct output *o, uint64_t offset, uint32_t credit);
/* Nobody reads any more. */
void output_detach(struct output *o, bool droppable);
/* Takes what the pipe holds now and ends, though somebody still holds its other end. */
void output_finish(struct output *o);
/* End of file, and all was sent that could be. */
bool output_settled(const struct output *o);

#endif
