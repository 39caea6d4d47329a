/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_checkpoint.c: `brig checkpoint` and `brig undo`: back to the files of a moment before. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/remote.h"

struct checkpoint_opts {
	uint64_t keep;
};

static const struct flag flags[] = {
	{ .name = "keep",
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct checkpoint_opts, keep),
	  .arg = "N",
	  .help = "how many checkpoints of the sandbox stay, 1 to 64; default 8" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};
static const struct flag undo_flags[] = { FLAG_OUTPUT_ROW, FLAG_END };

static int told(struct cli *cli, int r, json_t *record, json_t *error, const struct brig_err *err)
{
	int code = 0;
	if (r < 0)
		code = error ? cli_fail_json(cli, error) : cli_fail(cli, err);
	else if (cli->json)
		code = cli_print_json(cli, record);
	else
		printf("%s\n", json_string_value(json_object_get(record, "id")));
	json_decref(record);
	json_decref(error);
	return code ? code : cli_flush(cli, 0);
}

static int run_checkpoint(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct checkpoint_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *record = NULL, *error = NULL;
	(void)argc;
	if (o->keep > CHECKPOINTS_MAX)
		return cli_usage(cli, "--keep is 1 to %u", CHECKPOINTS_MAX);
	int refused = remote_refuse(cli, "brig checkpoint", "use `brig snapshot create`, and `brig create --snapshot`");
	if (refused)
		return refused;
	unsigned keep = o->keep ? (unsigned)o->keep : CHECKPOINTS_KEPT;
	int r = checkpoint_take(argv[0], keep, &record, &error, &err);
	return told(cli, r, record, error, &err);
}

static int run_undo(struct cli *cli, void *opts, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *record = NULL, *error = NULL;
	char *end = NULL;
	unsigned long n = argc > 1 ? strtoul(argv[1], &end, 10) : 1;
	(void)opts;
	if (n < 1 || n > CHECKPOINTS_MAX || (end && (*end || end == argv[1])))
		return cli_usage(cli, "undo SANDBOX N: N is 1 (the last checkpoint) to %u", CHECKPOINTS_MAX);
	int refused = remote_refuse(cli, "brig undo", "use `brig create --snapshot`");
	if (refused)
		return refused;
	int r = checkpoint_undo(argv[0], (unsigned)n, &record, &error, &err);
	return told(cli, r, record, error, &err);
}

const struct cmd cmd_checkpoint = {
	.name = "checkpoint",
	.operands = "SANDBOX",
	.summary = "remember the files of a sandbox as they are now, for undo",
	.about = "Prints the id of the checkpoint. It is a snapshot (see there) that goes with its sandbox, and of "
		 "which a number stays: the oldest makes room. `brig create --checkpoint exec` makes a sandbox of "
		 "which one is taken before each `brig exec`.",
	.flags = flags,
	.opts_size = sizeof(struct checkpoint_opts),
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_SANDBOX,
	.run = run_checkpoint,
};

const struct cmd cmd_undo = {
	.name = "undo",
	.operands = "SANDBOX [N]",
	.summary = "go back to the files of the last checkpoint",
	.about = "Everything that runs in the sandbox ends. It keeps its id, name, limits, environment and network "
		 "policy, and has the files of its last checkpoint, or of its Nth last: then those behind it are "
		 "dropped. The one that it goes back to stays.\n\n"
		 "A sandbox with volumes is refused, because they cannot be put back.",
	.flags = undo_flags,
	.min_args = 1,
	.max_args = 2,
	.complete = COMPLETE_SANDBOX,
	.run = run_undo,
};
