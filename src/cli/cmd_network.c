/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_network.c: `brig network`: private networks, by which sandboxes reach each other. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/table.h"

struct network_opts {
	const char *tenant;
};

static const struct flag flags[] = {
	{ .name = "tenant",
	  .kind = FLAG_STR,
	  .at = offsetof(struct network_opts, tenant),
	  .arg = "NAME",
	  .help = "whose networks; default: those of this machine's own sandboxes" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int path_of(const struct network_opts *o, const char *name, char ret[256], struct brig_err *err)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	const char *both[] = { name, o->tenant };
	for (int i = 0; i < 2; i++)
		if (both[i] && (!both[i][0] || strlen(both[i]) > 64 || both[i][strspn(both[i], set)]))
			return brig_fail(err, BRIG_E_INVALID, 0, "a name is 1 to 64 of a-z A-Z 0-9 _ . -, not '%.80s'",
					 both[i]);
	snprintf(ret, 256, "/v1/networks%s%s%s%s", name ? "/" : "", name ? name : "", o->tenant ? "?tenant=" : "",
		 o->tenant ? o->tenant : "");
	return 0;
}

/* 0 with the answer, or the exit code. */
static int ask(struct cli *cli, const struct network_opts *o, const char *method, const char *name, json_t *body,
	       json_t **ret)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[256];
	if (path_of(o, name, path, &err) < 0) {
		json_decref(body);
		return cli_usage_err(cli, &err);
	}
	return api_call(method, path, body, ret, &err) < 0 ? cli_fail(cli, &err) : 0;
}

static int create(struct cli *cli, const struct network_opts *o, char **argv)
{
	json_t *made = NULL;
	int code = ask(cli, o, "POST", NULL, json_pack("{s:s}", "name", argv[0]), &made);
	if (code == 0 && cli->json)
		code = cli_print_json(cli, made);
	else if (code == 0)
		printf("%s\n", argv[0]);
	json_decref(made);
	return code ? code : cli_flush(cli, 0);
}

static int list(struct cli *cli, const struct network_opts *o)
{
	static const char *const head[] = { "NETWORK", "SANDBOXES", "CREATED", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *all = NULL, *v;
	size_t i;
	int code = ask(cli, o, "GET", NULL, NULL, &all);
	json_t *rows = json_object_get(all, "networks");
	if (code == 0 && cli->json)
		code = cli_print_json(cli, rows);
	if (code || cli->json) {
		json_decref(all);
		return code;
	}
	table_init(&t, head);
	json_array_foreach(rows, i, v)
	{
		char n[24];
		snprintf(n, sizeof(n), "%zu", json_array_size(json_object_get(v, "members")));
		table_add(&t, json_string_value(json_object_get(v, "name")));
		table_add(&t, n);
		table_add(&t, json_string_value(json_object_get(v, "created")));
	}
	int printed = table_print(&t);
	json_decref(all);
	if (printed < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int inspect(struct cli *cli, const struct network_opts *o, int argc, char **argv)
{
	json_t *all = json_array();
	int code = 0;
	for (int i = 0; i < argc && code == 0; i++) {
		json_t *one = NULL;
		code = ask(cli, o, "GET", argv[i], NULL, &one);
		if (one)
			json_array_append_new(all, one);
	}
	if (code == 0)
		code = cli_print_json(cli, all);
	json_decref(all);
	return code;
}

static int drop(struct cli *cli, const struct network_opts *o, int argc, char **argv)
{
	int code = 0;
	for (int i = 0; i < argc; i++) {
		json_t *none = NULL;
		cli->printed_error = false;
		int r = ask(cli, o, "DELETE", argv[i], NULL, &none);
		if (r == 0 && !cli->json)
			printf("%s\n", argv[i]);
		code = r ? r : code;
		json_decref(none);
	}
	return code ? code : cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct network_opts *o = opts;
	const char *verb = argv[0];
	if (strcmp(verb, "create") == 0)
		return argc == 2 ? create(cli, o, argv + 1) : cli_usage(cli, "network create takes one name");
	if (strcmp(verb, "ls") == 0)
		return argc == 1 ? list(cli, o) : cli_usage(cli, "network ls takes no operands");
	if (strcmp(verb, "inspect") != 0 && strcmp(verb, "rm") != 0)
		return cli_usage(cli, "network '%.32s': only create, ls, inspect and rm are known", verb);
	if (argc == 1)
		return cli_usage(cli, "network %s: which network is missing", verb);
	return verb[0] == 'i' ? inspect(cli, o, argc - 1, argv + 1) : drop(cli, o, argc - 1, argv + 1);
}

const struct cmd cmd_network = {
	.name = "network",
	.operands = "create NAME | ls | inspect NAME... | rm NAME...",
	.summary = "keep private networks, by which sandboxes reach each other",
	.about = "Sandboxes that are made with --network NAME reach each other, over IPv4, at every port and with every "
		 "protocol: each by its name and its aliases (--alias), as db or db.internal. Nobody else reaches "
		 "them by it, and what they reach besides is what --net and --allow say.\n"
		 "\n"
		 "A network is kept by a server that speaks HTTP, and stays until it is removed, which needs that no "
		 "sandbox is in it.",
	.flags = flags,
	.opts_size = sizeof(struct network_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
