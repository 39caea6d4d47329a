/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h: the audit log on the disk: a folder of files that are only ever appended to.
 *
 * A file is named by the number of its first record, in 20 digits: 00000000000000000001.jsonl. The
 * chain goes on from file to file. A file that has reached rotate_bytes is left alone, and the next
 * record begins another.
 */
#ifndef BRIG_AUDIT_LOG_H
#define BRIG_AUDIT_LOG_H

#include "audit/record.h"
#include "base/err.h"

#define AUDIT_FOLDER "audit"
#define AUDIT_FILE_DIGITS 20
#define AUDIT_FILE_NAME_MAX (AUDIT_FILE_DIGITS + sizeof(".jsonl"))
#define AUDIT_ROTATE_DEFAULT (64ull * 1024 * 1024)
#define AUDIT_ROTATE_MIN (64ull * 1024)
#define AUDIT_FILES_MAX 4096u

struct audit_log_opts {
	uint64_t rotate_bytes; /* 0 = AUDIT_ROTATE_DEFAULT */
	unsigned keep_files;   /* older ones are removed; 0 = none ever is */
};

struct audit_log;

/* Takes the log in dir_fd's folder AUDIT_FOLDER up where it ended, or begins it. dir_fd and key are
 * borrowed while it is open. A torn end (a power cut) is cut off: *ret_torn bytes. */
int audit_log_open(int dir_fd, struct audit_key *key, const struct audit_log_opts *o,
		   struct audit_log **ret, uint64_t *ret_torn, struct brig_err *err);
/* Heads it, syncs it and closes it. */
void audit_log_close(struct audit_log *l);

/*
 * Allocates the disk space of n more records (and of the heads among them) ahead, so that
 * audit_log_add() of those finds room on a disk that has become full meanwhile. 0 or -errno. The one
 * place that begins a new file. Where the file system cannot allocate ahead, nothing is promised.
 */
int audit_log_reserve(struct audit_log *l, unsigned n);
/* Appends a record; on the disk after the next audit_log_sync(). 0 or -errno: then the log is as it
 * was before. */
int audit_log_add(struct audit_log *l, const struct audit_event *e);
/* Everything that was added is on the disk, or -errno: then that is not known of any of it. */
int audit_log_sync(struct audit_log *l);
/* Signs what was added since the last head, if there is anything, and syncs. */
int audit_log_head(struct audit_log *l);
bool audit_log_dirty(const struct audit_log *l); /* added to since the last sync */

/* The number in a file's name, 0 if it is none of the log's. */
uint64_t audit_file_number(const char *name);
void audit_file_name(uint64_t seq, char ret[AUDIT_FILE_NAME_MAX]);
/* The numbers of the files in a folder, ascending: *ret is to be freed. 0 or -errno. */
int audit_files(int dir_fd, uint64_t **ret, size_t *ret_n);

#endif
