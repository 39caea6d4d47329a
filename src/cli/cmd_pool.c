/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pool.c: `brig pool ls`: the sandboxes that the server keeps ready. */
#include <errno.h>
#include <string.h>

#include "base/size.h"
#include "cli/conn.h"
#include "cli/table.h"

static const struct flag flags[] = { FLAG_OUTPUT_ROW, FLAG_END };

static void add_number(struct table *t, const json_t *row, const char *key)
{
	const json_t *v = json_object_get(row, key);
	if (json_is_integer(v))
		table_addf(t, "%lld", (long long)json_integer_value(v));
	else
		table_add(t, NULL);
}

/* The mean time that making one took. */
static void add_refill(struct table *t, const json_t *row)
{
	json_int_t us = json_integer_value(json_object_get(row, "fill_us_mean"));
	if (us > 0)
		table_addf(t, "%lld.%lldms", (long long)us / 1000, (long long)us % 1000 / 100);
	else
		table_add(t, NULL);
}

static int print_table(struct cli *cli, const json_t *list)
{
	static const char *const head[] = { "IMAGE",  "SIZE",  "READY", "HITS",
					    "MISSES", "REFILL", "ERROR", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *v;
	size_t i;
	table_init(&t, head);
	json_array_foreach((json_t *)(uintptr_t)list, i, v)
	{
		table_add(&t, json_string_value(json_object_get(v, "image")));
		add_number(&t, v, "size");
		add_number(&t, v, "ready");
		add_number(&t, v, "hits");
		add_number(&t, v, "misses");
		add_refill(&t, v);
		table_add(&t, json_string_value(json_object_get(v, "error")));
	}
	if (table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *error = NULL;
	(void)opts;
	if (argc == 1 && strcmp(argv[0], "ls") != 0)
		return cli_usage(cli, "pool knows ls only, not '%.32s'", argv[0]);
	if (conn_try(json_pack("{s:s}", "op", "pool"), &ok, &error, &err) < 0) {
		if (error || err.code != BRIG_E_NOT_FOUND) {
			int code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
			json_decref(error);
			return code;
		}
		ok = json_pack("{s:[]}", "pools");
	}
	const json_t *list = json_object_get(ok, "pools");
	int code = cli->json ? cli_print_json(cli, list) : print_table(cli, list);
	json_decref(ok);
	return code;
}

const struct cmd cmd_pool = {
	.name = "pool",
	.operands = "[ls]",
	.max_args = 1,
	.summary = "show the sandboxes that the server keeps ready",
	.about = "Pools are made by serve --pool.",
	.flags = flags,
	.run = run,
};
