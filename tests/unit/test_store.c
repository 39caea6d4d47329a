/* SPDX-License-Identifier: Apache-2.0 */
/* What brig-api keeps: it is there after a restart, secrets are not, and a disk that fails is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/fd.h"
#include "store/store.h"

struct folder {
	char path[64];
	int fd;
};

static int folder_make(void **state)
{
	static struct folder f;
	snprintf(f.path, sizeof(f.path), "/tmp/brig-store-XXXXXX");
	assert_non_null(mkdtemp(f.path));
	f.fd = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = &f;
	return f.fd < 0;
}

static int folder_drop(void **state)
{
	struct folder *f = *state;
	static const char *const names[] = { "api.db", "api.db-wal", "api.db-shm",
					     "api.db-journal" };
	for (unsigned i = 0; i < 4; i++)
		unlinkat(f->fd, names[i], 0);
	close(f->fd);
	return rmdir(f->path);
}

static struct store *opened(struct folder *f)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = NULL;
	if (store_open(f->fd, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static struct store_key key_of(const char *id, const char *text)
{
	struct store_key k = { .created_ms = 1000 };
	snprintf(k.id, sizeof(k.id), "%s", id);
	snprintf(k.name, sizeof(k.name), "name of %s", id);
	snprintf(k.tenant, sizeof(k.tenant), "t");
	snprintf(k.role, sizeof(k.role), "developer");
	snprintf(k.scopes, sizeof(k.scopes), "run");
	k.expires_ms = 9000;
	SHA256((const uint8_t *)text, strlen(text), k.hash);
	return k;
}

static void keys_survive_and_are_revoked(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	struct store_key a = key_of("a", "secret-a"), b = key_of("b", "secret-b");
	assert_null(store_key_at(s, 0));
	assert_int_equal(store_key_add(s, &a, &err), 0);
	assert_int_equal(store_key_add(s, &b, &err), 0);
	assert_int_equal(store_key_add(s, &b, &err), -1);
	assert_int_equal(err.code, BRIG_E_EXISTS);
	store_key_used(s, "b", 5000000);
	store_close(s);
	s = opened(*state);
	assert_string_equal(store_key_find(s, a.hash)->id, "a");
	assert_string_equal(store_key_find(s, b.hash)->name, "name of b");
	assert_int_equal(store_key_find(s, b.hash)->used_ms, 5000000);
	assert_null(store_key_find(s, key_of("c", "secret-c").hash));
	assert_true(store_key_revoke(s, "a", 77));
	assert_false(store_key_revoke(s, "a", 78));
	assert_null(store_key_get(s, "a"));
	assert_int_equal(store_key_find(s, a.hash)->revoked_ms, 77);
	store_close(s);
	s = opened(*state);
	assert_int_equal(store_key_find(s, a.hash)->revoked_ms, 77);
	assert_null(store_key_get(s, "a"));
	assert_string_equal(store_key_get(s, "b")->role, "developer");
	assert_string_equal(store_key_get(s, "b")->scopes, "run");
	assert_int_equal(store_key_get(s, "b")->expires_ms, 9000);
	store_close(s);
}

static void rotate_old(struct store *s, struct store_key *old, int64_t until_ms)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store_key made = key_of(until_ms ? "later" : "now", until_ms ? "later" : "now");
	assert_int_equal(store_key_add(s, old, &err), 0);
	assert_int_equal(store_key_rotate(s, old->id, &made, until_ms, 1000, &err), 0);
	assert_string_equal(store_key_find(s, made.hash)->id, made.id);
}

static void a_rotation_is_kept(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	struct store_key a = key_of("a", "secret-a"), b = key_of("b", "secret-b");
	rotate_old(s, &a, 5000);
	rotate_old(s, &b, 0);
	assert_int_equal(store_key_rotate(s, "b", &b, 0, 1000, &err), -1);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
	store_close(s);
	s = opened(*state);
	assert_int_equal(store_key_get(s, "a")->expires_ms, 5000);
	assert_null(store_key_get(s, "b"));
	assert_int_equal(store_key_find(s, b.hash)->revoked_ms, 1000);
	assert_int_equal(store_key_get(s, "later")->expires_ms, 9000);
	assert_int_equal(store_key_get(s, "now")->revoked_ms, 0);
	store_close(s);
}

/* As many as are remembered, and then the one that was revoked first is forgotten. */
static void what_was_revoked_long_ago_is_forgotten(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	char id[24];
	for (unsigned i = 0; i <= STORE_REVOKED_MAX; i++) {
		snprintf(id, sizeof(id), "k%u", i);
		struct store_key k = key_of(id, id);
		assert_int_equal(store_key_add(s, &k, &err), 0);
		assert_true(store_key_revoke(s, id, 10 + i));
	}
	assert_null(store_key_find(s, key_of("k0", "k0").hash));
	assert_non_null(store_key_find(s, key_of("k1", "k1").hash));
	store_close(s);
	s = opened(*state);
	assert_null(store_key_find(s, key_of("k0", "k0").hash));
	assert_int_equal(store_key_find(s, key_of(id, id).hash)->revoked_ms,
			 10 + STORE_REVOKED_MAX);
	store_close(s);
}

static void tenant_seen(void *ctx, const struct store_tenant *t)
{
	char *text = ctx;
	size_t n = strlen(text);
	snprintf(text + n, 256 - n, "%s %d %s;", t->name, t->disabled, t->policy);
}

static void a_tenant_goes_with_its_keys(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	struct store_key a = key_of("a", "secret-a"), b = key_of("b", "secret-b");
	struct store_tenant t = { .name = "t", .policy = "{\"quota_sandboxes\":3}" };
	struct store_tenant u = { .name = "u", .policy = "{}", .disabled = true };
	struct store_tag tag = { .name = "img", .tag = "v1", .image = "sha256:1" }, got;
	char text[256] = "";
	snprintf(b.tenant, sizeof(b.tenant), "u");
	store_tenant_put(s, &t);
	store_tenant_put(s, &u);
	assert_int_equal(store_key_add(s, &a, &err), 0);
	assert_int_equal(store_key_add(s, &b, &err), 0);
	assert_int_equal(store_tag_put(s, "t", &tag, &err), 0);
	store_close(s);
	s = opened(*state);
	store_tenants(s, tenant_seen, text);
	assert_string_equal(text, "t 0 {\"quota_sandboxes\":3};u 1 {};");
	store_tenant_remove(s, "t");
	assert_null(store_key_find(s, a.hash));
	assert_string_equal(store_key_find(s, b.hash)->id, "b");
	store_close(s);
	s = opened(*state);
	text[0] = '\0';
	store_tenants(s, tenant_seen, text);
	assert_string_equal(text, "u 1 {};");
	assert_null(store_key_find(s, a.hash));
	assert_false(store_tag_get(s, "t", "img", "v1", &got));
	store_close(s);
}

/* A database of the first schema, as the first release wrote it. Stands before all other tests:
 * they leave SQLite unable to open a path. */
static void an_old_database_is_taken_over(void **state)
{
	struct folder *f = *state;
	char path[96], sql[512], text[256] = "";
	sqlite3 *db = NULL;
	struct store_key k = key_of("old", "secret-old");
	static const char schema[] =
		"CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, tenant TEXT NOT NULL,"
		" hash BLOB NOT NULL UNIQUE, created_ms INTEGER NOT NULL, used_ms INTEGER NOT "
		"NULL) "
		"STRICT;"
		"CREATE TABLE boxes (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, template_id TEXT "
		"NOT "
		"NULL, alias TEXT NOT NULL, image TEXT NOT NULL, tier TEXT NOT NULL, state TEXT "
		"NOT "
		"NULL, metadata TEXT, envs TEXT, network TEXT, limits TEXT, token TEXT NOT NULL, "
		"traffic_token TEXT NOT NULL, user TEXT NOT NULL, home TEXT NOT NULL, "
		"allow_internet INTEGER NOT NULL, pause_on_timeout INTEGER NOT NULL, auto_resume "
		"INTEGER NOT NULL, started_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, "
		"timeout_ms "
		"INTEGER NOT NULL, cpu_milli INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, "
		"disk_bytes INTEGER NOT NULL) STRICT;"
		"CREATE TABLE results (tenant TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT "
		"NULL, body BLOB NOT NULL, expires_ms INTEGER NOT NULL, PRIMARY KEY (tenant, key)) "
		"STRICT; CREATE INDEX results_expire ON results (expires_ms);"
		"CREATE TABLE snapshots (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT "
		"NULL, box TEXT NOT NULL, template_id TEXT NOT NULL, image TEXT NOT NULL, tier "
		"TEXT "
		"NOT NULL, user TEXT NOT NULL, home TEXT NOT NULL, envs TEXT, limits TEXT, bytes "
		"INTEGER NOT NULL, created_ms INTEGER NOT NULL) STRICT;"
		"CREATE TABLE tags (tenant TEXT NOT NULL, name TEXT NOT NULL, tag TEXT NOT NULL,"
		" image TEXT NOT NULL, created_ms INTEGER NOT NULL, PRIMARY KEY (tenant, name, "
		"tag)) "
		"STRICT; PRAGMA user_version = 1;"
		"INSERT INTO tags VALUES ('tagger', 'n', 'v', 'sha256:1', 1);";
	char hex[2 * STORE_HASH_LEN + 1] = "";
	for (unsigned i = 0; i < STORE_HASH_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", k.hash[i]);
	snprintf(path, sizeof(path), "%s/api.db", f->path);
	snprintf(sql, sizeof(sql), "INSERT INTO keys VALUES ('old', 'n', 'acme', x'%s', 5, 6);",
		 hex);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, schema, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	struct store *s = opened(f);
	const struct store_key *got = store_key_find(s, k.hash);
	assert_string_equal(got->role, "developer");
	assert_string_equal(got->scopes, "");
	assert_string_equal(got->tenant, "acme");
	assert_int_equal(got->expires_ms + got->revoked_ms, 0);
	assert_int_equal(got->used_ms, 6);
	store_tenants(s, tenant_seen, text);
	assert_string_equal(text, "acme 0 {};tagger 0 {};");
	store_close(s);
}

struct seen {
	unsigned n;
	struct store_box last;
	char metadata[64], image[64], name[64];
};

static void box_seen(void *ctx, const struct store_box *b)
{
	struct seen *seen = ctx;
	seen->n++;
	seen->last = *b;
	snprintf(seen->metadata, sizeof(seen->metadata), "%s", b->metadata ? b->metadata : "NULL");
	snprintf(seen->image, sizeof(seen->image), "%s", b->image);
	snprintf(seen->name, sizeof(seen->name), "%s", b->name);
}

static void boxes_are_replaced_and_removed(void **state)
{
	struct store *s = opened(*state);
	struct seen seen = { .n = 0 };
	struct store_box b = { .id = "id1",
			       .tenant = "t",
			       .template_id = "base",
			       .alias = "base",
			       .image = "sha256:1",
			       .tier = "container",
			       .state = "running",
			       .metadata = "{\"a\":\"b\"}",
			       .limits = "{}",
			       .token = "x",
			       .traffic_token = "",
			       .user = "user",
			       .home = "/home/user",
			       .allow_internet = -1,
			       .auto_resume = true,
			       .started_ms = 10,
			       .end_ms = 20,
			       .timeout_ms = 30,
			       .cpu_milli = 40,
			       .memory_bytes = 1ull << 40,
			       .disk_bytes = 50 };
	store_box_put(s, &b);
	b.end_ms = 21;
	b.name = "far";
	store_box_put(s, &b);
	store_close(s);
	s = opened(*state);
	store_boxes(s, box_seen, &seen);
	assert_int_equal(seen.n, 1);
	assert_string_equal(seen.metadata, b.metadata);
	assert_string_equal(seen.image, b.image);
	assert_string_equal(seen.name, "far");
	assert_int_equal(seen.last.end_ms, 21);
	assert_int_equal(seen.last.timeout_ms, 30);
	assert_int_equal(seen.last.cpu_milli, 40);
	assert_int_equal(seen.last.memory_bytes, 1ull << 40);
	assert_int_equal(seen.last.disk_bytes, 50);
	assert_int_equal(seen.last.allow_internet, -1);
	assert_true(seen.last.auto_resume);
	assert_false(seen.last.pause_on_timeout);
	store_box_remove(s, "id1");
	store_box_remove(s, "id1");
	seen.n = 0;
	store_boxes(s, box_seen, &seen);
	assert_int_equal(seen.n, 0);
	store_close(s);
}

static void results_expire(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	struct store_result r = { .body = NULL };
	uint8_t hash[STORE_HASH_LEN] = { 7 };
	store_result_put(s, "t", "k", hash, "body", 4, 1000);
	assert_int_equal(store_result_get(s, "t", "k", 999, &r), 1);
	assert_int_equal(r.n, 4);
	assert_string_equal(r.body, "body");
	assert_memory_equal(r.request, hash, sizeof(hash));
	free(r.body);
	assert_int_equal(store_result_get(s, "other", "k", 999, &r), 0);
	assert_int_equal(store_result_get(s, "t", "k", 1000, &r), 0);
	assert_int_equal(store_result_room(s, 100, 1000, &err), 0);
	assert_int_equal(store_result_room(s, STORE_RESULTS_BYTES_MAX + 1, 1000, &err), -1);
	assert_int_equal(err.code, BRIG_E_BUSY);
	/* What has expired is gone for good. */
	assert_int_equal(store_result_get(s, "t", "k", 0, &r), 0);
	store_close(s);
}

static bool count_one(void *ctx, const struct store_snapshot *snap)
{
	snprintf(ctx, 64, "%s/%s/%llu", snap->id, snap->name, (unsigned long long)snap->bytes);
	return false;
}

static void tag_one(void *ctx, const struct store_tag *t)
{
	snprintf(ctx, 64, "%s", t->tag);
}

static void snapshots_and_tags_are_of_a_tenant(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	struct store_snapshot snap = { .id = "snap1",
				       .tenant = "t",
				       .name = "n",
				       .box = "b",
				       .template_id = "base",
				       .image = "host",
				       .tier = "container",
				       .user = "u",
				       .home = "/",
				       .bytes = 99,
				       .created_ms = 1 };
	struct store_tag tag = { .name = "img", .tag = "v1", .image = "sha256:2" }, got;
	char text[64] = "";
	assert_int_equal(store_snapshot_add(s, &snap, &err), 0);
	assert_int_equal(store_snapshot_add(s, &snap, &err), -1);
	snap.id = "snap2";
	snap.created_ms = 2;
	assert_int_equal(store_snapshot_add(s, &snap, &err), 0);
	store_snapshots(s, count_one, text);
	assert_string_equal(text, "snap2/n/99");
	assert_false(store_snapshot_remove(s, "other", "snap2"));
	assert_true(store_snapshot_remove(s, "t", "snap2"));
	assert_false(store_snapshot_remove(s, "t", "snap2"));
	assert_int_equal(store_tag_put(s, "t", &tag, &err), 0);
	assert_true(store_tag_get(s, "t", "img", "v1", &got));
	assert_string_equal(got.image, "sha256:2");
	assert_false(store_tag_get(s, "other", "img", "v1", &got));
	text[0] = '\0';
	store_tags(s, "t", "img", tag_one, text);
	assert_string_equal(text, "v1");
	assert_true(store_tag_remove(s, "t", "img", "v1"));
	assert_false(store_tag_remove(s, "t", "img", "v1"));
	store_close(s);
}

/* must not: a key in any file of the folder */
static void no_file_holds_a_key(void **state)
{
	struct folder *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(f);
	struct store_key k = key_of("a", "e2b_plainkey");
	assert_int_equal(store_key_add(s, &k, &err), 0);
	static char text[1 << 20];
	int fd = openat(f->fd, "api.db-wal", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	ssize_t n = fd_read_full(fd, text, sizeof(text));
	close(fd);
	/* The control: what is stored in plain text is found that way. */
	assert_non_null(memmem(text, (size_t)n, "name of a", 9));
	assert_null(memmem(text, (size_t)n, "e2b_plainkey", 12));
	store_close(s);
}

/* Records of before there were command lines elsewhere. */
static void volume_seen(void *ctx, const struct store_volume *v)
{
	unsigned *n = ctx;
	(*n)++;
	assert_string_equal(v->name, *n == 1 ? "a" : "b");
}

static void volumes_are_found_by_name_and_id_in_their_tenant(void **state)
{
	struct store *s = opened(*state);
	struct store_volume v = { .id = "id1", .tenant = "t", .name = "b", .state = "creating", .bytes = 5,
				  .inodes = 6, .sealed = true, .created_ms = 7 }, got;
	unsigned n = 0;
	store_volume_put(s, &v);
	memcpy(v.id, "id2", 4);
	memcpy(v.name, "a", 2);
	store_volume_put(s, &v);
	store_close(s);
	s = opened(*state);
	assert_true(store_volume_get(s, "t", "b", &got));
	assert_string_equal(got.id, "id1");
	assert_int_equal(got.bytes, 5);
	assert_int_equal(got.inodes, 6);
	assert_true(got.sealed);
	assert_string_equal(got.state, "creating");
	assert_true(store_volume_get(s, "t", "id2", &got));
	assert_false(store_volume_get(s, "u", "b", &got));
	assert_false(store_volume_get(s, "u", "id1", &got));
	store_volumes(s, volume_seen, &n);
	assert_int_equal(n, 2);
	store_volume_remove(s, "id1");
	assert_false(store_volume_get(s, "t", "b", &got));
	store_close(s);
}

static void an_older_schema_is_brought_up(void **state)
{
	struct folder *f = *state;
	struct seen seen = { .n = 0 };
	const struct store_box b = { .id = "id1",
				     .tenant = "t",
				     .template_id = "base",
				     .alias = "",
				     .image = "sha256:1",
				     .tier = "container",
				     .state = "running",
				     .token = "",
				     .traffic_token = "",
				     .user = "user",
				     .home = "/home/user" };
	char path[128];
	sqlite3 *db = NULL;
	struct store *s = opened(f);
	store_box_put(s, &b);
	store_close(s);
	/* The store has replaced SQLite's system calls; the next one to open does it again. */
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	assert_int_equal(vfs->xSetSystemCall(vfs, NULL, NULL), SQLITE_OK);
	snprintf(path, sizeof(path), "%s/api.db", f->path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "ALTER TABLE boxes DROP COLUMN name; DROP TABLE secrets; DROP TABLE volumes; "
				      "DROP TABLE networks;"
				      "ALTER TABLE boxes DROP COLUMN image_name; "
				      "ALTER TABLE snapshots DROP COLUMN image_name; "
				      "PRAGMA user_version = 2",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	s = opened(f);
	store_boxes(s, box_seen, &seen);
	assert_int_equal(seen.n, 1);
	assert_string_equal(seen.image, "sha256:1");
	assert_string_equal(seen.name, "");
	store_close(s);
}

static void a_newer_schema_is_refused(void **state)
{
	struct folder *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(f);
	store_close(s);
	AUTO_FD fd = openat(f->fd, "api.db", O_RDWR | O_CLOEXEC);
	/* user_version is the big-endian number at byte 60 of the file's header. */
	assert_int_equal(pwrite(fd, "\0\0\0\x63", 4, 60), 4);
	assert_int_equal(store_open(f->fd, &s, &err), -1);
	assert_int_equal(err.code, BRIG_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "99"));
}

static void damage_is_told_with_a_remedy(void **state)
{
	struct folder *f = *state;
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = NULL;
	int fd = openat(f->fd, "api.db", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 512; i++)
		assert_int_equal(write(fd, "not a database!!", 16), 16);
	close(fd);
	assert_int_equal(store_open(f->fd, &s, &err), -1);
	assert_int_equal(err.code, BRIG_E_CORRUPT);
	assert_true(err.remedy[0]);
}

static void a_second_brig_api_is_told(void **state)
{
	struct folder *f = *state;
	int fds[2];
	char c;
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct store *own = opened(f);
		(void)own;
		_exit(write(fds[1], "x", 1) == 1 && pause());
	}
	assert_int_equal(read(fds[0], &c, 1), 1);
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = NULL;
	assert_int_equal(store_open(f->fd, &s, &err), -1);
	assert_int_equal(err.code, BRIG_E_BUSY);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fds[0]);
	close(fds[1]);
	/* What a killed one leaves is taken over. */
	store_close(opened(f));
}

/* Whether it could keep something is told without ending the process, and is true again when it
 * can. */
static void a_disk_that_is_full_is_told_and_recovers(void **state)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct store *s = opened(*state);
	struct rlimit before, none;
	struct store_key k = key_of("a", "secret-a");
	assert_int_equal(store_probe(s, &err), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	int refused = store_probe(s, &err);
	int again = store_probe(s, &err);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(refused, -1);
	assert_int_equal(again, -1);
	assert_int_equal(err.code, BRIG_E_UNAVAILABLE);
	assert_non_null(strstr(err.msg, "write to api.db"));
	assert_int_equal(store_probe(s, &err), 0);
	/* Nothing was lost by it, and the schema is what it was. */
	assert_int_equal(store_key_add(s, &k, &err), 0);
	store_close(s);
	s = opened(*state);
	assert_string_equal(store_key_at(s, 0)->id, "a");
	store_close(s);
}

/* The disk takes nothing more: the process must end, and say so, rather than go on with a key that
 * the next one does not know. */
static void a_failed_commit_ends_the_process(void **state)
{
	struct folder *f = *state;
	int fds[2];
	char text[1024] = "";
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct brig_err err = BRIG_ERR_INIT;
		struct store *s = opened(f);
		struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 };
		struct store_key k = key_of("lost", "x");
		dup2(fds[1], 2);
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &none);
		store_key_add(s, &k, &err);
		_exit(99);
	}
	close(fds[1]);
	assert_true(fd_read_full(fds[0], text, sizeof(text) - 1) > 0);
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_non_null(strstr(text, "api.db cannot be used"));
	struct store *s = opened(f);
	assert_null(store_key_at(s, 0));
	store_close(s);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, folder_make, folder_drop)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_old_database_is_taken_over),
		T(keys_survive_and_are_revoked),
		T(a_rotation_is_kept),
		T(what_was_revoked_long_ago_is_forgotten),
		T(a_tenant_goes_with_its_keys),
		T(boxes_are_replaced_and_removed),
		T(results_expire),
		T(snapshots_and_tags_are_of_a_tenant),
		T(no_file_holds_a_key),
		T(volumes_are_found_by_name_and_id_in_their_tenant),
		T(an_older_schema_is_brought_up),
		T(a_newer_schema_is_refused),
		T(damage_is_told_with_a_remedy),
		T(a_second_brig_api_is_told),
		T(a_disk_that_is_full_is_told_and_recovers),
		T(a_failed_commit_ends_the_process),
	};
	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
