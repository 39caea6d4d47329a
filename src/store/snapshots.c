/* SPDX-License-Identifier: Apache-2.0 */
/* snapshots.c: records of snapshots, and the tags of images. */
#include <stdio.h>

#include "store/db.h"

static const char *json_text(sqlite3_stmt *st, int at)
{
	return sqlite3_column_type(st, at) == SQLITE_NULL ? NULL : db_column(st, at);
}

int store_snapshot_add(struct store *s, const struct store_snapshot *snap, struct brig_err *err)
{
	const char *const text[] = { snap->id,		snap->tenant, snap->name,  snap->box,
				     snap->template_id, snap->image,  snap->tier,  snap->user,
				     snap->home,	snap->envs,   snap->limits };
	const int64_t number[] = { (int64_t)snap->bytes, snap->created_ms };
	if (db_number(s, ST_SNAPSHOT_COUNT) >= STORE_SNAPSHOTS_MAX) {
		brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u snapshots already",
			     STORE_SNAPSHOTS_MAX);
		return brig_fix(err, "delete those that are not needed");
	}
	sqlite3_stmt *st = db_start(s, ST_SNAPSHOT_ADD);
	int at = 1;
	for (unsigned i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		db_text(st, at++, text[i]);
	for (unsigned i = 0; i < sizeof(number) / sizeof(number[0]); i++)
		db_int(st, at++, number[i]);
	db_text(st, at, snap->image_name ? snap->image_name : "");
	return db_change(s, st) < 0
		       ? brig_fail(err, BRIG_E_EXISTS, 0, "snapshot '%s' exists", snap->id)
		       : 0;
}

bool store_snapshot_remove(struct store *s, const char *tenant, const char *id)
{
	sqlite3_stmt *st = db_start(s, ST_SNAPSHOT_REMOVE);
	db_text(st, 1, id);
	db_text(st, 2, tenant);
	return db_change(s, st) > 0;
}

void store_snapshots(struct store *s, bool (*fn)(void *ctx, const struct store_snapshot *snap),
		     void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_SNAPSHOT_ALL);
	while (db_row(s, st)) {
		const struct store_snapshot snap = {
			.id = db_column(st, 0),
			.tenant = db_column(st, 1),
			.name = db_column(st, 2),
			.box = db_column(st, 3),
			.template_id = db_column(st, 4),
			.image = db_column(st, 5),
			.tier = db_column(st, 6),
			.user = db_column(st, 7),
			.home = db_column(st, 8),
			.envs = json_text(st, 9),
			.limits = json_text(st, 10),
			.bytes = (uint64_t)sqlite3_column_int64(st, 11),
			.created_ms = sqlite3_column_int64(st, 12),
			.image_name = db_column(st, 13),
		};
		if (!fn(ctx, &snap)) {
			db_end(st);
			return;
		}
	}
}

int store_tag_put(struct store *s, const char *tenant, const struct store_tag *t,
		  struct brig_err *err)
{
	if (db_number(s, ST_TAG_COUNT) >= STORE_TAGS_MAX)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "there are %u tags already",
				 STORE_TAGS_MAX);
	sqlite3_stmt *st = db_start(s, ST_TAG_PUT);
	db_text(st, 1, tenant);
	db_text(st, 2, t->name);
	db_text(st, 3, t->tag);
	db_text(st, 4, t->image);
	db_int(st, 5, t->created_ms);
	db_change(s, st);
	return 0;
}

bool store_tag_get(struct store *s, const char *tenant, const char *name, const char *tag,
		   struct store_tag *ret)
{
	sqlite3_stmt *st = db_start(s, ST_TAG_GET);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	db_text(st, 3, tag);
	if (!db_row(s, st))
		return false;
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	snprintf(ret->tag, sizeof(ret->tag), "%s", tag);
	db_copy(st, 0, ret->image, sizeof(ret->image));
	ret->created_ms = sqlite3_column_int64(st, 1);
	db_end(st);
	return true;
}

bool store_tag_remove(struct store *s, const char *tenant, const char *name, const char *tag)
{
	sqlite3_stmt *st = db_start(s, ST_TAG_REMOVE);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	db_text(st, 3, tag);
	return db_change(s, st) > 0;
}

void store_tags(struct store *s, const char *tenant, const char *name,
		void (*fn)(void *ctx, const struct store_tag *t), void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_TAG_ALL);
	db_text(st, 1, tenant);
	db_text(st, 2, name);
	while (db_row(s, st)) {
		struct store_tag t;
		snprintf(t.name, sizeof(t.name), "%s", name);
		db_copy(st, 0, t.tag, sizeof(t.tag));
		db_copy(st, 1, t.image, sizeof(t.image));
		t.created_ms = sqlite3_column_int64(st, 2);
		fn(ctx, &t);
	}
}
