/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_attach.c: `brig attach`: reads on at a command whose reader was lost with a brigd. */
#include <stddef.h>

#include "cli/command.h"

struct attach_opts {
	struct command_opts command;
	uint64_t stdout_offset, stderr_offset;
};

static const struct flag flags[] = {
	{ .name = "stdout-offset",
	  .kind = FLAG_COUNT,
	  .arg = "N",
	  .at = offsetof(struct attach_opts, stdout_offset),
	  .help = "bytes of standard output that are known already" },
	{ .name = "stderr-offset",
	  .kind = FLAG_COUNT,
	  .arg = "N",
	  .at = offsetof(struct attach_opts, stderr_offset),
	  .help = "bytes of standard error that are known already" },
	{ .name = "status-json",
	  .kind = FLAG_STR,
	  .at = offsetof(struct attach_opts, command.status_json),
	  .arg = "FILE|FD",
	  .complete = COMPLETE_FILE,
	  .help = "write how the command ended, as JSON, to a file or an open descriptor" },
	{ .name = "quiet",
	  .letter = 'q',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct attach_opts, command.quiet),
	  .help = "no warnings, and no word on why the command was stopped" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct attach_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	struct command c;
	(void)argc;
	o->command.no_tty = true;
	int code = command_begin(&c, cli, &o->command);
	if (code)
		return code;
	c.id = argv[0];
	c.stream.gaps = c.stream.again = true;
	json_t *req = json_pack("{s:s,s:s,s:s,s:I,s:I}", "op", "attach", "id", argv[0], "exec", argv[1],
				"stdout_offset", (json_int_t)o->stdout_offset, "stderr_offset",
				(json_int_t)o->stderr_offset);
	if (req) {
		code = command_run(&c, CONN_EXISTING, req, NULL, 0);
	} else {
		brig_err_set(&err, BRIG_E_INVALID, 0, "an argument is not valid UTF-8");
		code = command_fail(&c, &err);
	}
	json_decref(req);
	command_done(&c);
	return code;
}

const struct cmd cmd_attach = {
	.name = "attach",
	.operands = "SANDBOX EXEC",
	.summary = "read on at a command whose server was restarted",
	.about = "When the server's brigd ends, sandboxes go on, and `brig exec` reads on by itself. Where it cannot, "
		 "because it had sent input that may be lost, it ends and names the arguments of this verb. "
		 "EXEC is also listed by `brig inspect`. Output from the offsets on comes out as such; the exit "
		 "code is the command's. Not over BRIG_URL.",
	.flags = flags,
	.opts_size = sizeof(struct attach_opts),
	.min_args = 2,
	.max_args = 2,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
