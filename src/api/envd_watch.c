/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A watch is a file request that stays open: first a STAT (only directories are watched, and the
 * error tells what is wrong), then FS_WATCH. Its events go through a queue, because those with an
 * entry need a STAT first, and their order must stay; one STAT is under way at a time.
 *
 * Two kinds of clients: WatchDir is a stream and takes events as they come; a watcher
 * (CreateWatcher) has no stream and collects until it is asked. Neither may cost more than its
 * bounds: beyond WATCH_QUEUE events, or when the kernel itself lost some, the client is told that
 * events were lost, since it must then look at the directory itself. A stream ends with that error;
 * a watcher tells it once.
 *
 * A watcher lives as long as its box, or until it is removed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/envd.h"
#include "api/text.h"
#include "base/fd.h"

#define WATCH_QUEUE 4096u
#define WATCHERS_MAX 64u
#define WATCH_CREDIT (256u * 1024u)

struct event {
	TAILQ_ENTRY(event) link;
	uint32_t kind;
	char name[]; /* relative; "." is the directory itself */
};

/* Belongs to a call (WatchDir, or CreateWatcher until it stands) or to the box (a watcher). */
struct box_watcher {
	LIST_ENTRY(box_watcher) link; /* of the box, if listed */
	char id[24];
	struct envd_call *c; /* NULL: a watcher */
	bool keep;	     /* is, or becomes, a watcher */
	bool listed, recursive, include_entry, standing, lost, over;
	struct box *b;
	struct boxfs_use fs; /* of its own: a watcher outlives its call */
	struct boxfs_req watch, stat;
	char path[PATH_MAX];
	TAILQ_HEAD(event_queue, event) events; /* not told yet */
	unsigned nevents;
	json_t *collected; /* array, of a watcher */
};

static void event_pop(struct box_watcher *w)
{
	struct event *e = TAILQ_FIRST(&w->events);
	TAILQ_REMOVE(&w->events, e, link);
	w->nevents--;
	free(e);
}

static void watcher_free(struct box_watcher *w)
{
	boxfs_close(&w->watch);
	boxfs_close(&w->stat);
	boxfs_unwant(&w->fs);
	while (!TAILQ_EMPTY(&w->events))
		event_pop(w);
	if (w->listed)
		LIST_REMOVE(w, link);
	json_decref(w->collected);
	free(w);
}

/* ---- telling ---- */

static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = { "EVENT_TYPE_UNSPECIFIED", "EVENT_TYPE_CREATE",
					     "EVENT_TYPE_WRITE",       "EVENT_TYPE_REMOVE",
					     "EVENT_TYPE_RENAME",      "EVENT_TYPE_CHMOD" };
	return names[kind < sizeof(names) / sizeof(names[0]) ? kind : 0];
}

/* The first event leaves the queue. entry is stolen; NULL: none. */
static void event_tell(struct box_watcher *w, json_t *entry)
{
	const struct event *e = TAILQ_FIRST(&w->events);
	/* A name that is no UTF-8 cannot be told. */
	json_t *o = json_pack("{s:s,s:s}", "name", e->name, "type", kind_name(e->kind));
	if (o && entry)
		json_object_set_new(o, "entry", entry);
	else
		json_decref(entry);
	event_pop(w);
	if (!o)
		return;
	if (!w->c) {
		if (json_array_size(w->collected) >= WATCH_QUEUE) {
			w->lost = true;
			json_decref(o);
			return;
		}
		json_array_append_new(w->collected, o);
		return;
	}
	connect_stream_send(w->c->r, json_pack("{s:o}", "filesystem", o));
	envd_alive(w->c);
}

static void events_pump(struct box_watcher *w);

static void stat_entry(struct boxfs_req *q, const struct envd_entry *e)
{
	struct box_watcher *w = q->ctx;
	char path[PATH_MAX];
	const struct event *ev = TAILQ_FIRST(&w->events);
	const char *name = strcmp(ev->name, ".") == 0 ? "" : ev->name;
	boxfs_close(q); /* its done would only say so */
	event_tell(w, envd_path_join(w->path, name, path) == 0 ? envd_entry_json(e, path) : NULL);
	events_pump(w);
}

/* It is gone already: the event is told without. */
static void stat_done(struct boxfs_req *q, int err, const char *text)
{
	struct box_watcher *w = q->ctx;
	(void)err;
	(void)text;
	event_tell(w, NULL);
	events_pump(w);
}

static bool stat_ask(struct box_watcher *w, const struct event *e)
{
	static const struct boxfs_ops ops = { .entry = stat_entry, .done = stat_done };
	const struct brig_fs_req h = { .flags = BRIG_FS_RESOLVE | BRIG_FS_META };
	char path[PATH_MAX];
	const char *name = strcmp(e->name, ".") == 0 ? "" : e->name;
	return envd_path_join(w->path, name, path) == 0 &&
	       boxfs_open_path(w->fs.fs, &w->stat, BRIG_FS_STAT, &h, path, &ops, w) == 0;
}

static void watch_over(struct box_watcher *w)
{
	if (!w->over || w->stat.fs || !w->c)
		return;
	if (w->lost)
		envd_fail(w->c, CONNECT_EXHAUSTED,
			  "events were lost; list '%s' again to see what changed", w->path);
	else
		envd_end(w->c);
}

/* Tells what can be told. */
static void events_pump(struct box_watcher *w)
{
	const struct event *e;
	while (!w->stat.fs && (e = TAILQ_FIRST(&w->events))) {
		bool has_entry = e->kind == BRIG_FS_EV_CREATE || e->kind == BRIG_FS_EV_WRITE ||
				 e->kind == BRIG_FS_EV_CHMOD;
		if (w->c && http_stream_queued(w->c->r) > HTTP_QUEUE_HIGH)
			return; /* drained() goes on */
		if (w->include_entry && has_entry && stat_ask(w, e))
			return;
		event_tell(w, NULL);
	}
	watch_over(w);
}

/* ---- from the agent ---- */

static void watch_event(struct boxfs_req *q, uint32_t kind, const char *path)
{
	struct box_watcher *w = q->ctx;
	size_t n = strlen(path);
	struct event *e = NULL;
	if (!w->standing)
		return;
	if (kind == BRIG_FS_EV_OVERFLOW || w->nevents >= WATCH_QUEUE ||
	    !(e = malloc(sizeof(*e) + n + 2))) {
		w->lost = true;
		if (w->c && !w->keep) {
			w->over = true;
			boxfs_close(q);
			events_pump(w);
		}
		return;
	}
	e->kind = kind;
	memcpy(e->name, n ? path : ".", n ? n + 1 : 2);
	TAILQ_INSERT_TAIL(&w->events, e, link);
	w->nevents++;
	events_pump(w);
}

static void watch_done(struct boxfs_req *q, int err, const char *text)
{
	struct box_watcher *w = q->ctx;
	(void)text;
	if (w->c && !w->standing) {
		envd_fail(w->c, connect_code_errno(err ? err : EIO), "cannot watch '%s': %s",
			  w->path, strerror(err ? err : EIO));
		return;
	}
	w->over = true; /* the directory is gone */
	events_pump(w);
}

static void watch_ping(struct envd_call *c)
{
	if (!http_answered(c->r))
		return;
	connect_stream_send(c->r, json_pack("{s:{}}", "keepalive"));
}

/* The call's watch becomes the box's. */
static void watcher_keep(struct box_watcher *w)
{
	struct envd_call *c = w->c;
	w->c = NULL;
	c->priv = NULL;
	c->gone = NULL;
	w->listed = true;
	LIST_INSERT_HEAD(&w->b->watchers, w, link);
	connect_reply(c->r, json_pack("{s:s}", "watcherId", w->id));
}

static void watch_open(struct boxfs_req *q)
{
	struct box_watcher *w = q->ctx;
	struct envd_call *c = w->c;
	if (w->standing)
		return; /* an agent that says so twice */
	w->standing = true;
	if (w->keep) {
		watcher_keep(w);
		return;
	}
	connect_stream_begin(c->r);
	connect_stream_send(c->r, json_pack("{s:{}}", "start"));
	c->ping = watch_ping;
	envd_alive(c);
}

/* ---- the start ---- */

static void dir_entry(struct boxfs_req *q, const struct envd_entry *e)
{
	static const struct boxfs_ops ops = { .event = watch_event,
					      .open = watch_open,
					      .done = watch_done };
	struct box_watcher *w = q->ctx;
	const struct brig_fs_req h = { .flags = w->recursive ? BRIG_FS_RECURSIVE : 0,
				       .credit = WATCH_CREDIT };
	boxfs_close(q);
	if (!S_ISDIR(e->e.mode)) {
		envd_fail(w->c, CONNECT_INVALID, "path is not a directory: %s", w->path);
		return;
	}
	int err = boxfs_open_path(w->fs.fs, &w->watch, BRIG_FS_WATCH, &h, w->path, &ops, w);
	if (err)
		envd_fail(w->c, connect_code_errno(err), "cannot watch '%s': %s", w->path,
			  strerror(err));
}

static void dir_done(struct boxfs_req *q, int err, const char *text)
{
	const struct box_watcher *w = q->ctx;
	(void)text;
	if (err == ENOENT || err == ENOTDIR)
		envd_fail(w->c, CONNECT_NOT_FOUND, "path not found: %s", w->path);
	else
		envd_fail(w->c, connect_code_errno(err ? err : EIO), "'%s': %s", w->path,
			  strerror(err ? err : EIO));
}

static void call_gone(struct envd_call *c)
{
	struct box_watcher *w = c->priv;
	if (w)
		watcher_free(w);
	c->priv = NULL;
}

static void call_killed(struct envd_call *c)
{
	struct box_watcher *w = c->priv;
	if (!w)
		return;
	boxfs_close(&w->watch);
	boxfs_close(&w->stat);
	boxfs_unwant(&w->fs);
}

static void call_drained(struct envd_call *c)
{
	if (c->priv)
		events_pump(c->priv);
}

static void call_expired(struct envd_call *c)
{
	call_killed(c);
}

static void dir_ask(struct envd_call *c)
{
	static const struct boxfs_ops ops = { .entry = dir_entry, .done = dir_done };
	const struct brig_fs_req h = { .flags = 0 };
	struct brig_err err = BRIG_ERR_INIT;
	struct box_watcher *w = c->priv;
	const char *asked = "";
	int r = connect_str(c->msg, "path", &asked, &err);
	if (r == 0)
		r = envd_path(asked, boxfs_home(w->fs.fs), w->path, &err);
	if (r < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return;
	}
	int e = boxfs_open_path(w->fs.fs, &w->stat, BRIG_FS_STAT, &h, w->path, &ops, w);
	if (e)
		envd_fail(c, connect_code_errno(e), "'%s': %s", w->path, strerror(e));
}

static void own_ready(struct boxfs_use *u, enum connect_code code, const char *text)
{
	struct box_watcher *w = u->ctx;
	if (!w->c)
		return;
	if (code == CONNECT_OK)
		dir_ask(w->c);
	else
		envd_fail(w->c, code, "%s", text);
}

static void watch_begin(struct envd_call *c, bool keep)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct box_watcher *w = calloc(1, sizeof(*w));
	if (w && keep &&
	    (text_token("w", 8, w->id, sizeof(w->id)) < 0 || !(w->collected = json_array()))) {
		free(w);
		w = NULL;
	}
	if (!w) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return;
	}
	TAILQ_INIT(&w->events);
	w->c = c;
	w->b = c->b;
	w->keep = keep;
	c->priv = w;
	c->gone = call_gone;
	c->killed = call_killed;
	c->drained = call_drained;
	c->expired = call_expired;
	if (connect_bool(c->msg, "recursive", &w->recursive, &err) < 0 ||
	    connect_bool(c->msg, "includeEntry", &w->include_entry, &err) < 0)
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
	else
		boxfs_want(c->b, c->user, &w->fs, own_ready, w);
}

static void run_watch(struct envd_call *c)
{
	watch_begin(c, false);
}

/* ---- watchers ---- */

static void run_create(struct envd_call *c)
{
	const struct box_watcher *w;
	unsigned n = 0;
	for (w = LIST_FIRST(&c->b->watchers); w; w = LIST_NEXT(w, link))
		n++;
	if (n >= WATCHERS_MAX)
		envd_fail(c, CONNECT_EXHAUSTED, "%u watchers exist in this sandbox", WATCHERS_MAX);
	else
		watch_begin(c, true);
}

static struct box_watcher *watcher_selected(struct envd_call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *id = "";
	struct box_watcher *w;
	if (connect_str(c->msg, "watcherId", &id, &err) < 0) {
		envd_fail(c, CONNECT_INVALID, "%s", err.msg);
		return NULL;
	}
	for (w = LIST_FIRST(&c->b->watchers); w; w = LIST_NEXT(w, link)) {
		if (strcmp(w->id, id) == 0)
			return w;
	}
	envd_fail(c, CONNECT_NOT_FOUND, "watcher with id %.64s not found", id);
	return NULL;
}

static void run_get(struct envd_call *c)
{
	struct box_watcher *w = watcher_selected(c);
	if (!w)
		return;
	if (w->lost && json_array_size(w->collected) == 0) {
		w->lost = false;
		envd_fail(c, CONNECT_EXHAUSTED,
			  "events were lost; list '%s' again to see what changed", w->path);
		return;
	}
	json_t *events = w->collected, *fresh = json_array();
	if (!fresh) {
		envd_fail(c, CONNECT_EXHAUSTED, "out of memory");
		return;
	}
	w->collected = fresh;
	connect_reply(c->r, json_pack("{s:o}", "events", events));
}

static void run_remove(struct envd_call *c)
{
	struct box_watcher *w = watcher_selected(c);
	if (!w)
		return;
	watcher_free(w);
	connect_reply(c->r, json_object());
}

void envd_watch_box_done(struct box *b)
{
	while (!LIST_EMPTY(&b->watchers))
		watcher_free(LIST_FIRST(&b->watchers));
}

const struct envd_method envd_watch_methods[] = {
	{ "/filesystem.Filesystem/WatchDir", true, run_watch, NULL, NULL },
	{ "/filesystem.Filesystem/CreateWatcher", false, run_create, NULL, NULL },
	{ "/filesystem.Filesystem/GetWatcherEvents", false, run_get, NULL, NULL },
	{ "/filesystem.Filesystem/RemoveWatcher", false, run_remove, NULL, NULL },
	{ NULL, false, NULL, NULL, NULL },
};
