/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_import.c: `brig image import`. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "image/archive.h"
#include "image/cli.h"
#include "image/import.h"

static void progress(void *ctx, const char *what)
{
	cli_note(ctx, "%s", what);
}

int cli_imported(const struct cli *cli, const char *name, const struct import_result *r)
{
	char size[SIZE_TEXT_MAX];
	if (r->stats.devices)
		cli_note(cli, "left out %" PRIu64 " device nodes, FIFOs and sockets",
			 r->stats.devices);
	if (r->stats.stripped)
		cli_note(cli, "dropped the setuid or setgid bit of %" PRIu64 " entries",
			 r->stats.stripped);
	if (r->unnamed.text[0])
		cli_note(cli, "the image that was '%s' before has no name now: %s", name,
			 r->unnamed.text);
	size_format_bytes(r->size_bytes, size);
	cli_note(cli, "%s '%s': %" PRIu64 " files, %s", r->reused ? "already there:" : "stored",
		 name, r->files, size);
	if (!cli->json) {
		puts(r->digest.text);
		return cli_finish();
	}
	return cli_print_json(json_pack("{s:s s:s s:b s:I s:I s:I s:I s:I}", "name", name, "digest",
					r->digest.text, "reused", r->reused, "size_bytes",
					(json_int_t)r->size_bytes, "files", (json_int_t)r->files,
					"devices_left_out", (json_int_t)r->stats.devices,
					"modes_stripped", (json_int_t)r->stats.stripped, "layers",
					(json_int_t)(r->layers ? r->layers : 1)));
}

/* Is the word before the path one of those that say what the source is? Then it is cut off. */
static const char *source_kind(const char *path, struct import_options *o)
{
	static const struct {
		const char *word;
		int kind;
	} kinds[] = { { "oci:", IMPORT_LAYOUT },
		      { "docker-archive:", IMPORT_DOCKER },
		      { "tar:", IMPORT_TREE } };
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i].word);
		if (strncmp(path, kinds[i].word, n) == 0) {
			o->kind = kinds[i].kind;
			return path + n;
		}
	}
	return path;
}

/* PATH:TAG, unless there is a file of that whole name. */
static int split_tag(const char *path, char *plain, size_t cap, struct import_options *o)
{
	const char *colon = strrchr(path, ':');
	size_t n = colon && !strchr(colon, '/') && access(path, F_OK) < 0 ? (size_t)(colon - path)
									  : strlen(path);
	if (n >= cap)
		return -1;
	snprintf(plain, cap, "%.*s", (int)n, path);
	o->tag = path[n] ? path + n + 1 : NULL;
	return 0;
}

/* Opens what is to be imported: a directory, a file, or stdin; lends 0 for the latter. */
static int open_source(const char *path, int *ret_fd, struct brig_err *err)
{
	struct stat st;
	if (strcmp(path, "-") == 0) {
		if (isatty(STDIN_FILENO)) {
			brig_fail(err, BRIG_E_INVALID, 0, "stdin is a terminal");
			return brig_fix(err, "pipe an archive in: ... | brig image import NAME -");
		}
		int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return brig_fail(err, BRIG_E_INVALID, errno, "read from stdin");
		*ret_fd = fd;
		return 0;
	}
	/* Whoever runs this may open it; that it is a device by mistake is found out below. */
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return brig_fail(err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_DENIED, errno,
				 "open '%s'", path);
	if (fstat(fd, &st) < 0 || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' is neither archive nor directory",
				 path);
	*ret_fd = fd_steal(&fd);
	return 0;
}

static int import_source(struct cli *cli, const char *path, struct import_options *o)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct publisher p = PUBLISHER_INIT;
	struct import_result result = { .reused = false };
	AUTO_FD source = -1;
	char plain[PATH_MAX];
	struct stat st;
	path = source_kind(path, o);
	if (o->kind == IMPORT_LAYOUT || o->kind == IMPORT_DOCKER) {
		if (split_tag(path, plain, sizeof(plain), o) < 0)
			return cli_usage(cli_command_find("import"), "the path is too long");
		path = plain;
	}
	int r = import_check_name(o->name, &err);
	if (r == 0)
		r = open_source(path, &source, &err);
	if (r == 0 && o->kind != IMPORT_AS_IT_LOOKS && fstat(source, &st) == 0 &&
	    S_ISDIR(st.st_mode) != (o->kind == IMPORT_LAYOUT)) {
		r = brig_fail(&err, BRIG_E_INVALID, 0, "'%s' is %s", path,
			      S_ISDIR(st.st_mode) ? "a directory" : "no directory");
		brig_fix(&err, "oci:DIR, docker-archive:FILE, tar:FILE, or a path alone");
	}
	if (r == 0)
		r = import_prepare(&err);
	if (r == 0)
		r = publisher_open(cli->data, &p, &err);
	if (r == 0)
		r = cli_catch_signals(cli, &err);
	if (r == 0) {
		o->input = source;
		o->cancel = cli->cancel;
		o->progress = progress;
		o->ctx = cli;
		r = import_run(&p, o, &result, &err);
	}
	publisher_close(&p);
	return r < 0 ? cli_fail(&err) : cli_imported(cli, o->name, &result);
}

int cmd_import(struct cli *cli, int argc, char **argv)
{
	enum { OPT_USER = 256, OPT_ENV, OPT_WORKDIR, OPT_SIZE, OPT_ENTRIES, OPT_RATIO, OPT_CROSS };
	static const struct option longs[] = { { "user", 1, NULL, OPT_USER },
					       { "env", 1, NULL, OPT_ENV },
					       { "workdir", 1, NULL, OPT_WORKDIR },
					       { "max-size", 1, NULL, OPT_SIZE },
					       { "max-entries", 1, NULL, OPT_ENTRIES },
					       { "max-ratio", 1, NULL, OPT_RATIO },
					       { "cross-filesystems", 0, NULL, OPT_CROSS },
					       CLI_LONG };
	const struct cli_command *c = cli_command_find("import");
	char *env[IMAGE_ENV_MAX];
	struct import_options o = { .env = env,
				    .max_ratio = ARCHIVE_RATIO_DEFAULT,
				    .max = { TREE_BYTES_DEFAULT, TREE_ENTRIES_DEFAULT } };
	int opt, code;
	while ((opt = getopt_long(argc, argv, CLI_SHORT, longs, NULL)) != -1) {
		uint64_t n = 0;
		switch (opt) {
		case OPT_USER:
			o.user = optarg;
			break;
		case OPT_WORKDIR:
			o.workdir = optarg;
			break;
		case OPT_CROSS:
			o.cross = true;
			break;
		case OPT_ENV:
			if (o.env_n == IMAGE_ENV_MAX)
				return cli_usage(c, "more than %d variables", IMAGE_ENV_MAX);
			env[o.env_n++] = optarg;
			break;
		case OPT_SIZE:
			if (size_parse_bytes(optarg, &n) < 0 || n == 0 || n > INT64_MAX)
				return cli_usage(c, "'%s' is no size like 512m or 16g", optarg);
			o.max.bytes = n;
			break;
		case OPT_ENTRIES:
			if (size_parse_count(optarg, &n) < 0 || n == 0 || n > INT32_MAX)
				return cli_usage(c, "'%s' is no count of entries", optarg);
			o.max.entries = n;
			break;
		case OPT_RATIO:
			if (size_parse_count(optarg, &n) < 0 || n == 0 || n > 1000000)
				return cli_usage(c, "'%s' is no ratio of 1 to 1000000", optarg);
			o.max_ratio = (unsigned)n;
			break;
		default:
			if (cli_option(cli, c, opt, argv, &code) < 0)
				return code;
		}
	}
	if (argc - optind != 2)
		return cli_usage(c, "it takes a name and a source, %d given", argc - optind);
	o.name = argv[optind];
	return import_source(cli, argv[optind + 1], &o);
}
