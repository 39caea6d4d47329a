/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.h: starting brig's other programs: where they are, with which environment, and with exactly
 * the descriptors that are meant for them.
 */
#ifndef BRIG_CLI_SPAWN_H
#define BRIG_CLI_SPAWN_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* The directory that holds brigd, brig-jaild and brig-agent: $BRIG_LIBEXEC, or where this binary
 * is, or ../libexec/brig from there. */
int spawn_dir(char ret[PATH_MAX], struct brig_err *err);
/* Full path of one program in it; the error names the places looked at. */
int spawn_find(const char *program, char ret[PATH_MAX], struct brig_err *err);
/* This very binary. */
int spawn_self(char ret[PATH_MAX], struct brig_err *err);

/* The environment given to daemons: PATH, HOME, TZ, BRIG_* and XDG_*, nothing else of the caller's.
 * An array to free; the strings are borrowed. NULL when out of memory. */
char **spawn_environ(void);

#define SPAWN_FDS_MAX 16
struct spawn {
	const char *path;
	/* If set, this is called in a fork of the caller instead of executing path: see spawn.c. */
	int (*main)(int argc, char **argv);
	const char *const *argv;
	char **envp;		/* NULL = the caller's own environment */
	int fds[SPAWN_FDS_MAX]; /* the child's descriptor i is a copy of fds[i]; all above are
				   closed */
	unsigned nfds;
	bool session; /* a session of its own: no signal of the terminal reaches it */
};
/* Signals are back to their defaults and none is blocked in the child. Blocks until the program was
 * executed or could not be; with main, until it was forked. */
int spawn_start(const struct spawn *s, pid_t *ret_pid, struct brig_err *err);

/* Waits until the child has ended, at most until the deadline (clock.h; 0 = for ever). 1: it did
 * and was reaped, *ret_status as by waitpid(); 0: it has not; -errno. */
int spawn_wait(pid_t pid, uint64_t deadline, int *ret_status);

/* Runs `brig-jaild --gc` silently, at most timeout_ms long. What a dead instance left is removed by
 * it; a failure is not reported, because `brig gc` says more. */
void spawn_gc(unsigned timeout_ms);

/* Runs a program and collects what it prints: *ret_text is to be freed. -1 with err if it could not
 * be run or printed more than max bytes. */
int spawn_capture(const char *program, const char *const *argv, size_t max, char **ret_text,
		  int *ret_status, struct brig_err *err);

#endif
