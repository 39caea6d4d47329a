/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h: commands.
 *
 * States: asked (until the exec is known to have succeeded) -> running -> reaped -> exited (EXIT
 * was sent). The stream may be closed in any of them; the object stays until its process is reaped,
 * and after its EXIT until the stream is closed, because its rings can still be read.
 */
#ifndef BRIG_AGENT_EXEC_H
#define BRIG_AGENT_EXEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "agent/core.h"
#include "agent/input.h"
#include "agent/output.h"
#include "agent/spawn.h"

struct exec {
	struct stream s;
	struct child child;
	struct grave grave;
	struct exec *next;
	uint32_t flags; /* BRIG_EXEC_* */
	struct creds creds;
	bool started, reaped, exit_sent;
	bool closed;	  /* the stream is gone */
	bool new_host;	  /* the host that attached last does not know the stdin credit */
	uint64_t since;	  /* procs_clock() at the start */
	uint64_t signals; /* that came before it was started: bit number - 1 */
	uint64_t oom_kills; /* guest_oom_kills() when it began */
	uint32_t met;	  /* limits met: BRIG_EXIT_DISK_FULL and so on */
	int report_fd;
	struct ev_io report_io;
	int tty; /* the master, where input and output hold duplicates of it; else -1 */
	struct output out[2];
	struct input in;
	struct ev_timer linger;
	int status;
	struct rusage ru;
};

/* A checked EXEC frame; the strings lie in the frame. */
struct exec_request {
	struct brig_exec h;
	const char *user, *cwd;
	struct spawn_args args;
};
/* 0, or -EINVAL, -ENOMEM. On success args is the caller's to release. */
int exec_request_parse(const struct frame *f, struct exec_request *ret);

/* The opener of EXEC. */
int exec_open(struct agent *a, const struct frame *f);
/*
 * Its parts, also for an opener of another kind. exec_new: a command whose stream is open; NULL
 * without memory. exec_adopt: the process exists; takes what the agent holds of its stdio (-1 where
 * there is none) in any case; 0 or -errno. exec_abandon: it does not; STARTED says why, the stream
 * is closed.
 */
struct exec *exec_new(struct agent *a, uint32_t id, const struct brig_exec *h);
int exec_adopt(struct exec *x, struct spawn *s, int in_fd, const int out_fd[2]);
void exec_abandon(struct exec *x, int err, enum brig_exec_step step);

static inline bool exec_is_running(const struct exec *x)
{
	return x->started && !x->reaped;
}
/* The agent ends: everything back, without a word. The processes have been killed. */
void exec_drop_all(struct agent *a);

#endif
