/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.h: the last few states of the files of this user's own sandboxes, to go back to. A checkpoint is a
 * snapshot (snapstore.h) of kind "checkpoint", which its sandbox counts: the oldest makes room.
 */
#ifndef BRIG_CLI_CHECKPOINT_H
#define BRIG_CLI_CHECKPOINT_H

#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

#define CHECKPOINTS_KEPT 8u /* of a sandbox, unless another number is given */
#define CHECKPOINTS_MAX 64u
/* Label of a sandbox of which one is taken before each command. */
#define CHECKPOINT_LABEL "brig.checkpoint"

/* Takes one, and drops those of it beyond `keep`, and of sandboxes that are gone. New reference to its record. */
int checkpoint_take(const char *ref, unsigned keep, json_t **ret, json_t **ret_error, struct brig_err *err);
/* The sandbox goes back to its nth last one (1 = the last); those behind it are dropped. As checkpoint_take. */
int checkpoint_undo(const char *ref, unsigned n, json_t **ret, json_t **ret_error, struct brig_err *err);
/* Before a command: takes one if the sandbox wants that. Costs nothing where no sandbox does. */
int checkpoint_before(const char *ref, json_t **ret_error, struct brig_err *err);
/* A sandbox with the label was made. */
int checkpoint_mark(const char *id, struct brig_err *err);
/* Sandboxes were removed: their checkpoints go with them. */
void checkpoint_removed(void);

#endif
