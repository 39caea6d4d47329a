/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_rm.c: `brig rm`: removes sandboxes with everything in them. */
#include <stddef.h>

#include "cli/checkpoint.h"
#include "cli/each.h"

struct rm_opts {
	bool force;
};

static const struct flag flags[] = {
	{ .name = "force",
	  .letter = 'f',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct rm_opts, force),
	  .help = "also if a command runs: it is killed" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static json_t *request(const void *opts, const char *id)
{
	const struct rm_opts *o = opts;
	return json_pack("{s:s,s:s,s:b}", "op", "rm", "id", id, "force", (int)o->force);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	int code = each_sandbox(cli, argc, argv, request, opts);
	checkpoint_removed();
	return code;
}

const struct cmd cmd_rm = {
	.name = "rm",
	.operands = "SANDBOX...",
	.summary = "remove sandboxes",
	.about = "Returns when no process, file, mount or control group of them is left.",
	.flags = flags,
	.opts_size = sizeof(struct rm_opts),
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
