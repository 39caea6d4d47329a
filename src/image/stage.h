/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h: <data>/tmp/PID.RANDOM/, where a tree is made before it is an image and unmade after it
 * was one. Its owner holds an exclusive flock on the directory; one that nobody holds is a
 * leftover.
 */
#ifndef BRIG_IMAGE_STAGE_H
#define BRIG_IMAGE_STAGE_H

#include "base/err.h"

struct stage {
	int tmp; /* <data>/tmp, lent */
	int dir; /* the directory itself, locked */
	char name[64];
};
#define STAGE_INIT                   \
	{                            \
		.tmp = -1, .dir = -1 \
	}

int stage_new(int tmp, struct stage *ret, struct brig_err *err);
/* Removes it with all that is in it, and gives up the lock. Never fails: what could not be removed
 * is a leftover, which the next import tries again. */
void stage_drop(struct stage *s);

/* Removes `name` in dir, whatever it is, never following a link. 0 or -errno of the first failure;
 * goes on after one. */
int stage_remove_tree(int dir, const char *name);

enum stage_state { STAGE_LIVE, STAGE_STALE, STAGE_REMOVED, STAGE_UNKNOWN };
typedef void (*stage_report_fn)(void *ctx, const char *name, enum stage_state state, int error);
/* Tells of everything in <data>/tmp; with `remove`, removes what is stale first. report may be
 * NULL. error: why a stale one is still there, errno or 0. */
int stage_sweep(int tmp, int remove, stage_report_fn report, void *ctx, struct brig_err *err);

#endif
