/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failpoint.h: named places at which the fault tests kill, stall or fail this process.
 *
 * FAILPOINT("create.sent") stands beside every step that changes something outside the process. In
 * a normal build it is the constant 0. With -DBRIG_FAILPOINTS the environment variable
 * BRIG_FAILPOINT=NAME[:N] names one of them: at its Nth passage (default 1) the process gets
 * SIGKILL. NAME[:N]=stall sleeps 5 s there instead, NAME[:N]=error makes the macro yield -EIO,
 * which the place must handle as its own step failing.
 *
 * A program that is started with an empty environment is given FAILPOINT_ENV, and passes a failpoint
 * before it clears its environment: the name is read at the first one.
 *
 * FAILPOINT_IS("mutate.pids") is not a place but a state: 1 for as long as the process lives that was
 * given this name. mutate.* changes what a sandbox is compared with (jail/receipt.c), weaken.* leaves one
 * of its boundaries out: that either is noticed is what these are for.
 */
#ifndef BRIG_BASE_FAILPOINT_H
#define BRIG_BASE_FAILPOINT_H

#ifdef BRIG_FAILPOINTS
int failpoint_hit(const char *name);
/* "BRIG_FAILPOINT=..." of our own environment, or NULL. */
char *failpoint_env(void);
int failpoint_is(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#define FAILPOINT_IS(name) failpoint_is(name)
#define FAILPOINT_ENV failpoint_env()
#else
#define FAILPOINT(name) 0
#define FAILPOINT_IS(name) 0
#define FAILPOINT_ENV NULL
#endif

#endif
