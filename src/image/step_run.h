/* SPDX-License-Identifier: Apache-2.0 */
/* step_run.h: RUN of a build: a command in a sandbox, and what it left as a file. */
#ifndef BRIG_IMAGE_STEP_RUN_H
#define BRIG_IMAGE_STEP_RUN_H

#include "base/err.h"
#include "image/config.h"
#include "image/publish.h"

struct step_run {
	const char *data;		/* the store's folder */
	const struct image_digest *image; /* what the sandbox begins with */
	const struct image_words *flags;  /* for brig create: limits, network */
	const struct image_words *env;	  /* NAME=VALUE, for this command alone */
	const struct image_words *argv;
	int cancel;
};

/* *ret_fd: what the agent exported (agent/layer.h). The command's output goes to stderr. */
int step_run(const struct step_run *s, int *ret_fd, struct brig_err *err);

/* Removes the sandboxes and snapshots of builds that were killed. */
void step_sweep(const char *data);

#endif
