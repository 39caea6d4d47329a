/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/snapstore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "cli/server.h"

#define FOLDER "snapshots"
#define PREFIX "snap"
#define PASSING "new-"
#define RECORD_MAX (1024u * 1024u)

static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";

static void token(char ret[17])
{
	uint8_t r[16];
	size_t n = 0;
	while (n < sizeof(r)) {
		ssize_t k = getrandom(r + n, sizeof(r) - n, 0);
		n += k > 0 ? (size_t)k : 0;
	}
	for (n = 0; n < sizeof(r); n++)
		ret[n] = letters[r[n] % (sizeof(letters) - 1)];
	ret[n] = '\0';
}

static bool id_ok(const char *id)
{
	size_t n = strlen(id);
	return n > strlen(PREFIX) && n < SNAPSTORE_ID_MAX && strncmp(id, PREFIX, strlen(PREFIX)) == 0 &&
	       strspn(id, letters) == n;
}

/* "<id>" of "<id>.layer"; false for other names. */
static bool id_of(const char *name, const char *suffix, char ret[SNAPSTORE_ID_MAX])
{
	size_t n = strlen(name), k = strlen(suffix);
	if (n <= k || n - k >= SNAPSTORE_ID_MAX || strcmp(name + n - k, suffix) != 0)
		return false;
	memcpy(ret, name, n - k);
	ret[n - k] = '\0';
	return id_ok(ret);
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

/* ---- what a crash left ---- */

static bool is_abandoned(int dir, const char *name)
{
	AUTO_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void sweep(int dir)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	if (!d) {
		fd_close(&copy);
		return;
	}
	/* A file is not its maker's yet between its birth and its lock: file_new() keeps us out. The next one
	 * that comes by looks again. */
	if (flock(copy, LOCK_EX | LOCK_NB) < 0) {
		closedir(d);
		return;
	}
	while ((e = readdir(d))) {
		char id[SNAPSTORE_ID_MAX], record[SNAPSTORE_ID_MAX + 8];
		bool passing = strncmp(e->d_name, PASSING, strlen(PASSING)) == 0;
		bool layer = id_of(e->d_name, ".layer", id);
		if (!passing && !layer)
			continue;
		/* The lock first: its holder writes the record before he lets go. */
		if (!is_abandoned(dir, e->d_name))
			continue;
		if (layer) {
			snprintf(record, sizeof(record), "%s.json", id);
			if (faccessat(dir, record, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
				continue;
		}
		(void)unlinkat(dir, e->d_name, 0);
	}
	closedir(d);
}

int snapstore_open(bool make, int *ret_dir, struct brig_err *err)
{
	char data[PATH_MAX];
	if (server_data_dir(NULL, data, sizeof(data), err) < 0)
		return -1;
	*ret_dir = -1;
	if (make && mkdir(data, 0755) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the data folder '%s'", data);
	AUTO_FD top = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 && errno == ENOENT && !make)
		return 0;
	if (top < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the data folder '%s'", data);
	if (make && mkdirat(top, FOLDER, 0700) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make '%s/" FOLDER "'", data);
	int dir = openat(top, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT)
		return 0;
	if (dir < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open '%s/" FOLDER "'", data);
	if (make)
		sweep(dir);
	*ret_dir = dir;
	return 0;
}

/* ---- writing ---- */

/* A new file, locked: of somebody who lives. */
static int file_new(int dir, const char *name, int flags)
{
	while (flock(dir, LOCK_SH) < 0)
		if (errno != EINTR)
			return -errno;
	int fd = openat(dir, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : fd;
	if (r < 0)
		fd_close(&fd);
	flock(dir, LOCK_UN);
	return r;
}

int snapstore_new(int dir, struct snapfile *ret, struct brig_err *err)
{
	char t[17];
	token(t);
	snprintf(ret->name, sizeof(ret->name), PASSING "%s.layer", t);
	ret->fd = file_new(dir, ret->name, O_RDWR);
	if (ret->fd >= 0)
		return 0;
	int sys = -ret->fd;
	ret->fd = -1;
	ret->name[0] = '\0';
	return brig_fail(err, BRIG_E_UNAVAILABLE, sys, "make a file in the data folder");
}

void snapstore_unname(int dir, struct snapfile *f)
{
	if (f->name[0])
		(void)unlinkat(dir, f->name, 0);
	f->name[0] = '\0';
}

void snapstore_drop(int dir, struct snapfile *f)
{
	snapstore_unname(dir, f);
	fd_close(&f->fd);
}

static int record_write(int dir, const char *id, const json_t *meta)
{
	char passing[64], name[SNAPSTORE_ID_MAX + 8];
	AUTO_FREE char *text = json_dumps(meta, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	snprintf(passing, sizeof(passing), PASSING "%s.json", id);
	snprintf(name, sizeof(name), "%s.json", id);
	AUTO_FD fd = file_new(dir, passing, O_WRONLY);
	int r = fd < 0 ? fd : fd_write_full(fd, text, strlen(text));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	(void)FAILPOINT("snapshot.record");
	if (r == 0 && renameat(dir, passing, dir, name) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		(void)unlinkat(dir, passing, 0);
	return r < 0 ? r : fsync(dir) < 0 ? -errno : 0;
}

int snapstore_keep(int dir, struct snapfile *f, json_t *meta, struct brig_err *err)
{
	char t[17], id[SNAPSTORE_ID_MAX], name[SNAPSTORE_ID_MAX + 8];
	struct stat st;
	token(t);
	snprintf(id, sizeof(id), PREFIX "%s", t);
	snprintf(name, sizeof(name), "%s.layer", id);
	if (fstat(f->fd, &st) < 0 || json_object_set_new(meta, "id", json_string(id)) < 0 ||
	    json_object_set_new(meta, "bytes", json_integer((json_int_t)st.st_size)) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "keep the snapshot");
	(void)FAILPOINT("snapshot.written");
	if (fsync(f->fd) < 0 || renameat(dir, f->name, dir, name) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "keep the snapshot");
	memcpy(f->name, name, strlen(name) + 1);
	(void)FAILPOINT("snapshot.named");
	int r = fsync(dir) < 0 ? -errno : record_write(dir, id, meta);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "write the record of the snapshot");
	(void)FAILPOINT("snapshot.kept");
	f->name[0] = '\0';
	return 0;
}

int snapstore_remove(int dir, const json_t *meta, struct brig_err *err)
{
	char name[SNAPSTORE_ID_MAX + 8];
	const char *id = str(meta, "id");
	snprintf(name, sizeof(name), "%s.json", id);
	(void)FAILPOINT("snapshot.drop");
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "remove the record of '%s'", id);
	(void)fsync(dir);
	(void)FAILPOINT("snapshot.dropped");
	snprintf(name, sizeof(name), "%s.layer", id);
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "remove the files of '%s'", id);
	return 0;
}

/* ---- reading ---- */

static json_t *record_read(int dir, const char *name, const char *id)
{
	AUTO_FREE char *text = malloc(RECORD_MAX);
	ssize_t n = text ? fd_slurp_at(dir, name, text, RECORD_MAX) : -1;
	json_t *o = n > 0 ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (json_is_object(o) && strcmp(str(o, "id"), id) == 0)
		return o;
	json_decref(o);
	return NULL;
}

static int by_age(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;
	json_int_t p = json_integer_value(json_object_get(*x, "created_ms"));
	json_int_t q = json_integer_value(json_object_get(*y, "created_ms"));
	return p < q ? -1 : p > q ? 1 : strcmp(str(*x, "id"), str(*y, "id"));
}

json_t *snapstore_list(int dir)
{
	int copy = dir < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	json_t *found[SNAPSTORE_MAX], *all = json_array();
	size_t n = 0;
	struct dirent *e;
	if (!d)
		fd_close(&copy);
	while (d && n < SNAPSTORE_MAX && (e = readdir(d))) {
		char id[SNAPSTORE_ID_MAX];
		if (id_of(e->d_name, ".json", id) && (found[n] = record_read(dir, e->d_name, id)))
			n++;
	}
	if (d)
		closedir(d);
	qsort(found, n, sizeof(found[0]), by_age);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(all, found[i]);
	return all;
}

int snapstore_find(int dir, const char *ref, json_t **ret, struct brig_err *err)
{
	json_t *all = snapstore_list(dir), *v, *found = NULL;
	size_t i, n = strlen(ref), several = 0;
	json_array_foreach(all, i, v)
	{
		const char *id = str(v, "id"), *name = str(v, "name");
		if (strcmp(id, ref) == 0 || (*name && strcmp(name, ref) == 0)) {
			found = v;
			several = 1;
			break;
		}
		if (n >= 6 && strncmp(id, ref, n) == 0) {
			found = v;
			several++;
		}
	}
	if (several == 1)
		*ret = json_incref(found);
	json_decref(all);
	if (several == 1)
		return 0;
	if (several)
		brig_err_set(err, BRIG_E_INVALID, 0, "'%.64s' is the beginning of several ids", ref);
	else
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "no snapshot '%.64s'", ref);
	return brig_fix(err, "see `brig snapshot ls` for what exists");
}

int snapstore_layer(int dir, const json_t *meta, struct brig_err *err)
{
	char name[SNAPSTORE_ID_MAX + 8];
	struct stat st;
	snprintf(name, sizeof(name), "%s.layer", str(meta, "id"));
	AUTO_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return brig_fail(err, BRIG_E_CORRUPT, errno, "open the files of snapshot '%s'", str(meta, "id"));
	if (fstat(fd, &st) < 0 || st.st_size != json_integer_value(json_object_get(meta, "bytes")))
		return brig_fail(err, BRIG_E_CORRUPT, 0, "the files of snapshot '%s' are not as long as they were",
				 str(meta, "id"));
	return fd_steal(&fd);
}
