/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_logs.c: `brig logs`: what the main command of a detached sandbox printed. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "cli/conn.h"
#include "cli/stream.h"

struct logs_opts {
	bool follow, only_stdout, only_stderr;
};

static const struct flag flags[] = {
	{ .name = "follow",
	  .letter = 'f',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct logs_opts, follow),
	  .help = "go on until the command ends" },
	{ .name = "stdout",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct logs_opts, only_stdout),
	  .help = "only standard output" },
	{ .name = "stderr",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct logs_opts, only_stderr),
	  .help = "only standard error" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int finish(struct cli *cli, const struct stream_result *res)
{
	struct brig_err err = BRIG_ERR_INIT;
	const json_t *error = res->error ? res->error : json_object_get(res->end, "error");
	if (res->out_error == EPIPE)
		return BRIG_EXIT_SIGNAL_BASE + SIGPIPE;
	if (res->out_error) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, res->out_error, "write the logs");
		return cli_fail(cli, &err);
	}
	if (res->lost)
		cli_note("%llu bytes of output are no longer kept and are missing here",
			 (unsigned long long)res->lost);
	return error ? cli_fail_json(cli, error) : 0;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct logs_opts *o = opts;
	const struct stream_opts stream = { .stdin_fd = -1, .gaps = true };
	struct brig_err err = BRIG_ERR_INIT;
	struct conn c = CONN_NONE;
	struct stream_result res = { .rep = NULL };
	int code;
	(void)argc;
	/* Both flags together are the default again. */
	json_t *req = json_pack("{s:s,s:s,s:b,s:b,s:b}", "op", "logs", "id", argv[0], "follow",
				(int)o->follow, "stdout", o->only_stdout || !o->only_stderr,
				"stderr", o->only_stderr || !o->only_stdout);
	int r = req ? 0 : brig_fail(&err, BRIG_E_INVALID, 0, "'%.64s' is no name", argv[0]);
	if (r == 0)
		r = conn_open(&c, CONN_EXISTING, &err);
	if (r < 0)
		conn_absent(argv[0], &err);
	if (r == 0)
		r = conn_request(&c, req, NULL, 0, &err);
	if (r == 0)
		r = stream_run(&c, &stream, &res, &err);
	code = r < 0 ? cli_fail(cli, &err) : finish(cli, &res);
	stream_result_done(&res);
	conn_done(&c);
	json_decref(req);
	return code;
}

const struct cmd cmd_logs = {
	.name = "logs",
	.operands = "SANDBOX",
	.summary = "print what the command of a detached sandbox printed",
	.about = "The newest MiB of each output is kept. Standard output and standard error come "
		 "out as such.",
	.flags = flags,
	.opts_size = sizeof(struct logs_opts),
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
