/* SPDX-License-Identifier: Apache-2.0 */
/* entry.h: brigd from its command line to its end. */
#ifndef BRIG_DAEMON_ENTRY_H
#define BRIG_DAEMON_ENTRY_H

/* Runs in the caller's process, which it confines for good: to be called once, by a process with one
 * thread that does nothing afterwards but end with the returned exit code. */
int brigd_main(int argc, char **argv);

#endif
