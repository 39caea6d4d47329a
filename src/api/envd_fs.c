/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * filesystem.Filesystem of envd, without its watches (envd_watch.c): one or two file requests to
 * the agent as the request's user, and their answers as EntryInfo. A call has one request open at a
 * time (c->q); its state lies in c->priv.
 *
 * A listing is collected, because its order is part of the protocol and the agent's is the
 * directory's: at most LIST_MAX entries and LIST_BYTES_MAX bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/envd.h"
#include "base/fd.h"

#define LIST_MAX 100000u
#define LIST_BYTES_MAX (48u * 1024u * 1024u)
/* A window of entries on their way. */
#define LIST_CREDIT (1024u * 1024u)
#define DEPTH_MAX 64u

struct listed {
	char *path;
	json_t *info;
};

struct fs_call {
	char path[PATH_MAX];
	char made[PATH_MAX]; /* what the last STAT asks for */
	/* ListDir */
	struct listed *list;
	size_t n, cap, bytes;
	bool overflow;
	struct link_op *mv; /* Move, where a rename was not enough */
};

static void fs_call_gone(struct envd_call *c)
{
	struct fs_call *s = c->priv;
	link_cancel(s->mv);
	for (size_t i = 0; i < s->n; i++) {
		free(s->list[i].path);
		json_decref(s->list[i].info);
	}
	free(s->list);
	free(s);
	c->priv = NULL;
}

/* The path of field `key`, resolved, in a fresh state. NULL: the call has failed. */
static struct fs_call *fs_call_new(struct envd_call *c, const char *key)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *asked = "";
	struct fs_call *s = calloc(1, sizeof(*s));
	if (!s) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return NULL;
	}
	c->priv = s;
	c->gone = fs_call_gone;
	if (connect_str(c->msg, key, &asked, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return NULL;
	}
	return envd_call_path(c, asked, s->path) == 0 ? s : NULL;
}

static void fail_errno(struct envd_call *c, int err, const char *path)
{
	if (err == ENOENT)
		envd_fail(c, CONNECT_NOT_FOUND, "file not found: path '%s' does not exist", path);
	else if (err == ENOSPC || err == EDQUOT)
		envd_fail(c, CONNECT_EXHAUSTED, "not enough disk space available: '%s'", path);
	else
		envd_fail(c, connect_code_errno(err), "'%s': %s", path, strerror(err));
}

/* ---- Stat, and the last step of MakeDir and Move ---- */

static void entry_reply(struct boxfs_req *q, const struct envd_entry *e)
{
	struct envd_call *c = q->ctx;
	const struct fs_call *s = c->priv;
	json_t *info = envd_entry_json(e, s->made);
	if (info)
		connect_reply(c->r, json_pack("{s:o}", "entry", info));
	else
		envd_fail(c, CONNECT_INTERNAL, "the name of the file is not UTF-8");
}

static void entry_done(struct boxfs_req *q, int err, const char *text)
{
	struct envd_call *c = q->ctx;
	const struct fs_call *s = c->priv;
	(void)text;
	/* What is below a file does not exist, either. */
	if (err == ENOTDIR)
		err = ENOENT;
	if (!http_answered(c->r))
		fail_errno(c, err ? err : EIO, s->made);
}

static void entry_ask(struct envd_call *c, const char *path)
{
	static const struct boxfs_ops ops = { .entry = entry_reply, .done = entry_done };
	const struct brig_fs_req h = { .flags = BRIG_FS_RESOLVE | BRIG_FS_META };
	struct fs_call *s = c->priv;
	memmove(s->made, path, strlen(path) + 1);
	envd_request(c, BRIG_FS_STAT, &h, path, NULL, &ops);
}

static void stat_go(struct envd_call *c)
{
	struct fs_call *s = fs_call_new(c, "path");
	if (s)
		entry_ask(c, s->path);
}

static void run_stat(struct envd_call *c)
{
	envd_with_fs(c, stat_go);
}

/* ---- MakeDir ---- */

static void exists_reply(struct boxfs_req *q, const struct envd_entry *e)
{
	struct envd_call *c = q->ctx;
	const struct fs_call *s = c->priv;
	if (S_ISDIR(e->e.mode))
		envd_fail(c, CONNECT_EXISTS, "directory already exists: %s", s->path);
	else
		envd_fail(c, CONNECT_INVALID, "path already exists, but it is not a directory: %s",
			  s->path);
}

static void mkdir_done(struct boxfs_req *q, int err, const char *text)
{
	static const struct boxfs_ops ops = { .entry = exists_reply, .done = entry_done };
	const struct brig_fs_req h = { .flags = 0 };
	struct envd_call *c = q->ctx;
	struct fs_call *s = c->priv;
	(void)text;
	if (err == 0) {
		entry_ask(c, s->path);
	} else if (err == EEXIST) {
		memcpy(s->made, s->path, sizeof(s->made));
		envd_request(c, BRIG_FS_STAT, &h, s->path, NULL, &ops);
	} else if (err == ENOTDIR) {
		envd_fail(c, CONNECT_INVALID, "a part of '%s' is not a directory", s->path);
	} else {
		fail_errno(c, err, s->path);
	}
}

static void mkdir_go(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .done = mkdir_done };
	const struct brig_fs_req h = { .flags = BRIG_FS_PARENTS | BRIG_FS_EXCL, .mode = 0755 };
	struct fs_call *s = fs_call_new(c, "path");
	if (s)
		envd_request(c, BRIG_FS_MKDIR, &h, s->path, NULL, &ops);
}

static void run_mkdir(struct envd_call *c)
{
	envd_with_fs(c, mkdir_go);
}

/* ---- Move ---- */

static void mv_end(void *ctx, json_t *status)
{
	struct envd_call *c = ctx;
	struct fs_call *s = c->priv;
	json_t *code = json_object_get(status, "exit_code");
	s->mv = NULL;
	if (json_is_integer(code) && json_integer_value(code) == 0)
		entry_ask(c, s->made);
	else
		envd_fail(c, CONNECT_INTERNAL, "cannot move '%s' to '%s'", s->path, s->made);
}

static void mv_failed(void *ctx, json_t *error)
{
	struct envd_call *c = ctx;
	struct fs_call *s = c->priv;
	struct brig_err err = BRIG_ERR_INIT;
	s->mv = NULL;
	api_err_from(error, &err);
	envd_fail(c, connect_code_of(err.code), "cannot move '%s': %s", s->path, err.msg);
}

static void mv_killed(struct envd_call *c)
{
	struct fs_call *s = c->priv;
	link_cancel(s->mv);
	s->mv = NULL;
}

/* A directory of the image cannot be renamed (overlayfs answers EXDEV): mv copies it, as the user.
 */
static void mv_start(struct envd_call *c)
{
	static const struct link_ops ops = { .failed = mv_failed, .end = mv_end };
	struct brig_err err = BRIG_ERR_INIT;
	struct fs_call *s = c->priv;
	json_t *req = json_pack("{s:s,s:s,s:[s,s,s,s,s],s:s,s:s,s:n,s:n}", "op", "exec", "id",
				c->b->id, "cmd", "mv", "-T", "--", s->path, s->made, "workdir", "/",
				"user", c->user, "timeout_ms", "max_output_bytes");
	c->killed = mv_killed;
	if (link_start(c->b->api->link, req, true, &ops, c, &s->mv, &err) < 0) {
		s->mv = NULL;
		envd_fail(c, connect_code_of(err.code), "%s", err.msg);
	}
}

static void move_done(struct boxfs_req *q, int err, const char *text)
{
	struct envd_call *c = q->ctx;
	struct fs_call *s = c->priv;
	(void)text;
	if (err == 0)
		entry_ask(c, s->made);
	else if (err == ENOENT)
		fail_errno(c, err, s->path);
	else if (err == EXDEV)
		mv_start(c);
	else
		envd_fail(c, connect_code_errno(err), "cannot move '%s' to '%s': %s", s->path,
			  s->made, strerror(err));
}

static void move_go(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .done = move_done };
	const struct brig_fs_req h = { .flags = BRIG_FS_PARENTS };
	struct brig_err err = BRIG_ERR_INIT;
	struct fs_call *s = fs_call_new(c, "source");
	const char *to = "";
	if (!s)
		return;
	if (connect_str(c->msg, "destination", &to, &err) < 0)
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
	else if (envd_call_path(c, to, s->made) == 0)
		envd_request(c, BRIG_FS_MOVE, &h, s->path, s->made, &ops);
}

static void run_move(struct envd_call *c)
{
	envd_with_fs(c, move_go);
}

/* ---- Remove ---- */

static void remove_done(struct boxfs_req *q, int err, const char *text)
{
	struct envd_call *c = q->ctx;
	const struct fs_call *s = c->priv;
	(void)text;
	if (err == 0 || err == ENOENT || err == ENOTDIR)
		connect_reply(c->r, json_object());
	else
		fail_errno(c, err, s->path);
}

static void remove_go(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .done = remove_done };
	const struct brig_fs_req h = { .flags = BRIG_FS_RECURSIVE };
	struct fs_call *s = fs_call_new(c, "path");
	if (s)
		envd_request(c, BRIG_FS_REMOVE, &h, s->path, NULL, &ops);
}

static void run_remove(struct envd_call *c)
{
	envd_with_fs(c, remove_go);
}

/* ---- ListDir ---- */

static int list_add(struct fs_call *s, const struct envd_entry *e)
{
	char path[PATH_MAX];
	if (envd_path_join(s->path, e->path, path) < 0)
		return 0; /* deeper than any path: nobody could ask for it */
	if (s->n == LIST_MAX || s->bytes > LIST_BYTES_MAX)
		return -1;
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		struct listed *mem = reallocarray(s->list, cap, sizeof(*mem));
		if (!mem)
			return -1;
		s->list = mem;
		s->cap = cap;
	}
	struct listed one = { .path = strdup(path), .info = envd_entry_json(e, path) };
	/* A name that is no UTF-8 cannot be told. */
	if (!one.path || !one.info) {
		free(one.path);
		json_decref(one.info);
		return one.path ? 0 : -1;
	}
	s->list[s->n++] = one;
	s->bytes += 512 + strlen(path);
	return 0;
}

static void list_entry(struct boxfs_req *q, const struct envd_entry *e)
{
	struct envd_call *c = q->ctx;
	struct fs_call *s = c->priv;
	if (list_add(s, e) == 0)
		return;
	boxfs_close(q);
	envd_fail(c, CONNECT_EXHAUSTED, "'%s' has more than %u entries", s->path, LIST_MAX);
}

static int listed_compare(const void *a, const void *b)
{
	return envd_path_compare(((const struct listed *)a)->path,
				 ((const struct listed *)b)->path);
}

static void list_done(struct boxfs_req *q, int err, const char *text)
{
	struct envd_call *c = q->ctx;
	struct fs_call *s = c->priv;
	/* A directory below that could not be read only lacks its entries. */
	bool root = strcmp(text, s->path) == 0;
	if (err == ENOTDIR && root) {
		envd_fail(c, CONNECT_INVALID, "path is not a directory: %s", s->path);
		return;
	}
	if (err && (root || s->n == 0)) {
		fail_errno(c, err, s->path);
		return;
	}
	if (s->n)
		qsort(s->list, s->n, sizeof(*s->list), listed_compare);
	json_t *entries = json_array();
	for (size_t i = 0; i < s->n; i++)
		json_array_append(entries, s->list[i].info);
	connect_reply(c->r, json_pack("{s:o}", "entries", entries));
}

static void list_go(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .entry = list_entry, .done = list_done };
	struct brig_fs_req h = { .flags = BRIG_FS_RESOLVE | BRIG_FS_META, .credit = LIST_CREDIT };
	struct brig_err err = BRIG_ERR_INIT;
	struct fs_call *s = fs_call_new(c, "path");
	uint32_t depth = 1;
	if (!s)
		return;
	if (connect_u32(c->msg, "depth", &depth, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return;
	}
	h.arg = depth == 0 ? 1 : depth < DEPTH_MAX ? depth : DEPTH_MAX;
	envd_request(c, BRIG_FS_LIST, &h, s->path, NULL, &ops);
}

static void run_list(struct envd_call *c)
{
	envd_with_fs(c, list_go);
}

const struct envd_method envd_fs_methods[] = {
	{ "/filesystem.Filesystem/Stat", false, run_stat, NULL, NULL },
	{ "/filesystem.Filesystem/MakeDir", false, run_mkdir, NULL, NULL },
	{ "/filesystem.Filesystem/Move", false, run_move, NULL, NULL },
	{ "/filesystem.Filesystem/ListDir", false, run_list, NULL, NULL },
	{ "/filesystem.Filesystem/Remove", false, run_remove, NULL, NULL },
	{ NULL, false, NULL, NULL, NULL },
};
