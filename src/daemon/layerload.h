/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layerload.h: the files of a snapshot in a new sandbox: brigd sends what a file holds to the agent
 * (FS_IMPORT), before anything else of the sandbox may begin.
 */
#ifndef BRIG_DAEMON_LAYERLOAD_H
#define BRIG_DAEMON_LAYERLOAD_H

#include "base/err.h"
#include "base/frame.h"

struct sandbox;
struct layerload;

/* Whether fd can be loaded from: a regular file that is not empty. */
int layerload_check(int fd, struct brig_err *err);
/* For a sandbox that was just asked for. Takes fd over, also by a failure; its offset must be nobody else's.
 * sandbox_check_ready() or sandbox_refuse() follows, from the loop. */
int layerload_start(struct sandbox *sb, int fd, struct brig_err *err);
/* The sandbox ends. */
void layerload_abort(struct sandbox *sb);

/* From the channel; l is NULL after layerload_abort(). */
void layerload_on_credit(struct layerload *l);
void layerload_on_frame(struct layerload *l, const struct frame *f);
/* The channel takes more again. */
void layerload_drained(struct sandbox *sb);

#endif
