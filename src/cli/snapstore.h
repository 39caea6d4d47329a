/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapstore.h: snapshots and checkpoints of this user's own sandboxes, in the data folder. Those of tenants
 * are brig-api's (src/api/snapshot.c).
 *
 * snapshots/<id>.layer is what the agent exported, which nothing on the host reads as anything but bytes;
 * <id>.json is the record. The record comes last and goes first, so a layer without one is what a crash
 * left, and is swept by the next who changes the folder; a file that is being written is locked by its
 * writer.
 */
#ifndef BRIG_CLI_SNAPSTORE_H
#define BRIG_CLI_SNAPSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

#define SNAPSTORE_MAX 1024u /* records */
#define SNAPSTORE_ID_MAX 32

/* The folder. With make it is made, and what crashes left is swept; without, -1 in *ret_dir and success if
 * there is none. */
int snapstore_open(bool make, int *ret_dir, struct brig_err *err);

/* A file to export into, locked, with a passing name. */
struct snapfile {
	int fd;
	char name[64]; /* "" once it is kept or dropped */
};
#define SNAPFILE_NONE { .fd = -1 }
int snapstore_new(int dir, struct snapfile *ret, struct brig_err *err);
/* Gives it its id (set in meta) and writes the record. After success it survives whatever happens. */
int snapstore_keep(int dir, struct snapfile *f, json_t *meta, struct brig_err *err);
/* Takes its name away; the descriptor stays. */
void snapstore_unname(int dir, struct snapfile *f);
void snapstore_drop(int dir, struct snapfile *f);

/* All records, oldest first. New reference; a record that cannot be read is left out. dir may be -1. */
json_t *snapstore_list(int dir);
/* By id, its unambiguous beginning (>= 6 characters), or name. New reference. */
int snapstore_find(int dir, const char *ref, json_t **ret, struct brig_err *err);
/* Its layer, for reading, with an offset of its own. */
int snapstore_layer(int dir, const json_t *meta, struct brig_err *err);
int snapstore_remove(int dir, const json_t *meta, struct brig_err *err);

#endif
