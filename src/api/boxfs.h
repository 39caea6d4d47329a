/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boxfs.h: files of a box, as one of its users: a connection to brigd (op fs) that several requests
 * share and that is kept open for a while, because the next request is likely to want it, too.
 */
#ifndef BRIG_API_BOXFS_H
#define BRIG_API_BOXFS_H

#include "api/api.h"
#include "api/connect.h"
#include "api/envd_entry.h"

/* Users of one connection at a time; each opens few streams. Their upload windows (1 MiB each,
 * agent) must fit LINK_QUEUE_MAX together. */
#define BOXFS_USES_MAX 12u
#define BOXFS_IDLE_MS 30000u
/* Connections of one box. */
#define BOXFS_MAX 128u

struct boxfs;
struct boxfs_use;

/* fs is NULL when there will be none; then code and text say why. */
typedef void (*boxfs_ready)(struct boxfs_use *u, enum connect_code code, const char *text);
struct boxfs_use {
	LIST_ENTRY(boxfs_use) link;
	struct boxfs *fs; /* NULL: not in use */
	bool waiting;
	boxfs_ready ready;
	void *ctx;
};
/* Finds or opens a connection as `user`, whose home is then known. ready may be called at once. */
void boxfs_want(struct box *b, const char *user, struct boxfs_use *u, boxfs_ready ready, void *ctx);
/* Of none is allowed. All requests of the use must be closed before. */
void boxfs_unwant(struct boxfs_use *u);
const char *boxfs_home(const struct boxfs *fs);
const char *boxfs_user(const struct boxfs *fs);
/* For envd_box_done(): no use is told, all find their fs gone. */
void boxfs_box_done(struct box *b);

/* ---- requests: FS_* of agent_proto.h ---- */

struct boxfs_req;
/* Any may be NULL. */
struct boxfs_ops {
	void (*entry)(struct boxfs_req *q, const struct envd_entry *e);
	void (*data)(struct boxfs_req *q, const void *p, size_t n, bool eof);
	void (*credit)(struct boxfs_req *q, uint32_t bytes);
	void (*event)(struct boxfs_req *q, uint32_t kind, const char *path);
	void (*open)(struct boxfs_req *q); /* a watch stands */
	/* Last: q is closed. err is an errno, text the path or step that failed. */
	void (*done)(struct boxfs_req *q, int err, const char *text);
};
struct boxfs_req {
	LIST_ENTRY(boxfs_req) link;
	struct boxfs *fs; /* NULL: closed */
	uint32_t id;
	const struct boxfs_ops *ops;
	void *ctx;
};

/* strings are those behind the user. 0, or an errno: then q is not open. */
int boxfs_open(struct boxfs *fs, struct boxfs_req *q, uint16_t type, const struct brig_fs_req *h,
	       const char *const *strings, unsigned n, const struct boxfs_ops *ops, void *ctx);
static inline int boxfs_open_path(struct boxfs *fs, struct boxfs_req *q, uint16_t type,
				  const struct brig_fs_req *h, const char *path,
				  const struct boxfs_ops *ops, void *ctx)
{
	return boxfs_open(fs, q, type, h, &path, 1, ops, ctx);
}
/* Without a word of done. Closing a closed one is allowed. */
void boxfs_close(struct boxfs_req *q);
/* Lets the other side send n more bytes. */
void boxfs_grant(struct boxfs_req *q, size_t n);
/* Data of a write, within the credit that credit() told. */
void boxfs_write(struct boxfs_req *q, const void *p, size_t n, bool eof);

#endif
