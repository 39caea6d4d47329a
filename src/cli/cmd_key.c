/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_key.c: `brig key`: the keys that a server's HTTP interface asks for. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/table.h"

struct key_opts {
	const char *tenant, *role, *scopes;
	uint64_t expires_ms, overlap_ms;
};

static const struct flag flags[] = {
	{ .name = "tenant",
	  .kind = FLAG_STR,
	  .at = offsetof(struct key_opts, tenant),
	  .arg = "NAME",
	  .help = "with create: whose sandboxes the key reaches; keys of one tenant share them; "
		  "default: default" },
	{ .name = "role",
	  .kind = FLAG_STR,
	  .at = offsetof(struct key_opts, role),
	  .arg = "ROLE",
	  .choices = "admin developer read-only run-only",
	  .help = "with create: what the key may do; default: developer" },
	{ .name = "scopes",
	  .kind = FLAG_STR,
	  .at = offsetof(struct key_opts, scopes),
	  .arg = "LIST",
	  .help = "with create: only these permissions of the role, such as "
		  "sandboxes:read,metrics" },
	{ .name = "expires",
	  .kind = FLAG_TIME,
	  .at = offsetof(struct key_opts, expires_ms),
	  .arg = "TIME",
	  .help = "with create and rotate: how long the new key is good, such as 30d" },
	{ .name = "overlap",
	  .kind = FLAG_TIME,
	  .at = offsetof(struct key_opts, overlap_ms),
	  .arg = "TIME",
	  .help = "with rotate: how long the old key stays good beside the new one, at most 30d; "
		  "default: not at all" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* Seconds, not fewer than were asked for; NULL for none. */
static json_t *seconds(uint64_t ms)
{
	return ms ? json_integer((json_int_t)(ms / 1000 + (ms % 1000 != 0))) : NULL;
}

static json_t *words(const char *list)
{
	json_t *all = list ? json_array() : NULL;
	while (list && *list) {
		size_t n = strcspn(list, ",");
		json_array_append_new(all, json_stringn(list, n));
		list += n + (list[n] == ',');
	}
	return all;
}

/* The secret alone, so that a script can take it. */
static int print_made(struct cli *cli, json_t *made)
{
	struct brig_err err = BRIG_ERR_INIT;
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

static int create(struct cli *cli, const struct key_opts *o, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *made;
	if (argc > 1)
		return cli_usage(cli, "key create takes one name");
	json_t *body = json_pack("{s:s*,s:s*,s:s*,s:o*,s:o*}", "name", argc ? argv[0] : NULL,
				 "tenant", o->tenant, "role", o->role, "scopes", words(o->scopes),
				 "expires_in_s", seconds(o->expires_ms));
	if (api_call("POST", "/v1/keys", body, &made, &err) < 0)
		return cli_fail(cli, &err);
	return print_made(cli, made);
}

/* "sandboxes:read,metrics"; NULL for none. */
static void add_scopes(struct table *t, const json_t *scopes)
{
	char text[256] = "";
	size_t n = 0;
	for (size_t i = 0; i < json_array_size(scopes) && n < sizeof(text); i++) {
		const char *s = json_string_value(json_array_get(scopes, i));
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? "," : "", s ? s : "");
	}
	table_add(t, text[0] ? text : NULL);
}

static int list(struct cli *cli, int argc)
{
	static const char *const head[] = { "KEY",     "NAME",	    "TENANT",  "ROLE",	"SCOPES",
					    "CREATED", "LAST USED", "EXPIRES", "STATE", NULL };
	static const char *const keys[] = { "id",      "name",	    "tenant",  "role", "scopes",
					    "created", "last_used", "expires", "state" };
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
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
			json_t *cell = json_object_get(v, keys[k]);
			if (json_is_array(cell))
				add_scopes(&t, cell);
			else
				table_add(&t, json_string_value(cell));
		}
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
static int id_check(const char *id, struct brig_err *err)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789");
	if (n >= 1 && n <= 64 && id[n] == '\0')
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "'%.64s' is no id of a key", id);
	return brig_fix(err, "see `brig key ls`");
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
		int r = id_check(argv[i], &err);
		if (r == 0)
			r = api_call("DELETE", path, NULL, &none, &err);
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

static int rotate(struct cli *cli, const struct key_opts *o, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[128];
	json_t *made;
	if (argc != 1)
		return cli_usage(cli, "key rotate takes one key");
	snprintf(path, sizeof(path), "/v1/keys/%.64s/rotate", argv[0]);
	json_t *body = json_pack("{s:o*,s:o*}", "overlap_s", seconds(o->overlap_ms), "expires_in_s",
				 seconds(o->expires_ms));
	if (id_check(argv[0], &err) < 0) {
		json_decref(body);
		return cli_fail(cli, &err);
	}
	if (api_call("POST", path, body, &made, &err) < 0)
		return cli_fail(cli, &err);
	return print_made(cli, made);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct key_opts *o = opts;
	bool creates = strcmp(argv[0], "create") == 0, rotates = strcmp(argv[0], "rotate") == 0;
	if ((o->tenant || o->role || o->scopes) && !creates)
		return cli_usage(cli, "--tenant, --role and --scopes belong to key create");
	if (o->overlap_ms && !rotates)
		return cli_usage(cli, "--overlap belongs to key rotate");
	if (o->expires_ms && !creates && !rotates)
		return cli_usage(cli, "--expires belongs to key create and key rotate");
	if (creates)
		return create(cli, o, argc - 1, argv + 1);
	if (strcmp(argv[0], "ls") == 0)
		return list(cli, argc - 1);
	if (strcmp(argv[0], "revoke") == 0)
		return revoke(cli, argc - 1, argv + 1);
	if (rotates)
		return rotate(cli, o, argc - 1, argv + 1);
	return cli_usage(cli, "key '%.32s': only create, ls, revoke and rotate are known", argv[0]);
}

const struct cmd cmd_key = {
	.name = "key",
	.operands = "create [NAME] | ls | revoke KEY... | rotate KEY",
	.summary = "make, list, revoke and replace API keys of the server",
	.about =
		"A key is shown when it is made and kept as a hash only. Who may open the server's "
		"socket needs none.\n\n"
		"Roles: admin may do everything in its tenant and manages its keys; developer has "
		"sandboxes, runs, snapshots, files and tags; read-only reads lists, figures and "
		"logs; run-only may POST /v1/run and nothing else. Scopes are run, sandboxes:read, "
		"sandboxes:write, files, snapshots:read, snapshots:write, templates:read, "
		"templates:write, metrics, quota:read, server:read, keys, secrets, "
		"volumes:read and volumes:write.\n\n"
		"rotate makes a new key with the same name, role, scopes and length of life, and "
		"revokes the old one, at once or after --overlap.",
	.flags = flags,
	.opts_size = sizeof(struct key_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
