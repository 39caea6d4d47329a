/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failpoint.h: named places at which the fault tests kill, stall or fail this process.
 *
 * FAILPOINT("create.sent") stands beside every step that changes something outside the process. In
 * a normal build it is the constant 0. With -DBRIG_FAILPOINTS the environment variable
 * BRIG_FAILPOINT=NAME[:N] names one of them: at its Nth passage (default 1) the process gets
 * SIGKILL. NAME[:N]=stall sleeps 5 s there instead, NAME[:N]=error makes the macro yield -EIO,
 * which the place must handle as its own step failing.
 */
#ifndef BRIG_BASE_FAILPOINT_H
#define BRIG_BASE_FAILPOINT_H

#ifdef BRIG_FAILPOINTS
int failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) 0
#endif

#endif
