/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pause.c: `brig pause` and `brig unpause`: sandboxes stand still and go on. */
#include "cli/each.h"

static const struct flag flags[] = { FLAG_OUTPUT_ROW, FLAG_END };

static json_t *request_pause(const void *opts, const char *id)
{
	(void)opts;
	return json_pack("{s:s,s:s}", "op", "pause", "id", id);
}

static json_t *request_unpause(const void *opts, const char *id)
{
	(void)opts;
	return json_pack("{s:s,s:s}", "op", "resume", "id", id);
}

static int run_pause(struct cli *cli, void *opts, int argc, char **argv)
{
	return each_sandbox(cli, argc, argv, request_pause, opts);
}

static int run_unpause(struct cli *cli, void *opts, int argc, char **argv)
{
	return each_sandbox(cli, argc, argv, request_unpause, opts);
}

const struct cmd cmd_pause = {
	.name = "pause",
	.operands = "SANDBOX...",
	.summary = "make all processes of sandboxes stand still",
	.about = "They use no CPU time until `brig unpause`; their memory stays occupied, and time "
		 "limits stand still with them. In a paused sandbox nothing can be started. `brig "
		 "rm` "
		 "removes it, and `brig kill` ends its main command.",
	.flags = flags,
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run_pause,
};

const struct cmd cmd_unpause = {
	.name = "unpause",
	.operands = "SANDBOX...",
	.summary = "let paused sandboxes go on",
	.flags = flags,
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run_unpause,
};
