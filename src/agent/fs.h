/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.h: file operations. Each acts with the credentials of the user that the request names, so
 * an answer never shows, and a change never touches, more than that user could by a command.
 *
 * STAT, MKDIR, MOVE and SYMLINK are done while their frame is handled. The others are objects that
 * embed struct fs_op and work in slices of FS_SLICE_NS, so that a huge tree delays nobody else.
 */
#ifndef BRIG_AGENT_FS_H
#define BRIG_AGENT_FS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "agent/core.h"
#include "agent/fs_meta.h"
#include "agent/users.h"

#define FS_SLICE_NS 2000000ull

/* A checked request. The paths are absolute, or relative to the user's home and made absolute. */
struct fs_request {
	uint16_t type;
	uint32_t id;
	struct brig_fs_req h;
	struct user user;
	struct creds creds;
	const char *asked;  /* the (last) path as the host wrote it */
	const char *target; /* SYMLINK: the text of the link */
	const char *pairs;  /* WRITE with XATTRS: h.arg2 pairs of strings */
	char path[PATH_MAX];
	char to[PATH_MAX]; /* MOVE */
};
/* 0, or -errno: the request is malformed, or its user unknown. */
int fs_request_parse(const struct frame *f, struct fs_request *ret);

/* The opener of FS_*. */
int fs_open(struct agent *a, const struct frame *f);

/* An operation whose stream is open. `ops` is that of the stream. */
struct fs_op {
	struct stream s;
	struct grave grave;
	void *mem; /* what contains it */
	struct creds creds;
	uint32_t credit;
	struct ev_task task; /* the next slice */
};
void fs_op_start(struct fs_op *op, struct agent *a, const struct fs_request *q,
		 const struct stream_ops *ops, void *mem);
/* Closes the stream without a word; the memory goes after this round. */
void fs_op_leave(struct fs_op *op);
/* FS_DONE, and leaves. err is an errno or 0. */
void fs_op_done(struct fs_op *op, int err, const char *text, uint64_t bytes);
/* FS_DONE on a stream that was never opened, or (open) one that stays open. */
void fs_reply(struct agent *a, uint32_t id, int err, uint32_t flags, uint64_t bytes,
	      const char *text);
static inline struct agent *fs_agent(struct fs_op *op)
{
	return op->s.agent;
}
static inline int fs_enter(struct fs_op *op)
{
	return creds_enter(&op->s.agent->self, &op->creds);
}
static inline void fs_leave(struct fs_op *op)
{
	creds_leave(&op->s.agent->self);
}
/* CREDIT of a file operation, the only frame that one of ours takes. 0 or -EPROTO. */
int fs_op_credit(struct fs_op *op, const struct frame *f);
/* The default for stream_ops.data: no data belongs here. */
int fs_op_no_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof);

/* Names of the owners seen last, so that a listing does not read passwd for every entry. */
struct fs_names {
	struct {
		bool known;
		unsigned id;
		char name[USER_NAME_MAX];
	} user, group;
};
/* A file as an FS_ENTRY tells it. */
struct fs_named {
	struct stat st;
	const char *path; /* as the entry calls it */
	int dirfd;	  /* where name is found */
	const char *name;
	const char *whole; /* absolute; for RESOLVE */
	uint32_t flags;	   /* BRIG_FS_META, BRIG_FS_RESOLVE */
};
/* The payload of FS_ENTRY. Returns its length; buf holds FS_ENTRY_MAX bytes. */
#define FS_ENTRY_MAX \
	(sizeof(struct brig_fs_entry) + 2 * PATH_MAX + 2 * USER_NAME_MAX + FS_META_TEXT_MAX)
size_t fs_entry_make(uint8_t *buf, const struct fs_named *f, struct fs_names *names);
/* Makes the directories above path, mode 0755. 0 or -errno. */
int fs_make_parents(const char *path);

/* Start of the operations that go on; each switches credentials and answers by itself. */
void fs_read_open(struct agent *a, const struct fs_request *q);
void fs_write_open(struct agent *a, const struct fs_request *q);
void fs_list_open(struct agent *a, const struct fs_request *q);
void fs_remove_open(struct agent *a, const struct fs_request *q);
void fs_watch_open(struct agent *a, const struct fs_request *q);
/* The same for a file that is open already; fd is taken. */
void fs_read_start(struct agent *a, const struct fs_request *q, int fd);
void fs_write_start(struct agent *a, const struct fs_request *q, int fd);

#endif
