/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tenant.c: `brig tenant`: those whose keys, sandboxes and snapshots are kept apart. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/table.h"

struct tenant_opts {
	bool force;
};

static const struct flag flags[] = {
	{ .name = "force",
	  .letter = 'f',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct tenant_opts, force),
	  .help = "with rm: end its sandboxes and remove its snapshots, too" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* What would be another path is refused here; the server says what else a name is not. */
static int path_of(const char *name, const char *suffix, char ret[128], struct brig_err *err)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	if (n < 1 || n > 64 || name[n] || name[0] == '.') {
		brig_err_set(err, BRIG_E_INVALID, 0, "'%.64s' is no name of a tenant", name);
		return brig_fix(err, "see `brig tenant ls`");
	}
	snprintf(ret, 128, "/v1/tenants/%s%s", name, suffix);
	return 0;
}

static int done(struct cli *cli, json_t *answer, const char *name)
{
	int code;
	if (cli->json && json_is_object(answer)) {
		code = cli_print_json(cli, answer);
	} else {
		if (!cli->json)
			printf("%s\n", name);
		code = cli_flush(cli, 0);
	}
	json_decref(answer);
	return code;
}

static int create(struct cli *cli, const char *name)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *made;
	char path[128];
	if (path_of(name, "", path, &err) < 0 ||
	    api_call("POST", "/v1/tenants", json_pack("{s:s}", "name", name), &made, &err) < 0)
		return cli_fail(cli, &err);
	return done(cli, made, name);
}

static int change(struct cli *cli, const char *name, json_t *body)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *answer;
	char path[128];
	if (path_of(name, "", path, &err) < 0) {
		json_decref(body);
		return cli_fail(cli, &err);
	}
	if (api_call("PATCH", path, body, &answer, &err) < 0)
		return cli_fail(cli, &err);
	return done(cli, answer, name);
}

static int rm(struct cli *cli, const char *name, bool force)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *none;
	char path[128];
	if (path_of(name, force ? "?force=true" : "", path, &err) < 0 ||
	    api_call("DELETE", path, NULL, &none, &err) < 0)
		return cli_fail(cli, &err);
	return done(cli, none, name);
}

static int inspect(struct cli *cli, const char *name)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *t;
	char path[128];
	if (path_of(name, "", path, &err) < 0 || api_call("GET", path, NULL, &t, &err) < 0)
		return cli_fail(cli, &err);
	int code = cli_print_json(cli, t);
	json_decref(t);
	return code;
}

static int list(struct cli *cli)
{
	static const char *const head[] = { "TENANT", "STATE", "KEYS", "CREATED", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *all, *v;
	size_t i;
	int code;
	if (api_call("GET", "/v1/tenants", NULL, &all, &err) < 0)
		return cli_fail(cli, &err);
	json_t *rows = json_object_get(all, "tenants");
	if (cli->json) {
		code = cli_print_json(cli, rows);
		json_decref(all);
		return code;
	}
	table_init(&t, head);
	json_array_foreach(rows, i, v)
	{
		table_add(&t, json_string_value(json_object_get(v, "name")));
		table_add(&t,
			  json_is_true(json_object_get(v, "disabled")) ? "disabled" : "enabled");
		table_addf(&t, "%lld", (long long)json_integer_value(json_object_get(v, "keys")));
		table_add(&t, json_string_value(json_object_get(v, "created")));
	}
	json_decref(all);
	if (table_print(&t) == 0)
		return cli_flush(cli, 0);
	brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
	return cli_fail(cli, &err);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct tenant_opts *o = opts;
	const char *verb = argv[0];
	int refused = remote_refuse(cli, "brig tenant", "run it there");
	if (refused)
		return refused;
	if (o->force && strcmp(verb, "rm") != 0)
		return cli_usage(cli, "--force belongs to tenant rm");
	if (strcmp(verb, "ls") == 0)
		return argc == 1 ? list(cli) : cli_usage(cli, "tenant ls takes no operands");
	if (argc != 2)
		return cli_usage(cli, "tenant %.32s takes one tenant", verb);
	if (strcmp(verb, "create") == 0)
		return create(cli, argv[1]);
	if (strcmp(verb, "inspect") == 0)
		return inspect(cli, argv[1]);
	if (strcmp(verb, "revoke") == 0 || strcmp(verb, "disable") == 0)
		return change(cli, argv[1], json_pack("{s:b}", "disabled", 1));
	if (strcmp(verb, "enable") == 0)
		return change(cli, argv[1], json_pack("{s:b}", "disabled", 0));
	if (strcmp(verb, "rm") == 0)
		return rm(cli, argv[1], o->force);
	return cli_usage(
		cli, "tenant '%.32s': only create, ls, inspect, revoke, enable and rm are known",
		verb);
}

const struct cmd cmd_tenant = {
	.name = "tenant",
	.operands = "create NAME | ls | inspect NAME | revoke NAME | enable NAME | rm NAME",
	.summary = "make, look at, disable and remove tenants of the server",
	.about = "Keys, sandboxes, snapshots and tags belong to a tenant, and no key sees those of "
		 "another. The tenant default always exists.\n\n"
		 "revoke (or disable) makes all keys of a tenant useless until enable; what runs "
		 "goes "
		 "on to its end. rm removes the tenant with its keys and tags; it must have no "
		 "sandbox and no snapshot, or --force removes them first.",
	.flags = flags,
	.opts_size = sizeof(struct tenant_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
