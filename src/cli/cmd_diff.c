/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_diff.c: `brig diff`: what a sandbox, or a snapshot, has changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "brig/agent_proto.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/fsop.h"
#include "cli/layerdiff.h"
#include "cli/remote.h"
#include "cli/snapspec.h"
#include "cli/snapstore.h"

/* Of names and numbers, without contents. */
#define HEADS_MAX (1ull << 30)

static const struct flag flags[] = { FLAG_OUTPUT_ROW, FLAG_END };

struct printer {
	json_t *rows; /* NULL: lines */
	size_t n;
};

static void line(void *ctx, char kind, const char *path)
{
	struct printer *p = ctx;
	const char text[2] = { kind, '\0' };
	p->n++;
	if (p->rows) {
		/* A name that is no UTF-8 is told with what is wrong in it replaced. */
		json_t *s = json_string(path);
		if (!s) {
			char *safe = strdup(path);
			for (char *c = safe; c && *c; c++)
				*c = (unsigned char)*c < 0x80 ? *c : '?';
			s = json_string(safe ? safe : "?");
			free(safe);
		}
		json_array_append_new(p->rows, json_pack("{s:s,s:o}", "kind", text, "path", s));
		return;
	}
	char *safe = strdup(path);
	if (safe) {
		text_make_safe(safe);
		printf("%c %s\n", kind, safe);
	}
	free(safe);
}

static int told(struct cli *cli, const struct layer_paths *from, const struct layer_paths *to)
{
	struct printer p = { .rows = cli->json ? json_array() : NULL };
	layer_paths_diff(from, to, line, &p);
	if (!p.rows)
		return cli_flush(cli, 0);
	int code = cli_print_json(cli, p.rows);
	json_decref(p.rows);
	return code;
}

/* A sandbox as it is now: names only, or with the contents, to be compared with a snapshot's. */
static int sandbox_read(const char *ref, bool heads, struct layer_paths *ret, json_t **ret_error,
			struct brig_err *err)
{
	struct fsop fs = FSOP_NONE;
	AUTO_FD fd = memfd_create("diff", MFD_CLOEXEC);
	if (fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, 0, "make a file in memory");
	int r = fsop_open(&fs, ref, "0", ret_error, err);
	if (r < 0 && !*ret_error)
		conn_absent(ref, err);
	if (r == 0)
		r = fsop_export(&fs, heads ? BRIG_FS_HEADS : 0, HEADS_MAX, fd, err);
	fsop_done(&fs);
	return r < 0 ? -1 : layer_paths_read(fd, ret, err);
}

/* One of this user's snapshots. 1: there is none of that name. */
static int snapshot_read(const char *ref, struct layer_paths *ret, json_t **ret_meta, struct brig_err *err)
{
	AUTO_FD dir = -1;
	struct brig_err none = BRIG_ERR_INIT;
	if (remote_wanted() || snapstore_open(false, &dir, err) < 0)
		return 1;
	if (snapstore_find(dir, ref, ret_meta, &none) < 0)
		return 1;
	AUTO_FD fd = snapstore_layer(dir, *ret_meta, err);
	return fd < 0 ? -1 : layer_paths_read(fd, ret, err);
}

static const char *digest(const json_t *meta)
{
	const char *s = json_string_value(json_object_get(meta, "digest"));
	return s ? s : "";
}

static int both(struct cli *cli, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct layer_paths a = { .v = NULL }, b = { .v = NULL };
	json_t *from = NULL, *to = NULL, *error = NULL;
	int code = 0, r = snapshot_read(argv[0], &a, &from, &err);
	if (r == 1) {
		brig_err_set(&err, BRIG_E_NOT_FOUND, 0, "no snapshot '%.64s'", argv[0]);
		r = brig_fix(&err, "see `brig snapshot ls`; two snapshots, or a snapshot and a sandbox, are compared");
	}
	if (r == 0)
		r = snapshot_read(argv[1], &b, &to, &err);
	if (r == 1 && (r = snapspec_inspect(argv[1], &to, &error, &err)) == 0)
		r = sandbox_read(argv[1], false, &b, &error, &err);
	if (r == 0 && strcmp(digest(from), digest(to)) != 0)
		r = brig_fail(&err, BRIG_E_INVALID, 0, "'%.64s' and '%.64s' are of different images", argv[0], argv[1]);
	if (r == 0)
		code = told(cli, &a, &b);
	else
		code = error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	layer_paths_done(&a);
	layer_paths_done(&b);
	json_decref(from);
	json_decref(to);
	json_decref(error);
	return code;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct layer_paths now = { .v = NULL };
	json_t *meta = NULL, *error = NULL;
	(void)opts;
	if (argc == 2) {
		int refused = remote_refuse(cli, "brig diff of snapshots", "run it there");
		return refused ? refused : both(cli, argv);
	}
	int r = snapshot_read(argv[0], &now, &meta, &err);
	if (r == 1)
		r = sandbox_read(argv[0], true, &now, &error, &err);
	int code = r == 0 ? told(cli, NULL, &now) : error ? cli_fail_json(cli, error) : cli_fail(cli, &err);
	layer_paths_done(&now);
	json_decref(meta);
	json_decref(error);
	return code;
}

const struct cmd cmd_diff = {
	.name = "diff",
	.operands = "SANDBOX | SNAPSHOT [SNAPSHOT | SANDBOX]",
	.summary = "show which files were added (A), changed (C) and deleted (D)",
	.about = "With one operand: against the image. With two: from a snapshot to another one, or to a sandbox as it "
		 "is now. A directory is changed when its list of names or its attributes are, or a file in it was "
		 "written. Below a deleted directory nothing more is told.",
	.flags = flags,
	.min_args = 1,
	.max_args = 2,
	.complete = COMPLETE_SANDBOX,
	.run = run,
};
