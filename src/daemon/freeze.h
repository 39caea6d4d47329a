/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freeze.h: the operations pause and resume: a sandbox whose processes all stand still.
 *
 * While it does, the agent answers nothing, so nothing is started in it and no file operation
 * begins; what was under way waits. Time that is limited stands still, too: wall time of its
 * commands and the deadlines of their start. Limits stay in force, memory stays occupied, rm and
 * kill -s KILL end it.
 */
#ifndef BRIG_DAEMON_FREEZE_H
#define BRIG_DAEMON_FREEZE_H

#include "daemon/sandbox.h"

/* Each takes over c and answers it, or returns -1 with err. */
int freeze_pause(struct conn *c, struct sandbox *sb, struct brig_err *err);
int freeze_resume(struct conn *c, struct sandbox *sb, struct brig_err *err);
/* SIGKILL to the main command of a paused sandbox: it must run on to die. Nobody is answered. */
int freeze_let_die(struct sandbox *sb, struct brig_err *err);
/* The time limit of a command in a paused sandbox stands still from `now` on. */
void freeze_clock_stop(struct exec *x, uint64_t now);
/* Another brig-jaild has it, standing still or not: what was under way with the former is decided. */
void freeze_found(struct sandbox *sb, bool frozen);
/* The sandbox is destroyed: whoever waits is told. */
void freeze_abort(struct sandbox *sb, const struct brig_err *err);

#endif
