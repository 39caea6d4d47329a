/* SPDX-License-Identifier: Apache-2.0 */
/* cp.h: the two directions of `brig cp`. */
#ifndef BRIG_CLI_CP_H
#define BRIG_CLI_CP_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/fsop.h"

struct cp_job {
	struct fsop *fs;
	bool follow;	     /* a source that is a symbolic link: copy what it points to */
	bool many;	     /* one of several sources */
	uint64_t bytes_left; /* may still be copied */
	uint64_t files_left;
	unsigned skipped; /* things that are no file, directory or link; each was told */
};
#define CP_DEPTH_MAX 128

/* From src in the sandbox to dst on the host. */
int cp_out(struct cp_job *j, const char *src, const char *dst, struct brig_err *err);
/* From src on the host to dst in the sandbox. */
int cp_in(struct cp_job *j, const char *src, const char *dst, struct brig_err *err);

/* Counts one more thing, and its bytes, against the job's bounds. */
int cp_count(struct cp_job *j, uint64_t bytes, struct brig_err *err);

#endif
