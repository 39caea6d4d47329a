/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig-attack lists its attacks; each is run by `brig run`, in a fresh sandbox, as the user and as
 * root inside, and the program is shown to it as a volume. The image is the host's own /usr:
 * nothing has to be built, and nothing is nearer to the host. The worse of the two results counts.
 *
 *   escaped       a canary was reached, the host was changed, or the attack says that it worked
 *   contained     it says that it was refused, and nothing outside speaks against that
 *   undecided     it said neither: it was stopped, or brig failed
 *   not_applicable  it says that this kernel has no such thing to attack, or its control fails
 *
 * Before that each attack's control is run: the same program outside, as root, where it has to
 * succeed. If it does not, its failure inside shows nothing, and that is what is said.
 *
 * A sandbox next door lives through all of it; what it keeps must be the same at the end.
 *
 * In a build with failpoints, selftest.hole=error shows the canaries' folder to each sandbox as a
 * volume: an attack then really succeeds, and what must follow from that can be tested.
 */
#include "cli/selftest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "cli/canary.h"
#include "cli/conn.h"
#include "cli/remote.h"
#include "cli/selftest_neighbour.h"
#include "cli/selftest_proc.h"
#include "cli/selftest_tier.h"
#include "cli/selftest_server.h"
#include "cli/spawn.h"

#define LIST_MAX (256u * 1024)
#define ATTACKS_MAX 256u
#define RUN_S 90u /* the command's own limit is shorter */
#define CONTROL_S 40u
#define RUN_TIMEOUT "40s"

/* From the best to the worst. */
enum result { NOT_APPLICABLE, CONTAINED, UNDECIDED, ESCAPED, RESULTS };
static const char *const result_names[RESULTS] = { "not_applicable", "contained", "undecided",
						   "escaped" };
enum control { NOTICED, NOT_RUN, FAILED, CONTROLS };
static const char *const control_names[CONTROLS] = { "noticed", "not_run", "failed" };

struct attack {
	const char *name, *class, *control, *reason; /* into the list's text */
	enum control checked;
	char checked_detail[300];
};

struct selftest {
	const struct selftest_opts *o;
	struct brig_err *err;
	struct canary canary;
	struct selftest_server server;
	char self[PATH_MAX], program[PATH_MAX];
	char *list;
	struct attack attacks[ATTACKS_MAX];
	unsigned nattacks;
	json_t *rows, *tiers;
	json_t *missing; /* guarantees that this host cannot give; NULL */
	struct neighbour neighbour;
	bool hole;
	struct proc proc;
};

/* ---- the list ---- */

static int list_read(struct selftest *t)
{
	static const char *const argv[] = { "brig-attack", "--list", NULL };
	int status = 0;
	if (spawn_find("brig-attack", t->program, t->err) < 0 ||
	    spawn_capture("brig-attack", argv, LIST_MAX, &t->list, &status, t->err) < 0)
		return -1;
	char *rest = t->list, *line;
	while ((line = strsep(&rest, "\n"))) {
		struct attack a = { .name = strsep(&line, "\t") };
		a.class = line ? strsep(&line, "\t") : NULL;
		a.control = line ? strsep(&line, "\t") : NULL;
		a.reason = line;
		if (a.reason && t->nattacks < ATTACKS_MAX)
			t->attacks[t->nattacks++] = a;
	}
	if (status != 0 || t->nattacks == 0)
		return brig_fail(t->err, BRIG_E_INTERNAL, 0, "brig-attack lists no attacks");
	return 0;
}

/* ---- one attack ---- */

/* Finds "WORD name detail" on a line of its own; NULL. */
static const char *line_of(const char *text, const char *word, const char *name)
{
	char start[128];
	int n = snprintf(start, sizeof(start), "%s %s ", word, name);
	for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strncmp(p, start, (size_t)n) == 0)
			return p + n;
	return NULL;
}

static void line_copy(char *ret, size_t cap, const char *prefix, const char *line)
{
	size_t n = strcspn(line, "\n");
	snprintf(ret, cap, "%s%.*s", prefix, (int)(n < 200 ? n : 200), line);
	text_make_safe(ret);
}

#define RUN_ARGS 64u
/* A quarter of what canary.h allows, or less. */
static const char *const smaller[] = { "BRIG_CANARY_PIDS=16", "BRIG_CANARY_MEMORY=33554432",
				       "BRIG_CANARY_DISK=16777216" };

/* The command line of one run; volume, hole: room for the text of an argument. roomy: the attack is
 * told of less than it may have. */
static void run_args(const struct selftest *t, const struct attack *a, const char *tier,
		     const char *user, bool roomy, char *volume, char *hole, size_t cap,
		     const char *ret[RUN_ARGS])
{
	size_t n = 0;
	const char *const fixed[] = { "brig",	   "run",	"-q",	       "--image",
				      "host",	   "--tier",	tier,	       "--user",
				      user,	   "--timeout", RUN_TIMEOUT,   "--pids",
				      CANARY_PIDS, "--memory",	CANARY_MEMORY, "--disk",
				      CANARY_DISK, "--volume",	volume };
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		ret[n++] = fixed[i];
	snprintf(volume, cap, "%s:/opt/brig-attack:ro", t->program);
	if (t->hole) {
		snprintf(hole, cap, "%s:%s:ro", t->canary.dir, t->canary.dir);
		ret[n++] = "--volume";
		ret[n++] = hole;
	}
	if (t->o->accept) {
		ret[n++] = "--accept";
		ret[n++] = t->o->accept;
	}
	for (unsigned i = 0; i < t->canary.nenv; i++) {
		ret[n++] = "--env";
		ret[n++] = t->canary.env[i];
	}
	/* Of two, the later one counts. */
	for (size_t i = 0; roomy && i < sizeof(smaller) / sizeof(smaller[0]); i++) {
		ret[n++] = "--env";
		ret[n++] = smaller[i];
	}
	ret[n++] = "--";
	ret[n++] = "/opt/brig-attack";
	ret[n++] = a->name;
	ret[n] = NULL;
}

static void control_run(struct selftest *t, struct attack *a)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *argv[RUN_ARGS] = { "brig-attack", a->name, NULL }, *line;
	char volume[PATH_MAX + 64], hole[PATH_MAX + 64];
	bool roomier = strcmp(a->control, "roomier") == 0;
	bool wanted = roomier || strcmp(a->control, "outside") == 0 ||
		      (strcmp(a->control, "loads") == 0 && t->o->loads);
	a->checked = NOT_RUN;
	if (strcmp(a->control, "none") == 0)
		snprintf(a->checked_detail, sizeof(a->checked_detail), "%s", a->reason);
	else if (!wanted)
		strcpy(a->checked_detail, "the host's kernel might load a module for it");
	else if (!roomier && geteuid() != 0)
		strcpy(a->checked_detail, "it needs root");
	if (a->checked_detail[0])
		return;
	t->proc = (struct proc){ .path = roomier ? t->self : t->program,
				 .argv = argv,
				 .leaky = true,
				 .bare = !roomier,
				 .timeout_s = roomier ? RUN_S : CONTROL_S };
	if (roomier)
		run_args(t, a, "container", "root", true, volume, hole, sizeof(volume), argv);
	if (proc_run(&t->proc, &t->canary, &err) < 0)
		line_copy(a->checked_detail, sizeof(a->checked_detail), "", err.msg);
	else if ((line = line_of(t->proc.out, "BROKEN", a->name))) {
		a->checked = NOTICED;
		line_copy(a->checked_detail, sizeof(a->checked_detail), "", line);
	} else if ((line = line_of(t->proc.out, "ERROR", a->name)))
		line_copy(a->checked_detail, sizeof(a->checked_detail), "", line);
	else {
		a->checked = FAILED;
		strcpy(a->checked_detail, "its success is not noticed");
	}
}

/* What the program and its exit say. */
static enum result said(const struct proc *p, const struct attack *a, char *ret, size_t cap)
{
	const char *line;
	int code = WIFEXITED(p->status) ? WEXITSTATUS(p->status) : -1;
	if ((line = line_of(p->out, "BROKEN", a->name))) {
		line_copy(ret, cap, "", line);
		return ESCAPED;
	}
	if (code == 0 && (line = line_of(p->out, "HELD", a->name))) {
		line_copy(ret, cap, "", line);
		return CONTAINED;
	}
	if (code == 2 && (line = line_of(p->out, "ERROR", a->name))) {
		line_copy(ret, cap, "", line);
		return NOT_APPLICABLE;
	}
	if (p->err[0])
		line_copy(ret, cap, "it came to no end: ", p->err);
	else
		snprintf(ret, cap,
			 p->timed_out ? "it did not end" : "it ended with %d, without a verdict",
			 code);
	return UNDECIDED;
}

static enum result run_as(struct selftest *t, const struct attack *a, const char *tier,
			  const char *user, char *ret, size_t cap)
{
	struct brig_err err = BRIG_ERR_INIT;
	char volume[PATH_MAX + 64], hole[PATH_MAX + 64], harm[256];
	const char *argv[RUN_ARGS];
	run_args(t, a, tier, user, false, volume, hole, sizeof(volume), argv);
	t->proc = (struct proc){ .path = t->self, .argv = argv, .leaky = true, .timeout_s = RUN_S };
	if (canary_begin(&t->canary, &err) < 0 || proc_run(&t->proc, &t->canary, &err) < 0) {
		line_copy(ret, cap, "", err.msg);
		return UNDECIDED;
	}
	enum result r = said(&t->proc, a, ret, cap);
	const char *why = "";
	enum attack_judge judge = selftest_judge(tier, a->name, &why);
	/* What does not even start shows nothing. */
	bool started = r != UNDECIDED || (judge == JUDGE_END && !t->proc.timed_out);
	if (judge != JUDGE_BOTH && r != NOT_APPLICABLE && started) {
		char word[160];
		snprintf(word, sizeof(word), "%.150s", ret);
		r = CONTAINED;
		snprintf(ret, cap, "judged by the host alone, for %s: %s", why, word);
	}
	if (canary_harmed(&t->canary, t->proc.out, harm, sizeof(harm))) {
		line_copy(ret, cap, "", harm);
		return ESCAPED;
	}
	return r;
}

static bool is_missing(const struct selftest *t, const char *guarantee)
{
	json_t *v;
	size_t i;
	json_array_foreach(t->missing, i, v)
	{
		const char *name = json_string_value(v);
		if (name && strcmp(name, guarantee) == 0)
			return true;
	}
	return false;
}

/* What an attack is against, where that is one of the guarantees that a host may be without. Who
 * accepts that has been told. */
static const char *needs_missing(const struct selftest *t, const struct attack *a)
{
	static const char *const needs[][2] = { { "fork-bomb", "pids" },
						{ "memory-hog", "memory" },
						{ "id-maps", "uidrange" } };
	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
		if (strcmp(needs[i][0], a->name) == 0 && is_missing(t, needs[i][1]))
			return needs[i][1];
	return NULL;
}

/* As the user and as root inside: the worse of the two. */
static enum result run_both(struct selftest *t, const struct attack *a, const char *tier, char *ret,
			    size_t cap)
{
	static const char *const users[] = { "root", "user" };
	/* With one id there is no user. */
	size_t n = is_missing(t, "uidrange") ? 1 : 2;
	const char *missing = needs_missing(t, a);
	enum result worst = NOT_APPLICABLE;
	char one[300];
	if (missing) {
		snprintf(ret, cap, "this host does not enforce %s", missing);
		return NOT_APPLICABLE;
	}
	for (size_t u = 0; u < n; u++) {
		enum result r = run_as(t, a, tier, users[u], one, sizeof(one));
		/* A host in trouble for a moment must not decide what it offers until it is
		 * started again. */
		if (r == UNDECIDED)
			r = run_as(t, a, tier, users[u], one, sizeof(one));
		if (u == 0 || r >= worst)
			snprintf(ret, cap, "as %s: %s", users[u], one);
		worst = r > worst ? r : worst;
	}
	if (worst == CONTAINED && a->checked == FAILED) {
		snprintf(ret, cap, "its control fails, so that its failure shows nothing");
		return NOT_APPLICABLE;
	}
	return worst;
}

static int row_add(struct selftest *t, const char *tier, const char *class, const char *name,
		   enum result r, const char *detail, const char *control, const char *why)
{
	json_t *row = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "tier", tier, "class", class,
				"attack", name, "result", result_names[r], "detail", detail,
				"control", control, "control_detail", why);
	if (row && json_array_append_new(t->rows, row) == 0)
		return 0;
	return brig_fail(t->err, BRIG_E_EXHAUSTED, ENOMEM, "keep the results");
}

/* ---- all of them ---- */

static int tier_run(struct selftest *t, const char *tier)
{
	unsigned count[RESULTS] = { 0 };
	char detail[400];
	if (neighbour_open(&t->neighbour, tier, t->o->accept, t->err) < 0)
		return -1;
	for (unsigned i = 0; i < t->nattacks; i++) {
		struct attack *a = &t->attacks[i];
		if (t->o->progress)
			t->o->progress(tier, i, t->nattacks);
		enum result worst = run_both(t, a, tier, detail, sizeof(detail));
		count[worst]++;
		if (row_add(t, tier, a->class, a->name, worst, detail, control_names[a->checked],
			    a->checked_detail) < 0)
			return -1;
	}
	struct brig_err err = BRIG_ERR_INIT;
	int same = neighbour_same(&t->neighbour, &err);
	enum result r = same == 1 ? CONTAINED : ESCAPED;
	count[r]++;
	line_copy(detail, sizeof(detail), "",
		  same < 0 ? err.msg
		  : same   ? "its file is as it was"
			   : "its file was changed");
	neighbour_remove(&t->neighbour);
	if (row_add(t, tier, "processes", "neighbour", r, detail, control_names[NOT_RUN],
		    "it is what all attacks together must leave alone") < 0)
		return -1;
	bool ok = count[CONTAINED] && !count[ESCAPED] && !count[UNDECIDED];
	json_t *o = json_pack("{s:b,s:i,s:i,s:i,s:i}", "ok", (int)ok, "contained",
			      (int)count[CONTAINED], "escaped", (int)count[ESCAPED], "undecided",
			      (int)count[UNDECIDED], "not_applicable", (int)count[NOT_APPLICABLE]);
	if (json_object_set_new(t->tiers, tier, o) < 0)
		return brig_fail(t->err, BRIG_E_EXHAUSTED, ENOMEM, "keep the results");
	return 0;
}

static int tiers_run(struct selftest *t)
{
	json_t *ok = NULL, *v;
	size_t i;
	bool any = false;
	if (conn_try(json_pack("{s:s}", "op", "version"), &ok, NULL, t->err) < 0)
		return -1;
	t->missing = json_incref(json_object_get(ok, "missing"));
	for (unsigned k = 0; k < t->nattacks; k++)
		control_run(t, &t->attacks[k]);
	int r = 0;
	json_array_foreach(json_object_get(ok, "tiers"), i, v)
	{
		const char *tier = json_string_value(v);
		if (r < 0 || !tier || (t->o->tier && strcmp(t->o->tier, tier) != 0))
			continue;
		any = true;
		r = tier_run(t, tier);
		neighbour_remove(&t->neighbour);
	}
	json_decref(ok);
	if (r == 0 && !any) {
		brig_err_set(t->err, BRIG_E_UNSUPPORTED, 0, "the server offers %s%s",
			     t->o->tier ? "no tier " : "no tier", t->o->tier ? t->o->tier : "");
		return brig_fix(t->err, "run `brig doctor` to see what the tier needs");
	}
	return r;
}

static json_t *report(struct selftest *t)
{
	unsigned count[CONTROLS] = { 0 };
	struct utsname u;
	const char *tier;
	json_t *v;
	bool ok = true;
	json_object_foreach(t->tiers, tier, v)
	{
		ok = ok && json_is_true(json_object_get(v, "ok"));
	}
	for (unsigned i = 0; i < t->nattacks; i++)
		count[t->attacks[i].checked]++;
	if (uname(&u) < 0)
		return NULL;
	return json_pack("{s:b,s:s,s:s,s:O,s:{s:i,s:i,s:i},s:O}", "ok", (int)ok, "kernel",
			 u.release, "version", BRIG_VERSION, "tiers", t->tiers, "controls",
			 "noticed", (int)count[NOTICED], "failed", (int)count[FAILED], "not_run",
			 (int)count[NOT_RUN], "attacks", t->rows);
}

static int work(struct selftest *t, json_t **ret)
{
	if (spawn_self(t->self, t->err) < 0 || list_read(t) < 0 ||
	    canary_open(&t->canary, t->err) < 0)
		return -1;
	t->hole = FAILPOINT("selftest.hole") < 0;
	int r = selftest_server_open(&t->server, t->o->private, t->err);
	if (r == 0)
		r = tiers_run(t);
	selftest_server_done(&t->server);
	canary_done(&t->canary);
	if (r < 0)
		return -1;
	*ret = report(t);
	return *ret ? 0 : brig_fail(t->err, BRIG_E_EXHAUSTED, ENOMEM, "keep the results");
}

int selftest_run(const struct selftest_opts *o, json_t **ret, struct brig_err *err)
{
	if (remote_wanted()) {
		brig_err_set(
			err, BRIG_E_UNSUPPORTED, 0,
			"attacks are judged from the machine that they would reach, and BRIG_URL "
			"names a server elsewhere");
		return brig_fix(err, "run `brig selftest --attack` on the server's machine");
	}
	struct selftest *t = calloc(1, sizeof(*t));
	if (!t)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the attacks");
	t->o = o;
	t->err = err;
	t->canary = (struct canary)CANARY_NONE;
	t->neighbour = (struct neighbour){ .self = t->self, .secret = t->canary.secret };
	t->rows = json_array();
	t->tiers = json_object();
	int r = work(t, ret);
	json_decref(t->rows);
	json_decref(t->tiers);
	json_decref(t->missing);
	free(t->list);
	free(t);
	return r;
}
