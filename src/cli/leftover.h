/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leftover.h: the daemons of a supervisor that was killed. They live on, but nobody restarts them
 * and their socket is about to be replaced, so the next supervisor ends them.
 */
#ifndef BRIG_CLI_LEFTOVER_H
#define BRIG_CLI_LEFTOVER_H

#include <stddef.h>
#include <sys/types.h>

/* Writes which processes belong to the holder of this (locked) file; n = 0: none. 0 or -errno. */
int leftover_record(int fd, const pid_t *pids, size_t n);
/* Kills the processes recorded in the file, if they are still the same, and waits until they are
 * gone, at most two seconds. Returns how many there were. */
int leftover_kill(int fd);

#endif
