/* SPDX-License-Identifier: Apache-2.0 */
#include "store/db.h"

void store_box_put(struct store *s, const struct store_box *b)
{
	const char *const text[] = { b->id,	b->tenant, b->template_id,   b->alias, b->image,
				     b->tier,	b->state,  b->metadata,	     b->envs,  b->network,
				     b->limits, b->token,  b->traffic_token, b->user,  b->home };
	const int64_t number[] = { b->allow_internet,
				   b->pause_on_timeout,
				   b->auto_resume,
				   b->started_ms,
				   b->end_ms,
				   b->timeout_ms,
				   b->cpu_milli,
				   (int64_t)b->memory_bytes,
				   (int64_t)b->disk_bytes };
	sqlite3_stmt *st = db_start(s, ST_BOX_PUT);
	int at = 1;
	for (unsigned i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		db_text(st, at++, text[i]);
	for (unsigned i = 0; i < sizeof(number) / sizeof(number[0]); i++)
		db_int(st, at++, number[i]);
	db_text(st, at++, b->name ? b->name : "");
	db_text(st, at, b->image_name ? b->image_name : "");
	db_change(s, st);
}

void store_box_remove(struct store *s, const char *id)
{
	sqlite3_stmt *st = db_start(s, ST_BOX_REMOVE);
	db_text(st, 1, id);
	db_change(s, st);
}

static const char *json_text(sqlite3_stmt *st, int at)
{
	return sqlite3_column_type(st, at) == SQLITE_NULL ? NULL : db_column(st, at);
}

void store_boxes(struct store *s, void (*fn)(void *ctx, const struct store_box *b), void *ctx)
{
	sqlite3_stmt *st = db_start(s, ST_BOX_ALL);
	while (db_row(s, st)) {
		const struct store_box b = {
			.id = db_column(st, 0),
			.tenant = db_column(st, 1),
			.template_id = db_column(st, 2),
			.alias = db_column(st, 3),
			.image = db_column(st, 4),
			.tier = db_column(st, 5),
			.state = db_column(st, 6),
			.metadata = json_text(st, 7),
			.envs = json_text(st, 8),
			.network = json_text(st, 9),
			.limits = json_text(st, 10),
			.token = db_column(st, 11),
			.traffic_token = db_column(st, 12),
			.user = db_column(st, 13),
			.home = db_column(st, 14),
			.allow_internet = sqlite3_column_int(st, 15),
			.pause_on_timeout = sqlite3_column_int(st, 16),
			.auto_resume = sqlite3_column_int(st, 17),
			.started_ms = sqlite3_column_int64(st, 18),
			.end_ms = sqlite3_column_int64(st, 19),
			.timeout_ms = sqlite3_column_int64(st, 20),
			.cpu_milli = (uint32_t)sqlite3_column_int64(st, 21),
			.memory_bytes = (uint64_t)sqlite3_column_int64(st, 22),
			.disk_bytes = (uint64_t)sqlite3_column_int64(st, 23),
			.name = db_column(st, 24),
			.image_name = db_column(st, 25),
		};
		fn(ctx, &b);
	}
}
