/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: how flags are read, and what every table of flags must satisfy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/limit.h"

struct opts {
	bool all, quiet;
	enum tri tty;
	const char *name;
	struct strlist env;
	uint64_t memory, timeout, size, time, count;
};

static const struct flag flags[] = {
	{ .name = "all",
	  .letter = 'a',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct opts, all),
	  .help = "x" },
	{ .name = "quiet",
	  .letter = 'q',
	  .kind = FLAG_BOOL,
	  .at = offsetof(struct opts, quiet),
	  .help = "x" },
	{ .name = "tty",
	  .letter = 't',
	  .kind = FLAG_TRI,
	  .at = offsetof(struct opts, tty),
	  .help = "x" },
	{ .name = "name",
	  .letter = 'n',
	  .kind = FLAG_STR,
	  .at = offsetof(struct opts, name),
	  .arg = "N",
	  .help = "x" },
	{ .name = "mode",
	  .kind = FLAG_STR,
	  .at = offsetof(struct opts, name),
	  .arg = "M",
	  .help = "x",
	  .choices = "fast slow" },
	{ .name = "env",
	  .letter = 'e',
	  .kind = FLAG_LIST,
	  .at = offsetof(struct opts, env),
	  .arg = "E",
	  .help = "x" },
	{ .name = "memory",
	  .letter = 'm',
	  .kind = FLAG_LIMIT,
	  .limit = LIMIT_memory_bytes,
	  .at = offsetof(struct opts, memory) },
	{ .name = "timeout",
	  .kind = FLAG_LIMIT,
	  .limit = LIMIT_timeout_ms,
	  .at = offsetof(struct opts, timeout) },
	{ .name = "size",
	  .kind = FLAG_SIZE,
	  .at = offsetof(struct opts, size),
	  .arg = "S",
	  .help = "x" },
	{ .name = "time",
	  .kind = FLAG_TIME,
	  .at = offsetof(struct opts, time),
	  .arg = "T",
	  .help = "x" },
	{ .name = "count",
	  .kind = FLAG_COUNT,
	  .at = offsetof(struct opts, count),
	  .arg = "C",
	  .help = "x" },
	FLAG_OUTPUT_ROW,
	FLAG_END,
};

static const struct cmd cmd_plain = { .name = "plain",
				      .operands = "X...",
				      .flags = flags,
				      .opts_size = sizeof(struct opts),
				      .max_args = -1 };
static const struct cmd cmd_first = { .name = "first",
				      .operands = "CMD...",
				      .flags = flags,
				      .opts_size = sizeof(struct opts),
				      .min_args = 1,
				      .max_args = -1,
				      .first_ends = true };
static const struct cmd cmd_one = { .name = "one",
				    .operands = "X",
				    .flags = flags,
				    .opts_size = sizeof(struct opts),
				    .min_args = 1,
				    .max_args = 1 };

struct result {
	struct cli cli;
	struct opts o;
	int n;
	char *argv[24];
	char text[512];
	struct brig_err err;
};

/* line: arguments separated by single blanks; "''" is an empty one. */
static void parse(const struct cmd *cmd, const char *line, struct result *r)
{
	memset(r, 0, sizeof(*r));
	snprintf(r->text, sizeof(r->text), "%s", line);
	int argc = 0;
	for (char *p = r->text; *p;) {
		char *end = p + strcspn(p, " ");
		char *next = *end ? end + 1 : end;
		*end = '\0';
		r->argv[argc++] = strcmp(p, "''") == 0 ? end : p;
		p = next;
	}
	r->n = args_parse(&r->cli, cmd, argc, r->argv, &r->o, &r->err);
}

static void done(struct result *r)
{
	args_done(&cmd_plain, &r->o);
}

static void test_values_in_every_spelling(void **state)
{
	static const char *const same[] = { "--name v", "--name=v", "-n v", "-nv",
					    "-n=v",	"-an v",    "-anv", "--name x --name v" };
	struct result r;
	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		parse(&cmd_plain, same[i], &r);
		assert_int_equal(r.n, 0);
		assert_string_equal(r.o.name, "v");
		done(&r);
	}
	/* A value may look like a flag, or be empty. */
	parse(&cmd_plain, "--name --all -n= x", &r);
	assert_int_equal(r.n, 1);
	assert_string_equal(r.o.name, "");
	assert_false(r.o.all);
	done(&r);
}

static void test_switches(void **state)
{
	struct result r;
	(void)state;
	parse(&cmd_plain, "-aq --tty=false", &r);
	assert_int_equal(r.n, 0);
	assert_true(r.o.all && r.o.quiet);
	assert_int_equal(r.o.tty, TRI_OFF);
	parse(&cmd_plain, "--all=false -q=1 -t", &r);
	assert_false(r.o.all);
	assert_true(r.o.quiet);
	assert_int_equal(r.o.tty, TRI_ON);
	parse(&cmd_plain, "", &r);
	assert_int_equal(r.o.tty, TRI_UNSET);
	/* A switch never takes the next word. */
	parse(&cmd_plain, "--all false", &r);
	assert_int_equal(r.n, 1);
	assert_true(r.o.all);
}

static void test_lists_keep_their_order(void **state)
{
	struct result r;
	char line[400] = "";
	(void)state;
	for (int i = 0; i < 20; i++)
		snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s-eV%d", i ? " " : "",
			 i);
	parse(&cmd_plain, line, &r);
	assert_int_equal(r.n, 0);
	assert_int_equal(r.o.env.n, 20);
	for (int i = 0; i < 20; i++) {
		char want[16];
		snprintf(want, sizeof(want), "V%d", i);
		assert_string_equal(r.o.env.v[i], want);
	}
	done(&r);
}

static void test_where_flags_end(void **state)
{
	struct result r;
	(void)state;
	parse(&cmd_plain, "x -a y -- -q --", &r);
	assert_int_equal(r.n, 4);
	assert_true(r.o.all);
	assert_false(r.o.quiet);
	assert_string_equal(r.argv[2], "-q");
	assert_string_equal(r.argv[3], "--");
	parse(&cmd_first, "-a ls -q --name=x", &r);
	assert_int_equal(r.n, 3);
	assert_string_equal(r.argv[1], "-q");
	assert_null(r.o.name);
	parse(&cmd_first, "-- -q", &r);
	assert_int_equal(r.n, 1);
	assert_string_equal(r.argv[0], "-q");
	/* "-" alone is an operand. */
	parse(&cmd_plain, "- -a", &r);
	assert_int_equal(r.n, 1);
	assert_true(r.o.all);
}

static void test_help_wins_only_before_the_command(void **state)
{
	struct result r;
	(void)state;
	parse(&cmd_first, "--help", &r);
	assert_int_equal(r.n, ARGS_HELP);
	parse(&cmd_first, "-ah", &r);
	assert_int_equal(r.n, ARGS_HELP);
	parse(&cmd_first, "ls --help", &r);
	assert_int_equal(r.n, 2);
}

static void test_refusals_name_the_mistake(void **state)
{
	static const struct {
		const struct cmd *cmd;
		const char *line, *word;
	} rows[] = {
		{ &cmd_plain, "--nope", "--nope" },
		{ &cmd_plain, "--nam v", "--nam" }, /* no abbreviations */
		{ &cmd_plain, "--names v", "--names" },
		{ &cmd_plain, "-az", "-z" },
		{ &cmd_plain, "--name", "--name needs" },
		{ &cmd_plain, "-n", "--name needs" },
		{ &cmd_plain, "--all=maybe", "'maybe'" },
		{ &cmd_plain, "--all=", "switch" },
		{ &cmd_plain, "--mode medium", "fast slow" },
		{ &cmd_plain, "--mode fas", "'fas'" },
		{ &cmd_plain, "--mode ''", "one of" },
		{ &cmd_plain, "-o xml", "table json" },
		{ &cmd_plain, "-m 12x", "'12x'" },
		{ &cmd_plain, "-m 0", "out of range" },
		{ &cmd_plain, "-m 15m", "16 MiB to 16 TiB" },
		{ &cmd_plain, "-m none", "--memory 'none'" },
		{ &cmd_plain, "-m -5", "--memory '-5'" },
		{ &cmd_plain, "--timeout 0", "--timeout '0'" },
		{ &cmd_plain, "--timeout 31d", "or none" },
		{ &cmd_plain, "--timeout 0.0001s", "finer than a millisecond" },
		{ &cmd_plain, "--size 0", "more than zero" },
		{ &cmd_plain, "--time 0s", "more than zero" },
		{ &cmd_plain, "--count 1.5", "whole number" },
		{ &cmd_plain, "--count 99999999999999999999", "too large" },
		{ &cmd_first, "", "CMD... is missing" },
		{ &cmd_first, "-a --", "CMD... is missing" },
		{ &cmd_one, "a b", "'b'" },
	};
	struct result r;
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		parse(rows[i].cmd, rows[i].line, &r);
		if (r.n != -1 || r.err.code != BRIG_E_INVALID || !strstr(r.err.msg, rows[i].word))
			fail_msg("'%s': %d, %s", rows[i].line, r.n, r.err.msg);
		done(&r);
	}
}

static void test_values_of_limits(void **state)
{
	struct result r;
	(void)state;
	parse(&cmd_plain, "-m16m --timeout none --size 1k --time 1m --count 7 -ojson", &r);
	assert_int_equal(r.n, 0);
	assert_true(r.o.memory == 16 * MIB);
	assert_true(r.o.timeout == LIMIT_NONE);
	assert_true(r.o.size == 1024 && r.o.time == 60000 && r.o.count == 7);
	assert_true(r.cli.json);
}

/* Each limit takes its own bounds and refuses what is just beyond. */
static void test_bounds_of_every_limit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LIMIT__N; i++) {
		const struct limit *l = limit_get(i);
		const uint64_t ends[] = { l->min, l->max };
		struct brig_err err = BRIG_ERR_INIT;
		char text[64];
		uint64_t v = 0;
		for (int k = 0; k < 2; k++) {
			/* As the kind is written, in its smallest unit. */
			const char *unit = l->kind == LIMIT_MS	    ? "ms"
					   : l->kind == LIMIT_BYTES ? "b"
								    : "";
			int64_t step = k ? 1 : -1;
			uint64_t beyond = ends[k] + (uint64_t)step;
			if (l->kind == LIMIT_CPU) {
				snprintf(text, sizeof(text), "%llu.%03llu",
					 (unsigned long long)(ends[k] / 1000),
					 (unsigned long long)(ends[k] % 1000));
			} else {
				snprintf(text, sizeof(text), "%llu%s", (unsigned long long)ends[k],
					 unit);
			}
			assert_int_equal(limit_parse(i, text, &v, &err), 0);
			assert_true(v == ends[k]);
			if (l->kind == LIMIT_CPU)
				snprintf(text, sizeof(text), "%llu.%03llu",
					 (unsigned long long)(beyond / 1000),
					 (unsigned long long)(beyond % 1000));
			else
				snprintf(text, sizeof(text), "%llu%s", (unsigned long long)beyond,
					 unit);
			assert_int_equal(limit_parse(i, text, &v, &err), -1);
			assert_non_null(strstr(err.msg, l->flag));
		}
		assert_int_equal(limit_parse(i, "none", &v, &err), l->none ? 0 : -1);
	}
}

/* No two flags of a verb share a name or letter; each has what help needs. */
static void test_tables_are_sound(void **state)
{
	(void)state;
	for (const struct cmd *const *c = cmd_table; *c; c++) {
		const struct cmd *cmd = *c;
		assert_ptr_equal(cmd_find(cmd->name), cmd);
		assert_non_null(cmd->run);
		assert_true(cmd->summary[0] >= 'a' && cmd->summary[0] <= 'z');
		assert_true(cmd->summary[strlen(cmd->summary) - 1] != '.');
		for (const struct flag *f = cmd->flags; f && f->name; f++) {
			char help[FLAG_HELP_MAX];
			flag_help(f, help);
			assert_true(strlen(help) > 3 && strlen(help) < FLAG_HELP_MAX - 1);
			bool valued = f->kind != FLAG_BOOL && f->kind != FLAG_TRI &&
				      f->kind != FLAG_LIMIT;
			if ((f->arg != NULL) != valued)
				fail_msg("%s --%s: name of the value", cmd->name, f->name);
			if (f->kind != FLAG_OUTPUT)
				assert_true(f->at < cmd->opts_size);
			assert_int_not_equal(f->letter, 'h');
			for (const struct flag *g = f + 1; g->name; g++) {
				if (strcmp(f->name, g->name) == 0 ||
				    (f->letter && f->letter == g->letter))
					fail_msg("%s: --%s and --%s", cmd->name, f->name, g->name);
				if (f->kind != FLAG_OUTPUT && g->kind != FLAG_OUTPUT &&
				    f->at == g->at)
					fail_msg("%s: --%s and --%s share a place", cmd->name,
						 f->name, g->name);
			}
		}
		for (const struct cmd *const *d = c + 1; *d; d++)
			assert_string_not_equal(cmd->name, (*d)->name);
	}
	assert_ptr_equal(cmd_find("ps"), cmd_find("ls"));
	assert_null(cmd_find("nope"));
	assert_null(cmd_find(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_in_every_spelling),
		cmocka_unit_test(test_switches),
		cmocka_unit_test(test_lists_keep_their_order),
		cmocka_unit_test(test_where_flags_end),
		cmocka_unit_test(test_help_wins_only_before_the_command),
		cmocka_unit_test(test_refusals_name_the_mistake),
		cmocka_unit_test(test_values_of_limits),
		cmocka_unit_test(test_bounds_of_every_limit),
		cmocka_unit_test(test_tables_are_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
