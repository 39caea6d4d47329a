/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_secret.c: `brig secret`: values that the server keeps and gives to sandboxes by name. A value
 * is read from standard input or a file: an argument could be read by every user of the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/secretkey.h"
#include "cli/server.h"
#include "cli/table.h"

/* As brig-api has it, and a newline. */
#define VALUE_MAX 65537u

struct secret_opts {
	const char *file, *tenant, *key, *data;
};

static const struct flag flags[] = {
	{ .name = "file",
	  .kind = FLAG_STR,
	  .at = offsetof(struct secret_opts, file),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "with set: read the value from there; default: standard input" },
	{ .name = "tenant",
	  .kind = FLAG_STR,
	  .at = offsetof(struct secret_opts, tenant),
	  .arg = "NAME",
	  .help = "with set, ls and rm: whose secrets; default: default" },
	{ .name = "secret-key",
	  .kind = FLAG_STR,
	  .at = offsetof(struct secret_opts, key),
	  .arg = "FILE",
	  .complete = COMPLETE_FILE,
	  .help = "with rekey: the key's file, as the server has it; default: secret.key in the "
		  "data folder" },
	{ .name = "data",
	  .kind = FLAG_STR,
	  .at = offsetof(struct secret_opts, data),
	  .arg = "DIR",
	  .complete = COMPLETE_DIR,
	  .help = "with rekey: the server's data folder; default: BRIG_DATA, or by user (see "
		  "ENVIRONMENT)" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static bool name_ok(const char *name)
{
	size_t n = strspn(name,
			  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	return n >= 1 && n <= 64 && name[n] == '\0';
}

static int path_of(const struct secret_opts *o, const char *name, char ret[256],
		   struct brig_err *err)
{
	if ((name && !name_ok(name)) || (o->tenant && !name_ok(o->tenant)))
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "a name is 1 to 64 of a-z A-Z 0-9 _ . -, not '%.80s'",
				 name && !name_ok(name) ? name : o->tenant);
	snprintf(ret, 256, "/v1/secrets%s%s%s%s", name ? "/" : "", name ? name : "",
		 o->tenant ? "?tenant=" : "", o->tenant ? o->tenant : "");
	return 0;
}

/* One newline at the end is an editor's or echo's, and not the value's. */
static int value_read(const char *file, char *value, size_t *ret_n, struct brig_err *err)
{
	AUTO_FD fd = file ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, value, VALUE_MAX + 1);
	int sys = errno;
	if (!file)
		(void)fd_steal(&fd);
	if (n < 0)
		return brig_fail(err, BRIG_E_INVALID, sys, "read '%.256s'",
				 file ? file : "standard input");
	if (n > 0 && value[n - 1] == '\n')
		n--;
	if (n < 1 || n >= (ssize_t)VALUE_MAX || memchr(value, 0, (size_t)n)) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "a secret is a text of 1 to %u bytes, without NUL", VALUE_MAX - 1);
		return brig_fix(err, "for instance: printf %%s \"$TOKEN\" | brig secret set NAME");
	}
	*ret_n = (size_t)n;
	return 0;
}

static int set(struct cli *cli, const struct secret_opts *o, int argc, char **argv)
{
	static char value[VALUE_MAX + 1];
	struct brig_err err = BRIG_ERR_INIT;
	char path[256];
	size_t n = 0;
	json_t *made = NULL;
	if (argc != 1)
		return cli_usage(cli, "secret set takes one name; the value comes from standard "
				      "input or --file");
	int r = path_of(o, argv[0], path, &err);
	if (r < 0)
		return cli_usage_err(cli, &err);
	if (!o->file && isatty(STDIN_FILENO))
		cli_note("reading the value; end it with Ctrl-D");
	r = value_read(o->file, value, &n, &err);
	json_t *text = r == 0 ? json_stringn(value, n) : NULL;
	explicit_bzero(value, sizeof(value));
	if (r == 0 && !text)
		r = brig_fail(&err, BRIG_E_INVALID, 0, "the value is no UTF-8 text");
	if (r == 0)
		r = api_call("PUT", path, json_pack("{s:o}", "value", text), &made, &err);
	if (r < 0)
		return cli_fail(cli, &err);
	int code = cli->json ? cli_print_json(cli, made) : 0;
	json_decref(made);
	return code ? code : cli_flush(cli, 0);
}

static int list(struct cli *cli, const struct secret_opts *o, int argc)
{
	static const char *const head[] = { "SECRET", "CREATED", "UPDATED", NULL };
	static const char *const keys[] = { "name", "created", "updated" };
	struct brig_err err = BRIG_ERR_INIT;
	char path[256];
	struct table t;
	json_t *all, *v;
	size_t i;
	if (argc)
		return cli_usage(cli, "secret ls takes no operands");
	if (path_of(o, NULL, path, &err) < 0)
		return cli_usage_err(cli, &err);
	if (api_call("GET", path, NULL, &all, &err) < 0)
		return cli_fail(cli, &err);
	json_t *rows = json_object_get(all, "secrets");
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
	int printed = table_print(&t);
	json_decref(all);
	if (printed < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int drop(struct cli *cli, const struct secret_opts *o, int argc, char **argv)
{
	int code = 0;
	if (argc == 0)
		return cli_usage(cli, "secret rm: which secret is missing");
	for (int i = 0; i < argc; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		char path[256];
		json_t *none = NULL;
		if (path_of(o, argv[i], path, &err) < 0 ||
		    api_call("DELETE", path, NULL, &none, &err) < 0) {
			cli->printed_error = false;
			code = cli_fail(cli, &err);
		} else if (!cli->json) {
			printf("%s\n", argv[i]);
		}
		json_decref(none);
	}
	return code ? code : cli_flush(cli, 0);
}

/* ---- rekey ---- */

/* A rekey that was cut off: the server says which of the two files has the key of the secrets. Its
 * own answer to our key decides, for it tells ids and not keys. */
static int settle(const char *path, struct brig_err *err)
{
	char hex[SECRET_KEY_HEX + 1];
	json_t *answer = NULL;
	AUTO_FD fd = secretkey_open_new(path, err);
	if (fd < 0)
		return err->code == BRIG_E_OK ? 0 : -1;
	if (secretkey_read(fd, hex, err) < 0) {
		/* Cut off before it was told to anybody. */
		*err = (struct brig_err)BRIG_ERR_INIT;
		return secretkey_drop_new(path, err);
	}
	/* Encrypting with it again changes nothing, or finishes what was begun. */
	int r = api_call("POST", "/v1/secret-key", json_pack("{s:s}", "key", hex), &answer, err);
	explicit_bzero(hex, sizeof(hex));
	json_decref(answer);
	return r < 0 ? -1 : secretkey_take_new(path, err);
}

static int rekey(struct cli *cli, const struct secret_opts *o, int argc)
{
	struct brig_err err = BRIG_ERR_INIT;
	char data[PATH_MAX], path[PATH_MAX], hex[SECRET_KEY_HEX + 1];
	json_t *answer = NULL;
	if (argc)
		return cli_usage(cli, "secret rekey takes no operands");
	if (server_data_dir(o->data, data, sizeof(data), &err) < 0 ||
	    secretkey_path(o->key, data, path, &err) < 0)
		return cli_usage_err(cli, &err);
	if (settle(path, &err) < 0 || secretkey_make_new(path, hex, &err) < 0)
		return cli_fail(cli, &err);
	int r = api_call("POST", "/v1/secret-key", json_pack("{s:s}", "key", hex), &answer, &err);
	explicit_bzero(hex, sizeof(hex));
	/* Without an answer nobody knows whether it was done: FILE.new stays, and both are tried. */
	if (r < 0) {
		brig_err_remedy(&err, "run `brig secret rekey` again when the server answers; "
				      "leave both key files where they are");
		return cli_fail(cli, &err);
	}
	if (secretkey_take_new(path, &err) < 0) {
		json_decref(answer);
		return cli_fail(cli, &err);
	}
	if (cli->json)
		r = cli_print_json(cli, answer);
	else
		printf("%lld secrets have the key %s\n",
		       (long long)json_integer_value(json_object_get(answer, "secrets")),
		       json_string_value(json_object_get(answer, "key")));
	json_decref(answer);
	return r ? r : cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct secret_opts *o = opts;
	const char *verb = argv[0];
	if (o->file && strcmp(verb, "set") != 0)
		return cli_usage(cli, "--file belongs to secret set");
	if ((o->key || o->data) && strcmp(verb, "rekey") != 0)
		return cli_usage(cli, "--secret-key and --data belong to secret rekey");
	if (o->tenant && strcmp(verb, "rekey") == 0)
		return cli_usage(cli, "secret rekey is for all tenants");
	if (strcmp(verb, "set") == 0)
		return set(cli, o, argc - 1, argv + 1);
	if (strcmp(verb, "ls") == 0)
		return list(cli, o, argc - 1);
	if (strcmp(verb, "rm") == 0)
		return drop(cli, o, argc - 1, argv + 1);
	if (strcmp(verb, "rekey") == 0) {
		int refused = remote_refuse(cli, "brig secret rekey", "run it there: the key is a file");
		return refused ? refused : rekey(cli, o, argc - 1);
	}
	return cli_usage(cli, "secret '%.32s': only set, ls, rm and rekey are known", verb);
}

const struct cmd cmd_secret = {
	.name = "secret",
	.operands = "set NAME | ls | rm NAME... | rekey",
	.summary = "keep values that sandboxes get by name",
	.about = "A secret is kept encrypted by a server that speaks HTTP, and given to a sandbox "
		 "as an "
		 "environment variable that no listing, log or snapshot shows: see the field "
		 "\"secrets\" of "
		 "the HTTP API. Nobody is ever told its value again, but every command in that "
		 "sandbox can "
		 "read it.\n"
		 "\n"
		 "set reads the value from standard input or a file, never from an argument. rekey "
		 "makes "
		 "another key and encrypts all secrets with it; cut off at any point it is "
		 "finished by the "
		 "next one.",
	.flags = flags,
	.opts_size = sizeof(struct secret_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
