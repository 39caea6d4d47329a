/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_stats.c: `brig stats`: what sandboxes use. The server answers with counters since creation;
 * CPU load is the difference of two answers, so a table needs two of them and JSON one.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/size.h"
#include "cli/conn.h"
#include "cli/table.h"

struct stats_opts {
	bool no_stream;
};

static const struct flag flags[] = {
	{ .name = "no-stream",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct stats_opts, no_stream),
	  .help = "print once instead of every second" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

#define PERIOD_MS 1000u
#define FIRST_MS 250u /* between the two samples of the first table */

static void sleep_ms(unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
	nanosleep(&ts, NULL);
}

/* All sandboxes, or those named. *ret is an array. 0 or an exit code. */
static int sample(struct cli *cli, int argc, char **argv, json_t **ret)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *error = NULL;
	if (argc == 0) {
		if (conn_try(json_pack("{s:s}", "op", "stats"), &ok, &error, &err) < 0) {
			if (error || err.code != BRIG_E_NOT_FOUND) {
				int code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
				json_decref(error);
				return code;
			}
			*ret = json_array();
			return 0;
		}
		*ret = json_incref(json_object_get(ok, "stats"));
		json_decref(ok);
		return 0;
	}
	json_t *rows = json_array();
	for (int i = 0; i < argc; i++) {
		int code =
			conn_call(cli, json_pack("{s:s,s:s}", "op", "stats", "id", argv[i]), &ok);
		if (code) {
			json_decref(rows);
			return code;
		}
		json_array_extend(rows, json_object_get(ok, "stats"));
		json_decref(ok);
	}
	*ret = rows;
	return 0;
}

static const json_t *row_of(const json_t *rows, const char *id)
{
	json_t *v;
	size_t i;
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		const char *other = json_string_value(json_object_get(v, "id"));
		if (id && other && strcmp(id, other) == 0)
			return v;
	}
	return NULL;
}

static void add_bytes(struct table *t, const json_t *row, const char *key)
{
	const json_t *v = json_object_get(row, key);
	char text[SIZE_TEXT_MAX];
	if (!json_is_integer(v) || json_integer_value(v) < 0) {
		table_add(t, NULL);
		return;
	}
	size_format_bytes((uint64_t)json_integer_value(v), text);
	table_add(t, text);
}

static void add_cpu(struct table *t, const json_t *row, const json_t *before, uint64_t ns)
{
	const json_t *a = json_object_get(before, "cpu_us"), *b = json_object_get(row, "cpu_us");
	if (!json_is_integer(a) || !json_is_integer(b) || !ns ||
	    json_integer_value(b) < json_integer_value(a)) {
		table_add(t, NULL);
		return;
	}
	uint64_t us = (uint64_t)(json_integer_value(b) - json_integer_value(a));
	uint64_t permille = us * 1000000 / ns;
	table_addf(t, "%llu.%llu%%", (unsigned long long)(permille / 10),
		   (unsigned long long)(permille % 10));
}

static void add_count(struct table *t, const json_t *row, const char *key)
{
	const json_t *v = json_object_get(row, key);
	if (json_is_integer(v))
		table_addf(t, "%lld", (long long)json_integer_value(v));
	else
		table_add(t, NULL);
}

static int print_table(struct cli *cli, const json_t *rows, const json_t *before, uint64_t ns)
{
	static const char *const head[] = { "ID",   "NAME", "CPU", "MEMORY", "LIMIT",
					    "PEAK", "DISK", "PIDS", "I/O", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *v;
	size_t i;
	table_init(&t, head);
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		const char *id = json_string_value(json_object_get(v, "id"));
		table_add(&t, id);
		table_add(&t, json_string_value(json_object_get(v, "name")));
		add_cpu(&t, v, row_of(before, id), ns);
		add_bytes(&t, v, "memory_bytes");
		add_bytes(&t, v, "memory_limit_bytes");
		add_bytes(&t, v, "memory_peak_bytes");
		add_bytes(&t, v, "disk_used_bytes");
		add_count(&t, v, "pids");
		add_bytes(&t, v, "io_bytes");
	}
	if (table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int stream_json(struct cli *cli, bool once, int argc, char **argv)
{
	for (;;) {
		json_t *rows = NULL;
		int code = sample(cli, argc, argv, &rows);
		if (code == 0 && once)
			code = cli_print_json(cli, rows);
		else if (code == 0) {
			/* One line a sample. */
			(void)json_dumpf(rows, stdout, JSON_COMPACT);
			putchar('\n');
			code = cli_flush(cli, 0);
		}
		json_decref(rows);
		if (code || once)
			return code;
		sleep_ms(PERIOD_MS);
	}
}

static int stream_table(struct cli *cli, bool once, int argc, char **argv)
{
	bool tty = isatty(1);
	json_t *before = NULL;
	uint64_t then = 0;
	int code = 0;
	for (unsigned round = 0; code == 0; round++) {
		json_t *rows = NULL;
		code = sample(cli, argc, argv, &rows);
		uint64_t now = clock_now();
		bool some = json_array_size(rows) != 0;
		if (code == 0 && (round || !some)) {
			if (tty && !once)
				fputs("\033[H\033[2J", stdout);
			code = print_table(cli, rows, before, now - then);
		}
		json_decref(before);
		before = rows;
		then = now;
		if (once && (round || !some))
			break;
		if (code == 0)
			sleep_ms(round ? PERIOD_MS : FIRST_MS);
	}
	json_decref(before);
	return code;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct stats_opts *o = opts;
	/* Without somebody who watches, once is what is wanted: a pipe or a script would never end.
	 */
	bool once = o->no_stream || !isatty(1);
	return cli->json ? stream_json(cli, once, argc, argv) : stream_table(cli, once, argc, argv);
}

const struct cmd cmd_stats = {
	.name = "stats",
	.operands = "[SANDBOX...]",
	.summary = "show what sandboxes use: CPU, memory, processes, I/O",
	.about = "CPU is in parts of one CPU. With -o json the counters since creation are "
		 "printed, one "
		 "array a line. Without a terminal, or with --no-stream, one sample is printed.",
	.flags = flags,
	.opts_size = sizeof(struct stats_opts),
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
