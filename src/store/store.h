/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h: what brig-api must not forget: tenants, keys, sandboxes of the API, results of
 * idempotent requests, snapshots and tags. One SQLite database, `api.db`, in brig-api's data folder.
 *
 * Theory of operation
 * -------------------
 * Write-through: the tables in memory are what requests are answered from, the database is what a
 * restarted brig-api begins with. A function that changes something returns when the change is on
 * the disk (WAL, synchronous=FULL). If that fails, the process says so and ends: it could otherwise
 * hand out a key, or a sandbox, that the next brig-api denies.
 *
 * Keys are kept as SHA-256 only. A key has 256 random bits, so the hash needs neither salt nor
 * stretching; it is compared in constant time with every key there is.
 *
 * Tokens of sandboxes are kept as they are, for they are told again at each connect.
 */
#ifndef BRIG_STORE_STORE_H
#define BRIG_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct store;

#define STORE_KEYS_MAX 1024u
/* Keys that were revoked are remembered, the last of them, so that who still sends one is told. */
#define STORE_REVOKED_MAX 1024u
#define STORE_TENANTS_MAX 1024u
#define STORE_POLICY_MAX 65536u
#define STORE_SNAPSHOTS_MAX 4096u
#define STORE_TAGS_MAX 4096u
/* Kept results of idempotent requests, and their bytes in all. */
#define STORE_RESULTS_MAX 10000u
#define STORE_RESULTS_BYTES_MAX (256u * 1024u * 1024u)
#define STORE_HASH_LEN 32

/* dir_fd: the data folder, borrowed for as long as the store is open; one store per process. No
 * path is resolved but names in that folder. */
int store_open(int dir_fd, struct store **ret, struct brig_err *err);
void store_close(struct store *s);
/* Whether a change would be kept: writes one, of nothing, to the disk. The one function that says
 * that it cannot instead of ending the process. */
int store_probe(struct store *s, struct brig_err *err);
/* Whether the data folder has room for what a request may record, before it does anything: what
 * finds none later ends the process. frees: the request removes something, and less will do. */
int store_room(const struct store *s, bool frees, struct brig_err *err);

/* ---- tenants ---- */
struct store_tenant {
	char name[40];
	bool disabled;	    /* none of its keys is good */
	const char *policy; /* JSON object; borrowed */
	int64_t created_ms;
};
void store_tenant_put(struct store *s, const struct store_tenant *t); /* adds or replaces */
/* With its keys, tags and kept results, at once. Of sandboxes and snapshots it must have none. */
void store_tenant_remove(struct store *s, const char *name);
/* By name. The store must not be changed from within. */
void store_tenants(struct store *s, void (*fn)(void *ctx, const struct store_tenant *t), void *ctx);

/* ---- keys ---- */
struct store_key {
	char id[24]; /* shown and used to revoke */
	char name[64], tenant[40];
	char role[16], scopes[192]; /* perm.h */
	uint8_t hash[STORE_HASH_LEN];
	int64_t created_ms, used_ms; /* used_ms 0 = never */
	int64_t expires_ms;	     /* 0 = never */
	int64_t revoked_ms;	     /* 0 = it was not */
};
int store_key_add(struct store *s, const struct store_key *k, struct brig_err *err);
/* NULL if no key has that hash. Also one that has expired or was revoked: the caller looks. Valid
 * until the next change of keys. */
const struct store_key *store_key_find(struct store *s, const uint8_t hash[STORE_HASH_LEN]);
/* One that was not revoked, or NULL. */
const struct store_key *store_key_get(const struct store *s, const char *id);
/* Remembers that it was used; to the minute. */
void store_key_used(struct store *s, const char *id, int64_t now_ms);
/* The i-th key, oldest first, with those that were revoked; NULL behind the last. */
const struct store_key *store_key_at(const struct store *s, size_t i);
/* false: there is none that is not revoked already. */
bool store_key_revoke(struct store *s, const char *id, int64_t now_ms);
/* Adds `made`; `old` is good until `until_ms`, or revoked now if that is not later. Both or none. */
int store_key_rotate(struct store *s, const char *old, const struct store_key *made,
		     int64_t until_ms, int64_t now_ms, struct brig_err *err);

/* ---- sandboxes ---- */
/* Strings are borrowed; JSON texts may be NULL. */
struct store_box {
	const char *id, *tenant, *template_id, *alias, *image, *image_name, *tier, *state;
	const char *metadata, *envs, *network, *limits; /* JSON */
	const char *token, *traffic_token, *user, *home;
	const char *name; /* of one that a command line made; "" = another */
	int allow_internet; /* -1 not said */
	bool pause_on_timeout, auto_resume;
	int64_t started_ms, end_ms, timeout_ms;
	uint32_t cpu_milli;
	uint64_t memory_bytes, disk_bytes;
};
void store_box_put(struct store *s, const struct store_box *b); /* adds or replaces */
void store_box_remove(struct store *s, const char *id);
/* Calls fn for every one; the store must not be changed from within. */
void store_boxes(struct store *s, void (*fn)(void *ctx, const struct store_box *b), void *ctx);

/* ---- results of requests with an Idempotency-Key ---- */
struct store_result {
	uint8_t request[STORE_HASH_LEN]; /* of the request's body */
	char *body;			 /* owned by the caller: free() */
	size_t n;
};
/* 1: found and not expired; 0: none. */
int store_result_get(struct store *s, const char *tenant, const char *key, int64_t now_ms,
		     struct store_result *ret);
/* Whether n more bytes may be kept; BRIG_E_BUSY if not. Drops what has expired. */
int store_result_room(struct store *s, size_t n, int64_t now_ms, struct brig_err *err);
void store_result_put(struct store *s, const char *tenant, const char *key,
		      const uint8_t request[STORE_HASH_LEN], const char *body, size_t n,
		      int64_t expires_ms);

/* ---- snapshots ---- */
struct store_snapshot {
	const char *id, *tenant, *name, *box, *template_id, *image, *tier, *user, *home, *image_name;
	const char *envs, *limits; /* JSON */
	uint64_t bytes;
	int64_t created_ms;
};
int store_snapshot_add(struct store *s, const struct store_snapshot *snap, struct brig_err *err);
/* false: there is none. */
bool store_snapshot_remove(struct store *s, const char *tenant, const char *id);
/* Newest first. fn returns false to stop. */
void store_snapshots(struct store *s, bool (*fn)(void *ctx, const struct store_snapshot *snap),
		     void *ctx);

/* ---- secrets ---- */
struct store_secret {
	char tenant[40], name[72];
	char key[17]; /* id of the key that it is encrypted with */
	uint8_t nonce[12];
	uint8_t *value; /* encrypted; of store_secret_get: the caller's to free */
	size_t n;
	int64_t created_ms, updated_ms;
};
#define STORE_SECRETS_MAX 4096u
int store_secret_put(struct store *s, const struct store_secret *r, struct brig_err *err);
bool store_secret_get(struct store *s, const char *tenant, const char *name,
		      struct store_secret *ret);
bool store_secret_remove(struct store *s, const char *tenant, const char *name);
/* All of them, without nonce and value. The store must not be changed from within. */
void store_secrets(struct store *s, void (*fn)(void *ctx, const struct store_secret *r), void *ctx);

/* ---- volumes (api/volumes.h) ---- */
struct store_volume {
	char id[24], tenant[40], name[72];
	char state[12];	 /* creating, ready, removing */
	char source[72]; /* name of the one that it is a copy of; "" = of none */
	uint64_t bytes, inodes;
	bool sealed; /* a snapshot */
	int64_t created_ms;
};
void store_volume_put(struct store *s, const struct store_volume *v); /* adds or replaces */
/* By name or id. */
bool store_volume_get(struct store *s, const char *tenant, const char *ref, struct store_volume *ret);
void store_volume_remove(struct store *s, const char *id);
/* By tenant and name. The store must not be changed from within. */
void store_volumes(struct store *s, void (*fn)(void *ctx, const struct store_volume *v), void *ctx);
/* ---- private networks ---- */
struct store_network {
	char tenant[40], name[64];
	int64_t created_ms;
};
#define STORE_NETWORKS_MAX 4096u
int store_network_add(struct store *s, const struct store_network *n, struct brig_err *err);
bool store_network_get(struct store *s, const char *tenant, const char *name, struct store_network *ret);
/* false: there is none. */
bool store_network_remove(struct store *s, const char *tenant, const char *name);
/* By name. The store must not be changed from within. */
void store_networks(struct store *s, void (*fn)(void *ctx, const struct store_network *n), void *ctx);

/* Several changes at once, or none. */
void store_begin(struct store *s);
void store_commit(struct store *s);
void store_rollback(struct store *s);

/* ---- tags: NAME:TAG of a tenant leads to an image's digest ---- */
struct store_tag {
	char name[64], tag[64], image[80];
	int64_t created_ms;
};
int store_tag_put(struct store *s, const char *tenant, const struct store_tag *t,
		  struct brig_err *err);
bool store_tag_get(struct store *s, const char *tenant, const char *name, const char *tag,
		   struct store_tag *ret);
bool store_tag_remove(struct store *s, const char *tenant, const char *name, const char *tag);
void store_tags(struct store *s, const char *tenant, const char *name,
		void (*fn)(void *ctx, const struct store_tag *t), void *ctx);

#endif
