/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_key.c: `brig key`: the keys that a server's HTTP interface asks for. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/table.h"

struct key_opts {
	const char *tenant;
};

static const struct flag flags[] = {
	{ .name = "tenant",
	  .kind = FLAG_STR,
	  .at = offsetof(struct key_opts, tenant),
	  .arg = "NAME",
	  .help = "with create: whose sandboxes the key reaches; keys of one tenant share them; "
		  "default: default" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int create(struct cli *cli, const struct key_opts *o, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *made;
	if (argc > 1)
		return cli_usage(cli, "key create takes one name");
	if (api_call("POST", "/v1/keys",
		     json_pack("{s:s*,s:s*}", "name", argc ? argv[0] : NULL, "tenant", o->tenant),
		     &made, &err) < 0)
		return cli_fail(cli, &err);
	const char *key = json_string_value(json_object_get(made, "key"));
	int code;
	if (cli->json) {
		code = cli_print_json(cli, made);
	} else if (key && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(key)) {
		printf("%s\n", key);
		code = cli_flush(cli, 0);
	} else {
		brig_err_set(&err, BRIG_E_PROTOCOL, 0, "the server's answer is no key");
		code = cli_fail(cli, &err);
	}
	json_decref(made);
	return code;
}

static int list(struct cli *cli, int argc)
{
	static const char *const head[] = { "KEY", "NAME", "TENANT", "CREATED", "LAST USED", NULL };
	static const char *const keys[] = { "id", "name", "tenant", "created", "last_used" };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *all, *v;
	size_t i;
	if (argc)
		return cli_usage(cli, "key ls takes no operands");
	if (api_call("GET", "/v1/keys", NULL, &all, &err) < 0)
		return cli_fail(cli, &err);
	json_t *rows = json_object_get(all, "keys");
	int code;
	if (cli->json) {
		code = cli_print_json(cli, rows);
		json_decref(all);
		return code;
	}
	table_init(&t, head);
	json_array_foreach(rows, i, v)
	{
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			table_add(&t, json_string_value(json_object_get(v, keys[k])));
	}
	code = table_print(&t) < 0 ? BRIG_EXIT_FAILED : cli_flush(cli, 0);
	json_decref(all);
	if (code == BRIG_EXIT_FAILED) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
		return cli_fail(cli, &err);
	}
	return code;
}

/* Ids are made of letters and digits; anything else would be another path. */
static bool id_ok(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789");
	return n >= 1 && n <= 64 && id[n] == '\0';
}

static int revoke(struct cli *cli, int argc, char **argv)
{
	int code = 0;
	if (argc == 0)
		return cli_usage(cli, "key revoke: which key is missing");
	for (int i = 0; i < argc; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		char path[128];
		json_t *none = NULL;
		snprintf(path, sizeof(path), "/v1/keys/%.64s", argv[i]);
		int r = -1;
		if (!id_ok(argv[i])) {
			brig_err_set(&err, BRIG_E_INVALID, 0, "'%.64s' is no id of a key", argv[i]);
			brig_err_remedy(&err, "see `brig key ls`");
		} else {
			r = api_call("DELETE", path, NULL, &none, &err);
		}
		json_decref(none);
		if (r < 0) {
			cli->printed_error = false;
			code = cli_fail(cli, &err);
		} else if (!cli->json) {
			printf("%s\n", argv[i]);
		}
	}
	return code ? code : cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct key_opts *o = opts;
	if (o->tenant && strcmp(argv[0], "create") != 0)
		return cli_usage(cli, "--tenant belongs to key create");
	if (strcmp(argv[0], "create") == 0)
		return create(cli, o, argc - 1, argv + 1);
	if (strcmp(argv[0], "ls") == 0)
		return list(cli, argc - 1);
	if (strcmp(argv[0], "revoke") == 0)
		return revoke(cli, argc - 1, argv + 1);
	return cli_usage(cli, "key '%.32s': only create, ls and revoke are known", argv[0]);
}

const struct cmd cmd_key = {
	.name = "key",
	.operands = "create [NAME] | ls | revoke KEY...",
	.summary = "make, list and revoke API keys of the server",
	.about =
		"A key is shown when it is made and kept as a hash only. Who may open the server's "
		"socket needs none.",
	.flags = flags,
	.opts_size = sizeof(struct key_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
