/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A connection is brigd's op "fs" as one user; stream ids tell its requests apart. Of the box's
 * default user the home is known, and the connection can be used at once. Of another user nothing
 * is known to us: the first thing that the connection does is to read /etc/passwd in the sandbox,
 * and a user that is not in it is an unknown user to the clients. That file belongs to the tenant;
 * a home that it made up is a path that is resolved inside, with that user's rights.
 *
 * The socket is always read. A stream that must not go on is held by not granting it credit: a
 * request whose client is slow stops itself only.
 *
 * A connection that breaks tells all its requests and leaves the box's list; it is freed when its
 * last use ends.
 */
#include "api/boxfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define PASSWD_MAX (256u * 1024u)

struct boxfs {
	LIST_ENTRY(boxfs) link; /* of the box, while it can be used */
	struct box *b;
	struct link_op *op; /* NULL: broken */
	char user[ENVD_USER_MAX];
	char home[256]; /* "" = not known yet */
	unsigned nuses, holds;
	uint32_t next_id;
	LIST_HEAD(boxfs_use_list, boxfs_use) uses;
	LIST_HEAD(boxfs_req_list, boxfs_req) reqs;
	struct ev_timer idle;
	struct boxfs_req passwd;
	struct buf passwd_text;
};

/* ---- life ---- */

static struct ev *ev_of(struct boxfs *fs)
{
	return &fs->b->api->ev;
}

static void fs_unlist(struct boxfs *fs)
{
	struct link_op *op = fs->op;
	fs->op = NULL;
	if (!op)
		return;
	LIST_REMOVE(fs, link);
	ev_timer_stop(ev_of(fs), &fs->idle);
	link_cancel(op);
}

static void fs_free_unused(struct boxfs *fs)
{
	if (fs->nuses || fs->holds || fs->op)
		return;
	buf_done(&fs->passwd_text);
	box_unref(fs->b);
	free(fs);
}

/* Ends everything on it: requests get an errno, those who wait get the code. */
static void fs_break(struct boxfs *fs, int err, enum connect_code code, const char *text)
{
	struct boxfs_req *q;
	struct boxfs_use *u;
	fs->holds++;
	fs_unlist(fs);
	while ((q = LIST_FIRST(&fs->reqs))) {
		LIST_REMOVE(q, link);
		q->fs = NULL;
		if (q->ops->done)
			q->ops->done(q, err, "connection");
	}
again:
	for (u = LIST_FIRST(&fs->uses); u; u = LIST_NEXT(u, link)) {
		if (!u->waiting)
			continue;
		u->waiting = false;
		LIST_REMOVE(u, link);
		u->fs = NULL;
		fs->nuses--;
		u->ready(u, code, text);
		goto again;
	}
	fs->holds--;
	fs_free_unused(fs);
}

static void fs_idle(void *ctx)
{
	struct boxfs *fs = ctx;
	fs_unlist(fs);
	fs_free_unused(fs);
}

static void fs_ready(struct boxfs *fs)
{
	struct boxfs_use *u;
	fs->holds++;
again:
	for (u = LIST_FIRST(&fs->uses); u; u = LIST_NEXT(u, link)) {
		if (!u->waiting)
			continue;
		u->waiting = false;
		u->ready(u, CONNECT_OK, "");
		goto again;
	}
	fs->holds--;
	fs_free_unused(fs);
}

/* ---- the home of a user ---- */

static void passwd_unknown(struct boxfs *fs)
{
	char text[ENVD_USER_MAX + 32];
	snprintf(text, sizeof(text), "invalid username: '%s'", fs->user);
	fs_break(fs, EPERM, CONNECT_UNAUTHENTICATED, text);
}

static void passwd_data(struct boxfs_req *q, const void *p, size_t n, bool eof)
{
	struct boxfs *fs = q->ctx;
	(void)eof;
	if (buf_add(&fs->passwd_text, p, n) < 0)
		passwd_unknown(fs);
}

static void passwd_done(struct boxfs_req *q, int err, const char *text)
{
	struct boxfs *fs = q->ctx;
	(void)text;
	if (!fs->op)
		return; /* it broke: those who wait are told there */
	/* EINVAL: the agent does not know the user, and so did not even look at the path. */
	if (err ||
	    envd_passwd_home((const char *)buf_head(&fs->passwd_text), buf_len(&fs->passwd_text),
			     fs->user, fs->home, sizeof(fs->home)) < 0) {
		passwd_unknown(fs);
		return;
	}
	buf_done(&fs->passwd_text);
	fs_ready(fs);
}

static const struct boxfs_ops passwd_ops = { .data = passwd_data, .done = passwd_done };

/* ---- frames ---- */

static struct boxfs_req *req_find(struct boxfs *fs, uint32_t id)
{
	struct boxfs_req *q;
	for (q = LIST_FIRST(&fs->reqs); q; q = LIST_NEXT(q, link)) {
		if (q->id == id)
			return q;
	}
	return NULL;
}

static void on_done(struct boxfs_req *q, const struct frame *f)
{
	struct brig_fs_done m;
	const uint8_t *at = frame_struct(f, &m, sizeof(m));
	const char *text = at ? frame_str(&at, f->payload + f->h.len) : NULL;
	if (!at)
		return;
	if (m.flags & BRIG_FS_DONE_OPEN) {
		if (q->ops->open)
			q->ops->open(q);
		return;
	}
	LIST_REMOVE(q, link);
	q->fs = NULL;
	if (q->ops->done)
		q->ops->done(q, m.err >= 0 && m.err < 4096 ? m.err : EIO, text ? text : "");
}

static void on_event(struct boxfs_req *q, const struct frame *f)
{
	struct brig_fs_event m;
	const uint8_t *at = frame_struct(f, &m, sizeof(m));
	const char *path = at ? frame_str(&at, f->payload + f->h.len) : NULL;
	boxfs_grant(q, f->h.len);
	if (path && q->ops->event)
		q->ops->event(q, m.kind, path);
}

static void on_entry(struct boxfs_req *q, const struct frame *f)
{
	struct envd_entry e;
	boxfs_grant(q, f->h.len);
	if (envd_entry_parse(f, &e) == 0 && q->ops->entry)
		q->ops->entry(q, &e);
}

static void link_frame(void *ctx, const struct frame *f)
{
	struct boxfs *fs = ctx;
	struct boxfs_req *q = req_find(fs, f->h.stream);
	struct brig_credit credit;
	if (!q)
		return; /* closed, and this crossed it */
	switch (f->h.type) {
	case BRIG_FS_DATA:
		if (q->ops->data)
			q->ops->data(q, f->payload, f->h.len, f->h.flags & BRIG_FF_EOF);
		break;
	case BRIG_FS_ENTRY:
		on_entry(q, f);
		break;
	case BRIG_FS_EVENT:
		on_event(q, f);
		break;
	case BRIG_FS_DONE:
		on_done(q, f);
		break;
	case BRIG_CREDIT:
		if (frame_struct(f, &credit, sizeof(credit)) && credit.chan == BRIG_CHAN_FS &&
		    q->ops->credit)
			q->ops->credit(q, credit.bytes);
		break;
	default:
		break;
	}
}

static void link_failed(void *ctx, json_t *error)
{
	struct boxfs *fs = ctx;
	struct brig_err err = BRIG_ERR_INIT;
	api_err_from(error, &err);
	fs_break(fs, EIO, CONNECT_UNAVAILABLE, err.msg);
}

static void link_end(void *ctx, json_t *status)
{
	(void)status;
	fs_break(ctx, EIO, CONNECT_UNAVAILABLE, "the sandbox has ended");
}

static const struct link_ops fs_link_ops = {
	.frame = link_frame,
	.failed = link_failed,
	.end = link_end,
};

/* ---- requests ---- */

int boxfs_open(struct boxfs *fs, struct boxfs_req *q, uint16_t type, const struct brig_fs_req *h,
	       const char *const *strings, unsigned n, const struct boxfs_ops *ops, void *ctx)
{
	struct buf p = BUF_INIT(BRIG_FRAME_MAX);
	if (!fs || !fs->op)
		return EIO;
	int r = buf_add(&p, h, sizeof(*h));
	if (r == 0)
		r = buf_add_str(&p, ""); /* brigd puts the user in */
	for (unsigned i = 0; i < n && r == 0; i++)
		r = strings[i][0] || i ? buf_add_str(&p, strings[i]) : -EINVAL;
	do
		q->id = ++fs->next_id;
	while (q->id == 0 || req_find(fs, q->id));
	if (r == 0)
		r = link_send(fs->op, type, 0, q->id, buf_head(&p), buf_len(&p));
	buf_done(&p);
	if (r < 0)
		return r == -ENOBUFS || r == -EMSGSIZE ? E2BIG : -r;
	q->fs = fs;
	q->ops = ops;
	q->ctx = ctx;
	LIST_INSERT_HEAD(&fs->reqs, q, link);
	return 0;
}

void boxfs_close(struct boxfs_req *q)
{
	struct boxfs *fs = q->fs;
	if (!fs)
		return;
	LIST_REMOVE(q, link);
	q->fs = NULL;
	if (fs->op)
		link_send(fs->op, BRIG_CLOSE, 0, q->id, NULL, 0);
}

void boxfs_grant(struct boxfs_req *q, size_t n)
{
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = (uint32_t)n };
	if (q->fs && q->fs->op && n)
		link_send(q->fs->op, BRIG_CREDIT, 0, q->id, &m, sizeof(m));
}

void boxfs_write(struct boxfs_req *q, const void *p, size_t n, bool eof)
{
	const uint8_t *at = p;
	while (q->fs && q->fs->op) {
		size_t k = n < BRIG_FRAME_MAX ? n : BRIG_FRAME_MAX;
		bool last = eof && k == n;
		if (k == 0 && !last)
			return;
		link_send(q->fs->op, BRIG_FS_DATA, last ? BRIG_FF_EOF : 0, q->id, at, k);
		at += k;
		n -= k;
		if (last)
			return;
	}
}

/* ---- uses ---- */

static struct boxfs *fs_find(struct box *b, const char *user)
{
	struct boxfs *fs;
	for (fs = LIST_FIRST(&b->boxfs); fs; fs = LIST_NEXT(fs, link)) {
		if (fs->nuses < BOXFS_USES_MAX && strcmp(fs->user, user) == 0)
			return fs;
	}
	return NULL;
}

static struct boxfs *fs_new(struct box *b, const char *user, struct brig_err *err)
{
	struct boxfs *fs;
	unsigned n = 0;
	for (fs = LIST_FIRST(&b->boxfs); fs; fs = LIST_NEXT(fs, link))
		n++;
	if (n >= BOXFS_MAX) {
		brig_err_set(err, BRIG_E_BUSY, 0, "%u file connections are open", BOXFS_MAX);
		return NULL;
	}
	fs = calloc(1, sizeof(*fs));
	if (!fs) {
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "open files of the sandbox");
		return NULL;
	}
	snprintf(fs->user, sizeof(fs->user), "%s", user);
	fs->b = b;
	fs->idle = (struct ev_timer){ .fn = fs_idle, .ctx = fs };
	fs->passwd_text = (struct buf)BUF_INIT(PASSWD_MAX);
	json_t *req = json_pack("{s:s,s:s,s:s}", "op", "fs", "id", b->id, "user", user);
	if (link_start(b->api->link, req, true, &fs_link_ops, fs, &fs->op, err) < 0) {
		free(fs);
		return NULL;
	}
	link_bulk(fs->op);
	box_ref(b);
	LIST_INSERT_HEAD(&b->boxfs, fs, link);
	return fs;
}

/* Begins to learn the home. */
static int fs_look(struct boxfs *fs)
{
	struct brig_fs_req h = { .credit = PASSWD_MAX, .arg2 = PASSWD_MAX };
	if (strcmp(fs->user, fs->b->user) == 0 && fs->b->home[0] == '/') {
		snprintf(fs->home, sizeof(fs->home), "%s", fs->b->home);
		return 0;
	}
	return boxfs_open_path(fs, &fs->passwd, BRIG_FS_READ, &h, "/etc/passwd", &passwd_ops, fs);
}

void boxfs_want(struct box *b, const char *user, struct boxfs_use *u, boxfs_ready ready, void *ctx)
{
	struct brig_err err = BRIG_ERR_INIT;
	char text[ENVD_USER_MAX + 32];
	*u = (struct boxfs_use){ .ready = ready, .ctx = ctx };
	if (!envd_user_sane(user)) {
		snprintf(text, sizeof(text), "invalid username: '%.*s'", ENVD_USER_MAX, user);
		ready(u, CONNECT_UNAUTHENTICATED, text);
		return;
	}
	struct boxfs *fs = fs_find(b, user);
	bool fresh = !fs;
	if (fresh && !(fs = fs_new(b, user, &err))) {
		ready(u, connect_code_of(err.code), err.msg);
		return;
	}
	ev_timer_stop(ev_of(fs), &fs->idle);
	LIST_INSERT_HEAD(&fs->uses, u, link);
	u->fs = fs;
	fs->nuses++;
	if (fresh && fs_look(fs) != 0) {
		u->waiting = true;
		fs_break(fs, EIO, CONNECT_UNAVAILABLE, "the sandbox cannot be reached");
		return;
	}
	if (fs->home[0])
		ready(u, CONNECT_OK, "");
	else
		u->waiting = true;
}

void boxfs_unwant(struct boxfs_use *u)
{
	struct boxfs *fs = u->fs;
	if (!fs)
		return;
	LIST_REMOVE(u, link);
	u->fs = NULL;
	u->waiting = false;
	if (--fs->nuses == 0 && fs->op &&
	    ev_timer_set(ev_of(fs), &fs->idle, clock_now() + BOXFS_IDLE_MS * MS_NS) < 0)
		fs_unlist(fs);
	fs_free_unused(fs);
}

const char *boxfs_home(const struct boxfs *fs)
{
	return fs->home;
}

const char *boxfs_user(const struct boxfs *fs)
{
	return fs->user;
}

void boxfs_box_done(struct box *b)
{
	struct boxfs *fs;
	while ((fs = LIST_FIRST(&b->boxfs))) {
		struct boxfs_req *q;
		struct boxfs_use *u;
		fs_unlist(fs);
		while ((q = LIST_FIRST(&fs->reqs))) {
			LIST_REMOVE(q, link);
			q->fs = NULL;
		}
		while ((u = LIST_FIRST(&fs->uses))) {
			LIST_REMOVE(u, link);
			u->fs = NULL;
			u->waiting = false;
		}
		fs->nuses = 0;
		fs_free_unused(fs);
	}
}
