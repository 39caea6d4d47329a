/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_selftest.c: `brig selftest --attack`: what the shipped attacks can do to this host, as a
 * scorecard.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/selftest.h"
#include "cli/table.h"

struct selftest_flags {
	bool attack, all_controls;
	const char *tier;
	const char *accept;
};

static const struct flag flags[] = {
	{ .name = "attack",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct selftest_flags, attack),
	  .help = "run the attacks" },
	{ .name = "tier",
	  .kind = FLAG_STR,
	  .at = offsetof(struct selftest_flags, tier),
	  .arg = "TIER",
	  .choices = "container gvisor microvm",
	  .help = "only in this tier; default: in every one that this host offers" },
	{ .name = "all-controls",
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct selftest_flags, all_controls),
	  .help = "run the controls, too, for which the host's kernel may load a module" },
	{ .name = "accept",
	  .kind = FLAG_STR,
	  .at = offsetof(struct selftest_flags, accept),
	  .arg = "NAME[,NAME]",
	  .help = "run even if this host cannot enforce NAME (see ENVIRONMENT, BRIG_ACCEPT)" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static const char *text_of(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));
	return s ? s : "";
}

static const char *const results[] = { "contained", "escaped", "undecided", "not_applicable" };
#define N_RESULTS (sizeof(results) / sizeof(results[0]))

struct line {
	const char *tier, *class;
	unsigned n[N_RESULTS];
};

#define LINES_MAX 64u
/* A line for each class of each tier, in the order of the attacks. */
static unsigned lines_of(const json_t *rows, struct line *lines)
{
	unsigned n = 0;
	json_t *v;
	size_t i;
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		unsigned k = 0;
		while (k < n && (strcmp(lines[k].tier, text_of(v, "tier")) != 0 ||
				 strcmp(lines[k].class, text_of(v, "class")) != 0))
			k++;
		if (k == LINES_MAX)
			continue;
		if (k == n)
			lines[n++] = (struct line){ .tier = text_of(v, "tier"),
						    .class = text_of(v, "class") };
		for (size_t r = 0; r < N_RESULTS; r++)
			lines[k].n[r] += strcmp(text_of(v, "result"), results[r]) == 0;
	}
	return n;
}

static void print_rest(const json_t *report)
{
	json_t *v;
	size_t i;
	json_array_foreach(json_object_get(report, "attacks"), i, v)
	{
		if (strcmp(text_of(v, "result"), "contained") == 0)
			continue;
		printf("%s %s in tier %s: %s\n", text_of(v, "result"), text_of(v, "attack"),
		       text_of(v, "tier"), text_of(v, "detail"));
	}
	const json_t *c = json_object_get(report, "controls");
	printf("controls: %lld noticed a success, %lld failed, %lld were not run\n",
	       (long long)json_integer_value(json_object_get(c, "noticed")),
	       (long long)json_integer_value(json_object_get(c, "failed")),
	       (long long)json_integer_value(json_object_get(c, "not_run")));
	const char *tier;
	json_object_foreach(json_object_get(report, "tiers"), tier, v)
	{
		printf("tier %-10s %s\n", tier,
		       json_is_true(json_object_get(v, "ok")) ? "contained everything"
							      : "did not hold");
	}
}

static int print_table(struct cli *cli, const json_t *report)
{
	static const char *const head[] = { "TIER",	 "CLASS",	   "CONTAINED", "ESCAPED",
					    "UNDECIDED", "NOT APPLICABLE", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct line lines[LINES_MAX];
	struct table t;
	unsigned n = lines_of(json_object_get(report, "attacks"), lines);
	table_init(&t, head);
	for (unsigned i = 0; i < n; i++) {
		table_add(&t, lines[i].tier);
		table_add(&t, lines[i].class);
		for (size_t r = 0; r < N_RESULTS; r++)
			table_addf(&t, "%u", lines[i].n[r]);
	}
	if (table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	putchar('\n');
	print_rest(report);
	return cli_flush(cli, 0);
}

static void progress(const char *tier, unsigned at, unsigned of)
{
	fprintf(stderr, "\r%s: %u of %u%s", tier, at + 1, of, at + 1 == of ? "\n" : "");
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	const struct selftest_flags *f = opts;
	struct brig_err err = BRIG_ERR_INIT;
	json_t *report = NULL;
	(void)argc;
	(void)argv;
	if (!f->attack)
		return cli_usage(cli, "say what to test: --attack");
	struct selftest_opts o = { .tier = f->tier,
				   .accept = f->accept,
				   .loads = f->all_controls,
				   .progress = isatty(2) ? progress : NULL };
	if (selftest_run(&o, &report, &err) < 0)
		return cli_fail(cli, &err);
	int code = cli->json ? cli_print_json(cli, report) : print_table(cli, report);
	bool ok = json_is_true(json_object_get(report, "ok"));
	json_decref(report);
	return code ? code : !ok;
}

const struct cmd cmd_selftest = {
	.name = "selftest",
	.operands = "",
	.summary = "attack this host from inside sandboxes and print what held",
	.about = "Runs the attacks that are installed with brig, each in a fresh sandbox, as the "
		 "user and as "
		 "root inside, in every tier that the host offers. Whether one got out is judged "
		 "from the "
		 "outside: by files, processes, listeners and settings of the host that it was "
		 "told about. "
		 "For each there is a control where that is harmless: the same attack outside of "
		 "any sandbox, "
		 "as root, must succeed, or its failure inside would show nothing.\n"
		 "\n"
		 "Uses the running server, or one of its own. Exits 1 unless everything that could "
		 "be tried "
		 "was contained. See --require-selftest of serve.",
	.flags = flags,
	.opts_size = sizeof(struct selftest_flags),
	.run = run,
};
