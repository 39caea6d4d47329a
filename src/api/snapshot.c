/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * An export goes into a file with a passing name. A snapshot then gets its own by renameat, after
 * fsync of the file and before fsync of the folder; its record comes last. So a file without a
 * record is one that nobody was told of, and is dropped at the next start. A deletion goes the
 * other way round. (O_TMPFILE and linkat would be tidier, but need /proc/self/fd, which a process
 * that has changed its user may not walk.)
 */
#include "api/audit.h"
#include "api/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/admit.h"
#include "api/call.h"
#include "api/events.h"
#include "api/fsio.h"
#include "api/text.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "daemon/fields.h"
#include "store/store.h"

#define FOLDER "snapshots"
#define NAME_MAX_LEN 128
#define ID_PREFIX "snap"
#define PASSING_PREFIX "export"

/* ---- exports ---- */

struct export
{
	struct api *a;
	struct fsio *fs;
	int fd;
	char name[SNAPSHOT_ID_MAX]; /* of the file; "" once it is a snapshot's */
	exported done;
	void *ctx;
};

static int or_errno(int fd)
{
	return fd < 0 ? -errno : fd;
}

static int folder_open(struct api *a)
{
	return or_errno(openat(a->data_fd, FOLDER,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

static void file_unlink(struct api *a, const char *name)
{
	AUTO_FD dir = folder_open(a);
	if (dir >= 0)
		(void)unlinkat(dir, name, 0);
}

int snapshot_export_open(const struct export *e)
{
	AUTO_FD dir = folder_open(e->a);
	return dir < 0 ? dir : or_errno(openat(dir, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
}

static void export_free(struct export *e)
{
	if (e->name[0])
		file_unlink(e->a, e->name);
	fsio_close(e->fs);
	fd_close(&e->fd);
	free(e);
}

static void export_done(void *ctx, const struct brig_err *err)
{
	struct export *e = ctx;
	e->done(e->ctx, e, err);
	export_free(e);
}

int snapshot_export(struct box *b, exported done, void *ctx, struct export **ret,
		    struct brig_err *err)
{
	AUTO_FD dir = folder_open(b->api);
	struct export *e = calloc(1, sizeof(*e));
	if (!e)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "out of memory");
	e->a = b->api;
	e->done = done;
	e->ctx = ctx;
	e->fd = -1;
	if (dir >= 0 && text_token(PASSING_PREFIX, 10, e->name, sizeof(e->name)) == 0)
		e->fd = openat(dir, e->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (e->fd < 0) {
		int sys = dir < 0 ? -dir : errno;
		e->name[0] = '\0';
		export_free(e);
		return brig_fail(err, BRIG_E_UNAVAILABLE, sys, "make a file in the data folder");
	}
	if (fsio_open(b->api, b->id, "root", &e->fs, err) < 0) {
		export_free(e);
		return -1;
	}
	fsio_export(e->fs, e->fd, SNAPSHOT_BYTES_MAX(b->disk_bytes), export_done, e);
	*ret = e;
	return 0;
}

void snapshot_export_cancel(struct export *e)
{
	export_free(e);
}

/* ---- files ---- */

static bool id_ok(const char *id)
{
	return strncmp(id, ID_PREFIX, strlen(ID_PREFIX)) == 0 && strlen(id) < SNAPSHOT_ID_MAX &&
	       id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789")] == '\0';
}

int snapshot_open(struct api *a, const char *id)
{
	AUTO_FD dir = folder_open(a);
	if (dir < 0 || !id_ok(id))
		return dir < 0 ? dir : -EINVAL;
	return or_errno(openat(dir, id, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
}

/* Gives the file its name, for good. */
static int file_keep(struct export *e, const char *id)
{
	AUTO_FD dir = folder_open(e->a);
	if (dir < 0)
		return dir;
	(void)FAILPOINT("api.snapshot.written");
	if (fsync(e->fd) < 0 || renameat(dir, e->name, dir, id) < 0)
		return -errno;
	e->name[0] = '\0';
	(void)FAILPOINT("api.snapshot.named");
	return fsync(dir) < 0 ? -errno : 0;
}

struct check {
	struct api *a;
	json_t *known; /* id -> tenant */
};

static bool check_record(void *ctx, const struct store_snapshot *snap)
{
	struct check *k = ctx;
	json_object_set_new(k->known, snap->id, json_string(snap->tenant));
	return true;
}

static void check_files(struct check *k, int dir)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;
	while (d && (e = readdir(d))) {
		if (json_object_get(k->known, e->d_name))
			json_object_del(k->known, e->d_name);
		else if (e->d_name[0] != '.')
			(void)unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

int snapshots_check(struct api *a, struct brig_err *err)
{
	struct check k = { .a = a, .known = json_object() };
	const char *id;
	json_t *tenant;
	if (mkdirat(a->data_fd, FOLDER, 0700) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the folder of snapshots");
	int dir = folder_open(a);
	if (dir < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -dir, "open the folder of snapshots");
	store_snapshots(a->store, check_record, &k);
	check_files(&k, dir);
	json_object_foreach(k.known, id, tenant)
	{
		store_snapshot_remove(a->store, json_string_value(tenant), id);
	}
	json_decref(k.known);
	return 0;
}

bool snapshot_drop(struct api *a, const char *tenant, const char *id)
{
	if (!store_snapshot_remove(a->store, tenant, id))
		return false;
	(void)FAILPOINT("api.snapshot.dropped");
	file_unlink(a, id);
	quota_snapshot_gone(a, tenant);
	return true;
}

struct collect {
	const char *tenant;
	json_t *ids;
};

static bool collect_one(void *ctx, const struct store_snapshot *snap)
{
	struct collect *k = ctx;
	if (strcmp(snap->tenant, k->tenant) == 0)
		json_array_append_new(k->ids, json_string(snap->id));
	return true;
}

unsigned snapshots_of(struct api *a, const char *tenant, bool remove)
{
	struct collect k = { .tenant = tenant, .ids = json_array() };
	json_t *v;
	size_t i;
	store_snapshots(a->store, collect_one, &k);
	unsigned n = (unsigned)json_array_size(k.ids);
	json_array_foreach(k.ids, i, v)
	{
		const char *id = json_string_value(v);
		if (remove)
			(void)snapshot_drop(a, tenant, id);
	}
	json_decref(k.ids);
	return n;
}

/* ---- POST /sandboxes/{id}/snapshots ---- */

struct snap_call {
	struct export *export;
	struct charge *charge;
	char name[NAME_MAX_LEN + 1];
};

static void snap_gone(struct call *c)
{
	struct snap_call *s = c->priv;
	if (s->export)
		snapshot_export_cancel(s->export);
	charge_return(s->charge);
	free(s);
}

static json_t *snapshot_json(const char *id, const char *name)
{
	json_t *names = json_array();
	if (name[0])
		json_array_append_new(names, json_string(name));
	return json_pack("{s:s,s:o}", "snapshotID", id, "names", names);
}

static int snapshot_keep(struct call *c, struct export *e, char id[SNAPSHOT_ID_MAX],
			 struct brig_err *err)
{
	struct snap_call *s = c->priv;
	struct box *b = c->box;
	if (text_token(ID_PREFIX, 10, id, SNAPSHOT_ID_MAX) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "no random bytes");
	int r = file_keep(e, id);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "keep the snapshot");
	char *envs = b->envs ? json_dumps(b->envs, JSON_COMPACT) : NULL;
	char *limits = b->limits ? json_dumps(b->limits, JSON_COMPACT) : NULL;
	const struct store_snapshot snap = { .id = id,
					     .tenant = b->tenant,
					     .name = s->name,
					     .box = b->id,
					     .template_id = b->template_id,
					     .image = b->image,
					     .image_name = b->image_name,
					     .tier = b->tier,
					     .user = b->user,
					     .home = b->home,
					     .envs = envs,
					     .limits = limits,
					     .bytes = fsio_bytes(e->fs),
					     .created_ms = wall_ms() };
	r = store_snapshot_add(c->api->store, &snap, err);
	(void)FAILPOINT("api.snapshot.recorded");
	free(envs);
	free(limits);
	if (r < 0) {
		file_unlink(c->api, id);
	} else {
		charge_keep(s->charge);
		s->charge = NULL;
	}
	return r;
}

json_t *snapshot_v1_json(const struct store_snapshot *snap)
{
	char created[TEXT_TIME_MAX];
	text_time(snap->created_ms, created);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:s,s:[s]}", "id", snap->id, "name", snap->name, "tenant",
			 snap->tenant, "sandbox", snap->box, "image", snap->image_name, "digest", snap->image,
			 "tier", snap->tier, "bytes", (json_int_t)snap->bytes, "created", created, "taken", "files");
}

struct one {
	const char *tenant, *id;
	json_t *found;
};

static bool one_is(void *ctx, const struct store_snapshot *snap)
{
	struct one *o = ctx;
	if (strcmp(snap->tenant, o->tenant) != 0 || strcmp(snap->id, o->id) != 0)
		return true;
	o->found = snapshot_v1_json(snap);
	return false;
}

static json_t *snapshot_one(struct api *a, const char *tenant, const char *id)
{
	struct one o = { .tenant = tenant, .id = id };
	store_snapshots(a->store, one_is, &o);
	return o.found;
}

static void snapshot_told(struct call *c, const char *id)
{
	const struct snap_call *s = c->priv;
	events_add(c->api, EVENT_SNAPSHOT, c->box->tenant, c->box->id, http_id(c->r),
		   json_pack("{s:s,s:s}", "snapshot", id, "name", s->name));
	http_reply_json(c->r, 201, c->route->flags & ROUTE_E2B ? snapshot_json(id, s->name) : snapshot_one(c->api, c->box->tenant, id));
}

static void snap_exported(void *ctx, const struct export *e, const struct brig_err *err)
{
	struct call *c = ctx;
	struct snap_call *s = c->priv;
	struct brig_err mine = BRIG_ERR_INIT;
	char id[SNAPSHOT_ID_MAX];
	struct export *own = s->export;
	(void)e; /* the same */
	s->export = NULL;
	if (err) {
		call_fail(c, err);
	} else if (snapshot_keep(c, own, id, &mine) < 0) {
		call_fail(c, &mine);
	} else {
		auditor_subject(c->r, id);
		snapshot_told(c, id);
	}
}

static void snapshot_create(struct call *c)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *name = "";
	struct snap_call *s;
	struct box *b = call_box(c);
	if (!b)
		return;
	if (field_str(c->body, "name", NAME_MAX_LEN, &name, &err) < 0) {
		call_fail(c, &err);
		return;
	}
	if (b->state != BOX_RUNNING) {
		call_fail_text(c, 409, "sandbox '%s' is paused: connect to it first", b->id);
		return;
	}
	if (!(s = calloc(1, sizeof(*s)))) {
		call_fail_text(c, 503, "out of memory");
		return;
	}
	snprintf(s->name, sizeof(s->name), "%s", name);
	c->priv = s;
	c->gone = snap_gone;
	if (call_admit_snapshot(c, &s->charge, &err) < 0 ||
	    snapshot_export(b, snap_exported, c, &s->export, &err) < 0)
		call_fail(c, &err);
}

/* ---- GET /snapshots, DELETE /templates/{id} ---- */

struct snap_list {
	struct call *c;
	const char *box, *name, *after;
	unsigned limit;
	bool found, more; /* found: the place where the page begins */
	char last[SNAPSHOT_ID_MAX];
	json_t *all;
};

static bool list_one(void *ctx, const struct store_snapshot *snap)
{
	struct snap_list *l = ctx;
	if (!call_may_see(l->c, snap->tenant) || (l->box && strcmp(l->box, snap->box) != 0) ||
	    (l->name && strcmp(l->name, snap->name) != 0))
		return true;
	if (!l->found) {
		l->found = strcmp(snap->id, l->after) == 0;
		return true;
	}
	if (json_array_size(l->all) == l->limit) {
		l->more = true;
		return false;
	}
	json_array_append_new(l->all, snapshot_json(snap->id, snap->name));
	snprintf(l->last, sizeof(l->last), "%s", snap->id);
	return true;
}

static const char *query(struct call *c, const char *name)
{
	const char *s = http_query(c->r, name);
	return s && *s ? s : NULL;
}

static void snapshot_list(struct call *c)
{
	const char *limit = query(c, "limit");
	struct snap_list l = { .c = c,
			       .box = query(c, "sandboxID"),
			       .name = query(c, "name"),
			       .after = query(c, "nextToken"),
			       .limit = limit ? (unsigned)strtoul(limit, NULL, 10) : 100 };
	if (l.limit < 1 || l.limit > 100) {
		call_fail_text(c, 400, "'limit' is a number from 1 to 100");
		return;
	}
	l.found = !l.after;
	l.all = json_array();
	store_snapshots(c->api->store, list_one, &l);
	if (l.more)
		http_answer_header(c->r, "X-Next-Token", l.last);
	http_reply_json(c->r, 200, l.all);
}

static void snapshot_delete(struct call *c)
{
	char id[CALL_ARG_MAX];
	snprintf(id, sizeof(id), "%.*s", (int)strcspn(c->arg[0], ":"), c->arg[0]);
	if (snapshot_drop(c->api, c->tenant, id))
		http_reply_empty(c->r, 204);
	else
		call_fail_text(c, 404, "template or snapshot '%s' not found", c->arg[0]);
}

const struct route snapshot_routes[] = {
	{ "POST", "/sandboxes/{}/snapshots", ROUTE_E2B | ROUTE_BODY, PERM_SNAPSHOT_WRITE, snapshot_create },
	{ "POST", "/v1/sandboxes/{}/snapshots", ROUTE_BODY, PERM_SNAPSHOT_WRITE, snapshot_create },
	{ "POST", "/v1/sandboxes/{}/fork", ROUTE_BODY, PERM_BOX_WRITE, fork_run },
	{ "POST", "/sandboxes/{}/fork", ROUTE_E2B | ROUTE_BODY, PERM_BOX_WRITE, fork_run },
	{ "GET", "/snapshots", ROUTE_E2B, PERM_SNAPSHOT_READ, snapshot_list },
	{ "DELETE", "/templates/{}", ROUTE_E2B, PERM_SNAPSHOT_WRITE, snapshot_delete },
	{ .method = NULL },
};
