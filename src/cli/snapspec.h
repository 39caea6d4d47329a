/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapspec.h: taking the files of a sandbox together with what a copy of it begins with, and making sandboxes
 * of that. On this machine; elsewhere brig-api does it.
 */
#ifndef BRIG_CLI_SNAPSPEC_H
#define BRIG_CLI_SNAPSPEC_H

#include <jansson.h>

#include "base/err.h"
#include "cli/snapstore.h"

/* What inspect tells of a sandbox; *ret_error as conn_reply(). New reference. */
int snapspec_inspect(const char *ref, json_t **ret, json_t **ret_error, struct brig_err *err);
/* Its files as they are, into a file that was made for it. */
int snapspec_export(const json_t *info, int fd, json_t **ret_error, struct brig_err *err);
/* The SPEC of a copy. New reference. */
json_t *snapspec_of(const json_t *info);
/* The record of a snapshot, without what snapstore_keep() adds. New reference; NULL: out of memory. */
json_t *snapspec_record(const json_t *info, const char *kind, const char *name);
/* What `spec` leaves open is as in the snapshot. */
int snapspec_merge(json_t *spec, const json_t *snapshot, struct brig_err *err);
/* The same for a snapshot that is named, and opens its layer. */
int snapspec_use(json_t *spec, const char *ref, int *ret_fd, struct brig_err *err);

#endif
