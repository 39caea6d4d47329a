/* SPDX-License-Identifier: Apache-2.0 */
/* db.h: the database below store.h: every statement that there is, and the few ways to run one. */
#ifndef BRIG_STORE_DB_H
#define BRIG_STORE_DB_H

#include <sqlite3.h>

#include "store/store.h"

#define STORE_BOX_COLUMNS                                                                        \
	"id, tenant, template_id, alias, image, tier, state, metadata, envs, network, limits, "  \
	"token, "                                                                                \
	"traffic_token, user, home, allow_internet, pause_on_timeout, auto_resume, started_ms, " \
	"end_ms, timeout_ms, cpu_milli, memory_bytes, disk_bytes, name, image_name"
#define STORE_KEY_COLUMNS                                                                     \
	"id, name, tenant, role, scopes, hash, created_ms, used_ms, expires_ms, revoked_ms"
#define STORE_SNAPSHOT_COLUMNS                                                               \
	"id, tenant, name, box, template_id, image, tier, user, home, envs, limits, bytes, " \
	"created_ms, image_name"

#define STORE_VOLUME_COLUMNS "id, tenant, name, state, source, bytes, inodes, sealed, created_ms"

/* X(name, text) */
#define STORE_STATEMENTS(X)                                                                        \
	X(BEGIN, "BEGIN IMMEDIATE")                                                                \
	X(COMMIT, "COMMIT")                                                                        \
	X(TENANT_PUT, "INSERT OR REPLACE INTO tenants (name, disabled, policy, created_ms) "       \
		      "VALUES (?, ?, ?, ?)")                                                       \
	X(TENANT_REMOVE, "DELETE FROM tenants WHERE name = ?")                                     \
	X(TENANT_ALL, "SELECT name, disabled, policy, created_ms FROM tenants ORDER BY name")      \
	X(TENANT_KEYS, "DELETE FROM keys WHERE tenant = ?")                                        \
	X(TENANT_TAGS, "DELETE FROM tags WHERE tenant = ?")                                        \
	X(TENANT_SECRETS, "DELETE FROM secrets WHERE tenant = ?")                                  \
	X(TENANT_RESULTS, "DELETE FROM results WHERE tenant = ?")                                  \
	X(KEY_ADD, "INSERT INTO keys (" STORE_KEY_COLUMNS ") VALUES "                              \
		   "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")                                               \
	X(KEY_ALL, "SELECT " STORE_KEY_COLUMNS " FROM keys ORDER BY created_ms, id")               \
	X(KEY_USED, "UPDATE keys SET used_ms = ? WHERE id = ?")                                    \
	X(KEY_EXPIRE, "UPDATE keys SET expires_ms = ? WHERE id = ?")                               \
	X(KEY_REVOKE, "UPDATE keys SET revoked_ms = ? WHERE id = ?")                               \
	X(KEY_REMOVE, "DELETE FROM keys WHERE id = ?")                                             \
	X(BOX_PUT, "INSERT OR REPLACE INTO boxes (" STORE_BOX_COLUMNS ") VALUES "                  \
		   "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "  \
		   "?)")                                                                           \
	X(BOX_REMOVE, "DELETE FROM boxes WHERE id = ?")                                            \
	X(BOX_ALL, "SELECT " STORE_BOX_COLUMNS " FROM boxes")                                      \
	X(RESULT_GET, "SELECT request, body FROM results WHERE tenant = ? AND key = ? AND "        \
		      "expires_ms > ?")                                                            \
	X(RESULT_PUT, "INSERT OR REPLACE INTO results (tenant, key, request, body, expires_ms) "   \
		      "VALUES (?, ?, ?, ?, ?)")                                                    \
	X(RESULT_EXPIRE, "DELETE FROM results WHERE expires_ms <= ?")                              \
	X(RESULT_SUM, "SELECT count(*), coalesce(sum(length(body)), 0) FROM results")              \
	X(SNAPSHOT_ADD, "INSERT INTO snapshots (" STORE_SNAPSHOT_COLUMNS ") VALUES "               \
			"(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")                              \
	X(SNAPSHOT_REMOVE, "DELETE FROM snapshots WHERE id = ? AND tenant = ?")                    \
	X(SNAPSHOT_COUNT, "SELECT count(*) FROM snapshots")                                        \
	X(SNAPSHOT_ALL, "SELECT " STORE_SNAPSHOT_COLUMNS " FROM snapshots "                        \
			"ORDER BY created_ms DESC, id")                                            \
	X(SECRET_PUT, "INSERT OR REPLACE INTO secrets (tenant, name, key, nonce, value, "          \
		      "created_ms, updated_ms) VALUES (?, ?, ?, ?, ?, ?, ?)")                      \
	X(SECRET_GET, "SELECT tenant, name, key, created_ms, updated_ms, nonce, value "            \
		      "FROM secrets WHERE tenant = ? AND name = ?")                                \
	X(SECRET_REMOVE, "DELETE FROM secrets WHERE tenant = ? AND name = ?")                      \
	X(SECRET_ALL, "SELECT tenant, name, key, created_ms, updated_ms FROM secrets "             \
		      "ORDER BY tenant, name")                                                     \
	X(SECRET_COUNT, "SELECT count(*) FROM secrets")                                            \
	X(VOLUME_PUT, "INSERT OR REPLACE INTO volumes (" STORE_VOLUME_COLUMNS ") VALUES "          \
		      "(?, ?, ?, ?, ?, ?, ?, ?, ?)")                                               \
	X(VOLUME_GET, "SELECT " STORE_VOLUME_COLUMNS " FROM volumes WHERE tenant = ? AND "          \
		      "(name = ? OR id = ?)")                                                      \
	X(VOLUME_REMOVE, "DELETE FROM volumes WHERE id = ?")                                       \
	X(VOLUME_ALL, "SELECT " STORE_VOLUME_COLUMNS " FROM volumes ORDER BY tenant, name")         \
	X(TENANT_NETWORKS, "DELETE FROM networks WHERE tenant = ?")                                \
	X(NETWORK_ADD, "INSERT INTO networks (tenant, name, created_ms) VALUES (?, ?, ?)")         \
	X(NETWORK_GET, "SELECT tenant, name, created_ms FROM networks WHERE tenant = ? AND name = ?") \
	X(NETWORK_REMOVE, "DELETE FROM networks WHERE tenant = ? AND name = ?")                    \
	X(NETWORK_ALL, "SELECT tenant, name, created_ms FROM networks ORDER BY tenant, name")      \
	X(NETWORK_COUNT, "SELECT count(*) FROM networks")                                          \
	X(ROLLBACK, "ROLLBACK")                                                                    \
	X(TAG_PUT, "INSERT OR REPLACE INTO tags (tenant, name, tag, image, created_ms) "           \
		   "VALUES (?, ?, ?, ?, ?)")                                                       \
	X(TAG_COUNT, "SELECT count(*) FROM tags")                                                  \
	X(TAG_GET, "SELECT image, created_ms FROM tags WHERE tenant = ? AND name = ? AND tag = ?") \
	X(TAG_REMOVE, "DELETE FROM tags WHERE tenant = ? AND name = ? AND tag = ?")                \
	X(TAG_ALL, "SELECT tag, image, created_ms FROM tags WHERE tenant = ? AND name = ? "        \
		   "ORDER BY tag")

enum store_stmt {
#define X(name, text) ST_##name,
	STORE_STATEMENTS(X)
#undef X
		ST__N
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *stmt[ST__N];
	struct store_key *keys; /* all of them, oldest first */
	size_t nkeys, nrevoked;
};

/* A statement with its bindings cleared. Bind with db_text, db_int, db_blob in order from 1. */
sqlite3_stmt *db_start(struct store *s, enum store_stmt which);
void db_text(sqlite3_stmt *st, int at, const char *text); /* NULL = NULL */
void db_int(sqlite3_stmt *st, int at, int64_t v);
void db_blob(sqlite3_stmt *st, int at, const void *p, size_t n);
/* 1: a row is there; 0: no more, and the statement is reset. */
int db_row(struct store *s, sqlite3_stmt *st);
/* Runs a change: rows changed, or -EEXIST for a key that is there already. */
int db_change(struct store *s, sqlite3_stmt *st);
void db_end(sqlite3_stmt *st); /* when not all rows were taken */
/* Never NULL. */
const char *db_column(sqlite3_stmt *st, int at);
void db_copy(sqlite3_stmt *st, int at, char *dst, size_t cap);
/* The one number that a statement without parameters answers. */
int64_t db_number(struct store *s, enum store_stmt which);
/* Says what failed and ends the process. */
_Noreturn void db_fatal(struct store *s, const char *what);

/* keys.c */
int keys_load(struct store *s, struct brig_err *err);
/* Drops those of a tenant from memory; the database has none of them any more. */
void keys_forget(struct store *s, const char *tenant);

#endif
