/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_receipt.c: `brig receipt`: what really holds for a sandbox, signed by its server. verify becomes
 * brig-audit, which alone has the cryptography for it.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/remote.h"
#include "cli/server.h"
#include "cli/spawn.h"

struct receipt_opts {
	const char *key, *data;
};

static const struct flag flags[] = {
	{ .name = "key",
	  .kind = FLAG_STR,
	  .at = offsetof(struct receipt_opts, key),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "with verify: the server's public key (PEM), as `brig audit key` prints it; "
		  "default: that of the server's data folder on this machine" },
	{ .name = "data",
	  .kind = FLAG_STR,
	  .at = offsetof(struct receipt_opts, data),
	  .arg = "DIR",
	  .complete = COMPLETE_DIR,
	  .help = "with verify: the server's data folder; default: BRIG_DATA, or by user (see "
		  "ENVIRONMENT)" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int verify(struct cli *cli, const struct receipt_opts *o, const char *file)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[PATH_MAX], data[PATH_MAX];
	const char *args[16] = { "brig-audit", "--data", data };
	size_t n = 3;
	if (server_data_dir(o->data, data, sizeof(data), &err) < 0)
		return cli_usage_err(cli, &err);
	if (spawn_find("brig-audit", path, &err) < 0)
		return cli_fail(cli, &err);
	if (o->key) {
		args[n++] = "--key";
		args[n++] = o->key;
	}
	if (cli->json) {
		args[n++] = "-o";
		args[n++] = "json";
	}
	args[n++] = "--";
	args[n++] = "receipt";
	args[n++] = file;
	execv(path, (char *const *)(uintptr_t)args);
	brig_err_set(&err, BRIG_E_UNAVAILABLE, errno, "start '%.256s'", path);
	return cli_fail(cli, &err);
}

static const char *text_at(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "-";
}

static long long number_at(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

/* What of it fits a screen; -o json has everything, and is what verify reads. */
static int show(struct cli *cli, const json_t *o)
{
	const json_t *ids = json_object_get(o, "ids"), *caps = json_object_get(o, "capabilities");
	const json_t *seccomp = json_object_get(o, "seccomp"), *cg = json_object_get(o, "cgroup");
	const json_t *egress = json_object_get(o, "egress"), *f;
	const char *name;
	json_t *v;
	size_t i;
	printf("sandbox       %s\ntier          %s\ntime          %s\nkernel        %s\n",
	       text_at(o, "sandbox"), text_at(o, "tier"), text_at(o, "time"), text_at(o, "kernel"));
	printf("image         %s\n", text_at(json_object_get(o, "image"), "digest"));
	printf("namespaces   ");
	json_object_foreach(json_object_get(o, "namespaces"), name, v)
		printf(" %s%s", name, json_is_true(json_object_get(v, "own")) ? "" : "(host's)");
	printf("\nids           uid 0 is %lld, gid 0 is %lld, of %lld\n", number_at(ids, "uid_first"),
	       number_at(ids, "gid_first"), number_at(ids, "uid_count"));
	printf("capabilities  bounding %s, commands %s; no_new_privs %s\n", text_at(caps, "bounding"),
	       text_at(caps, "commands_bounding"),
	       json_is_true(json_object_get(o, "no_new_privs")) ? "yes" : "NO");
	f = json_object_get(seccomp, "filters");
	json_array_foreach(f, i, v)
		printf("seccomp       %s %s%s\n", text_at(v, "name"), text_at(v, "sha256"),
		       json_is_true(json_object_get(seccomp, "read_back")) ? ", read back" : "");
	printf("limits        memory %lld, pids %lld, CPU %lld us of %lld, disk %lld\n",
	       number_at(cg, "memory_bytes"), number_at(cg, "pids"), number_at(cg, "cpu_quota_us"),
	       number_at(cg, "cpu_period_us"), number_at(json_object_get(o, "disk"), "bytes"));
	printf("mounts        %zu, sha256 %s\n", json_array_size(json_object_get(o, "mounts")),
	       text_at(o, "mounts_sha256"));
	printf("egress        %s, sha256 %s\nsigned by     %s\n", text_at(egress, "policy"),
	       text_at(o, "egress_sha256"), text_at(o, "key"));
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct receipt_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *receipt;
	char path[128];
	if (strcmp(argv[0], "verify") == 0)
		return argc == 2 ? verify(cli, o, argv[1])
				 : cli_usage(cli, "receipt verify takes one file");
	if (argc != 1 || o->key || o->data)
		return cli_usage(cli, argc != 1 ? "receipt takes one sandbox, or verify and a file"
						: "--key and --data belong to receipt verify");
	int refused = remote_refuse(cli, "brig receipt",
				    "run it there, or use GET /v1/sandboxes/ID/receipt");
	if (refused)
		return refused;
	/* A name or the beginning of an id: brigd knows which. */
	int code = conn_call(cli, json_pack("{s:s,s:s}", "op", "inspect", "id", argv[0]), &ok);
	if (code)
		return code;
	snprintf(path, sizeof(path), "/v1/sandboxes/%.32s/receipt", text_at(ok, "id"));
	json_decref(ok);
	if (api_call("GET", path, NULL, &receipt, &err) < 0)
		return cli_fail(cli, &err);
	code = cli->json ? cli_print_json(cli, receipt) : show(cli, receipt);
	json_decref(receipt);
	return code;
}

const struct cmd cmd_receipt = {
	.name = "receipt",
	.operands = "SANDBOX | verify FILE",
	.summary = "show what really holds for a sandbox, measured and signed",
	.about = "The server's host measures a sandbox from outside: namespaces, ids, capabilities, "
		 "the system call filters as the kernel has them, limits, mounts, image and network. A "
		 "sandbox that is not what was specified is destroyed, before its first command where "
		 "that is compared then (docs/architecture.md says what is). The receipt is signed with "
		 "the key of the audit log.\n"
		 "\n"
		 "verify checks a receipt (-o json) anywhere, without a server: exit code 0 if the key "
		 "signed exactly that, 1 if not.",
	.flags = flags,
	.opts_size = sizeof(struct receipt_opts),
	.min_args = 1,
	.max_args = 2,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
