/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interp_event.h: one line of a kernel, as brig-api sees it. A kernel runs inside the sandbox, so
 * every byte of it is hostile: a line is bounded in length, nesting and number of values before it
 * is parsed, and what goes on to the client is written anew from the fields that an event may have.
 */
#ifndef BRIG_API_INTERP_EVENT_H
#define BRIG_API_INTERP_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Bytes of a line. The kernels cut theirs at 7 MiB (kernel_io.py): a large image fits. */
#define INTERP_LINE_MAX (8u * 1024u * 1024u)
#define INTERP_DEPTH_MAX 64u
/* Values in one line: each costs some 60 bytes while it is parsed. */
#define INTERP_VALUES_MAX 1000000u

enum interp_kind {
	INTERP_READY, /* takes requests */
	INTERP_WARM,  /* what was asked to be imported ahead is */
	INTERP_FATAL, /* ends by a fault of its own; line is its text */
	INTERP_LINE,  /* one for the client */
	INTERP_DONE,  /* the execution is over */
};

struct interp_event {
	enum interp_kind kind;
	uint64_t id; /* of the execution; 0 = of none */
	char *line;  /* with its newline, or NULL; the caller frees it */
	size_t n;
};

/* wall_ns: now, for the events that carry a time. On success *ret owns its line. */
int interp_event_parse(const char *p, size_t n, uint64_t wall_ns, struct interp_event *ret,
		       struct brig_err *err);
/* A line {"type":"error",..} of our own; NULL: out of memory. */
char *interp_event_error(const char *name, const char *value, size_t *ret_n);

#endif
