/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	(void)opts;
	const struct cmd *cmd = argc ? cmd_find(argv[0]) : NULL;
	if (argc && !cmd)
		return cli_usage(cli, "unknown command '%.64s'", argv[0]);
	if (cmd)
		help_print_cmd(cmd);
	else
		help_print_all();
	return cli_flush(cli, 0);
}

const struct cmd cmd_help = {
	.name = "help",
	.operands = "[COMMAND]",
	.summary = "explain brig or one of its commands",
	.max_args = 1,
	.complete = COMPLETE_COMMAND,
	.run = run,
};
