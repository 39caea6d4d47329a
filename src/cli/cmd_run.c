/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.c: `brig run`: one command in a fresh sandbox. */
#include <errno.h>
#include <stddef.h>

#include "cli/command.h"
#include "cli/compare.h"
#include "cli/spec.h"

struct run_opts {
	struct spec_opts spec;
	struct command_opts command;
	bool rm, compare;
};
_Static_assert(offsetof(struct run_opts, spec) == 0, "SPEC_ROWS count from the start");

static const struct flag flags[] = {
	SPEC_ROWS,
	COMMAND_ROWS(struct run_opts, command),
	{ .name = "rm",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct run_opts, rm),
	  .help = "with --detach: remove the sandbox when its command ends (else that is always "
		  "so)" },
	{ .name = "compare-tiers",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct run_opts, compare),
	  .help = "run it in every tier that this host offers, without input, and print output, exit, time and "
		  "memory side by side; exits with 1 if they differ" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static json_t *request(const struct command *c, const struct run_opts *o, json_t *spec, json_t *cmd)
{
	json_t *req = json_pack("{s:s,s:O,s:O}", "op", "run", "spec", spec, "cmd", cmd);
	int r = req ? command_add(c, req) : -1;
	if (r == 0 && o->rm && o->command.detach)
		r = json_object_set_new(req, "rm", json_true());
	if (r == 0)
		return req;
	json_decref(req);
	return NULL;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct run_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	struct spec_built spec;
	struct command c;
	if (o->compare && (o->command.detach || argc == 0))
		return cli_usage(cli, "--compare-tiers needs a command, and excludes --detach");
	if (o->compare)
		return compare_tiers(cli, argc);
	int code = command_begin(&c, cli, &o->command);
	if (code)
		return code;
	c.stream.again = !o->command.detach;
	/* An image may say what runs in it; without --image nobody has chosen one that does. */
	if (argc == 0 && !o->spec.image) {
		command_done(&c);
		brig_fail(&err, BRIG_E_INVALID, 0, "COMMAND [ARG...] is missing");
		return cli_usage_err(cli, &err);
	}
	json_t *cmd = command_json(argc, argv, &err);
	if (!cmd) {
		command_done(&c);
		return cli_usage_err(cli, &err);
	}
	code = spec_build(cli, &o->spec, c.tty, &spec);
	if (code == 0) {
		json_t *req = request(&c, o, spec.spec, cmd);
		enum conn_mode mode = o->command.detach ? CONN_BACKGROUND : CONN_PRIVATE;
		/* The server that keeps them must not be gone and another one be asked. */
		if (o->spec.secrets.n || o->spec.net.networks.n)
			mode = CONN_EXISTING;
		if (req) {
			if (mode == CONN_PRIVATE && net_opts_link(json_object_get(spec.spec, "network")))
				mode = CONN_PRIVATE_NET;
			code = command_run(&c, mode, req, spec.fds, spec.nfds);
		} else {
			brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
			code = command_fail(&c, &err);
		}
		json_decref(req);
		spec_built_done(&spec);
	}
	json_decref(cmd);
	command_done(&c);
	return code;
}

const struct cmd cmd_run = {
	.name = "run",
	.operands = "[COMMAND [ARG...]]",
	.summary = "run one command in a fresh sandbox and remove it",
	.about =
		"Standard input, output and error of the command are brig's own. If input and "
		"output "
		"are a terminal, the command gets a terminal too. Flags end at COMMAND, or at --.\n"
		"With --image and without COMMAND what runs is what the image names (its "
		"ENTRYPOINT "
		"and CMD); COMMAND takes the place of both.\n"
		"\n"
		"Without a server (see serve) a private one is started for the lifetime of the "
		"command; with --detach a background server is started that stays as long as there "
		"is "
		"a sandbox.\n"
		"\n"
		"Signals that brig gets are passed on. A second SIGINT within a second kills the "
		"command, a third ends brig at once. If nobody reads the output any more, the "
		"command "
		"is killed.\n"
		"\n"
		"What the command printed comes through unchanged, and so does its exit code. A "
		"value "
		"that is malformed or out of range is refused, never adjusted.",
	.flags = flags,
	.opts_size = sizeof(struct run_opts),
	.min_args = 0,
	.max_args = -1,
	.first_ends = true,
	.run = run,
};
