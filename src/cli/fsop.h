/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsop.h: files of a sandbox, one operation at a time over an fs connection (client_proto.h).
 *
 * The sandbox is hostile: sizes, names and order of what it answers are checked here, and a caller
 * can rely on what each function says about its results. Functions return 0 or -1 with err;
 * err->sys is then the errno that the sandbox gave, 0 if the failure is of another kind.
 */
#ifndef BRIG_CLI_FSOP_H
#define BRIG_CLI_FSOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/conn.h"

struct fsop {
	struct conn conn;
	uint32_t stream; /* of the last operation */
};
#define FSOP_NONE                 \
	{                         \
		.conn = CONN_NONE \
	}

#define FSOP_PATH_MAX 4095u /* of a path inside */

struct fs_node {
	char *name;   /* owned; of fsop_list a plain file name, see fsop_name_ok() */
	char *target; /* owned; "" if it is no symbolic link */
	mode_t mode;  /* st_mode */
	uint64_t size;
	int64_t mtime_sec;
	uint32_t mtime_nsec; /* < 10^9 */
};
void fs_node_done(struct fs_node *n);

struct fs_list {
	struct fs_node *v;
	size_t n;
};
void fs_list_done(struct fs_list *l);

/* Connects. user: on whose behalf, NULL = the sandbox's own. *ret_error as conn_reply(). */
int fsop_open(struct fsop *f, const char *id, const char *user, json_t **ret_error,
	      struct brig_err *err);
void fsop_done(struct fsop *f);

int fsop_stat(struct fsop *f, const char *path, bool follow, struct fs_node *ret,
	      struct brig_err *err);
/* The entries of a directory, at most max of them. */
int fsop_list(struct fsop *f, const char *path, size_t max, struct fs_list *ret,
	      struct brig_err *err);
/* Copies at most `size` bytes of a file to fd; more than that is an error of the sandbox, less is
 * not. */
int fsop_read(struct fsop *f, const char *path, uint64_t size, int fd, struct brig_err *err);
/* The writable layer, as agent/layer.h has it, at most max bytes; the operation must be root's. flags of
 * FS_EXPORT. */
int fsop_export(struct fsop *f, uint32_t flags, uint64_t max, int fd, struct brig_err *err);
/* Writes a file, replacing its contents, from what fd yields until its end. */
int fsop_write(struct fsop *f, const char *path, mode_t mode, int fd, struct brig_err *err);
int fsop_mkdir(struct fsop *f, const char *path, mode_t mode, struct brig_err *err);
int fsop_symlink(struct fsop *f, const char *target, const char *path, struct brig_err *err);
int fsop_remove(struct fsop *f, const char *path, struct brig_err *err);

/* Whether a name may be used in a directory of ours: not empty, no '/', neither "." nor "..", not
 * longer than 255 bytes. */
bool fsop_name_ok(const char *name);

#endif
