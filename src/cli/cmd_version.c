/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_version.c: `brig version`: this program's, and the running server's. */
#include <stdio.h>

#include "cli/conn.h"

static const struct flag flags[] = { FLAG_OUTPUT_ROW, FLAG_END };

static void print_list(const char *name, const json_t *list)
{
	json_t *v;
	size_t i;
	printf("  %-10s", name);
	json_array_foreach((json_t *)(uintptr_t)list, i, v) if (json_is_string(v))
		printf("%s%s", i ? ", " : "", json_string_value(v));
	putchar('\n');
}

static void print_server(json_t *server)
{
	const char *version = json_string_value(json_object_get(server, "version"));
	const char *cgroup = json_string_value(json_object_get(server, "cgroup"));
	printf("server %s\n", version ? version : "?");
	print_list("tiers", json_object_get(server, "tiers"));
	const char *tier;
	json_t *why;
	json_object_foreach(json_object_get(server, "refused"), tier, why)
	{
		printf("  %-10s%s: %s\n", "refused", tier, json_string_value(why));
	}
	print_list("enforced", json_object_get(server, "enforced"));
	print_list("missing", json_object_get(server, "missing"));
	printf("  %-10s%s\n  %-10s%s\n", "cgroup", cgroup ? cgroup : "?", "rootless",
	       json_is_true(json_object_get(server, "rootless")) ? "yes" : "no");
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *server = NULL, *error = NULL;
	int code;
	(void)opts;
	(void)argc;
	(void)argv;
	if (conn_try(json_pack("{s:s}", "op", "version"), &server, &error, &err) < 0 &&
	    (error || err.code != BRIG_E_NOT_FOUND)) {
		code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
		json_decref(error);
		return code;
	}
	if (cli->json) {
		json_t *both = json_pack("{s:{s:s,s:i},s:O?}", "client", "version", BRIG_VERSION,
					 "proto", (int)BRIG_CLIENT_PROTO_VERSION, "server", server);
		code = cli_print_json(cli, both);
		json_decref(both);
	} else {
		printf("brig %s\n", BRIG_VERSION);
		if (server)
			print_server(server);
		code = cli_flush(cli, 0);
	}
	json_decref(server);
	return code;
}

const struct cmd cmd_version = {
	.name = "version",
	.operands = "",
	.summary = "show the version of brig and of the running server",
	.flags = flags,
	.run = run,
};
