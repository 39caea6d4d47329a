/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h: the files of a sandbox, kept: what its writable layer holds beyond its image, in one
 * file of the data folder. The file is what the agent inside exported. It is never read here: only
 * an agent in a sandbox of the same image unpacks it, so a hostile one can harm nobody but itself.
 */
#ifndef BRIG_API_SNAPSHOT_H
#define BRIG_API_SNAPSHOT_H

#include <jansson.h>

#include "api/api.h"

#define SNAPSHOT_ID_MAX 32
/* The writable layer's limit, and its names and times. */
#define SNAPSHOT_BYTES_MAX(disk) ((disk) + (disk) / 4 + (64u << 20))

struct export;
/* e is valid during the call; or err. */
typedef void (*exported)(void *ctx, const struct export *e, const struct brig_err *err);
/* Its file, for reading, with an offset of its own; -errno. */
int snapshot_export_open(const struct export *e);
/* Into a file that is gone after done, unless it became a snapshot. done comes from the loop. */
int snapshot_export(struct box *b, exported done, void *ctx, struct export **ret,
		    struct brig_err *err);
void snapshot_export_cancel(struct export *e);

/* {"id","name",..}, as /v1 tells it. New reference. */
struct store_snapshot;
json_t *snapshot_v1_json(const struct store_snapshot *snap);
/* Its record and its file; false: there is none. */
bool snapshot_drop(struct api *a, const char *tenant, const char *id);
/* Opens the file of a snapshot; -errno. */
int snapshot_open(struct api *a, const char *id);
/* Number of snapshots of a tenant, which are removed if wanted. */
unsigned snapshots_of(struct api *a, const char *tenant, bool remove);
/* At the start: drops files without a record, and records without a file. */
int snapshots_check(struct api *a, struct brig_err *err);

#endif
