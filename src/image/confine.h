/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine.h: runs one function in a process that can reach nothing but the tree of an image being
 * made, and brings its answer back.
 */
#ifndef BRIG_IMAGE_CONFINE_H
#define BRIG_IMAGE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "brig/ids.h"

/* The first id behind the slots: nobody's. Not the daemon's, so that neither may signal the other,
 * and not one that a sandbox could have, whose stray processes brig-jaild ends by their ids. */
#define CONFINE_ID (BRIG_ID_BASE + BRIG_ID_SLOT * BRIG_ID_SLOTS)
#define CONFINE_EXTRA 6
#define CONFINE_EXTRA_MAX 128u
#define CONFINE_ANSWER_MAX (256u * 1024u) /* bytes of a result */

struct confine_job {
	int root;	/* the directory that becomes its root */
	int input;	/* what it reads: a file, a pipe or a directory; -1 = nothing */
	bool input_dir; /* input is a directory: it gets a detached, read-only copy of its mounts */
	const int *extra; /* directories that it may read, in the same way; they become the
			   * descriptors from CONFINE_EXTRA on */
	unsigned n_extra;
	uint64_t max_file_bytes; /* RLIMIT_FSIZE */
	/* Runs inside. ctx is the caller's memory as it was at the fork; what it changes there is
	 * lost, but for `result`. */
	int (*run)(int root, int input, void *ctx, void *result, struct brig_err *err);
	void *ctx;
	void *result; /* plain bytes, hostile once they are back: check every field */
	size_t result_size;
	int cancel; /* becomes readable when the caller is to stop (a signalfd); -1 = never */
};

/* Waits for the end of the process; it never outlives this call. What the process reports as its
 * error is made printable. BRIG_E_UNSUPPORTED: this host cannot confine it, so it did not run. */
int confine_run(const struct confine_job *job, struct brig_err *err);
/* What a process said that is not trusted, as far as a terminal may see it. Returns -1. */
int confine_said(const struct brig_err *said, struct brig_err *err);

#endif
