/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_exec.c: `brig exec`: one more command in a living sandbox. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "cli/checkpoint.h"
#include "cli/command.h"
#include "cli/env.h"
#include "cli/secretuse.h"
#include "cli/spec.h"
#include "cli/remote.h"

struct exec_opts {
	struct command_opts command;
	const char *workdir, *user;
	struct strlist env, env_files, secrets;
	uint64_t timeout_ms, max_output_bytes;
};

static const struct flag flags[] = {
	COMMAND_ROWS(struct exec_opts, command),
	ENV_ROWS(struct exec_opts, env, env_files),
	SECRET_ROW(struct exec_opts, secrets),
	WHERE_ROWS(struct exec_opts, workdir, user),
	{ .name = "timeout",
	  .kind = FLAG_LIMIT,
	  .limit = LIMIT_timeout_ms,
	  .at = offsetof(struct exec_opts, timeout_ms) },
	{ .name = "max-output",
	  .kind = FLAG_LIMIT,
	  .limit = LIMIT_max_output_bytes,
	  .at = offsetof(struct exec_opts, max_output_bytes) },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int add_limit(json_t *req, const char *key, uint64_t v)
{
	if (!v)
		return 0;
	return json_object_set_new(req, key,
				   v == LIMIT_NONE ? json_null() : json_integer((json_int_t)v));
}

/* Steals env and cmd. NULL: out of memory, or err says what is not UTF-8. */
static json_t *request(const struct command *c, const struct exec_opts *o, const char *id,
		       json_t *cmd, json_t *env)
{
	json_t *req = json_pack("{s:s,s:s,s:o,s:o,s:s*,s:s*}", "op", "exec", "id", id, "cmd", cmd,
				"env", env, "workdir", o->workdir, "user", o->user);
	int r = req ? command_add(c, req) : -1;
	if (r == 0)
		r = add_limit(req, "timeout_ms", o->timeout_ms) |
		    add_limit(req, "max_output_bytes", o->max_output_bytes);
	if (r == 0)
		return req;
	json_decref(req);
	return NULL;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct exec_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	struct command c;
	json_t *env = NULL, *cmd = NULL, *req = NULL, *error = NULL;
	bool usage = true;
	int code = command_begin(&c, cli, &o->command);
	if (code)
		return code;
	if ((o->workdir && workdir_check(o->workdir, &err) < 0) ||
	    (o->user && user_check(o->user, &err) < 0))
		goto out;
	/* `exec ID -- CMD` reads like `run -- CMD`; a program called "--" can still be run by its
	 * path. */
	int skip = argc > 2 && strcmp(argv[1], "--") == 0 ? 2 : 1;
	cmd = command_json(argc - skip, argv + skip, &err);
	if (!cmd || env_build(&o->env_files, &o->env, c.tty, &env, &usage, &err) < 0) {
		json_decref(cmd);
		goto out;
	}
	req = request(&c, o, argv[0], cmd, env);
	if (!req)
		brig_err_set(&err, BRIG_E_INVALID, 0, "an argument is not valid UTF-8");
	if (req && secretuse_add(req, &o->secrets, &usage, &err) < 0) {
		json_decref(req);
		req = NULL;
	}
out:
	c.id = argv[0];
	c.stream.again = !o->command.detach;
	if (req && !remote_wanted() && checkpoint_before(argv[0], &error, &err) < 0)
		code = error ? cli_fail_json(cli, error) : command_fail(&c, &err);
	else if (req)
		code = command_run(&c, CONN_EXISTING, req, NULL, 0);
	else
		code = usage ? cli_usage_err(cli, &err) : command_fail(&c, &err);
	json_decref(req);
	json_decref(error);
	command_done(&c);
	return code;
}

const struct cmd cmd_exec = {
	.name = "exec",
	.operands = "SANDBOX COMMAND [ARG...]",
	.summary = "run one more command in a living sandbox",
	.about = "Streams, terminal, signals and exit codes are as with run. Flags end at SANDBOX.",
	.flags = flags,
	.opts_size = sizeof(struct exec_opts),
	.min_args = 2,
	.max_args = -1,
	.first_ends = true,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
