/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_volume.c: `brig volume`: data that outlives sandboxes, kept by the server. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/volumeuse.h"
#include "cli/volumework.h"

/* A copy of a large volume, where the file system of the data folder shares no blocks. */
#define COPY_S 7200u

struct volume_opts {
	uint64_t size, inodes;
	const char *tenant;
	struct volumework work;
};

static const struct flag flags[] = {
	{ .name = "size",
	  .kind = FLAG_SIZE,
	  .at = offsetof(struct volume_opts, size),
	  .arg = "SIZE",
	  .help = "with create: bytes of its file system; default 1 GiB, at least 16 MiB" },
	{ .name = "inodes",
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct volume_opts, inodes),
	  .arg = "N",
	  .help = "with create: files that it can hold; default 65536" },
	{ .name = "tenant",
	  .kind = FLAG_STR,
	  .at = offsetof(struct volume_opts, tenant),
	  .arg = "NAME",
	  .help = "with create, ls, inspect, rm, snapshot and clone: whose volumes; default: default" },
	{ .name = "image",
	  .kind = FLAG_STR,
	  .at = offsetof(struct volume_opts, work.image),
	  .arg = "IMAGE",
	  .complete = COMPLETE_IMAGE,
	  .help = "with backup, restore and cp: image of the sandbox that does it, with sh and tar; default host" },
	{ .name = "user",
	  .letter = 'u',
	  .kind = FLAG_STR,
	  .at = offsetof(struct volume_opts, work.user),
	  .arg = "USER[:GROUP]",
	  .help = "with cp: user inside who reads or writes; default root" },
	{ .name = "timeout",
	  .kind = FLAG_STR,
	  .at = offsetof(struct volume_opts, work.timeout),
	  .arg = "TIME",
	  .help = "with backup, restore and cp: how long it may take; default as of brig run" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int path_of(const struct volume_opts *o, const char *name, char ret[256], struct brig_err *err)
{
	if ((name && volumeuse_check(name, err) < 0) || (o->tenant && volumeuse_check(o->tenant, err) < 0))
		return -1;
	snprintf(ret, 256, "/v1/volumes%s%s%s%s", name ? "/" : "", name ? name : "", o->tenant ? "?tenant=" : "",
		 o->tenant ? o->tenant : "");
	return 0;
}

/* Makes one: new, or a copy of `from`. */
static int make(struct cli *cli, const struct volume_opts *o, const char *name, const char *from, bool snapshot)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[256];
	json_t *made = NULL;
	if (volumeuse_check(name, &err) < 0 || (from && volumeuse_check(from, &err) < 0) ||
	    path_of(o, NULL, path, &err) < 0)
		return cli_usage_err(cli, &err);
	json_t *body = json_pack("{s:s,s:s*}", "name", name, "from", from);
	if (o->size)
		json_object_set_new(body, "size_bytes", json_integer((json_int_t)o->size));
	if (o->inodes)
		json_object_set_new(body, "inodes", json_integer((json_int_t)o->inodes));
	if (snapshot)
		json_object_set_new(body, "snapshot", json_true());
	if (api_call_within(COPY_S, "POST", path, body, &made, &err) < 0)
		return cli_fail(cli, &err);
	int code = cli->json ? cli_print_json(cli, made) : 0;
	if (!cli->json)
		printf("%s\n", name);
	json_decref(made);
	return code ? code : cli_flush(cli, 0);
}

static const char *text_of(const json_t *v, const char *key)
{
	const char *s = json_string_value(json_object_get(v, key));
	return s ? s : "";
}

static int list(struct cli *cli, const struct volume_opts *o)
{
	static const char *const head[] = { "VOLUME", "SIZE", "FILES", "KIND", "FROM", "STATE", "CREATED", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	char path[256], size[SIZE_TEXT_MAX], files[24];
	struct table t;
	json_t *all, *v;
	size_t i;
	if (path_of(o, NULL, path, &err) < 0)
		return cli_usage_err(cli, &err);
	if (api_call("GET", path, NULL, &all, &err) < 0)
		return cli_fail(cli, &err);
	json_t *rows = json_object_get(all, "volumes");
	if (cli->json) {
		int code = cli_print_json(cli, rows);
		json_decref(all);
		return code;
	}
	table_init(&t, head);
	json_array_foreach(rows, i, v)
	{
		size_format_exact((uint64_t)json_integer_value(json_object_get(v, "size_bytes")), size);
		snprintf(files, sizeof(files), "%lld", (long long)json_integer_value(json_object_get(v, "inodes")));
		table_add(&t, text_of(v, "name"));
		table_add(&t, size);
		table_add(&t, files);
		table_add(&t, json_is_true(json_object_get(v, "snapshot")) ? "snapshot" : "volume");
		table_add(&t, text_of(v, "source"));
		table_add(&t, text_of(v, "state"));
		table_add(&t, text_of(v, "created"));
	}
	int printed = table_print(&t);
	json_decref(all);
	if (printed < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, 0, "print the table");
		return cli_fail(cli, &err);
	}
	return cli_flush(cli, 0);
}

static int inspect(struct cli *cli, const struct volume_opts *o, int argc, char **argv)
{
	json_t *rows = json_array();
	int code = 0;
	for (int i = 0; i < argc && code == 0; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		char path[256];
		json_t *one = NULL;
		if (path_of(o, argv[i], path, &err) < 0)
			code = cli_usage_err(cli, &err);
		else if (api_call("GET", path, NULL, &one, &err) < 0)
			code = cli_fail(cli, &err);
		else
			json_array_append_new(rows, one);
	}
	if (code == 0)
		code = cli_print_json(cli, rows);
	json_decref(rows);
	return code;
}

static int drop(struct cli *cli, const struct volume_opts *o, int argc, char **argv)
{
	int code = 0;
	for (int i = 0; i < argc; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		char path[256];
		json_t *none = NULL;
		if (path_of(o, argv[i], path, &err) < 0 || api_call("DELETE", path, NULL, &none, &err) < 0) {
			cli->printed_error = false;
			code = cli_fail(cli, &err);
		} else if (!cli->json) {
			printf("%s\n", argv[i]);
		}
		json_decref(none);
	}
	return code ? code : cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	static const struct {
		const char *name;
		int least, most; /* operands */
		const char *operands;
		bool creates, files;
	} verbs[] = {
		{ "create", 1, 1, "one name", true, false },
		{ "ls", 0, 0, "no operands", false, false },
		{ "inspect", 1, 1000, "names", false, false },
		{ "rm", 1, 1000, "names", false, false },
		{ "snapshot", 2, 2, "a volume and the name of its snapshot", false, false },
		{ "clone", 2, 2, "a volume or snapshot and the name of its copy", false, false },
		{ "backup", 1, 2, "a volume, and a file or nothing for standard output", false, true },
		{ "restore", 1, 2, "a volume, and a file or nothing for standard input", false, true },
		{ "cp", 2, 1000, "sources and a destination", false, true },
	};
	const struct volume_opts *o = opts;
	size_t v = 0, n = sizeof(verbs) / sizeof(verbs[0]);
	while (v < n && strcmp(verbs[v].name, argv[0]) != 0)
		v++;
	argv++;
	argc--;
	if (v == n)
		return cli_usage(cli, "volume '%.32s': only create, ls, inspect, rm, snapshot, clone, backup, restore "
				      "and cp are known", argv[-1]);
	if (argc < verbs[v].least || argc > verbs[v].most)
		return cli_usage(cli, "volume %s takes %s", verbs[v].name, verbs[v].operands);
	if ((o->size || o->inodes) && !verbs[v].creates)
		return cli_usage(cli, "--size and --inodes belong to volume create");
	if ((o->work.image || o->work.timeout) && !verbs[v].files)
		return cli_usage(cli, "--image and --timeout belong to volume backup, restore and cp");
	if (o->work.user && strcmp(verbs[v].name, "cp") != 0)
		return cli_usage(cli, "--user belongs to volume cp");
	if (o->tenant && verbs[v].files)
		return cli_usage(cli, "--tenant: files of another tenant's volume take its key (BRIG_URL)");
	const char *file = argc > 1 && strcmp(argv[1], "-") != 0 ? argv[1] : NULL;
	switch (v) {
	case 0:
		return make(cli, o, argv[0], NULL, false);
	case 1:
		return list(cli, o);
	case 2:
		return inspect(cli, o, argc, argv);
	case 3:
		return drop(cli, o, argc, argv);
	case 4:
		return make(cli, o, argv[1], argv[0], true);
	case 5:
		return make(cli, o, argv[1], argv[0], false);
	case 6:
		return volumework_backup(cli, &o->work, argv[0], file);
	case 7:
		return volumework_restore(cli, &o->work, argv[0], file);
	default:
		return volumework_cp(cli, &o->work, argc, argv);
	}
}

const struct cmd cmd_volume = {
	.name = "volume",
	.operands = "create NAME | ls | inspect NAME... | rm NAME... | snapshot NAME NEW | clone NAME NEW | "
		    "backup NAME [FILE] | restore NAME [FILE] | cp SOURCE... DESTINATION",
	.summary = "keep data that outlives sandboxes",
	.about = "A volume is a file system of its own, kept by a server that stays (brig serve), with a limit in bytes "
		 "and in files. A sandbox has it at a path: --volume NAME:GUEST[:ro] of run and create. Any number of "
		 "sandboxes may read one, or one may write to it.\n"
		 "\n"
		 "A snapshot is a copy that nobody can write to, a clone one that can be used like any volume. Where the "
		 "data folder is on XFS or Btrfs both take no time and no space, and can be made of a volume that is "
		 "being written to: what they show is one moment.\n"
		 "\n"
		 "backup writes a tar archive, restore reads one into a new volume. Both, and cp, are done by a sandbox "
		 "that has the volume and nothing else.",
	.flags = flags,
	.opts_size = sizeof(struct volume_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
