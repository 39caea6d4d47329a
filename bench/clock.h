/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h: one timed operation of the benchmark client: a program run, or a request to brigd. */
#ifndef BRIG_BENCH_CLOCK_H
#define BRIG_BENCH_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"

enum form_kind { FORM_SPAWN, FORM_BRIG };

/* One way to run the payload; a line of the plan. */
struct form {
	char *name;
	enum form_kind kind;
	unsigned every;  /* takes part in every n-th round only (slow peers) */
	int mntns;       /* SPAWN: namespace to start in, -1 = ours */
	char **args;     /* SPAWN: the command; BRIG: socket, request. "%i" becomes a fresh number */
	unsigned nargs;
	bool streams;    /* BRIG: the request is a run or exec, END follows REP */
};

struct op {
	const struct form *form;
	unsigned slot;
	int ep; /* where its descriptors are waited for */
	uint64_t t0, first, done; /* CLOCK_MONOTONIC_RAW; first 0 = nothing was printed */
	uint64_t bytes;           /* standard output in all */
	int code;                 /* exit code, 128+n signal */
	const char *failed;       /* fixed text, NULL = success so far */
	/* SPAWN */
	pid_t pid;
	int pidfd, out;
	/* BRIG */
	int sock;
	uint32_t owed; /* output bytes read and not yet granted again */
	struct buf rx, tx;
};

/* Which descriptor of an operation an event is for; with the slot it makes epoll_data. */
enum op_fd { OP_FD_PID, OP_FD_OUT, OP_FD_SOCK };
static inline uint64_t op_tag(const struct op *op, enum op_fd which)
{
	return (uint64_t)op->slot << 8 | which;
}

/* start: takes t0 and begins; 0, or -1 with op->failed set. event: true when complete, op->done or
 * op->failed are set then. end: releases everything, and kills what still runs. `n` is the fresh
 * number for "%i". */
int op_spawn_start(struct op *op, unsigned n);
bool op_spawn_event(struct op *op, enum op_fd which);
void op_spawn_end(struct op *op);
int op_brig_start(struct op *op, unsigned n);
bool op_brig_event(struct op *op, uint32_t events);
void op_brig_end(struct op *op);

/* Adds a descriptor of the operation to its epoll; 0 or -1. */
int op_fd_watch(const struct op *op, int fd, enum op_fd which);
/* Closes one. It is taken out of the epoll first: the copy that a child of vfork() holds until its
 * exec closes it would keep it there, and events would come for an operation that is over. */
void op_fd_drop(const struct op *op, int *fd);

/* A copy of an argument with "%i" replaced; the caller frees it. */
char *form_expand(const char *arg, unsigned n);

static inline uint64_t raw_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
