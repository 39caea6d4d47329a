/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/layer.h"
#include "base/fd.h"

#define FLAGS_KNOWN                                                                               \
	(BRIG_FS_PARENTS | BRIG_FS_RECURSIVE | BRIG_FS_APPEND | BRIG_FS_EXCL | BRIG_FS_NOFOLLOW | \
	 BRIG_FS_XATTRS | BRIG_FS_META | BRIG_FS_RESOLVE | BRIG_FS_HEADS)

void fs_reply(struct agent *a, uint32_t id, int err, uint32_t flags, uint64_t bytes,
	      const char *text)
{
	struct brig_fs_done m = { .err = err, .flags = flags, .bytes = bytes };
	chan_send(&a->chan, BRIG_FS_DONE, id, &m, sizeof(m), text, strlen(text) + 1);
}

/* Absolute from what the host wrote. */
static int path_resolve(const struct user *u, const char *asked, char ret[PATH_MAX])
{
	int n = asked[0] == '/' ? snprintf(ret, PATH_MAX, "%s", asked)
				: snprintf(ret, PATH_MAX, "%s/%s", u->home, asked);
	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int fs_request_parse(const struct frame *f, struct fs_request *ret)
{
	const uint8_t *at = frame_struct(f, &ret->h, sizeof(ret->h)), *end = f->payload + f->h.len;
	const char *user = at ? frame_str(&at, end) : NULL;
	const char *first = user ? frame_str(&at, end) : NULL, *second = NULL;
	bool two = f->h.type == BRIG_FS_MOVE || f->h.type == BRIG_FS_SYMLINK;
	ret->type = f->h.type;
	ret->id = f->h.stream;
	if (first && two)
		second = frame_str(&at, end);
	ret->pairs = (const char *)at;
	if (first && f->h.type == BRIG_FS_WRITE && (ret->h.flags & BRIG_FS_XATTRS) &&
	    fs_meta_check(ret->pairs, (const char *)end, ret->h.arg2) == 0)
		at = end;
	if (!first || (two && !second) || at != end || ret->h.reserved ||
	    (ret->h.flags & ~FLAGS_KNOWN) || (ret->h.mode & ~07777u) ||
	    ret->h.credit > BRIG_CREDIT_MAX)
		return -EINVAL;
	ret->asked = two ? second : first;
	ret->target = first;
	if (ret->asked[0] == '\0' || first[0] == '\0')
		return -ENOENT;
	int r = user_lookup(user, &ret->user);
	if (r < 0)
		return -EINVAL; /* ENOENT would speak of the path */
	creds_of(&ret->user, &ret->creds);
	if (f->h.type == BRIG_FS_MOVE) {
		r = path_resolve(&ret->user, second, ret->to);
		return r < 0 ? r : path_resolve(&ret->user, first, ret->path);
	}
	return path_resolve(&ret->user, ret->asked, ret->path);
}

int fs_make_parents(const char *path)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	/* A trailing slash belongs to the last name. */
	while (n > 1 && path[n - 1] == '/')
		n--;
	for (size_t i = 1; i < n; i++) {
		if (path[i] != '/' || path[i - 1] == '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		/* An existing directory may be in a place where nothing can be made (EROFS,
		 * EACCES): whether the path can be used shows in the end. */
		if (mkdir(part, 0755) < 0 && errno != EEXIST) {
			int err = errno;
			struct stat st;
			if (stat(part, &st) < 0 || !S_ISDIR(st.st_mode))
				return -err;
		}
	}
	return 0;
}

static void name_cached(bool *known, unsigned *cached_id, char *cached, unsigned id,
			void (*lookup)(unsigned, char *, size_t))
{
	if (*known && *cached_id == id)
		return;
	lookup(id, cached, USER_NAME_MAX);
	*known = true;
	*cached_id = id;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
	size_t n = strlen(text) + 1;
	memcpy(at, text, n);
	return at + n;
}

/* Where a link leads to, by the kernel's own word: its mode and its whole path. */
static void link_resolve(const struct fs_named *f, uint32_t *ret_mode, char target[PATH_MAX])
{
	char self[32];
	struct stat st;
	*ret_mode = 0;
	snprintf(target, PATH_MAX, "%s", f->whole);
	AUTO_FD fd = openat(f->dirfd, f->name, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	*ret_mode = st.st_mode;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	char text[PATH_MAX];
	ssize_t n = readlink(self, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	/* A pipe, say, has no path. */
	if (text[0] == '/')
		memcpy(target, text, (size_t)n + 1);
}

size_t fs_entry_make(uint8_t *buf, const struct fs_named *f, struct fs_names *names)
{
	const struct stat *st = &f->st;
	struct brig_fs_entry e = {
		.size = (uint64_t)st->st_size,
		.mtime_sec = st->st_mtim.tv_sec,
		.mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.ino = st->st_ino,
		.nlink = (uint32_t)st->st_nlink,
	};
	char target[PATH_MAX] = "";
	if (S_ISLNK(st->st_mode) && (f->flags & BRIG_FS_RESOLVE)) {
		link_resolve(f, &e.mode, target);
	} else if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(f->dirfd, f->name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
	}
	name_cached(&names->user.known, &names->user.id, names->user.name, st->st_uid, user_name);
	name_cached(&names->group.known, &names->group.id, names->group.name, st->st_gid,
		    group_name);
	memcpy(buf, &e, sizeof(e));
	uint8_t *at = put_text(buf + sizeof(e), f->path);
	at = put_text(at, target);
	at = put_text(at, names->user.name);
	at = put_text(at, names->group.name);
	if (f->flags & BRIG_FS_META)
		at += fs_meta_get(st, f->dirfd, f->name, at);
	return (size_t)(at - buf);
}

static int do_stat(struct agent *a, const struct fs_request *q)
{
	uint8_t buf[FS_ENTRY_MAX];
	struct fs_names names = { 0 };
	struct fs_named f = { .path = q->asked,
			      .dirfd = AT_FDCWD,
			      .name = q->path,
			      .whole = q->path,
			      .flags = q->h.flags };
	bool itself = q->h.flags & (BRIG_FS_NOFOLLOW | BRIG_FS_RESOLVE);
	if (fstatat(AT_FDCWD, q->path, &f.st, itself ? AT_SYMLINK_NOFOLLOW : 0) < 0)
		return -errno;
	size_t n = fs_entry_make(buf, &f, &names);
	chan_send(&a->chan, BRIG_FS_ENTRY, q->id, buf, n, NULL, 0);
	return 0;
}

/* mkdir() itself takes no set-id bits. Through a descriptor: the name may have been exchanged. */
static int set_id_bits(const char *path, mode_t mode)
{
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
}

static int do_mkdir(const struct fs_request *q)
{
	struct stat st;
	if (mkdir(q->path, q->h.mode ? q->h.mode : 0755) == 0)
		return q->h.mode & 06000 ? set_id_bits(q->path, q->h.mode) : 0;
	int err = errno;
	if (err != EEXIST || (q->h.flags & BRIG_FS_EXCL))
		return -err;
	return stat(q->path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -err;
}

static int do_now(struct agent *a, const struct fs_request *q)
{
	const char *made = q->type == BRIG_FS_MOVE ? q->to : q->path;
	int r = 0;
	if (q->type != BRIG_FS_STAT && (q->h.flags & BRIG_FS_PARENTS))
		r = fs_make_parents(made);
	if (r < 0)
		return r;
	switch (q->type) {
	case BRIG_FS_STAT:
		return do_stat(a, q);
	case BRIG_FS_MKDIR:
		return do_mkdir(q);
	case BRIG_FS_MOVE:
		return rename(q->path, q->to) < 0 ? -errno : 0;
	default: /* SYMLINK */
		return symlink(q->target, q->path) < 0 ? -errno : 0;
	}
}

static void open_now(struct agent *a, const struct fs_request *q)
{
	int r = creds_enter(&a->self, &q->creds);
	if (r == 0) {
		r = do_now(a, q);
		creds_leave(&a->self);
	}
	fs_reply(a, q->id, -r, 0, 0, r < 0 ? q->asked : "");
}

int fs_open(struct agent *a, const struct frame *f)
{
	struct fs_request q;
	int r = stream_check(a, f->h.stream);
	if (r == -EEXIST)
		return -EPROTO;
	if (r == 0)
		r = fs_request_parse(f, &q);
	if (r < 0) {
		fs_reply(a, f->h.stream, -r, 0, 0, "request");
		return 0;
	}
	switch (q.type) {
	case BRIG_FS_EXPORT:
		layer_export_open(a, &q);
		break;
	case BRIG_FS_IMPORT:
		layer_import_open(a, &q);
		break;
	case BRIG_FS_LIST:
		fs_list_open(a, &q);
		break;
	case BRIG_FS_READ:
		fs_read_open(a, &q);
		break;
	case BRIG_FS_WRITE:
		fs_write_open(a, &q);
		break;
	case BRIG_FS_REMOVE:
		fs_remove_open(a, &q);
		break;
	case BRIG_FS_WATCH:
		fs_watch_open(a, &q);
		break;
	default:
		open_now(a, &q);
		break;
	}
	return 0;
}

void fs_op_start(struct fs_op *op, struct agent *a, const struct fs_request *q,
		 const struct stream_ops *ops, void *mem)
{
	op->mem = mem;
	op->creds = q->creds;
	op->credit = q->h.credit;
	stream_add(a, &op->s, q->id, ops);
}

void fs_op_leave(struct fs_op *op)
{
	stream_remove(&op->s);
	/* A slice may still be queued for this round; it finds nothing to do. */
	op->s.id = 0;
	agent_bury(op->s.agent, &op->grave, op->mem);
}

void fs_op_done(struct fs_op *op, int err, const char *text, uint64_t bytes)
{
	fs_reply(op->s.agent, op->s.id, err, 0, bytes, text);
	op->s.ops->close(&op->s);
}

int fs_op_credit(struct fs_op *op, const struct frame *f)
{
	struct brig_credit m;
	if (f->h.type != BRIG_CREDIT)
		return -EPROTO;
	frame_struct(f, &m, sizeof(m));
	return m.chan == BRIG_CHAN_FS ? credit_add(&op->credit, m.bytes) : -EPROTO;
}

int fs_op_no_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof)
{
	(void)s;
	(void)type;
	(void)p;
	(void)n;
	(void)eof;
	return -EPROTO;
}
