/* SPDX-License-Identifier: Apache-2.0 */
/*
 * procs.h: which processes belong to which command, as far as /proc tells, and killing them.
 *
 * A process belongs to a command if the command's main process is among its ancestors, or leads its
 * session or process group. One that left both and whose parents have died belongs to nobody
 * (double-forked daemons); see procs_kill_leftovers().
 */
#ifndef BRIG_AGENT_PROCS_H
#define BRIG_AGENT_PROCS_H

#include <stdint.h>
#include <sys/types.h>

struct agent;

/* "Now", in the unit of the start times of processes. */
uint64_t procs_clock(void);

/* The command is ended before its time: kills its main process and all that belongs to it. */
void procs_kill_command(struct agent *a, pid_t main);
/*
 * The main process has ended and been reaped, and the command had LIFELINE. Kills what belongs to
 * it, and what belongs to nobody and was started since the command was. With no other command
 * running that is everything, at once and without a race (kill(-1) of pid 1). Otherwise a daemon
 * that another command started in this time and let go of dies as well: the price of leaving
 * nothing behind.
 */
void procs_kill_leftovers(struct agent *a, pid_t main, uint64_t since);
/* The agent ends. As pid 1: kills all. Else: kills all descendants and reaps them, up to 2 s. */
void procs_kill_all(struct agent *a);

#endif
