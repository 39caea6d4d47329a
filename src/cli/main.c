/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * `brig` is the client: it runs with the rights of whoever calls it and has none of its own. It
 * reads the command line, opens what the caller may open, and talks to brigd over a socket; it
 * never makes a namespace, a group or a mount. One verb runs in one process and ends; only `brig
 * serve` stays. The daemons are linked in for private servers only, as forks (spawn.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/server.h"
#include "daemon/entry.h"
#include "jail/entry.h"

/* Descriptors 0 to 2 that were closed at start become /dev/null: the next file opened must not turn
 * into somebody's standard output. */
static int fill_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -1;
	return 0;
}

/* jansson seeds its hash tables from /dev/urandom at the first object; the kernel has given us 16
 * random bytes already. */
static void seed_json(void)
{
	size_t seed = 0;
	const void *random = (const void *)getauxval(AT_RANDOM);
	if (random)
		memcpy(&seed, random, sizeof(seed));
	json_object_seed(seed);
}

static int run_cmd(struct cli *cli, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	const struct cmd *cmd = cli->cmd;
	void *opts = calloc(1, cmd->opts_size ? cmd->opts_size : 1);
	int code;
	if (!opts) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "read the arguments");
		return cli_fail(cli, &err);
	}
	int n = args_parse(cli, cmd, argc, argv, opts, &err);
	if (n == ARGS_HELP) {
		help_print_cmd(cmd);
		code = cli_flush(cli, 0);
	} else if (n < 0) {
		code = cli_usage_err(cli, &err);
	} else {
		code = cmd->run(cli, opts, n, argv);
	}
	args_done(cmd, opts);
	free(opts);
	return code;
}

int main(int argc, char **argv)
{
	struct cli cli = { .cmd = NULL };
	if (fill_standard_fds() < 0)
		return BRIG_EXIT_FAILED;
	/* A reader that goes away is an error of write(), handled where it is seen. */
	signal(SIGPIPE, SIG_IGN);
	seed_json();
	server_link(&(struct server_mains){ .brigd = brigd_main, .jaild = jaild_main });
	int code = remote_flags(&cli, &argc, &argv);
	if (code)
		return code;
	const char *verb = argc > 1 ? argv[1] : NULL;
	if (verb && (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0))
		verb = "help";
	else if (verb && (strcmp(verb, "--version") == 0 || strcmp(verb, "-V") == 0))
		verb = "version";
	if (!verb)
		return cli_usage(&cli, "a command is missing");
	cli.cmd = cmd_find(verb);
	if (!cli.cmd)
		return cli_usage(&cli, "unknown command '%.64s'", verb);
	return run_cmd(&cli, argc - 2, argv + 2);
}
