/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_remote.c: `brig image ls` and `inspect` where BRIG_URL names a server: what it knows of its
 * images. What changes the store is done on the server's machine, by who owns it there.
 */
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "cli/conn.h"
#include "cli/remote.h"
#include "cli/table.h"

/* NULL also for "": the built-in image has neither digest nor date. */
static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s && s[0] ? s : NULL;
}

static int ask(struct cli *cli, const char *image, json_t **ret)
{
	return conn_call(cli, json_pack("{s:s,s:s*}", "op", "images", "image", image), ret);
}

static void row_add(struct table *t, const json_t *v)
{
	const char *digest = text_of(v, "digest"), *colon = digest ? strchr(digest, ':') : NULL;
	json_int_t bytes = json_integer_value(json_object_get(v, "size_bytes"));
	char size[SIZE_TEXT_MAX];
	size_format_bytes(bytes > 0 ? (uint64_t)bytes : 0, size);
	table_add(t, text_of(v, "name"));
	if (colon)
		table_addf(t, "%.12s", colon + 1);
	else
		table_add(t, NULL);
	table_add(t, text_of(v, "created"));
	table_add(t, bytes > 0 ? size : NULL);
	table_add(t, text_of(v, "arch"));
}

static int list(struct cli *cli)
{
	static const char *const head[] = { "NAME", "DIGEST", "CREATED", "SIZE", "ARCH", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *ok = NULL, *v;
	size_t i;
	int code = ask(cli, NULL, &ok);
	if (code)
		return code;
	json_t *rows = json_object_get(ok, "images");
	if (cli->json) {
		code = cli_print_json(cli, rows);
	} else {
		table_init(&t, head);
		json_array_foreach(rows, i, v)
		{
			row_add(&t, v);
		}
		code = table_print(&t) < 0 ? BRIG_EXIT_FAILED : cli_flush(cli, 0);
		if (code == BRIG_EXIT_FAILED) {
			brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
			code = cli_fail(cli, &err);
		}
	}
	json_decref(ok);
	return code;
}

static void print_one(const json_t *c)
{
	static const char *const keys[] = { "name", "digest", "created", "arch", "workdir" };
	json_t *user = json_object_get(c, "user"), *v;
	size_t i;
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		char line[600];
		const char *s = text_of(c, keys[i]);
		snprintf(line, sizeof(line), "%s:%*s%.500s", keys[i], (int)(9 - strlen(keys[i])), "",
			 s ? s : "-");
		text_make_safe(line);
		puts(line);
	}
	const char *name = text_of(user, "name");
	printf("user:     %.64s\n", name ? name : "-");
	json_array_foreach(json_object_get(c, "env"), i, v)
	{
		char line[1100];
		snprintf(line, sizeof(line), "env:      %.1024s",
			 json_is_string(v) ? json_string_value(v) : "?");
		text_make_safe(line);
		puts(line);
	}
}

static int inspect(struct cli *cli, int argc, char **argv)
{
	json_t *all = json_array(), *v;
	int code = 0;
	for (int i = 0; i < argc; i++) {
		json_t *ok = NULL;
		cli->printed_error = false; /* each name has its own */
		int one = ask(cli, argv[i], &ok);
		size_t k;
		code = one ? one : code;
		json_array_foreach(json_object_get(ok, "images"), k, v)
		{
			if (cli->json)
				json_array_append(all, v);
			else
				print_one(v);
		}
		json_decref(ok);
	}
	int printed = cli->json && !code ? cli_print_json(cli, all) : cli_flush(cli, 0);
	json_decref(all);
	return code ? code : printed;
}

/* -o json and its forms, wherever they stand; the rest moves to the front. -1: malformed. */
static int output_take(struct cli *cli, int argc, char **argv)
{
	int n = 0;
	for (int i = 0; i < argc; i++) {
		const char *value = NULL;
		if (strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0)
			value = ++i < argc ? argv[i] : "";
		else if (strncmp(argv[i], "--output=", 9) == 0)
			value = argv[i] + 9;
		else if (argv[i][0] == '-')
			return -1;
		else
			argv[n++] = argv[i];
		if (value && strcmp(value, "json") != 0 && strcmp(value, "table") != 0)
			return -1;
		cli->json = value ? strcmp(value, "json") == 0 : cli->json;
	}
	return n;
}

int image_remote(struct cli *cli, int argc, char **argv)
{
	const char *what = argc ? argv[0] : "";
	bool ls = strcmp(what, "ls") == 0;
	if (!ls && strcmp(what, "inspect") != 0)
		return remote_refuse(cli, "brig image, but for ls and inspect,",
				     "run it there, or unset BRIG_URL for the images of this "
				     "machine");
	int n = output_take(cli, argc - 1, argv + 1);
	if (n < 0)
		return cli_usage(cli, "image %s takes -o table or -o json", what);
	if (ls)
		return n ? cli_usage(cli, "image ls takes no operands") : list(cli);
	return n ? inspect(cli, n, argv + 1)
		 : cli_usage(cli, "image inspect: which image is missing");
}
