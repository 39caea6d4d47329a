/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h: the states of a sandbox and which may follow which.
 *
 *   CREATING  CREATE was sent to jaild; the agent's first frames wait in its socket. Limits, image
 *             and name may be read; there are no figures. Leaves to READY or RUNNING when jaild
 *             answers OK or the agent answers first; to REMOVING when its client goes away; to GONE
 *             when jaild answers ERROR, for then nothing exists.
 *   READY     The agent lives and no main command was started (create, pool). Takes exec, fs,
 * stats. Leaves to RUNNING when a pooled sandbox is taken for a run; to REMOVING. RUNNING   A main
 * command runs. Leaves to EXITED when it ended in a detached sandbox; to REMOVING. EXITED    The
 * main command of a detached sandbox ended, its status and output are kept, the agent still lives,
 * so exec and fs work on. Leaves to REMOVING.
 *   PAUSED    All of it stands still (freeze.h). Leaves to the state from which it came, READY, RUNNING
 * or EXITED, or to the one that it would have gone to meanwhile; to REMOVING. REMOVING  DESTROY was sent; nothing new may be
 * started. Leaves when jaild says GONE: to STOPPED if the record is to stay, to CREATING
 *             if it is made again (rewind.h), otherwise to GONE.
 *   STOPPED   Nothing of it is left in the kernel; status and output are kept until rm. To GONE.
 *   GONE      Final. The object is freed when the round ends.
 */
#ifndef BRIG_DAEMON_STATE_H
#define BRIG_DAEMON_STATE_H

#define SB_STATES(X)            \
	X(CREATING, "creating") \
	X(READY, "ready")       \
	X(RUNNING, "running")   \
	X(PAUSED, "paused")     \
	X(EXITED, "exited")     \
	X(REMOVING, "removing") \
	X(STOPPED, "stopped")   \
	X(GONE, "gone")

enum sb_state {
#define X(name, text) SB_##name,
	SB_STATES(X)
#undef X
		SB__N_STATES
};

const char *state_name(enum sb_state s);
int state_may_go(enum sb_state from, enum sb_state to);

#endif
