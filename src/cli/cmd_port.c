/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_port.c: `brig port`: where this host listens for a sandbox. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/conn.h"

static const struct flag flags[] = {
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* PORT or PORT/tcp; 0 if it is none. */
static json_int_t port_of(const char *text)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);
	bool good = text[0] >= '0' && text[0] <= '9' && (!*end || strcmp(end, "/tcp") == 0);
	return good && v <= 65535 ? (json_int_t)v : 0;
}

static void print_one(const json_t *p, bool short_)
{
	const char *addr = json_string_value(json_object_get(p, "address"));
	json_int_t host = json_integer_value(json_object_get(p, "host_port"));
	bool six = addr && strchr(addr, ':');
	if (!short_)
		printf("%lld/tcp -> ", (long long)json_integer_value(json_object_get(p, "port")));
	printf("%s%s%s:%lld\n", six ? "[" : "", addr ? addr : "?", six ? "]" : "", (long long)host);
}

static int print(struct cli *cli, const char *sandbox, json_t *ports, json_int_t only)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *v;
	size_t i, n = 0;
	json_array_foreach(ports, i, v)
	{
		if (only && json_integer_value(json_object_get(v, "port")) != only)
			continue;
		n++;
		if (!cli->json)
			print_one(v, only != 0);
	}
	if (only && !n) {
		brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "port %lld of sandbox '%.64s' is not published",
			     (long long)only, sandbox);
		brig_err_remedy(&err, "publish it when the sandbox is made: --publish 0:%lld", (long long)only);
		return cli_fail(cli, &err);
	}
	return cli->json ? cli_print_json(cli, ports) : cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	json_t *ok = NULL;
	json_int_t only = argc > 1 ? port_of(argv[1]) : 0;
	(void)opts;
	if (argc > 1 && !only)
		return cli_usage(cli, "'%.32s' is no port: 1 to 65535", argv[1]);
	int code = conn_call(cli, json_pack("{s:s,s:s}", "op", "inspect", "id", argv[0]), &ok);
	if (code == 0)
		code = print(cli, argv[0], json_object_get(ok, "ports"), only);
	json_decref(ok);
	return code;
}

const struct cmd cmd_port = {
	.name = "port",
	.operands = "SANDBOX [PORT]",
	.summary = "show where this host listens for a sandbox",
	.about = "A line for each port that was published with --publish. With PORT only the addresses that lead "
		 "to it.",
	.flags = flags,
	.min_args = 1,
	.max_args = 2,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
