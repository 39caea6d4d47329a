/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare.c: see compare.h.
 *
 * Theory of operation: this very command line is run once for each tier, as a child, with --tier and a file
 * for its status; nothing else is different. A tier that this host does not offer says so in its status, with
 * the reason. Of what a command writes the first PROC_TEXT_MAX bytes are compared and shown; how much there
 * was is in the status.
 */
#include "cli/compare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/size.h"
#include "brig/tier.h"
#include "cli/out.h"
#include "cli/selftest_proc.h"
#include "cli/spawn.h"
#include "cli/table.h"

/* The words of a command line (ARG_MAX is 2 MiB; a request holds 80 KiB). */
#define LINE_MAX_BYTES (256u * 1024u)
/* Longer than any --timeout that somebody waits for in front of a table. */
#define RUN_S (24u * 3600u)

struct trial {
	struct proc proc;
	json_t *status; /* NULL: none was written */
	bool offered, ran;
};

/* Flags that are this verb's own here: of these the child gets others. *ret_skip: how many words. */
static bool is_own(const char *word, int *ret_skip)
{
	static const char *const with_value[] = { "--tier", "--output", "-o", "--status-json" };
	*ret_skip = 1;
	if (strncmp(word, "--compare-tiers", 15) == 0)
		return true;
	for (size_t i = 0; i < sizeof(with_value) / sizeof(with_value[0]); i++) {
		size_t n = strlen(with_value[i]);
		if (strncmp(word, with_value[i], n) != 0)
			continue;
		if (!word[n]) {
			*ret_skip = 2;
			return true;
		}
		if (word[n] == '=' || n == 2)
			return true;
	}
	return false;
}

/* Splits our own command line; the words point into text. */
static int own_words(char *text, size_t cap, const char **words, int max, struct brig_err *err)
{
	ssize_t n = fd_slurp_at(AT_FDCWD, "/proc/self/cmdline", text, cap);
	int count = 0;
	if (n < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, (int)-n, "read the own command line");
	for (char *p = text; p < text + n && count < max; p += strlen(p) + 1)
		words[count++] = p;
	return count;
}

static int trial_run(struct trial *t, const char *tier, const char **words, int nwords, int operands,
		     struct brig_err *err)
{
	char self[PATH_MAX], file[] = "/tmp/brig-compare.XXXXXX";
	AUTO_FREE const char **argv = calloc((size_t)nwords + 8, sizeof(*argv));
	AUTO_FD fd = mkstemp(file);
	int n = 0, flags = nwords - operands;
	if (!argv || fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a run");
	if (spawn_self(self, err) < 0) {
		unlink(file);
		return -1;
	}
	if (flags > 1 && strcmp(words[flags - 1], "--") == 0)
		flags--;
	for (int i = 0, skip; i < flags; i += skip)
		if (!is_own(words[i], &skip)) {
			argv[n++] = words[i];
			skip = 1;
		}
	argv[n++] = "--tier";
	argv[n++] = tier;
	argv[n++] = "--status-json";
	argv[n++] = file;
	argv[n++] = "--";
	for (int i = nwords - operands; i < nwords; i++)
		argv[n++] = words[i];
	t->proc = (struct proc){ .path = self, .argv = argv, .timeout_s = RUN_S };
	int r = proc_run(&t->proc, NULL, err);
	t->status = r == 0 ? json_load_file(file, 0, NULL) : NULL;
	unlink(file);
	const json_t *code = json_object_get(json_object_get(t->status, "error"), "code");
	t->offered = t->status && !(json_is_string(code) &&
				    strcmp(json_string_value(code), "unsupported_on_this_host") == 0 &&
				    json_is_null(json_object_get(t->status, "tier")));
	t->ran = t->offered && json_is_string(json_object_get(t->status, "id"));
	return r;
}

static long long number_of(const struct trial *t, const char *key)
{
	return json_integer_value(json_object_get(json_object_get(t->status, "usage"), key));
}

static bool alike(const struct trial *a, const struct trial *b)
{
	return strcmp(a->proc.out, b->proc.out) == 0 &&
	       json_equal(json_object_get(a->status, "exit_code"), json_object_get(b->status, "exit_code")) &&
	       json_equal(json_object_get(a->status, "stop_reason"),
			  json_object_get(b->status, "stop_reason"));
}

/* The first line in which two outputs differ, as text that steers no terminal. */
static void print_difference(const char *tier, const char *of, const char *a, const char *b)
{
	unsigned line = 1;
	while (*a || *b) {
		size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
		if (na != nb || memcmp(a, b, na) != 0 || a[na] != b[nb]) {
			char one[160], two[160];
			snprintf(one, sizeof(one), "%.*s", (int)(na < 150 ? na : 150), a);
			snprintf(two, sizeof(two), "%.*s", (int)(nb < 150 ? nb : 150), b);
			text_make_safe(one);
			text_make_safe(two);
			printf("\noutput of %s differs from that of %s in line %u:\n  %-10s %s\n  %-10s %s\n",
			       tier, of, line, of, one, tier, two);
			return;
		}
		a += na + (a[na] == '\n');
		b += nb + (b[nb] == '\n');
		line++;
	}
}

static int print_table(struct cli *cli, const struct trial *trials, uint32_t first)
{
	static const char *const head[] = { "TIER", "EXIT", "REASON", "OUTPUT", "WALL", "CPU", "MEMORY", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	table_init(&t, head);
	for (uint32_t i = 0; i < BRIG_TIER__N; i++) {
		const struct trial *one = &trials[i];
		char memory[SIZE_TEXT_MAX] = "-";
		if (!one->ran)
			continue;
		size_format_bytes((uint64_t)number_of(one, "memory_peak_bytes"), memory);
		table_add(&t, brig_tier_name(i));
		table_addf(&t, "%lld", (long long)json_integer_value(json_object_get(one->status, "exit_code")));
		table_add(&t, json_string_value(json_object_get(one->status, "stop_reason")));
		table_addf(&t, "%lld B%s", number_of(one, "stdout_bytes"),
			   i == first				    ? "" :
			   strcmp(one->proc.out, trials[first].proc.out) ? ", differs" :
									   ", same");
		table_addf(&t, "%lld ms", number_of(one, "wall_ms"));
		table_addf(&t, "%lld ms", number_of(one, "cpu_ms"));
		table_add(&t, memory);
	}
	if (table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	for (uint32_t i = 0; i < BRIG_TIER__N; i++)
		if (trials[i].ran)
			print_difference(brig_tier_name(i), brig_tier_name(first), trials[first].proc.out,
					 trials[i].proc.out);
	for (uint32_t i = 0; i < BRIG_TIER__N; i++)
		if (!trials[i].ran)
			printf("\n%s: not run\n%s", brig_tier_name(i), trials[i].proc.err);
	return cli_flush(cli, 0);
}

static int print_json(struct cli *cli, const struct trial *trials, uint32_t first)
{
	json_t *all = json_array();
	for (uint32_t i = 0; i < BRIG_TIER__N; i++) {
		const struct trial *t = &trials[i];
		json_array_append_new(
			all, json_pack("{s:s,s:b,s:b,s:s,s:s,s:O?}", "tier", brig_tier_name(i), "offered",
				       (int)t->offered, "alike",
				       (int)(t->ran && alike(t, &trials[first])), "stdout", t->proc.out,
				       "stderr", t->proc.err, "status", t->status));
	}
	int code = cli_print_json(cli, all);
	json_decref(all);
	return code;
}

int compare_tiers(struct cli *cli, int operands)
{
	static struct trial trials[BRIG_TIER__N];
	struct brig_err err = BRIG_ERR_INIT;
	AUTO_FREE char *text = malloc(LINE_MAX_BYTES);
	AUTO_FREE const char **words = calloc(LINE_MAX_BYTES / 2, sizeof(*words));
	uint32_t first = BRIG_TIER__N;
	bool same = true;
	int n = text && words ? own_words(text, LINE_MAX_BYTES, words, LINE_MAX_BYTES / 2, &err) :
				brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the runs");
	for (uint32_t i = 0; n >= 0 && i < BRIG_TIER__N; i++) {
		if (trial_run(&trials[i], brig_tier_name(i), words, n, operands, &err) < 0) {
			n = -1;
			break;
		}
		if (trials[i].ran)
			first = first == BRIG_TIER__N ? i : first;
		if (trials[i].offered)
			same = same && trials[i].ran && alike(&trials[i], &trials[first]);
	}
	if (n >= 0 && first == BRIG_TIER__N) {
		char why[300];
		snprintf(why, sizeof(why), "%.*s", (int)strcspn(trials[0].proc.err, "\n"), trials[0].proc.err);
		text_make_safe(why);
		brig_err_set(&err, BRIG_E_UNSUPPORTED, 0, "no tier ran it: %s", why);
		brig_fix(&err, "run it with --tier container to see the whole reason");
		n = -1;
	}
	int code = n < 0     ? cli_fail(cli, &err) :
		   cli->json ? print_json(cli, trials, first) :
			       print_table(cli, trials, first);
	for (uint32_t i = 0; i < BRIG_TIER__N; i++)
		json_decref(trials[i].status);
	return code ? code : !same;
}
