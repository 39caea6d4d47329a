/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_cp.c: `brig cp`: files between the host and a sandbox. */
#include <stddef.h>
#include <string.h>

#include "brig/limits.h"
#include "cli/cp.h"
#include "cli/cp_path.h"

struct cp_opts {
	bool follow;
	const char *user;
	uint64_t max_bytes, max_files;
};

#define MAX_BYTES_DEFAULT (64 * GIB)
#define MAX_FILES_DEFAULT 1000000u

static const struct flag flags[] = {
	{ .name = "follow-link",
	  .letter = 'L',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct cp_opts, follow),
	  .help = "if SOURCE is a symbolic link, copy what it points to" },
	{ .name = "user",
	  .letter = 'u',
	  .kind = FLAG_STR,
	  .at = offsetof(struct cp_opts, user),
	  .arg = "USER[:GROUP]",
	  .help = "user inside who reads or writes; default: the sandbox's" },
	{ .name = "max-size",
	  .kind = FLAG_SIZE,
	  .at = offsetof(struct cp_opts, max_bytes),
	  .arg = "SIZE",
	  .help = "refuse to copy more than this; default 64 GiB" },
	{ .name = "max-files",
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct cp_opts, max_files),
	  .arg = "N",
	  .help = "refuse to copy more files and directories than this; default 1000000" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

/* One source, over a connection of its own. 0 or an exit code. */
static int copy_one(struct cli *cli, const struct cp_opts *o, struct cp_job *j,
		    const struct cp_place *src, const struct cp_place *dst)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct fsop fs = FSOP_NONE;
	json_t *error = NULL;
	const char *id = src->id[0] ? src->id : dst->id;
	int code = 0;
	j->fs = &fs;
	if (fsop_open(&fs, id, o->user, &error, &err) < 0) {
		if (!error)
			conn_absent(id, &err);
		code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	} else if ((src->id[0] ? cp_out(j, src->path, dst->path, &err)
			       : cp_in(j, src->path, dst->path, &err)) < 0) {
		brig_err_prefix(&err, "copy '%.100s'", src->path);
		code = cli_fail(cli, &err);
	}
	json_decref(error);
	fsop_done(&fs);
	return code;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct cp_opts *o = opts;
	struct brig_err err = BRIG_ERR_INIT;
	struct cp_job j = { .follow = o->follow,
			    .many = argc > 2,
			    .bytes_left = o->max_bytes ? o->max_bytes : MAX_BYTES_DEFAULT,
			    .files_left = o->max_files ? o->max_files : MAX_FILES_DEFAULT };
	struct cp_place src, dst;
	int code = 0;
	if (cp_place_parse(argv[argc - 1], &dst, &err) < 0)
		return cli_usage_err(cli, &err);
	/* All are looked at before the first is copied. */
	for (int i = 0; i < argc - 1; i++) {
		if (cp_place_parse(argv[i], &src, &err) < 0)
			return cli_usage_err(cli, &err);
		if (src.id[0] && dst.id[0])
			return cli_usage(cli, "one of '%.80s' and '%.80s' must be on the host",
					 argv[i], argv[argc - 1]);
		if (!src.id[0] && !dst.id[0])
			return cli_usage(
				cli, "neither '%.80s' nor '%.80s' is in a sandbox (SANDBOX:PATH)",
				argv[i], argv[argc - 1]);
	}
	for (int i = 0; i < argc - 1 && code == 0; i++) {
		(void)cp_place_parse(argv[i], &src, &err);
		code = copy_one(cli, o, &j, &src, &dst);
	}
	return code ? code : j.skipped ? BRIG_EXIT_FAILED : 0;
}

const struct cmd cmd_cp = {
	.name = "cp",
	.operands = "SOURCE... DESTINATION",
	.summary = "copy files between the host and a sandbox",
	.about = "A place in a sandbox is written SANDBOX:PATH; a relative PATH is below the home "
		 "of its user. "
		 "A path of the host that has a colon is written with ./ before it.\n"
		 "\n"
		 "Directories are copied with all below them, permission bits and symbolic links "
		 "as they are. "
		 "If DESTINATION is a directory, SOURCE becomes an entry of it, or, written as "
		 "SOURCE/., its "
		 "contents do. If it does not exist, it becomes the copy.\n"
		 "\n"
		 "What comes out of a sandbox is written below DESTINATION only, never through a "
		 "symbolic "
		 "link, and without set-user-id bits.",
	.flags = flags,
	.opts_size = sizeof(struct cp_opts),
	.min_args = 2,
	.max_args = -1,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
