/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h: one command in a sandbox, from EXEC to STATUS.
 *
 * ASKED     EXEC was sent. A start deadline runs.
 * STARTED   The agent said so; the wall-time limit runs, output flows.
 * ENDING    The end is known (EXIT, a start error, or a cause of brigd's own) and the final figures
 * are awaited from jaild; output that is still under way is delivered. settled   The verdict was
 * given, the client has its END. The object is freed when the round ends and no answer of jaild
 * points at it.
 */
#ifndef BRIG_DAEMON_EXEC_H
#define BRIG_DAEMON_EXEC_H

#include <stdbool.h>
#include <sys/queue.h>

#include "daemon/chan.h"
#include "daemon/conn.h"
#include "daemon/sandbox.h"
#include "daemon/spec.h"
#include "daemon/stop.h"

enum exec_phase { EXEC_ASKED, EXEC_STARTED, EXEC_ENDING, EXEC_SETTLED };

/* A command that outlives its SIGKILL by this is destroyed with its sandbox. */
#define EXEC_KILL_MS 1000u
/* The client of a foreground command has so long to attach to the next brigd. */
#define EXEC_RETURN_MS 15000u
/* So long, from its end. */
#define EXEC_ORPHAN_MS (10u * 60u * 1000u)
/* In a sandbox that outlives brigd no more is under way than the agent keeps, so that it can be read again.
 * A pipe for as much again is what an ordinary user may ask for. */
#define EXEC_KEPT_RING (512u * 1024u)
/* A detached output that nobody waits for is granted LOGRING_MAX bytes this often. */
#define EXEC_GRANT_MS 100u

struct exec {
	struct sandbox *sb;
	LIST_ENTRY(exec) link;
	struct conn *conn;	    /* NULL: nobody reads */
	struct chan_stream *stream; /* NULL once closed */
	char id[BRIG_ID_LEN + 8];
	struct cmd cmd;
	enum exec_phase phase;
	bool is_main, detach, reattached;
	bool orphan;	  /* its reader was lost with a former brigd; nobody has attached since */
	bool ended;	  /* an orphan that has; its end is kept for who attaches */
	bool stdin_eof;
	bool answered;	  /* REP was sent */
	bool kill_sent;	  /* SIGKILL was sent; the timer makes sure of it */
	int early_signal; /* came before STARTED, is sent then */
	uint64_t asked_ns, started_ns;
	uint64_t left_ns;  /* of the timer while its sandbox is paused, 0 = it does not run */
	uint64_t stood_ns; /* how long it has stood still in all */
	uint32_t window;   /* bytes that may be between agent and client: KEPT_RING or CREDIT_WINDOW */
	uint64_t held[2];  /* credit of the client not yet passed on */
	uint64_t owed[2];  /* bytes of a detached output to be granted again */
	uint64_t resumed_bytes[2]; /* produced when a new brigd took over: nobody has seen more */
	struct ledger_exec *kept;  /* for the next brigd; NULL = not */
	uint64_t denied_before; /* refusals to its sandbox when it started */
	struct stop_facts facts;
	struct ev_timer timer, grant_timer;
	struct ev_task grave;
	bool figures_asked; /* of jaild, after its end */
	unsigned jail_refs;
};

/* Starts cmd (moved on success) for conn, which may be NULL for nothing but tests. asked_ns: when
 * the request was accepted. */
int exec_start(struct sandbox *sb, struct cmd *cmd, bool is_main, struct conn *conn,
	       uint64_t asked_ns, struct exec **ret, struct brig_err *err);
/* brigd ends it for its own reason. fault: text that outlives the command, or NULL. */
void exec_stop(struct exec *x, enum stop_cause cause, const char *fault);
/* The final figures, or NULL when there are none: verdict, STATUS, END. */
void exec_settle(struct exec *x, const struct jail_stats *after);
/* Asks for the figures after its end, unless that was done: of another brig-jaild, if there was none. */
void exec_figures(struct exec *x);
/* A client's signal to the command. */
void exec_signal(struct exec *x, int sig);
/* The sandbox could not be made: the client gets err as its REP. */
void exec_abort(struct exec *x, const struct brig_err *err);

/* Its timers and so on; the rest is the caller's. NULL without memory. */
struct exec *exec_new(struct sandbox *sb);
/* conn gets its output, and may feed it, signal it and close it. */
void exec_serve(struct exec *x, struct conn *conn);
/* Tells its client that it runs. */
void exec_answer(struct exec *x);

/* For the next brigd: that it exists, if its sandbox is kept; and how far it is. */
void exec_note(struct exec *x);
void exec_touch(struct exec *x);
/* One that a former brigd noted, in a sandbox that was restored. NULL: it makes no sense, or no memory. */
struct exec *exec_restore(struct sandbox *sb, struct ledger_exec *kept);
/* Gives the outputs from these offsets on, and the end, of an orphan to conn. exec NULL: of the main
 * command. */
int exec_attach(struct sandbox *sb, const char *exec, struct conn *conn, const uint64_t offset[2],
		struct brig_err *err);

/* From the channel. */
/* m NULL: it is not there any more. */
void exec_on_resumed(struct exec *x, const struct brig_resumed *m);
void exec_on_started(struct exec *x, const struct brig_started *m);
void exec_on_output(struct exec *x, int out, uint64_t offset, const uint8_t *p, size_t n);
/* Output that need not be looked at: how many bytes of it may go to x->conn before the next is, 0 if there
 * is no such client; and that n of them went. */
uint64_t exec_unseen_room(const struct exec *x);
void exec_unseen(struct exec *x, int out, size_t n);
/* What was handed on has left for its client. */
void exec_passed(struct exec *x);
void exec_on_credit(struct exec *x, uint32_t bytes);
void exec_on_exited(struct exec *x, const struct brig_exit *m);

#endif
