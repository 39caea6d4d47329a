/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h: an operation with live output: run, exec and logs, from the reply to the end.
 */
#ifndef BRIG_CLI_STREAM_H
#define BRIG_CLI_STREAM_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"
#include "cli/conn.h"

struct stream_opts {
	int stdin_fd; /* -1: nothing is sent */
	bool tty;     /* stdin_fd is a terminal: raw mode, window size */
	bool signals; /* forward signals to the command; else they act on brig */
	bool detach;  /* the reply is the end */
	bool again;   /* a command in a sandbox that outlives brigd: read on when the connection is lost */
	void (*started)(void *ctx, const json_t *rep); /* told the reply as it comes; NULL = nobody is */
	void *ctx;
	bool gaps;    /* offsets may begin anywhere and jump: logs */
};

struct stream_result {
	json_t *rep;   /* the "ok" object; NULL if the operation ended before it */
	json_t *error; /* error object of the reply */
	json_t *end;   /* STATUS, or an error object in "error" */
	int signal;    /* brig gave up because of this signal */
	int out_error; /* errno of an output that cannot be written any more */
	uint64_t lost; /* bytes of output that the server no longer had */
};

/*
 * Drives a connection whose request was sent, until the end of the operation and until what it
 * printed has been written. 0 with *ret filled (any of its objects may be NULL), or -1 with err:
 * the server broke the protocol or went away. The terminal is restored in every case.
 */
int stream_run(struct conn *c, const struct stream_opts *o, struct stream_result *ret,
	       struct brig_err *err);
void stream_result_done(struct stream_result *r);

#endif
