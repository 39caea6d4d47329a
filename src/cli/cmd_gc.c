/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_gc.c: `brig gc`: removes what dead servers and interrupted imports left behind.
 *
 * Theory of operation: the work is done by the two programs that made the things, brig-jaild
 * (processes, groups, mounts, id leases, run files) and brig-image (the image store); each prints a
 * JSON object per thing. Exit code 1: something is there that cannot be explained or could not be
 * removed.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "cli/cli.h"
#include "cli/lines.h"
#include "cli/remote.h"
#include "cli/spawn.h"
#include "cli/table.h"

struct gc_opts {
	bool prove;
};

static const struct flag flags[] = {
	{ .name = "prove",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct gc_opts, prove),
	  .help = "walk every kind of state that brig can make and account for all of it" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static bool in_state(const json_t *row, const char *state)
{
	const char *s = json_string_value(json_object_get(row, "state"));
	return s && strcmp(s, state) == 0;
}

/* Adds the rows of one program. A program that failed without saying why is an error. */
static int collect(json_t *rows, const char *program, const char *const *argv, bool *bad,
		   struct brig_err *err)
{
	json_t *lines = NULL, *v;
	size_t i;
	int status = 0;
	if (lines_run(program, argv, &lines, &status, err) < 0)
		return -1;
	bool said = false;
	json_array_foreach(lines, i, v) said =
		said || in_state(v, "stale") || in_state(v, "unexplained");
	json_array_extend(rows, lines);
	json_decref(lines);
	if (said)
		*bad = true;
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1 || (WEXITSTATUS(status) == 1 && !said))
		return brig_fail(err, BRIG_E_INTERNAL, 0, "%s %s failed", program, argv[1]);
	return 0;
}

static int print_table(struct cli *cli, const json_t *rows)
{
	static const char *const head[] = { "KIND", "NAME", "STATE", "DETAIL", NULL };
	static const char *const keys[] = { "kind", "name", "state", "detail" };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *v;
	size_t i;
	if (json_array_size(rows) == 0) {
		printf("nothing is left behind\n");
		return cli_flush(cli, 0);
	}
	table_init(&t, head);
	json_array_foreach((json_t *)(uintptr_t)rows, i,
			   v) for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
		table_add(&t, json_string_value(json_object_get(v, keys[k])));
	if (table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct gc_opts *o = opts;
	const char *const jaild[] = { "brig-jaild", o->prove ? "--prove" : "--gc", NULL };
	const char *const image[] = { "brig-image", "gc", o->prove ? "--prove" : NULL, NULL };
	struct brig_err err = BRIG_ERR_INIT;
	char path[PATH_MAX];
	json_t *rows = json_array();
	bool bad = false;
	(void)argc;
	(void)argv;
	int refused = remote_refuse(cli, "brig gc",
				    "run it there, or unset BRIG_URL to clean up this machine");
	if (refused) {
		json_decref(rows);
		return refused;
	}
	int r = collect(rows, "brig-jaild", jaild, &bad, &err);
	/* An installation without brig-image has no images of its own. */
	if (r == 0 && spawn_find("brig-image", path, NULL) == 0)
		r = collect(rows, "brig-image", image, &bad, &err);
	int code = r < 0       ? cli_fail(cli, &err)
		   : cli->json ? cli_print_json(cli, rows)
			       : print_table(cli, rows);
	json_decref(rows);
	return code ? code : bad;
}

const struct cmd cmd_gc = {
	.name = "gc",
	.operands = "",
	.summary = "remove what dead servers left behind",
	.about = "Exits 1 if something is there that cannot be explained or removed. What a "
		 "running server "
		 "owns is left alone.",
	.flags = flags,
	.opts_size = sizeof(struct gc_opts),
	.run = run,
};
