/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h: the stdin of a command. The host may send as far as it was granted; what the pipe does
 * not take at once waits here, never more than the window. Written bytes are granted again.
 */
#ifndef BRIG_AGENT_INPUT_H
#define BRIG_AGENT_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/ev.h"

struct agent;

#define INPUT_WINDOW (256u * 1024u)

struct input {
	struct agent *agent;
	uint32_t stream;
	int fd; /* -1: closed, or never was */
	struct ev_io io;
	struct buf waiting;
	uint32_t credit; /* the host may send */
	uint32_t owed;	 /* written, and not granted again yet */
	bool tty;
	bool open;     /* the host has not sent EOF */
	bool mid_line; /* tty: the last byte was no newline */
	bool grown;
};

/* Takes over fd (nonblocking). 0 or -errno; fd is taken in any case. */
int input_start(struct input *in, struct agent *a, uint32_t stream, int fd, bool tty);
/* A command without an input; data for it is against the rules. */
void input_none(struct input *in, struct agent *a, uint32_t stream);
/* Closes the command's end of it, discards what waits; later data is discarded too. */
void input_done(struct input *in);
/* 0, or -EPROTO for more than was granted or data after the end. */
int input_data(struct input *in, const uint8_t *p, size_t n, bool eof);

#endif
