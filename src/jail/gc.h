/* SPDX-License-Identifier: Apache-2.0 */
/* gc.h: removing what dead instances left, and proving that nothing unexplained is there. */
#ifndef BRIG_JAIL_GC_H
#define BRIG_JAIL_GC_H

/* Removes the groups, processes and files of every dead instance. Quick when there is none. Returns
 * how many things were removed. delegated as in cgroup_host_open. */
int gc_sweep_dead(int run, const char *delegated);

/*
 * Walks every kind of host state that brig can make, after a sweep, and prints one JSON object a line:
 * {"kind","name","state","detail"}; state is live, removed, stale (it could not be removed) or
 * unexplained. Without `prove` only what was removed or could not be. Returns the number of stale and
 * unexplained things, or -1 with a message on stderr.
 */
int gc_report(const char *delegated, int prove);

#endif
