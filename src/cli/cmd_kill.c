/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_kill.c: `brig kill`: a signal to the main command of sandboxes. */
#include <stddef.h>

#include "cli/each.h"

struct kill_opts {
	const char *signal;
};

static const struct flag flags[] = {
	{ .name = "signal",
	  .letter = 's',
	  .kind = FLAG_STR,
	  .at = offsetof(struct kill_opts, signal),
	  .arg = "SIGNAL",
	  .help = "name or number; default KILL, which nothing can ignore" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static json_t *request(const void *opts, const char *id)
{
	const struct kill_opts *o = opts;
	return json_pack("{s:s,s:s,s:s*}", "op", "kill", "id", id, "signal", o->signal);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	return each_sandbox(cli, argc, argv, request, opts);
}

const struct cmd cmd_kill = {
	.name = "kill",
	.operands = "SANDBOX...",
	.summary = "send a signal to the main command of sandboxes",
	.flags = flags,
	.opts_size = sizeof(struct kill_opts),
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
