/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_create.c: `brig create`: a sandbox without a command, for exec and cp. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/checkpoint.h"
#include "cli/conn.h"
#include "cli/remote.h"
#include "cli/spec.h"

struct create_opts {
	struct spec_opts spec;
	bool quiet;
	const char *checkpoint;
};
_Static_assert(offsetof(struct create_opts, spec) == 0, "SPEC_ROWS count from the start");

static const struct flag flags[] = {
	SPEC_ROWS,
	{ .name = "quiet",
	  .letter = 'q',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct create_opts, quiet),
	  .help = "no warnings" },
	{ .name = "checkpoint",
	  .kind = FLAG_STR,
	  .at = offsetof(struct create_opts, checkpoint),
	  .arg = "WHEN",
	  .choices = "exec",
	  .help = "remember its files before each exec, for undo; each costs a copy of them" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static int call(enum conn_mode mode, const json_t *req, const struct spec_built *spec, json_t **ret_ok,
		json_t **ret_error, struct brig_err *err)
{
	struct conn c = CONN_NONE;
	struct frame f;
	int r = conn_open(&c, mode, err);
	if (r == 0)
		r = conn_request(&c, req, spec->fds, spec->nfds, err);
	if (r == 0)
		r = conn_next(&c, &f, err);
	if (r == 0)
		r = conn_reply(&f, ret_ok, ret_error, err);
	conn_done(&c);
	return r;
}

static void label_add(json_t *spec, const char *key, const char *value)
{
	json_t *labels = json_object_get(spec, "labels");
	if (!labels)
		json_object_set_new(spec, "labels", labels = json_object());
	json_object_set_new(labels, key, json_string(value));
}

static int print(struct cli *cli, const struct create_opts *o, const json_t *ok)
{
	json_t *list = json_object_get(ok, "warnings"), *v;
	const char *id = json_string_value(json_object_get(ok, "id"));
	size_t i;
	json_array_foreach(list, i, v) if (!o->quiet && json_is_string(v))
		cli_note("warning: %s", json_string_value(v));
	if (cli->json)
		return cli_print_json(cli, ok);
	printf("%s\n", id ? id : "");
	return cli_flush(cli, 0);
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct create_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	struct spec_built spec;
	json_t *ok = NULL, *error = NULL;
	(void)argc;
	(void)argv;
	int code = o->checkpoint ? remote_refuse(cli, "--checkpoint", "take `brig snapshot create` before what may fail")
				 : 0;
	if (code == 0)
		code = spec_build(cli, &o->spec, false, &spec);
	if (code)
		return code;
	if (o->checkpoint)
		label_add(spec.spec, CHECKPOINT_LABEL, o->checkpoint);
	json_t *req = json_pack("{s:s,s:O}", "op", "create", "spec", spec.spec);
	enum conn_mode mode = o->spec.secrets.n || o->spec.net.networks.n ? CONN_EXISTING : CONN_BACKGROUND;
	int r = req ? call(mode, req, &spec, &ok, &error, &err)
		    : brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (r == 0 && o->checkpoint)
		r = checkpoint_mark(json_string_value(json_object_get(ok, "id")), &err);
	if (r == 0)
		code = print(cli, o, ok);
	else
		code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	json_decref(req);
	json_decref(ok);
	json_decref(error);
	spec_built_done(&spec);
	return code;
}

const struct cmd cmd_create = {
	.name = "create",
	.operands = "",
	.summary = "make a sandbox without a command, for exec and cp",
	.about = "Prints the id. The sandbox stays until rm. Without a server a background one is "
		 "started.",
	.flags = flags,
	.opts_size = sizeof(struct create_opts),
	.run = run,
};
