/* SPDX-License-Identifier: Apache-2.0 */
/* entry.h: brig-jaild from its command line to its end. */
#ifndef BRIG_JAIL_ENTRY_H
#define BRIG_JAIL_ENTRY_H

/* Runs in the caller's process: to be called once, by a process with one thread that does nothing
 * afterwards but end with the returned exit code. */
int jaild_main(int argc, char **argv);

#endif
