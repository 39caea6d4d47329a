/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_audit.c: `brig audit`: becomes brig-audit, which alone has the cryptography for it. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/server.h"
#include "cli/spawn.h"

struct audit_opts {
	const char *key, *data;
	uint64_t lines;
};

static const struct flag flags[] = {
	{ .name = "key",
	  .kind = FLAG_STR,
	  .at = offsetof(struct audit_opts, key),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "with verify: the public key (PEM) that heads must be signed with; default: "
		  "audit.pub beside the log, which whoever can change the log can change, too" },
	{ .name = "data",
	  .kind = FLAG_STR,
	  .at = offsetof(struct audit_opts, data),
	  .arg = "DIR",
	  .complete = COMPLETE_DIR,
	  .help = "the server's data folder; default: BRIG_DATA, or by user (see ENVIRONMENT)" },
	{ .name = "lines",
	  .letter = 'n',
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct audit_opts, lines),
	  .arg = "N",
	  .help = "with tail: how many records, at most 100000; default: 20" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct audit_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	char path[PATH_MAX], data[PATH_MAX], lines[24];
	const char *args[16] = { "brig-audit", "--data", data };
	size_t n = 3;
	/* A copy of a log can be looked at anywhere. */
	int refused = argc > 1 || o->data ? 0
					  : remote_refuse(cli, "brig audit without a file or folder",
							  "run it there, or name a copy of the log");
	if (refused)
		return refused;
	if (server_data_dir(o->data, data, sizeof(data), &err) < 0)
		return cli_usage_err(cli, &err);
	if (spawn_find("brig-audit", path, &err) < 0)
		return cli_fail(cli, &err);
	if (o->key) {
		args[n++] = "--key";
		args[n++] = o->key;
	}
	if (o->lines) {
		snprintf(lines, sizeof(lines), "%llu", (unsigned long long)o->lines);
		args[n++] = "-n";
		args[n++] = lines;
	}
	if (cli->json) {
		args[n++] = "-o";
		args[n++] = "json";
	}
	args[n++] = "--";
	for (int i = 0; i < argc; i++)
		args[n++] = argv[i];
	execv(path, (char *const *)(uintptr_t)args);
	brig_err_set(&err, BRIG_E_UNAVAILABLE, errno, "start '%.256s'", path);
	return cli_fail(cli, &err);
}

const struct cmd cmd_audit = {
	.name = "audit",
	.operands = "verify [FILE|DIR] | ls [DIR] | tail [DIR] | key [DIR]",
	.summary = "verify and show the record of who did what",
	.about = "A server that speaks HTTP records every change, refusal and failed login in "
		 "api/audit of "
		 "its data folder: JSON lines, each with the SHA-256 of the line before it, and "
		 "signed "
		 "heads. verify names the first bad record and exits 1; it needs no server, and "
		 "works on a "
		 "copy. A torn end, as a power cut leaves it, is told and is no fault.\n"
		 "\n"
		 "key prints the public key. Keep it on another machine: a log that was written "
		 "anew by "
		 "somebody who took the server does verify with the key that lies beside it.",
	.flags = flags,
	.opts_size = sizeof(struct audit_opts),
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
