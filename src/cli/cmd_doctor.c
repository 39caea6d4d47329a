/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_doctor.c: `brig doctor`: what works on this host, and what to do about the rest.
 *
 * Theory of operation: brig-jaild --probe tries each thing that a sandbox is made of, with the
 * rights that it would have, and prints a JSON object a line. Added here is what concerns the
 * installation: are all programs there, can the data folder be used, is there an image, is a server
 * running. Exit code 1: a required thing of the default tier does not work.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "brig/tier.h"
#include "cli/conn.h"
#include "cli/lines.h"
#include "cli/remote.h"
#include "cli/spawn.h"
#include "cli/table.h"

static const struct flag flags[] = { FLAG_OUTPUT_ROW, FLAG_END };

#define DEFAULT_TIER "container"

struct doctor {
	json_t *rows;
};

static void add(struct doctor *d, const char *check, bool ok, bool required, const char *detail,
		const char *remedy)
{
	json_array_append_new(d->rows, json_pack("{s:s,s:b,s:b,s:s,s:s,s:s}", "check", check, "ok",
						 (int)ok, "required", (int)required, "tier",
						 required ? DEFAULT_TIER : "host", "detail", detail,
						 "remedy", ok ? "" : remedy));
}

static void check_programs(struct doctor *d)
{
	static const struct {
		const char *name;
		bool required;
		const char *purpose;
	} programs[] = {
		{ "brigd", true, "the server" },
		{ "brig-jaild", true, "makes and removes sandboxes" },
		{ "brig-agent", true, "the first process inside" },
		{ "brig-image", false, "builds and imports images" },
		{ "brig-api", false, "speaks HTTP" },
		{ "brig-remote", false, "reaches servers elsewhere (BRIG_URL)" },
		{ "brig-pull", false, "fetches images from registries" },
	};
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		struct brig_err err = BRIG_ERR_INIT;
		char path[PATH_MAX], check[64];
		bool ok = spawn_find(programs[i].name, path, &err) == 0;
		snprintf(check, sizeof(check), "program %s", programs[i].name);
		add(d, check, ok, programs[i].required, ok ? programs[i].purpose : err.msg,
		    err.remedy);
	}
}

static void check_data(struct doctor *d)
{
	struct brig_err err = BRIG_ERR_INIT;
	char data[PATH_MAX], path[PATH_MAX + 32];
	if (server_data_dir(NULL, data, sizeof(data), &err) < 0) {
		add(d, "data folder", false, false, err.msg, err.remedy);
		return;
	}
	bool there = access(data, F_OK) == 0, ok = !there || access(data, R_OK | W_OK | X_OK) == 0;
	snprintf(path, sizeof(path), "%.3000s%s", data, there ? "" : " (not there yet)");
	add(d, "data folder", ok, false, path, "give yourself access to it, or set BRIG_DATA");
	snprintf(path, sizeof(path), "%s/names/base", data);
	bool base = access(path, F_OK) == 0;
	add(d, "image base", base, false,
	    base ? "the default image" : "not built; the host's own /usr is the default image",
	    "brig image build base");
}

static void check_server(struct doctor *d)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *error = NULL;
	char path[SERVER_PATH_MAX], text[SERVER_PATH_MAX + 64];
	if (server_socket_path(NULL, path, &err) < 0) {
		add(d, "server", false, false, err.msg, err.remedy);
		return;
	}
	int r = conn_try(json_pack("{s:s}", "op", "version"), &ok, &error, &err);
	const char *version = json_string_value(json_object_get(ok, "version"));
	/* None is needed: run starts its own. */
	if (r == 0)
		snprintf(text, sizeof(text), "version %.32s on %s", version ? version : "?", path);
	else if (!error && err.code == BRIG_E_NOT_FOUND)
		snprintf(text, sizeof(text), "none on %s; run starts a private one", path);
	const char *tier;
	json_t *why;
	json_object_foreach(json_object_get(ok, "refused"), tier, why)
	{
		add(d, "selftest", false, strcmp(tier, DEFAULT_TIER) == 0,
		    json_string_value(why) ? json_string_value(why) : "?",
		    "run `brig selftest --attack` to see what got out, update kernel or brig, and start "
		    "the server again");
	}
	bool bad = r < 0 && (error || err.code != BRIG_E_NOT_FOUND);
	add(d, "server", !bad, false, bad ? err.msg : text, err.remedy);
	json_decref(ok);
	json_decref(error);
}

/* What a server elsewhere offers: nothing of this machine but the program that leads there. */
static void check_elsewhere(struct doctor *d)
{
	struct brig_err err = BRIG_ERR_INIT;
	json_t *ok = NULL, *error = NULL, *v;
	char path[PATH_MAX], text[512];
	size_t i;
	bool there = spawn_find("brig-remote", path, &err) == 0;
	add(d, "program brig-remote", there, true, there ? "reaches servers elsewhere" : err.msg,
	    err.remedy);
	if (!there)
		return;
	int r = conn_try(json_pack("{s:s}", "op", "version"), &ok, &error, &err);
	const char *version = json_string_value(json_object_get(ok, "version"));
	const char *cgroup = json_string_value(json_object_get(ok, "cgroup"));
	snprintf(text, sizeof(text), "version %.32s on %.300s, cgroup %.8s%s",
		 version ? version : "?", remote_url(), cgroup ? cgroup : "?",
		 json_is_true(json_object_get(ok, "rootless")) ? ", rootless" : "");
	add(d, "server", r == 0, true, r == 0 ? text : err.msg, err.remedy);
	if (r == 0 && (!version || strcmp(version, BRIG_VERSION) != 0))
		add(d, "same version", false, false, "this is brig " BRIG_VERSION,
		    "install the same version of brig on both machines");
	json_array_foreach(json_object_get(ok, "enforced"), i, v)
	{
		snprintf(text, sizeof(text), "guarantee %.64s",
			 json_is_string(v) ? json_string_value(v) : "?");
		add(d, text, true, false, "enforced by the server", "");
	}
	json_array_foreach(json_object_get(ok, "missing"), i, v)
	{
		snprintf(text, sizeof(text), "guarantee %.64s",
			 json_is_string(v) ? json_string_value(v) : "?");
		add(d, text, false, false, "not enforced by the server",
		    "run brig doctor on the server's machine");
	}
	json_decref(ok);
	json_decref(error);
}

static bool flag_of(const json_t *row, const char *key)
{
	return json_is_true(json_object_get(row, key));
}

static const char *text_of(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));
	return s ? s : "";
}

/* Whether all that a tier requires works. A tier without a required row is judged by all of its
 * rows. */
static bool tier_works(const json_t *rows, const char *tier)
{
	json_t *v;
	size_t i;
	bool any = false, required = false, all = true, needed = true;
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		if (strcmp(text_of(v, "tier"), tier) != 0)
			continue;
		any = true;
		all = all && flag_of(v, "ok");
		if (flag_of(v, "required")) {
			required = true;
			needed = needed && flag_of(v, "ok");
		}
	}
	return any && (required ? needed : all);
}

/* Why not is in the row of its engine. */
static void print_tier(const json_t *rows, const char *tier)
{
	bool works = tier_works(rows, tier);
	char why[256] = "";
	json_t *v;
	size_t i;
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
		if (!flag_of(v, "ok") && strcmp(text_of(v, "tier"), tier) == 0 && !why[0] && !works)
			snprintf(why, sizeof(why), ": %.40s: %.200s", text_of(v, "check"), text_of(v, "detail"));
	text_make_safe(why);
	printf("tier %-10s %s%s\n", tier, works ? "works" : "does not work", why);
}

static int print_table(struct cli *cli, const json_t *rows)
{
	static const char *const head[] = { "TIER", "CHECK", "RESULT", "DETAIL", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct table t;
	json_t *v;
	size_t i;
	table_init(&t, head);
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		table_add(&t, text_of(v, "tier"));
		table_add(&t, text_of(v, "check"));
		table_add(&t, flag_of(v, "ok") ? "ok" : flag_of(v, "required") ? "MISSING" : "no");
		table_add(&t, text_of(v, "detail"));
	}
	if (table_print(&t) < 0) {
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "print the table");
		return cli_fail(cli, &err);
	}
	putchar('\n');
	for (uint32_t n = 0; n < BRIG_TIER__N; n++)
		print_tier(rows, brig_tier_name(n));
	bool first = true;
	json_array_foreach((json_t *)(uintptr_t)rows, i, v)
	{
		if (flag_of(v, "ok") || !text_of(v, "remedy")[0])
			continue;
		if (first)
			printf("\nWhat would help:\n");
		first = false;
		char line[1024];
		snprintf(line, sizeof(line), "%.200s: %.700s", text_of(v, "check"),
			 text_of(v, "remedy"));
		text_make_safe(line);
		printf("  %s\n", line);
	}
	return cli_flush(cli, 0);
}

static int print_json(struct cli *cli, json_t *rows)
{
	json_t *works = json_object();
	for (uint32_t n = 0; n < BRIG_TIER__N; n++)
		json_object_set_new(works, brig_tier_name(n),
				    json_boolean(tier_works(rows, brig_tier_name(n))));
	json_t *o = json_pack("{s:b,s:o,s:O}", "ok", (int)tier_works(rows, DEFAULT_TIER), "tiers",
			      works, "checks", rows);
	int code = cli_print_json(cli, o);
	json_decref(o);
	return code;
}

/* Prints the rows and gives back the exit code. */
static int told(struct cli *cli, struct doctor *d, bool probed)
{
	int code = cli->json ? print_json(cli, d->rows) : print_table(cli, d->rows);
	bool works = probed && tier_works(d->rows, DEFAULT_TIER);
	json_decref(d->rows);
	return code ? code : !works;
}

static int run(struct cli *cli, void *opts, int argc, char **argv)
{
	static const char *const probe[] = { "brig-jaild", "--probe", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct doctor d = { .rows = json_array() };
	json_t *lines = NULL;
	int status = 0;
	(void)opts;
	(void)argc;
	(void)argv;
	if (remote_wanted()) {
		check_elsewhere(&d);
		return told(cli, &d, true);
	}
	check_programs(&d);
	if (lines_run("brig-jaild", probe, &lines, &status, &err) == 0)
		json_array_extend(d.rows, lines);
	else
		add(&d, "probe", false, true, err.msg, err.remedy);
	json_decref(lines);
	check_data(&d);
	check_server(&d);
	/* The probe's own verdict counts, too: it may know more than its rows say. */
	return told(cli, &d, status == 0);
}

const struct cmd cmd_doctor = {
	.name = "doctor",
	.operands = "",
	.summary = "show what works on this host, and what to do about the rest",
	.about = "Exits 1 if the default tier cannot run here. Where BRIG_URL names a server, shows what "
		 "that one offers instead.",
	.flags = flags,
	.run = run,
};
