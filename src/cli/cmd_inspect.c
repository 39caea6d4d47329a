/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_inspect.c: `brig inspect`: all that the server knows about sandboxes, as a JSON array. */
#include "cli/conn.h"

static const struct flag flags[] = {
	{ .name = "output",
	  .letter = 'o',
	  .kind = FLAG_OUTPUT,
	  .arg = "FORMAT",
	  .choices = "json",
	  .help = "print errors as JSON, too" },
	FLAG_END,
};

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	json_t *rows = json_array();
	int code = 0;
	(void)opts;
	for (int i = 0; i < argc && code == 0; i++) {
		json_t *ok = NULL;
		code = conn_call(cli, json_pack("{s:s,s:s}", "op", "inspect", "id", argv[i]), &ok);
		if (ok)
			json_array_append_new(rows, ok);
	}
	if (code == 0)
		code = cli_print_json(cli, rows);
	json_decref(rows);
	return code;
}

const struct cmd cmd_inspect = {
	.name = "inspect",
	.operands = "SANDBOX...",
	.summary = "show everything about sandboxes, as a JSON array",
	.flags = flags,
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
