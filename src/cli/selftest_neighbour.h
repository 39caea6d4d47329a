/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_neighbour.h: a sandbox next door to those of the attacks, which must leave it alone. */
#ifndef BRIG_CLI_SELFTEST_NEIGHBOUR_H
#define BRIG_CLI_SELFTEST_NEIGHBOUR_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/selftest_proc.h"

struct neighbour {
	const char *self, *secret; /* brig; what the sandbox keeps */
	char name[40];
	bool made;
	struct proc proc;
};

/* accept: as for selftest_run(). neighbour_remove() must follow. */
int neighbour_open(struct neighbour *n, const char *tier, const char *accept, struct brig_err *err);
void neighbour_remove(struct neighbour *n);
/* 1: it still keeps it; 0: something else; -1 with err: it does not answer. */
int neighbour_same(struct neighbour *n, struct brig_err *err);

#endif
