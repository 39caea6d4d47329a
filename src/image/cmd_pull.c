/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pull.c: `brig image pull`. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/size.h"
#include "image/archive.h"
#include "image/cli.h"
#include "image/fetch.h"
#include "image/import.h"
#include "image/oci_import.h"
#include "pull/ref.h"

static void progress(void *ctx, const char *what)
{
	cli_note(ctx, "%s", what);
}

static int fetch_and_import(const struct publisher *p, const struct fetch_options *f,
			    const struct import_options *o, struct import_result *ret,
			    struct brig_err *err)
{
	struct stage s;
	stage_sweep(p->tmp, 1, NULL, NULL, NULL);
	if (stage_new(p->tmp, &s, err) < 0)
		return -1;
	AUTO_FD layout = fetch_layout(p, &s, f, err);
	int r = layout < 0 ? -1 : oci_import(p, layout, o, ret, err);
	stage_drop(&s);
	return r;
}

static int pull(struct cli *cli, struct fetch_options *f, struct import_options *o)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct publisher p = PUBLISHER_INIT;
	struct import_result result = { .reused = false };
	struct pull_ref ref;
	char name[200];
	/* brig-pull reads it again; here it is looked at for the name, and for mistakes. */
	int r = pull_ref_parse(f->ref, getenv("BRIG_REGISTRY"), &ref, &err);
	if (r == 0 && !o->name) {
		pull_ref_name(&ref, name, sizeof(name));
		o->name = name;
	}
	if (r == 0)
		r = import_check_name(o->name, &err);
	if (r == 0)
		r = import_prepare(&err);
	if (r == 0)
		r = publisher_open(cli->data, &p, &err);
	if (r == 0)
		r = cli_catch_signals(cli, &err);
	if (r == 0) {
		f->cancel = o->cancel = cli->cancel;
		f->quiet = cli->quiet;
		f->max_bytes = o->max.bytes;
		o->progress = progress;
		o->ctx = cli;
		r = fetch_and_import(&p, f, o, &result, &err);
	}
	publisher_close(&p);
	return r < 0 ? cli_fail(&err) : cli_imported(cli, o->name, &result);
}

int cmd_pull(struct cli *cli, int argc, char **argv)
{
	enum { OPT_NAME = 256, OPT_HTTP, OPT_TLS, OPT_CA, OPT_STALL, OPT_SIZE, OPT_RATIO };
	static const struct option longs[] = { { "name", 1, NULL, OPT_NAME },
					       { "plain-http", 0, NULL, OPT_HTTP },
					       { "insecure-tls", 0, NULL, OPT_TLS },
					       { "cacert", 1, NULL, OPT_CA },
					       { "stall-timeout", 1, NULL, OPT_STALL },
					       { "max-size", 1, NULL, OPT_SIZE },
					       { "max-ratio", 1, NULL, OPT_RATIO },
					       CLI_LONG };
	const struct cli_command *c = cli_command_find("pull");
	struct fetch_options f = { .stall_s = 30 };
	struct import_options o = { .max_ratio = ARCHIVE_RATIO_DEFAULT,
				    .max = { TREE_BYTES_DEFAULT, TREE_ENTRIES_DEFAULT } };
	int opt, code;
	while ((opt = getopt_long(argc, argv, CLI_SHORT, longs, NULL)) != -1) {
		uint64_t n = 0;
		switch (opt) {
		case OPT_NAME:
			o.name = optarg;
			break;
		case OPT_HTTP:
			f.plain_http = true;
			break;
		case OPT_TLS:
			f.insecure_tls = true;
			break;
		case OPT_CA:
			f.ca_file = optarg;
			break;
		case OPT_STALL:
			if (size_parse_count(optarg, &n) < 0 || n == 0 || n > 3600)
				return cli_usage(c, "'%s' is no number of seconds up to 3600", optarg);
			f.stall_s = n;
			break;
		case OPT_SIZE:
			if (size_parse_bytes(optarg, &n) < 0 || n == 0 || n > INT64_MAX)
				return cli_usage(c, "'%s' is no size like 512m or 16g", optarg);
			o.max.bytes = n;
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
	if (argc - optind != 1)
		return cli_usage(c, "it takes the name of one image, %d given", argc - optind);
	f.ref = argv[optind];
	return pull(cli, &f, &o);
}
