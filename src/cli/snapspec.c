/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The files are what the agent tells of the writable layer (agent/layer.h): volumes, /proc, /dev and secrets
 * are no part of it, and processes are not stopped for it. What else makes a sandbox, brigd tells by inspect.
 * The image is kept by its digest, because a layer is worth nothing above another one.
 */
#include "cli/snapspec.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/conn.h"
#include "cli/fsop.h"
#include "cli/limit.h"

/* The writable layer's limit, and its names and times: as brig-api has it (SNAPSHOT_BYTES_MAX). */
static uint64_t bytes_max(uint64_t disk)
{
	return disk + disk / 4 + (64u << 20);
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

int snapspec_inspect(const char *ref, json_t **ret, json_t **ret_error, struct brig_err *err)
{
	json_t *req = json_pack("{s:s,s:s}", "op", "inspect", "id", ref);
	if (!req)
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.64s' is no name of a sandbox", ref);
	if (conn_try(req, ret, ret_error, err) == 0)
		return 0;
	if (!*ret_error)
		conn_absent(ref, err);
	return -1;
}

int snapspec_export(const json_t *info, int fd, json_t **ret_error, struct brig_err *err)
{
	struct fsop fs = FSOP_NONE;
	json_int_t disk = json_integer_value(json_object_get(json_object_get(info, "limits"), "disk_bytes"));
	int r = fsop_open(&fs, str(info, "id"), "0", ret_error, err);
	if (r == 0)
		r = fsop_export(&fs, 0, bytes_max((uint64_t)disk), fd, err);
	fsop_done(&fs);
	return r < 0 ? brig_ctx(err, "take the files of sandbox '%s'", str(info, "id")) : 0;
}

/* Limits that are not the usual ones. What is asked for by name must be enforced (specification.md), and what
 * nobody asked for the first time is not asked for the second time either. */
static json_t *limits_of(const json_t *all)
{
	json_t *o = json_object();
	json_int_t memory = json_integer_value(json_object_get(all, "memory_bytes"));
	for (unsigned i = 0; i < LIMIT__N; i++) {
		const struct limit *l = limit_get(i);
		json_t *v = json_object_get(all, l->field);
		uint64_t have = json_is_null(v) ? LIMIT_NONE : (uint64_t)json_integer_value(v);
		uint64_t usual = l->def;
		if (i == LIMIT_disk_bytes && usual > (uint64_t)memory / 2)
			usual = (uint64_t)memory / 2;
		if (v && have != usual)
			json_object_set(o, l->field, v);
	}
	return o;
}

json_t *snapspec_of(const json_t *info)
{
	const char *digest = str(info, "digest");
	json_t *spec = json_object();
	json_object_set_new(spec, "image", json_string(*digest ? digest : str(info, "image")));
	static const char *const same[] = { "tier", "user", "workdir", "env" };
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		json_t *v = json_object_get(info, same[i]);
		if (v && !json_is_null(v))
			json_object_set(spec, same[i], v);
	}
	json_object_set_new(spec, "limits", limits_of(json_object_get(info, "limits")));
	return spec;
}

json_t *snapspec_record(const json_t *info, const char *kind, const char *name)
{
	char created[32];
	uint64_t ms = clock_ns(CLOCK_REALTIME) / MS_NS;
	time_t s = (time_t)(ms / 1000);
	struct tm tm;
	gmtime_r(&s, &tm);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:[s],s:o}", "kind", kind, "name", name, "sandbox",
			 str(info, "id"), "sandbox_name", str(info, "name"), "image", str(info, "image"), "digest",
			 str(info, "digest"), "created", created, "created_ms", (json_int_t)ms, "taken", "files",
			 "spec", snapspec_of(info));
}

/* NAME of "NAME=VALUE". */
static size_t name_len(const char *entry)
{
	return strcspn(entry, "=");
}

static bool names_it(const json_t *env, const char *entry)
{
	size_t i, n = name_len(entry);
	json_t *v;
	json_array_foreach((json_t *)(uintptr_t)env, i, v)
	{
		const char *s = json_string_value(v);
		if (s && name_len(s) == n && strncmp(s, entry, n) == 0)
			return true;
	}
	return false;
}

static int env_merge(json_t *spec, const json_t *from, struct brig_err *err)
{
	json_t *env = json_array(), *own = json_object_get(spec, "env"), *v;
	size_t i;
	json_array_foreach((json_t *)(uintptr_t)from, i, v) if (!names_it(own, json_string_value(v)))
		json_array_append(env, v);
	if (own)
		json_array_extend(env, own);
	return json_object_set_new(spec, "env", env) < 0
		       ? brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request")
		       : 0;
}

int snapspec_merge(json_t *spec, const json_t *snapshot, struct brig_err *err)
{
	const json_t *from = json_object_get(snapshot, "spec");
	json_t *limits = json_object_get(spec, "limits");
	if (!json_is_object(from))
		return brig_fail(err, BRIG_E_CORRUPT, 0, "the record of snapshot '%s' is damaged", str(snapshot, "id"));
	if (limits)
		json_object_update_missing(limits, json_object_get(from, "limits"));
	if (env_merge(spec, json_object_get(from, "env"), err) < 0)
		return -1;
	return json_object_update_missing(spec, (json_t *)(uintptr_t)from) < 0
		       ? brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request")
		       : 0;
}

int snapspec_use(json_t *spec, const char *ref, int *ret_fd, struct brig_err *err)
{
	AUTO_FD dir = -1;
	json_t *snapshot = NULL;
	if (snapstore_open(false, &dir, err) < 0 || snapstore_find(dir, ref, &snapshot, err) < 0)
		return -1;
	int fd = snapstore_layer(dir, snapshot, err);
	int r = fd < 0 ? -1 : snapspec_merge(spec, snapshot, err);
	json_decref(snapshot);
	if (r < 0)
		fd_close(&fd);
	else
		*ret_fd = fd;
	return r;
}
