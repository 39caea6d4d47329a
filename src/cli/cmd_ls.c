/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_ls.c: `brig ls`: the sandboxes of the running server. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/size.h"
#include "cli/conn.h"
#include "cli/table.h"

struct ls_opts {
	bool quiet;
};

static const struct flag flags[] = {
	{ .name = "quiet",
	  .letter = 'q',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct ls_opts, quiet),
	  .help = "print ids only" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* "2m5s" since an RFC 3339 time in UTC. */
static void age_text(const char *created, char ret[SIZE_TEXT_MAX])
{
	struct tm tm = { 0 };
	ret[0] = '\0';
	if (!created || !strptime(created, "%Y-%m-%dT%H:%M:%S", &tm))
		return;
	time_t then = timegm(&tm), now = time(NULL);
	uint64_t s = now > then ? (uint64_t)(now - then) : 0;
	/* Two units are enough for people. */
	if (s >= 86400)
		s -= s % 3600;
	else if (s >= 3600)
		s -= s % 60;
	size_format_ms(s * 1000, ret);
}

static void command_text(const json_t *cmd, char *ret, size_t cap)
{
	json_t *v;
	size_t i, at = 0;
	ret[0] = '\0';
	json_array_foreach((json_t *)(uintptr_t)cmd, i, v)
	{
		const char *s = json_string_value(v);
		int n = snprintf(ret + at, cap - at, "%s%s", i ? " " : "", s ? s : "");
		if (n < 0 || (size_t)n >= cap - at) {
			strcpy(ret + cap - 4, "...");
			return;
		}
		at += (size_t)n;
	}
}

static int print_table(struct cli *cli, const json_t *list, bool quiet)
{
	static const char *const head[] = { "ID",    "NAME", "TIER",	"IMAGE",
					    "STATE", "AGE",  "COMMAND", NULL };
	static const char *const keys[] = { "id", "name", "tier", "image", "state" };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *v;
	size_t i;
	if (!quiet)
		table_init(&t, head);
	json_array_foreach((json_t *)(uintptr_t)list, i, v)
	{
		char age[SIZE_TEXT_MAX], command[48];
		if (quiet) {
			const char *id = json_string_value(json_object_get(v, "id"));
			printf("%s\n", id ? id : "");
			continue;
		}
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			table_add(&t, json_string_value(json_object_get(v, keys[k])));
		age_text(json_string_value(json_object_get(v, "created")), age);
		table_add(&t, age);
		command_text(json_object_get(v, "cmd"), command, sizeof(command));
		table_add(&t, command);
	}
	if (!quiet && table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct ls_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *error = NULL;
	int code;
	(void)argc;
	(void)argv;
	if (conn_try(json_pack("{s:s}", "op", "ls"), &ok, &error, &err) < 0) {
		if (error || err.code != BRIG_E_NOT_FOUND) {
			code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
			json_decref(error);
			return code;
		}
		/* No server has no sandboxes. */
		ok = json_pack("{s:[]}", "sandboxes");
	}
	const json_t *list = json_object_get(ok, "sandboxes");
	if (cli->json && !o->quiet)
		code = cli_print_json(cli, list);
	else
		code = print_table(cli, list, o->quiet);
	json_decref(ok);
	return code;
}

const struct cmd cmd_ls = {
	.name = "ls",
	.alias = "ps",
	.operands = "",
	.summary = "list sandboxes",
	.flags = flags,
	.opts_size = sizeof(struct ls_opts),
	.run = run,
};
