/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_snapshot.c: `brig snapshot`: the files of sandboxes, kept to make others of. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/size.h"
#include "cli/apicall.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/snapspec.h"
#include "cli/spec.h"
#include "cli/table.h"

struct snapshot_opts {
	const char *name;
};

static const struct flag flags[] = {
	{ .name = "name",
	  .kind = FLAG_STR,
	  .at = offsetof(struct snapshot_opts, name),
	  .arg = "NAME",
	  .help = "with create: a name that can be given in place of the id" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static const char *str(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int told(struct cli *cli, const json_t *snapshot)
{
	if (cli->json)
		return cli_print_json(cli, snapshot);
	printf("%s\n", str(snapshot, "id"));
	return cli_flush(cli, 0);
}

/* ---- on this machine ---- */

static int name_free(int dir, const char *name, struct brig_err *err)
{
	struct brig_err none = BRIG_ERR_INIT;
	json_t *other = NULL;
	if (!name || snapstore_find(dir, name, &other, &none) < 0)
		return 0;
	brig_err_set(err, BRIG_E_EXISTS, 0, "name '%s' is taken by snapshot %s", name, str(other, "id"));
	json_decref(other);
	return brig_fix(err, "choose another name, or `brig snapshot rm %s` first", name);
}

static int room(int dir, struct brig_err *err)
{
	json_t *all = snapstore_list(dir);
	size_t n = json_array_size(all);
	json_decref(all);
	if (n < SNAPSTORE_MAX)
		return 0;
	brig_err_set(err, BRIG_E_EXHAUSTED, 0, "there are %u snapshots already", SNAPSTORE_MAX);
	return brig_fix(err, "remove those that are not needed: `brig snapshot rm`");
}

static int create_here(struct cli *cli, const struct snapshot_opts *o, const char *ref)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *info = NULL, *error = NULL, *record = NULL;
	struct snapfile f = SNAPFILE_NONE;
	AUTO_FD dir = -1;
	int r = snapspec_inspect(ref, &info, &error, &err);
	if (r == 0)
		r = snapstore_open(true, &dir, &err);
	if (r == 0)
		r = name_free(dir, o->name, &err);
	if (r == 0)
		r = room(dir, &err);
	if (r == 0)
		r = snapstore_new(dir, &f, &err);
	if (r == 0)
		r = snapspec_export(info, f.fd, &error, &err);
	if (r == 0 && !(record = snapspec_record(info, "snapshot", o->name ? o->name : "")))
		r = brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "write the record");
	if (r == 0)
		r = snapstore_keep(dir, &f, record, &err);
	snapstore_drop(dir, &f);
	int code = r == 0 ? told(cli, record) : error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	json_decref(record);
	json_decref(info);
	json_decref(error);
	return code;
}

/* ---- elsewhere ---- */

static int path_of(const char *what, const char *ref, const char *tail, char ret[256], struct brig_err *err)
{
	if (!apicall_segment(ref))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.64s' is no id and no name", ref);
	snprintf(ret, 256, "/v1/%s/%s%s", what, ref, tail);
	return 0;
}

static int create_elsewhere(struct cli *cli, const struct snapshot_opts *o, const char *ref)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[256];
	json_t *made = NULL, *info = NULL, *error = NULL;
	/* A name, or the beginning of an id, means one of the key's sandboxes. */
	if (snapspec_inspect(ref, &info, &error, &err) < 0) {
		int code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
		json_decref(error);
		return code;
	}
	int r = path_of("sandboxes", str(info, "id"), "/snapshots", path, &err);
	json_decref(info);
	if (r < 0 ||
	    api_call("POST", path, json_pack("{s:s*}", "name", o->name), &made, &err) < 0)
		return cli_fail(cli, &err);
	int code = told(cli, made);
	json_decref(made);
	return code;
}

/* ---- verbs ---- */

static int create(struct cli *cli, const struct snapshot_opts *o, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (argc != 1)
		return cli_usage(cli, "snapshot create takes one sandbox");
	if (o->name && name_check(o->name, &err) < 0)
		return cli_usage_err(cli, &err);
	return remote_wanted() ? create_elsewhere(cli, o, argv[0]) : create_here(cli, o, argv[0]);
}

static int all_of(json_t **ret, struct brig_err *err)
{
	AUTO_FD dir = -1;
	if (remote_wanted()) {
		json_t *answer = NULL;
		if (api_call("GET", "/v1/snapshots", NULL, &answer, err) < 0)
			return -1;
		*ret = json_incref(json_object_get(answer, "snapshots"));
		json_decref(answer);
		return 0;
	}
	if (snapstore_open(false, &dir, err) < 0)
		return -1;
	*ret = snapstore_list(dir);
	return 0;
}

static int list(struct cli *cli, int argc)
{
	static const char *const head[] = { "SNAPSHOT", "NAME", "SANDBOX", "IMAGE", "SIZE", "CREATED", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *all = NULL, *v;
	size_t i;
	if (argc)
		return cli_usage(cli, "snapshot ls takes no operands");
	if (all_of(&all, &err) < 0)
		return cli_fail(cli, &err);
	int code = 0;
	if (cli->json) {
		code = cli_print_json(cli, all);
		json_decref(all);
		return code;
	}
	table_init(&t, head);
	json_array_foreach(all, i, v)
	{
		char size[SIZE_TEXT_MAX];
		const char *name = str(v, "name"), *kind = str(v, "kind");
		size_format_bytes((uint64_t)json_integer_value(json_object_get(v, "bytes")), size);
		table_add(&t, str(v, "id"));
		table_add(&t, name && *name ? name : kind && strcmp(kind, "checkpoint") == 0 ? "(checkpoint)" : NULL);
		table_add(&t, str(v, "sandbox"));
		table_add(&t, str(v, "image"));
		table_add(&t, size);
		table_add(&t, str(v, "created"));
	}
	json_decref(all);
	if (table_print(&t) == 0)
		return cli_flush(cli, 0);
	brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
	return cli_fail(cli, &err);
}

static int inspect_one(const char *ref, json_t **ret, struct brig_err *err)
{
	AUTO_FD dir = -1;
	char path[256];
	if (remote_wanted())
		return path_of("snapshots", ref, "", path, err) < 0 ? -1 : api_call("GET", path, NULL, ret, err);
	return snapstore_open(false, &dir, err) < 0 ? -1 : snapstore_find(dir, ref, ret, err);
}

static int inspect(struct cli *cli, int argc, char **argv)
{
	json_t *rows = json_array();
	if (argc == 0) {
		json_decref(rows);
		return cli_usage(cli, "snapshot inspect: which snapshot is missing");
	}
	for (int i = 0; i < argc; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		json_t *one = NULL;
		if (inspect_one(argv[i], &one, &err) < 0) {
			json_decref(rows);
			return cli_fail(cli, &err);
		}
		json_array_append_new(rows, one);
	}
	int code = cli_print_json(cli, rows);
	json_decref(rows);
	return code;
}

static int drop_one(const char *ref, struct brig_err *err)
{
	AUTO_FD dir = -1;
	char path[256];
	json_t *one = NULL;
	if (remote_wanted()) {
		int r = path_of("snapshots", ref, "", path, err) < 0
				? -1 : api_call("DELETE", path, NULL, &one, err);
		json_decref(one);
		return r;
	}
	int r = snapstore_open(true, &dir, err);
	if (r == 0)
		r = snapstore_find(dir, ref, &one, err);
	if (r == 0)
		r = snapstore_remove(dir, one, err);
	json_decref(one);
	return r;
}

static int drop(struct cli *cli, int argc, char **argv)
{
	int code = 0;
	if (argc == 0)
		return cli_usage(cli, "snapshot rm: which snapshot is missing");
	for (int i = 0; i < argc; i++) {
		struct brig_err err = BRIG_ERR_INIT;
		if (drop_one(argv[i], &err) < 0) {
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
	const struct snapshot_opts *o = opts;
	const char *verb = argv[0];
	if (o->name && strcmp(verb, "create") != 0)
		return cli_usage(cli, "--name belongs to snapshot create");
	if (strcmp(verb, "create") == 0)
		return create(cli, o, argc - 1, argv + 1);
	if (strcmp(verb, "ls") == 0)
		return list(cli, argc - 1);
	if (strcmp(verb, "inspect") == 0)
		return inspect(cli, argc - 1, argv + 1);
	if (strcmp(verb, "rm") == 0)
		return drop(cli, argc - 1, argv + 1);
	return cli_usage(cli, "snapshot '%.32s': only create, ls, inspect and rm are known", verb);
}

const struct cmd cmd_snapshot = {
	.name = "snapshot",
	.operands = "create SANDBOX | ls | inspect SNAPSHOT... | rm SNAPSHOT...",
	.summary = "keep the files of a sandbox, to make others of",
	.about = "create takes what a sandbox has beyond its image, and prints the snapshot's id. `brig create "
		 "--snapshot` and `brig run --snapshot` begin with it, with the image, user, environment and limits "
		 "of the sandbox where nothing else is said. A snapshot holds files: no processes, no memory, no "
		 "volumes, no secrets. Commands go on while it is taken: what must fit together should not be "
		 "written meanwhile.\n\n"
		 "Snapshots of this user's own sandboxes are kept in the data folder and need no server; they stay "
		 "when their sandbox is removed, until rm. With BRIG_URL they are those of the key's tenant on "
		 "that server, counted by its quota.",
	.flags = flags,
	.opts_size = sizeof(struct snapshot_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
