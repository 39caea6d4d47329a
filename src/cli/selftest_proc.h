/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_proc.h: one program that a selftest runs, watched together with the canaries. */
#ifndef BRIG_CLI_SELFTEST_PROC_H
#define BRIG_CLI_SELFTEST_PROC_H

#include <limits.h>

#include "base/err.h"
#include "cli/canary.h"

#define PROC_TEXT_MAX 8192u

struct proc {
	const char *path;
	const char *const *argv;
	bool leaky; /* with what must not arrive inside: a variable, and open descriptors 3 to 9 */
	bool bare;  /* the variables of the canaries and PATH only, instead of our own */
	unsigned timeout_s; /* then it is killed, with all that it started */
	/* What became of it. */
	char out[PROC_TEXT_MAX], err[PROC_TEXT_MAX]; /* what fitted, terminated */
	int status;				     /* of waitpid() */
	bool timed_out;
};

/* canary may be NULL. -1 with err if it could not be started. */
int proc_run(struct proc *p, struct canary *canary, struct brig_err *err);

#endif
