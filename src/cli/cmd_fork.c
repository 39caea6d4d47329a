/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_fork.c: `brig fork`: further sandboxes that begin with the files of a living one.
 *
 * The files are taken once, into a file without a name, and each copy reads it by a descriptor of its own.
 * So what the copies begin with is the same for all, and nothing of it can be written by any of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/apicall.h"
#include "cli/conn.h"
#include "cli/remote.h"
#include "cli/snapspec.h"

#define FORKS_MAX 64u /* as brig-api's */

struct fork_opts {
	uint64_t count;
	bool quiet;
};

static const struct flag flags[] = {
	{ .name = "count",
	  .letter = 'n',
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct fork_opts, count),
	  .arg = "N",
	  .help = "how many copies, 1 to 64; default 1" },
	{ .name = "quiet", .letter = 'q', .kind = FLAG_BOOL, .at = offsetof(struct fork_opts, quiet), .help = "no warnings" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* Of all copies. */
static json_t *spec_of(const json_t *info, struct brig_err *err)
{
	const char *id = json_string_value(json_object_get(info, "id"));
	if (json_array_size(json_object_get(info, "volumes"))) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
			     "sandbox '%s' has volumes, which a fork would share with it", id);
		(void)brig_fix(err, "take `brig snapshot create %s`, and `brig create --snapshot` with the volumes "
				    "that the copy may have", id);
		return NULL;
	}
	json_t *spec = snapspec_of(info), *labels = json_object_get(info, "labels"),
	       *network = json_object_get(info, "network"), *accept = json_object_get(info, "not_enforced");
	if (json_object_size(labels))
		json_object_set(spec, "labels", labels);
	if (json_is_object(network))
		json_object_set(spec, "network", network);
	/* What was accepted for the first holds for its copies. */
	if (json_array_size(accept))
		json_object_set(spec, "accept", accept);
	json_object_set_new(spec, "layer", json_integer(0));
	return spec;
}

static int fork_one(json_t *spec, int layer, json_t **ret_ok, json_t **ret_error, struct brig_err *err)
{
	char path[32];
	struct conn c = CONN_NONE;
	struct frame f;
	json_t *req = json_pack("{s:s,s:O}", "op", "create", "spec", spec);
	/* Opened again, for an offset of its own. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", layer);
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the files that were taken")
		       : conn_open(&c, CONN_EXISTING, err);
	if (r == 0)
		r = conn_request(&c, req, &fd, 1, err);
	if (r == 0)
		r = conn_next(&c, &f, err);
	if (r == 0)
		r = conn_reply(&f, ret_ok, ret_error, err);
	conn_done(&c);
	json_decref(req);
	return r;
}

static int told(struct cli *cli, const struct fork_opts *o, json_t *made)
{
	json_t *v;
	size_t i;
	if (cli->json) {
		int code = cli_print_json(cli, made);
		json_decref(made);
		return code;
	}
	json_array_foreach(made, i, v)
	{
		const json_t *warnings = json_object_get(v, "warnings");
		if (i == 0 && !o->quiet)
			for (size_t k = 0; k < json_array_size(warnings); k++)
				cli_note("warning: %s", json_string_value(json_array_get(warnings, k)));
		printf("%s\n", json_string_value(json_object_get(v, "id")));
	}
	json_decref(made);
	return cli_flush(cli, 0);
}

static int fork_here(struct cli *cli, const struct fork_opts *o, const char *ref)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *info = NULL, *error = NULL, *spec = NULL, *made = json_array();
	struct snapfile f = SNAPFILE_NONE;
	AUTO_FD dir = -1;
	int code = 0;
	int r = snapspec_inspect(ref, &info, &error, &err);
	if (r == 0 && !(spec = spec_of(info, &err)))
		r = -1;
	if (r == 0)
		r = snapstore_open(true, &dir, &err);
	if (r == 0)
		r = snapstore_new(dir, &f, &err);
	if (r == 0) {
		snapstore_unname(dir, &f);
		r = snapspec_export(info, f.fd, &error, &err);
	}
	for (uint64_t i = 0; r == 0 && i < o->count; i++) {
		json_t *ok = NULL;
		r = fork_one(spec, f.fd, &ok, &error, &err);
		if (r == 0)
			json_array_append_new(made, ok);
	}
	/* Those that exist are told, so that somebody can remove them. */
	if (json_array_size(made) || r == 0)
		code = told(cli, o, made);
	else
		json_decref(made);
	if (r < 0)
		code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	snapstore_drop(dir, &f);
	json_decref(spec);
	json_decref(info);
	json_decref(error);
	return code;
}

static int fork_elsewhere(struct cli *cli, const struct fork_opts *o, const char *ref)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[160];
	json_t *answer = NULL, *made = json_array(), *v, *failed = NULL;
	size_t i;
	json_t *info = NULL, *error = NULL;
	/* A name, or the beginning of an id, means one of the key's sandboxes. */
	if (snapspec_inspect(ref, &info, &error, &err) < 0) {
		json_decref(made);
		int code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
		json_decref(error);
		return code;
	}
	snprintf(path, sizeof(path), "/v1/sandboxes/%.64s/fork", json_string_value(json_object_get(info, "id")));
	json_decref(info);
	if (api_call("POST", path, json_pack("{s:I}", "count", (json_int_t)o->count), &answer, &err) < 0) {
		json_decref(made);
		return cli_fail(cli, &err);
	}
	json_array_foreach(json_object_get(answer, "forks"), i, v)
	{
		json_t *box = json_object_get(v, "sandbox"), *why = json_object_get(v, "error");
		if (box)
			json_array_append(made, box);
		else if (why)
			failed = why;
	}
	int code = told(cli, o, made);
	if (failed)
		code = cli_fail_json(cli, failed);
	json_decref(answer);
	return code;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct fork_opts *o = opts;
	(void)argc;
	if (o->count > FORKS_MAX)
		return cli_usage(cli, "--count is 1 to %u", FORKS_MAX);
	o->count = o->count ? o->count : 1;
	return remote_wanted() ? fork_elsewhere(cli, o, argv[0]) : fork_here(cli, o, argv[0]);
}

const struct cmd cmd_fork = {
	.name = "fork",
	.operands = "SANDBOX",
	.summary = "make sandboxes that begin with the files of a living one",
	.about = "Prints the ids of the copies. A copy has the image, limits, environment, network policy and labels "
		 "of the sandbox, and its files as they are now; it has none of its processes, secrets and names. "
		 "From then on neither sees what the other does. Commands go on while the files are taken: what "
		 "must fit together should not be written meanwhile.\n\n"
		 "A sandbox with volumes is refused, for a volume would be shared.",
	.flags = flags,
	.opts_size = sizeof(struct fork_opts),
	.min_args = 1,
	.max_args = 1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
