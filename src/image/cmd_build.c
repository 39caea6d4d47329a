/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_build.c: `brig image build`: the images that brig makes itself, and those of build files. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "image/build.h"
#include "image/cli.h"
#include "image/import.h"
#include "image/recipe_build.h"

struct build_args {
	const char *file;    /* -f: a build file */
	const char *name, *suite;
	struct image_words args, flags;
	struct tree_limits max;
	bool no_cache;
};

static void progress(void *ctx, const char *what)
{
	cli_note(ctx, "%s", what);
}

/* Ready to change the store. */
static int begin(struct cli *cli, const char *name, struct publisher *p, struct brig_err *err)
{
	int r = name ? import_check_name(name, err) : 0;
	if (r == 0)
		r = import_prepare(err);
	if (r == 0)
		r = publisher_open(cli->data, p, err);
	return r == 0 ? cli_catch_signals(cli, err) : r;
}

static int build_own(struct cli *cli, const struct cli_command *c, const struct build_args *a, int argc,
		     char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct publisher p = PUBLISHER_INIT;
	struct import_result result = { .reused = false };
	struct build_options o = { .name = a->name, .suite = a->suite };
	o.kind = argc == 1 ? build_kind_find(argv[0]) : NULL;
	if (!o.kind)
		return cli_usage(c, "what can be built is `base`, `code-interpreter`, or -f FILE");
	if (a->args.n || a->flags.n || a->no_cache)
		return cli_usage(c, "these options are for build files (-f FILE)");
	if (!o.name)
		o.name = o.kind->name;
	o.quiet = cli->quiet;
	int r = begin(cli, o.name, &p, &err);
	if (r == 0) {
		o.cancel = cli->cancel;
		r = build_image(&p, &o, &result, &err);
	}
	publisher_close(&p);
	return r < 0 ? cli_fail(&err) : cli_imported(cli, o.name, &result);
}

/* The text of a build file; "-" is stdin. To be freed. */
static char *read_file(const char *path, size_t *ret_n, struct brig_err *err)
{
	AUTO_FD fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
					    : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char *text = fd < 0 ? NULL : malloc(RECIPE_BYTES_MAX + 1);
	ssize_t n = text ? fd_read_full(fd, text, RECIPE_BYTES_MAX + 1) : -1;
	if (n < 0) {
		brig_fail(err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, errno, "read '%s'", path);
		free(text);
		return NULL;
	}
	*ret_n = (size_t)n;
	return text;
}

static int build_file(struct cli *cli, const struct cli_command *c, const struct build_args *a, int argc,
		      char **argv)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct publisher p = PUBLISHER_INIT;
	struct import_result result = { .reused = false };
	struct recipe recipe = { .steps = NULL };
	size_t n = 0;
	if (argc > 1)
		return cli_usage(c, "it takes one context, %d given", argc);
	if (a->suite)
		return cli_usage(c, "--suite is for `base` and `code-interpreter`");
	const char *where = argc ? argv[0] : ".";
	AUTO_FREE char *text = read_file(a->file, &n, &err);
	AUTO_FD context = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = text ? recipe_parse(text, n, &recipe, &err) : -1;
	if (text && r < 0)
		brig_ctx(&err, "%s", a->file);
	if (r == 0 && context < 0) {
		r = brig_fail(&err, BRIG_E_NOT_FOUND, errno, "open the context '%s'", where);
		brig_fix(&err, "give the folder that COPY takes files of");
	}
	if (r == 0)
		r = begin(cli, a->name, &p, &err);
	if (r == 0) {
		const struct recipe_options o = { .name = a->name,
						  .context = context,
						  .args = &a->args,
						  .flags = &a->flags,
						  .max = a->max,
						  .no_cache = a->no_cache,
						  .cancel = cli->cancel,
						  .progress = progress,
						  .ctx = cli };
		r = recipe_build(&p, &recipe, &o, &result, &err);
	}
	recipe_done(&recipe);
	publisher_close(&p);
	return r < 0 ? cli_fail(&err) : cli_imported(cli, a->name ? a->name : result.digest.text, &result);
}

/* Flags that `brig create` understands, passed on as they are. */
static const struct {
	const char *name;
	int has_arg;
} passed[] = { { "memory", 1 }, { "disk", 1 }, { "inodes", 1 }, { "cpus", 1 },	  { "pids", 1 },
	       { "timeout", 1 }, { "net", 1 },  { "allow", 1 },	 { "deny", 1 }, { "tier", 1 } };
#define N_PASSED (sizeof(passed) / sizeof(passed[0]))

/* A build needs more than one command: the limits that are not given. */
static int more_by_default(struct image_words *flags)
{
	static const char *const defaults[] = { "--memory", "2g", "--disk", "1g", "--inodes", "262144" };
	int r = 0;
	for (unsigned i = 0; i < 6 && r == 0; i += 2) {
		bool given = false;
		for (size_t k = 0; k < flags->n; k += 2)
			given |= strcmp(flags->v[k], defaults[i]) == 0 ||
				 (strcmp(flags->v[k], "--memory") == 0 && strcmp(defaults[i], "--disk") == 0);
		if (!given && (r = image_words_add(flags, defaults[i])) == 0)
			r = image_words_add(flags, defaults[i + 1]);
	}
	return r;
}

int cmd_build(struct cli *cli, int argc, char **argv)
{
	enum { OPT_SUITE = 256, OPT_ARG, OPT_NO_CACHE, OPT_SIZE, OPT_PASSED };
	struct option longs[8 + N_PASSED + 5] = { { "name", 1, NULL, 't' },
						  { "file", 1, NULL, 'f' },
						  { "suite", 1, NULL, OPT_SUITE },
						  { "build-arg", 1, NULL, OPT_ARG },
						  { "no-cache", 0, NULL, OPT_NO_CACHE },
						  { "max-size", 1, NULL, OPT_SIZE } };
	static const struct option common[] = { CLI_LONG };
	const struct cli_command *c = cli_command_find("build");
	struct build_args a = { .max = { TREE_BYTES_DEFAULT, TREE_ENTRIES_DEFAULT } };
	int opt, code = -1, at = -1, r = 0;
	for (size_t i = 0; i < N_PASSED; i++)
		longs[6 + i] = (struct option){ passed[i].name, passed[i].has_arg, NULL, OPT_PASSED };
	memcpy(longs + 6 + N_PASSED, common, sizeof(common));
	while (r == 0 && code < 0 &&
	       (opt = getopt_long(argc, argv, CLI_SHORT "f:t:", longs, &at)) != -1) {
		char flag[32];
		switch (opt) {
		case 't':
			a.name = optarg;
			break;
		case 'f':
			a.file = optarg;
			break;
		case OPT_SUITE:
			a.suite = optarg;
			break;
		case OPT_NO_CACHE:
			a.no_cache = true;
			break;
		case OPT_ARG:
			if (!strchr(optarg, '='))
				code = cli_usage(c, "--build-arg takes NAME=VALUE, not '%s'", optarg);
			else
				r = image_words_add(&a.args, optarg);
			break;
		case OPT_SIZE:
			if (size_parse_bytes(optarg, &a.max.bytes) < 0 || a.max.bytes == 0 ||
			    a.max.bytes > INT64_MAX)
				code = cli_usage(c, "'%s' is no size like 512m or 16g", optarg);
			break;
		case OPT_PASSED:
			snprintf(flag, sizeof(flag), "--%s", longs[at].name);
			r = image_words_add(&a.flags, flag);
			if (r == 0)
				r = image_words_add(&a.flags, optarg);
			break;
		default:
			if (cli_option(cli, c, opt, argv, &code) < 0)
				code = code < 0 ? EXIT_USAGE : code;
		}
	}
	if (r == 0 && code < 0 && a.file)
		r = more_by_default(&a.flags);
	if (r < 0)
		code = cli_usage(c, "there are too many options, or one is no UTF-8");
	if (code < 0)
		code = a.file ? build_file(cli, c, &a, argc - optind, argv + optind)
			      : build_own(cli, c, &a, argc - optind, argv + optind);
	image_words_done(&a.args);
	image_words_done(&a.flags);
	return code;
}
