/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Whether a sandbox wants a checkpoint before each command stands in its label; that there is any such sandbox
 * at all, in a file "auto-<id>" of the folder of snapshots. So a command where nobody asked for checkpoints
 * costs one look at that folder, and no question to the server.
 *
 * What a checkpoint costs is the time and the disk space of its files: it is a whole copy, since the writable
 * layer is memory of the sandbox and cannot be shared with a file.
 */
#include "cli/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/conn.h"
#include "cli/remote.h"
#include "cli/server.h"
#include "cli/snapspec.h"
#include "cli/snapstore.h"

#define AUTO "auto-"

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

static bool is_of(const json_t *snapshot, const char *id)
{
	return strcmp(str(snapshot, "kind"), "checkpoint") == 0 && strcmp(str(snapshot, "sandbox"), id) == 0;
}

/* Those of one sandbox, newest first. New reference. */
static json_t *checkpoints_of(int dir, const char *id)
{
	json_t *all = snapstore_list(dir), *mine = json_array(), *v;
	size_t i;
	json_array_foreach(all, i, v) if (is_of(v, id)) json_array_insert(mine, 0, v);
	json_decref(all);
	return mine;
}

/* The sandboxes that this user's server has: {id: true}; NULL if it does not answer. */
static json_t *living(void)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *error = NULL, *row, *there = json_object();
	size_t i;
	if (conn_try(json_pack("{s:s}", "op", "ls"), &ok, &error, &err) == 0) {
		json_array_foreach(json_object_get(ok, "sandboxes"), i, row)
			json_object_set_new(there, str(row, "id"), json_true());
	} else if (error || err.code != BRIG_E_NOT_FOUND) {
		json_decref(there);
		there = NULL;
	}
	json_decref(ok);
	json_decref(error);
	return there; /* no server has no sandboxes */
}

/* A file "auto-<id>", which holds the socket of the server. */
static bool mark_is_stale(int dir, const char *name, const char *socket, const json_t *there)
{
	char text[SERVER_PATH_MAX + 1];
	ssize_t n = fd_slurp_at(dir, name, text, sizeof(text));
	return n >= 0 && strcmp(text, socket) == 0 && !json_object_get(there, name + strlen(AUTO));
}

/* Calls fn for each mark until it says true. */
static bool marks(int dir, bool (*fn)(int dir, const char *name, void *ctx), void *ctx)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	bool done = false;
	if (!d) {
		fd_close(&copy);
		return false;
	}
	while (!done && (e = readdir(d)))
		done = strncmp(e->d_name, AUTO, strlen(AUTO)) == 0 && fn(dir, e->d_name, ctx);
	closedir(d);
	return done;
}

struct stale {
	const char *socket;
	const json_t *there;
};

static bool mark_drop(int dir, const char *name, void *ctx)
{
	const struct stale *s = ctx;
	if (mark_is_stale(dir, name, s->socket, s->there))
		(void)unlinkat(dir, name, 0);
	return false;
}

/* Drops what belongs to sandboxes of this server that are gone. Other servers may have the same folder. */
static void prune(int dir)
{
	char socket[SERVER_PATH_MAX];
	struct brig_err none = BRIG_ERR_INIT;
	if (server_socket_path(NULL, socket, &none) < 0)
		return;
	json_t *there = living();
	if (!there)
		return;
	struct stale s = { .socket = socket, .there = there };
	json_t *all = snapstore_list(dir), *v;
	size_t i;
	json_array_foreach(all, i, v) if (strcmp(str(v, "kind"), "checkpoint") == 0 &&
					  strcmp(str(v, "socket"), socket) == 0 &&
					  !json_object_get(there, str(v, "sandbox")))
		(void)snapstore_remove(dir, v, &none);
	(void)marks(dir, mark_drop, &s);
	json_decref(all);
	json_decref(there);
}

int checkpoint_take(const char *ref, unsigned keep, json_t **ret, json_t **ret_error, struct brig_err *err)
{
	struct snapfile f = SNAPFILE_NONE;
	json_t *info = NULL, *record = NULL;
	char socket[SERVER_PATH_MAX];
	AUTO_FD dir = -1;
	int r = snapspec_inspect(ref, &info, ret_error, err);
	if (r == 0)
		r = server_socket_path(NULL, socket, err);
	if (r == 0)
		r = snapstore_open(true, &dir, err);
	if (r == 0)
		prune(dir);
	if (r == 0)
		r = snapstore_new(dir, &f, err);
	if (r == 0)
		r = snapspec_export(info, f.fd, ret_error, err);
	if (r == 0 && (!(record = snapspec_record(info, "checkpoint", "")) ||
		       json_object_set_new(record, "socket", json_string(socket)) < 0))
		r = brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "write the record");
	if (r == 0)
		r = snapstore_keep(dir, &f, record, err);
	if (r == 0) {
		/* The new one is there: only now the oldest may go. */
		json_t *mine = checkpoints_of(dir, str(info, "id"));
		struct brig_err none = BRIG_ERR_INIT;
		for (size_t i = keep; i < json_array_size(mine); i++)
			(void)snapstore_remove(dir, json_array_get(mine, i), &none);
		json_decref(mine);
		*ret = json_incref(record);
	}
	snapstore_drop(dir, &f);
	json_decref(record);
	json_decref(info);
	return r;
}

static int rewind_to(const char *id, int layer, json_t **ret_error, struct brig_err *err)
{
	struct conn c = CONN_NONE;
	struct frame f;
	json_t *req = json_pack("{s:s,s:s}", "op", "rewind", "id", id), *ok = NULL;
	int r = conn_open(&c, CONN_EXISTING, err);
	if (r == 0)
		r = conn_request(&c, req, &layer, 1, err);
	if (r == 0)
		r = conn_next(&c, &f, err);
	if (r == 0)
		r = conn_reply(&f, &ok, ret_error, err);
	conn_done(&c);
	json_decref(req);
	json_decref(ok);
	return r;
}

int checkpoint_undo(const char *ref, unsigned n, json_t **ret, json_t **ret_error, struct brig_err *err)
{
	json_t *info = NULL, *mine = NULL, *to = NULL;
	AUTO_FD dir = -1;
	if (snapspec_inspect(ref, &info, ret_error, err) < 0)
		return -1;
	const char *id = str(info, "id");
	int r = snapstore_open(true, &dir, err);
	if (r == 0) {
		mine = checkpoints_of(dir, id);
		to = json_array_get(mine, n - 1);
		if (!to) {
			brig_err_set(err, BRIG_E_NOT_FOUND, 0, "sandbox '%s' has %zu checkpoint%s", id,
				     json_array_size(mine), json_array_size(mine) == 1 ? "" : "s");
			r = brig_fix(err, "take one with `brig checkpoint %s` before what may have to be undone", id);
		}
	}
	AUTO_FD layer = r == 0 ? snapstore_layer(dir, to, err) : -1;
	if (r == 0)
		r = layer < 0 ? -1 : rewind_to(id, layer, ret_error, err);
	if (r == 0) {
		/* What came after it has not happened. */
		struct brig_err none = BRIG_ERR_INIT;
		for (unsigned i = 0; i + 1 < n; i++)
			(void)snapstore_remove(dir, json_array_get(mine, i), &none);
		*ret = json_incref(to);
	}
	json_decref(mine);
	json_decref(info);
	return r;
}

static bool found(int dir, const char *name, void *ctx)
{
	(void)dir;
	(void)name;
	(void)ctx;
	return true;
}

int checkpoint_before(const char *ref, json_t **ret_error, struct brig_err *err)
{
	struct brig_err none = BRIG_ERR_INIT;
	json_t *info = NULL, *taken = NULL;
	AUTO_FD dir = -1;
	if (snapstore_open(false, &dir, &none) < 0 || dir < 0 || !marks(dir, found, NULL))
		return 0;
	if (snapspec_inspect(ref, &info, ret_error, err) < 0)
		return -1;
	int r = 0;
	if (strcmp(str(json_object_get(info, "labels"), CHECKPOINT_LABEL), "exec") == 0)
		r = checkpoint_take(str(info, "id"), CHECKPOINTS_KEPT, &taken, ret_error, err);
	json_decref(taken);
	json_decref(info);
	return r < 0 ? brig_ctx(err, "take the checkpoint before the command") : 0;
}

int checkpoint_mark(const char *id, struct brig_err *err)
{
	char name[64], socket[SERVER_PATH_MAX];
	AUTO_FD dir = -1;
	if (server_socket_path(NULL, socket, err) < 0 || snapstore_open(true, &dir, err) < 0)
		return -1;
	snprintf(name, sizeof(name), AUTO "%.32s", id);
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_full(fd, socket, strlen(socket));
	return r < 0 ? brig_fail(err, BRIG_E_UNAVAILABLE, -r, "note that it wants checkpoints") : 0;
}

static bool is_checkpoint(const json_t *v)
{
	return strcmp(str(v, "kind"), "checkpoint") == 0;
}

void checkpoint_removed(void)
{
	struct brig_err none = BRIG_ERR_INIT;
	AUTO_FD dir = -1;
	if (remote_wanted() || snapstore_open(false, &dir, &none) < 0 || dir < 0)
		return;
	json_t *all = snapstore_list(dir), *v;
	size_t i;
	bool any = marks(dir, found, NULL);
	json_array_foreach(all, i, v) any = any || is_checkpoint(v);
	json_decref(all);
	if (any)
		prune(dir);
}
