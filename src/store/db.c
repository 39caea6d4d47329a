/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig-api may have an id that cannot walk the path to its own data folder, and holds a descriptor
 * of it instead. SQLite knows only paths, but lets its system calls be replaced: ours take "/NAME"
 * as NAME in that folder and refuse every other path, so SQLite can touch nothing else either. The
 * database is opened once, exclusively: a second brig-api in the same folder is told so, and no
 * shared-memory file is needed.
 *
 * The schema has a number (PRAGMA user_version). step[i] leads from i to i + 1, each in a
 * transaction of its own; a database of a newer brig is refused, not guessed at.
 *
 * The only error that a statement can have in a sane process is a key that exists. Everything else
 * (a full or failing disk, a damaged file) ends the process: see store.h. SQLite reports a failed
 * fsync of a commit as an error of its step, never later.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"

#define DB_NAME "/api.db"
/* The largest single record is the result of an idempotent run, and a page is written twice. */
#define ROOM_BYTES (4u * 1024u * 1024u)
#define ROOM_FREES (64u * 1024u)
#define ROOM_INODES 4u

static const char *const steps[] = {
	/* 0 -> 1 */
	"CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, tenant TEXT NOT NULL,"
	" hash BLOB NOT NULL UNIQUE, created_ms INTEGER NOT NULL, used_ms INTEGER NOT NULL) STRICT;"
	"CREATE TABLE boxes (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, template_id TEXT NOT NULL,"
	" alias TEXT NOT NULL, image TEXT NOT NULL, tier TEXT NOT NULL, state TEXT NOT NULL,"
	" metadata TEXT, envs TEXT, network TEXT, limits TEXT, token TEXT NOT NULL, traffic_token "
	"TEXT NOT NULL,"
	" user TEXT NOT NULL, home TEXT NOT NULL, allow_internet INTEGER NOT NULL,"
	" pause_on_timeout INTEGER NOT NULL, auto_resume INTEGER NOT NULL,"
	" started_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,"
	" cpu_milli INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, disk_bytes INTEGER NOT NULL) "
	"STRICT;"
	"CREATE TABLE results (tenant TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL,"
	" body BLOB NOT NULL, expires_ms INTEGER NOT NULL, PRIMARY KEY (tenant, key)) STRICT;"
	"CREATE INDEX results_expire ON results (expires_ms);"
	"CREATE TABLE snapshots (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL,"
	" box TEXT NOT NULL, template_id TEXT NOT NULL, image TEXT NOT NULL, tier TEXT NOT NULL,"
	" user TEXT NOT NULL, home TEXT NOT NULL, envs TEXT, limits TEXT, bytes INTEGER NOT NULL,"
	" created_ms INTEGER NOT NULL) STRICT;"
	"CREATE TABLE tags (tenant TEXT NOT NULL, name TEXT NOT NULL, tag TEXT NOT NULL,"
	" image TEXT NOT NULL, created_ms INTEGER NOT NULL, PRIMARY KEY (tenant, name, tag)) "
	"STRICT;",
	/* Tenants, which were a word of each record before. What a key could do then is what the role
	 * developer may do. */
	"CREATE TABLE tenants (name TEXT PRIMARY KEY, disabled INTEGER NOT NULL,"
	" policy TEXT NOT NULL, created_ms INTEGER NOT NULL) STRICT;"
	"INSERT INTO tenants SELECT tenant, 0, '{}', 0 FROM (SELECT tenant FROM keys"
	" UNION SELECT tenant FROM boxes UNION SELECT tenant FROM snapshots"
	" UNION SELECT tenant FROM tags);"
	"ALTER TABLE keys ADD COLUMN role TEXT NOT NULL DEFAULT 'developer';"
	"ALTER TABLE keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE keys ADD COLUMN expires_ms INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE keys ADD COLUMN revoked_ms INTEGER NOT NULL DEFAULT 0;",
	/* 2 -> 3: sandboxes that a command line made over the network */
	"ALTER TABLE boxes ADD COLUMN name TEXT NOT NULL DEFAULT '';",
	/* Secrets, encrypted (secret/seal.h). */
	"CREATE TABLE secrets (tenant TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL,"
	" nonce BLOB NOT NULL, value BLOB NOT NULL, created_ms INTEGER NOT NULL,"
	" updated_ms INTEGER NOT NULL, PRIMARY KEY (tenant, name)) STRICT;",
	/* By which name a policy may allow an image; '' = not known. */
	("ALTER TABLE boxes ADD COLUMN image_name TEXT NOT NULL DEFAULT '';"
	 "ALTER TABLE snapshots ADD COLUMN image_name TEXT NOT NULL DEFAULT '';"),
	/* Volumes; what is on the disk has the id only. */
	"CREATE TABLE volumes (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL,"
	" state TEXT NOT NULL, source TEXT NOT NULL, bytes INTEGER NOT NULL, inodes INTEGER NOT NULL,"
	" sealed INTEGER NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (tenant, name)) STRICT;",
	/* Private networks. */
	("CREATE TABLE networks (tenant TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,"
	 " PRIMARY KEY (tenant, name)) STRICT;"),
};
#define SCHEMA ((int)(sizeof(steps) / sizeof(steps[0])))

static const char *const texts[] = {
#define X(name, text) text,
	STORE_STATEMENTS(X)
#undef X
};
_Static_assert(sizeof(texts) / sizeof(texts[0]) == ST__N, "one text per statement");

/* ---- SQLite's system calls, below one folder ---- */

static int folder = -1;

/* NAME of "/NAME", or NULL with errno. */
static const char *inside(const char *path)
{
	if (path[0] == '/' && path[1] && !strchr(path + 1, '/') && strcmp(path, "/..") != 0)
		return path + 1;
	errno = EACCES;
	return NULL;
}

static int sys_open(const char *path, int flags, int mode)
{
	const char *name = inside(path);
	return name ? openat(folder, name, flags | O_NOFOLLOW | O_CLOEXEC, mode) : -1;
}

static int sys_access(const char *path, int mode)
{
	const char *name = inside(path);
	return name ? faccessat(folder, name, mode, 0) : -1;
}

static int sys_stat(const char *path, struct stat *st)
{
	const char *name = inside(path);
	return name ? fstatat(folder, name, st, AT_SYMLINK_NOFOLLOW) : -1;
}

static int sys_unlink(const char *path)
{
	const char *name = inside(path);
	return name ? unlinkat(folder, name, 0) : -1;
}

static int sys_open_directory(const char *path, int *ret)
{
	(void)path;
	*ret = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret >= 0 ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int calls_replace(void)
{
	static const struct {
		const char *name;
		sqlite3_syscall_ptr fn;
	} calls[] = {
		{ "open", (sqlite3_syscall_ptr)sys_open },
		{ "access", (sqlite3_syscall_ptr)sys_access },
		{ "stat", (sqlite3_syscall_ptr)sys_stat },
		{ "lstat", (sqlite3_syscall_ptr)sys_stat },
		{ "unlink", (sqlite3_syscall_ptr)sys_unlink },
		{ "openDirectory", (sqlite3_syscall_ptr)sys_open_directory },
	};
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!vfs || vfs->iVersion < 3 ||
		    vfs->xSetSystemCall(vfs, calls[i].name, calls[i].fn) != SQLITE_OK)
			return -1;
	return 0;
}

/* ---- statements ---- */

void db_fatal(struct store *s, const char *what)
{
	fprintf(stderr,
		"brig-api: the database api.db cannot be used (%s): %s; ending, because an answer "
		"could not be kept\n"
		"  remedy: look at the free space and the health of the disk below the data "
		"folder\n",
		what, s->db ? sqlite3_errmsg(s->db) : "not open");
	_exit(1);
}

sqlite3_stmt *db_start(struct store *s, enum store_stmt which)
{
	sqlite3_stmt *st = s->stmt[which];
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return st;
}

void db_text(sqlite3_stmt *st, int at, const char *text)
{
	sqlite3_bind_text(st, at, text, -1, SQLITE_TRANSIENT);
}

void db_int(sqlite3_stmt *st, int at, int64_t v)
{
	sqlite3_bind_int64(st, at, v);
}

void db_blob(sqlite3_stmt *st, int at, const void *p, size_t n)
{
	/* No pointer would be NULL, which is something else than no bytes. */
	sqlite3_bind_blob64(st, at, n ? p : "", n, SQLITE_TRANSIENT);
}

int db_row(struct store *s, sqlite3_stmt *st)
{
	int r = sqlite3_step(st);
	if (r == SQLITE_ROW)
		return 1;
	if (r != SQLITE_DONE)
		db_fatal(s, sqlite3_sql(st));
	sqlite3_reset(st);
	return 0;
}

int db_change(struct store *s, sqlite3_stmt *st)
{
	int r = sqlite3_step(st);
	if (r == SQLITE_CONSTRAINT) {
		sqlite3_reset(st);
		return -EEXIST;
	}
	if (r != SQLITE_DONE)
		db_fatal(s, sqlite3_sql(st));
	sqlite3_reset(st);
	return sqlite3_changes(s->db);
}

void db_end(sqlite3_stmt *st)
{
	sqlite3_reset(st);
}

const char *db_column(sqlite3_stmt *st, int at)
{
	const unsigned char *t = sqlite3_column_text(st, at);
	return t ? (const char *)t : "";
}

void db_copy(sqlite3_stmt *st, int at, char *dst, size_t cap)
{
	snprintf(dst, cap, "%s", db_column(st, at));
}

int64_t db_number(struct store *s, enum store_stmt which)
{
	sqlite3_stmt *st = db_start(s, which);
	int64_t n = db_row(s, st) ? sqlite3_column_int64(st, 0) : 0;
	db_end(st);
	return n;
}

/* ---- opening ---- */

static int sql(struct store *s, const char *text, const char *doing, struct brig_err *err)
{
	int r = sqlite3_exec(s->db, text, NULL, NULL, NULL);
	if (r == SQLITE_OK)
		return 0;
	if (r == SQLITE_BUSY) {
		brig_err_set(err, BRIG_E_BUSY, 0, "%s: another brig-api uses api.db", doing);
		return brig_fix(err, "end it, or give this one another data folder");
	}
	if (r == SQLITE_NOTADB || r == SQLITE_CORRUPT) {
		brig_err_set(err, BRIG_E_CORRUPT, 0, "%s: api.db is damaged: %s", doing,
			     sqlite3_errmsg(s->db));
		return brig_fix(err,
				"restore it, or move api.db away: keys must then be made anew");
	}
	return brig_fail(err, BRIG_E_UNAVAILABLE, sqlite3_system_errno(s->db), "%s: %s", doing,
			 sqlite3_errmsg(s->db));
}

static int version_read(struct store *s, int *ret, struct brig_err *err)
{
	sqlite3_stmt *st = NULL;
	int r = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL);
	if (r == SQLITE_OK)
		r = sqlite3_step(st) == SQLITE_ROW ? SQLITE_OK : SQLITE_ERROR;
	*ret = r == SQLITE_OK ? sqlite3_column_int(st, 0) : -1;
	sqlite3_finalize(st);
	return *ret >= 0 ? 0 : sql(s, "PRAGMA schema_version", "read api.db", err);
}

static int migrate(struct store *s, struct brig_err *err)
{
	int have = 0;
	if (version_read(s, &have, err) < 0)
		return -1;
	if (have > SCHEMA) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "api.db has schema %d, this brig knows %d: a newer brig made it", have,
			     SCHEMA);
		return brig_fix(err, "run the newer brig, or move api.db away");
	}
	for (; have < SCHEMA; have++) {
		char end[64];
		snprintf(end, sizeof(end), "PRAGMA user_version = %d; COMMIT", have + 1);
		if (sql(s, "BEGIN EXCLUSIVE", "change the schema", err) < 0 ||
		    sql(s, steps[have], "change the schema", err) < 0 ||
		    sql(s, end, "change the schema", err) < 0)
			return -1;
	}
	return 0;
}

static int prepare(struct store *s, struct brig_err *err)
{
	for (unsigned i = 0; i < ST__N; i++)
		if (sqlite3_prepare_v3(s->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i],
				       NULL) != SQLITE_OK)
			return brig_fail(err, BRIG_E_INTERNAL, 0, "prepare '%.100s': %s", texts[i],
					 sqlite3_errmsg(s->db));
	return 0;
}

int store_open(int dir_fd, struct store **ret, struct brig_err *err)
{
	if (folder >= 0)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "a store is open already");
	struct store *s = calloc(1, sizeof(*s));
	if (!s || calls_replace() < 0) {
		free(s);
		return brig_fail(err, BRIG_E_INTERNAL, 0, "set up the database library");
	}
	folder = dir_fd;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
		    SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW;
	mode_t old = umask(0077);
	int r = sqlite3_open_v2(DB_NAME, &s->db, flags, "unix");
	if (r != SQLITE_OK)
		r = brig_fail(err, BRIG_E_UNAVAILABLE, s->db ? sqlite3_system_errno(s->db) : ENOMEM,
			      "open api.db: %s", s->db ? sqlite3_errmsg(s->db) : "no memory");
	/* The order counts: exclusive before WAL, so that no shared memory is made. */
	if (r == 0)
		r = sql(s,
			"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
			"PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
			"PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = 1000;"
			"PRAGMA journal_size_limit = 16777216",
			"open api.db", err);
	if (r == 0)
		r = migrate(s, err);
	if (r == 0)
		r = prepare(s, err);
	if (r == 0)
		r = keys_load(s, err);
	umask(old);
	if (r < 0) {
		store_close(s);
		return -1;
	}
	*ret = s;
	return 0;
}

int store_probe(struct store *s, struct brig_err *err)
{
	char text[64];
	/* As it is already: SQLite writes the page nevertheless. */
	snprintf(text, sizeof(text), "PRAGMA user_version = %d", SCHEMA);
	return sql(s, text, "write to api.db", err);
}

int store_room(const struct store *s, bool frees, struct brig_err *err)
{
	struct statfs f;
	(void)s;
	if (fstatfs(folder, &f) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "look at the data folder");
	uint64_t room = (uint64_t)f.f_bavail * (uint64_t)f.f_bsize;
	/* Some file systems count no inodes. */
	bool inodes = f.f_files == 0 || f.f_ffree >= ROOM_INODES;
	if (room >= (frees ? ROOM_FREES : ROOM_BYTES) && (inodes || frees))
		return 0;
	brig_err_set(err, BRIG_E_UNAVAILABLE, ENOSPC,
		     "the server's data folder has %llu KiB and %llu inodes left, and what cannot be "
		     "recorded is not done",
		     (unsigned long long)(room >> 10), (unsigned long long)f.f_ffree);
	return brig_fix(err, "free space in the file system of the server's data folder");
}

void store_close(struct store *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < ST__N; i++)
		sqlite3_finalize(s->stmt[i]);
	sqlite3_close(s->db);
	folder = -1;
	free(s->keys);
	free(s);
}
