/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envd_process.h: commands of a box as the E2B clients know them, between the files that run them
 * (envd_process.c), feed them (envd_input.c) and tell of them (envd_listen.c).
 *
 *   STARTING  asked of brigd; only the call that started it listens. To RUNNING, or is freed.
 *   RUNNING   has a pid. To EXITED.
 *   EXITED    no operation; remembered for PROC_REMEMBER_MS, so that who comes late learns the end.
 */
#ifndef BRIG_API_ENVD_PROCESS_H
#define BRIG_API_ENVD_PROCESS_H

#include "api/envd.h"

#define PROC_REMEMBER_MS 30000u
/* Of one box, remembered ones included. */
#define PROCS_MAX 2048u
/* Input that a command has not taken yet. */
#define PROC_INPUT_MAX (16u * 1024u * 1024u)

enum proc_phase { PROC_STARTING, PROC_RUNNING, PROC_EXITED };

/* A call that listens: Start or Connect. */
struct listener {
	LIST_ENTRY(listener) link;
	struct proc *p; /* NULL: no more */
	struct envd_call *c;
	bool slow; /* its queue is above HTTP_QUEUE_HIGH */
};
/* A call that waits until its input was taken; taken() is called when it is out of the queue. */
struct input_wait {
	TAILQ_ENTRY(input_wait) link;
	struct proc *p; /* NULL: it does not wait */
	struct envd_call *c;
	void (*taken)(struct envd_call *c);
};

struct proc {
	LIST_ENTRY(proc) link;
	struct box *b;
	struct link_op *op; /* NULL: EXITED */
	enum proc_phase phase;
	uint32_t pid;
	char tag[256];	/* "" = none */
	json_t *config; /* cmd, args, envs, cwd as they were asked for */
	bool tty, stdin_open, stdin_eof, stdin_eof_sent, timed_out;
	uint32_t stdin_credit;
	struct buf input;
	TAILQ_HEAD(input_wait_queue, input_wait) waits;
	LIST_HEAD(listener_list, listener) listeners;
	unsigned nlisteners, nslow;
	uint32_t owed[2]; /* output bytes to be granted again */
	struct envd_exit exit;
	struct ev_timer timer; /* RUNNING: its time is up; EXITED: to be forgotten */
	struct ev_task grave;
};

struct proc *proc_by_pid(struct box *b, uint32_t pid);
/* By the field "process" of a message; NULL: the call has failed. */
struct proc *proc_selected(struct envd_call *c);
/* The same, and it runs. */
struct proc *proc_running(struct envd_call *c);
/* Grants what is owed, if any listener can take more or there is none. */
void proc_grant(struct proc *p);

/* ---- envd_input.c ---- */

/* Passes input on as far as the credit reaches. */
void inputs_pump(struct proc *p);
/* Calls that wait fail; text NULL: they are only let go of. */
void inputs_fail(struct proc *p, enum connect_code code, const char *text);

/* ---- envd_listen.c ---- */

/* Makes c a listener of p; false: no memory. */
bool listener_add(struct envd_call *c, struct proc *p);
/* The beginning, to one; to all: a piece of output (out 0 or 1), the end, or that nothing follows
 * because the start failed. */
void listener_start(struct listener *l);
void listeners_output(struct proc *p, int out, const uint8_t *p8, size_t n);
void listeners_end(struct proc *p);
void listeners_fail(struct proc *p, enum connect_code code, const char *text);
/* Their connections break: what happens to the process is not known. */
void listeners_abort(struct proc *p);
/* The end, of a process that has ended already. */
void listener_tell_end(struct listener *l);
void listener_drop(struct listener *l);

#endif
