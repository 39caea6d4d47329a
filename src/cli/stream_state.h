/* SPDX-License-Identifier: Apache-2.0 */
/* stream_state.h: what stream.c and stream_signal.c share. */
#ifndef BRIG_CLI_STREAM_STATE_H
#define BRIG_CLI_STREAM_STATE_H

#include <signal.h>

#include "cli/out.h"
#include "cli/stream.h"
#include "cli/tty.h"

enum phase { WAIT_REPLY, RUNNING, ENDED };

struct stream {
	struct conn *c;
	const struct stream_opts *o;
	struct stream_result *res;
	struct brig_err *err;
	enum phase phase;
	uint8_t *rx;
	size_t head, tail;
	struct out out[2];
	uint64_t may_send[2]; /* bytes the server may still send of each output */
	uint64_t offset[2];   /* expected next */
	bool offset_known[2];
	unsigned bulk_out; /* the output that the frame under way belongs to */
	uint32_t bulk_left;
	bool bulk;	   /* the last frame was a large one */
	bool stdin_open;
	uint64_t stdin_credit;
	uint64_t stdin_sent;
	bool attached; /* again, to another brigd: output may be missing */
	bool closing; /* CLOSE was sent */
	uint64_t give_up, last_int;
	int sigfd;
	sigset_t old_mask;
	struct tty tty;
};

int stream_send(struct stream *s, uint16_t type, const void *p, size_t n);
/* CLOSE, once: the command is killed, and its end awaited for a while. */
int stream_close(struct stream *s);

/*
 * The connection was lost. 0: another one reads on; -1 with s->err, which says how to if that is possible.
 */
int stream_lost(struct stream *s);

/* Signals come through s->sigfd from now on. 0, or -1 with s->err. */
int stream_signals_open(struct stream *s);
/* One is there. 0 or -1. */
int stream_on_signal(struct stream *s);

#endif
