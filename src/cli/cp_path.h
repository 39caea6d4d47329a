/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cp_path.h: what the arguments of `brig cp` mean: which side a place is on, and where a source
 * ends up, by Docker's rules. Pure functions.
 */
#ifndef BRIG_CLI_CP_PATH_H
#define BRIG_CLI_CP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* "ID:PATH" is a place in a sandbox if ID is not empty and has no '/'; anything else, and whatever
 * begins with '.' or '/', is a path of the host. */
struct cp_place {
	char id[128]; /* "" = the host */
	const char *path;
};
int cp_place_parse(const char *text, struct cp_place *ret, struct brig_err *err);

enum cp_kind { CP_NONE, CP_FILE, CP_DIR }; /* what is there: nothing, no directory, a directory */

struct cp_target {
	bool into; /* the source becomes an entry `name` of the destination, else the destination
		      itself */
	char name[256];
};
/* many: there are several sources. -1 with err where the rules forbid it. */
int cp_target_find(const char *src, bool src_is_dir, const char *dst, enum cp_kind dst_kind,
		   bool many, struct cp_target *ret, struct brig_err *err);

/* dir and name joined by one slash; -1 if it does not fit. */
int cp_join(const char *dir, const char *name, char *ret, size_t cap);
/* Splits a path into the folder it is in ("." if none is named) and its last part, without trailing
 * slashes; -1 if the last part is empty, "." or "..", or does not fit. */
int cp_split(const char *path, char *dir, size_t cap, char name[256]);

#endif
