/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c: the client of the benchmarks. It starts runs, or asks a resident brigd for them, and
 * notes when the first byte of output arrived and when the run was over.
 *
 * Theory of operation
 * -------------------
 * A plan lists the forms to compare, one a line, fields separated by tabs:
 *
 *   NAME  EVERY  spawn[:MNTNS]  COMMAND  ARG...     a whole process: vfork and exec to exit
 *   NAME  EVERY  brig           SOCKET  REQUEST     a request (JSON of client_proto.h) to its END
 *
 * In latency mode the forms take turns, one operation at a time: A B C A B C, so that whatever the
 * machine does meanwhile happens to all of them; a form with EVERY = n takes part in each n-th
 * round. After each operation there may be a pause, in which the kernel frees what the runtime
 * left: else each form would pay for the one before it. In rate mode one form runs with k
 * operations in flight for a number of seconds. Every operation is a line of CSV on standard
 * output; nothing is trimmed or averaged here, and a failure is a line too.
 *
 * One thread, one epoll; the clock is CLOCK_MONOTONIC_RAW. The clock of an operation starts before
 * vfork() or connect() and its end is the moment when this process learns of it: a pidfd that
 * becomes readable, an END frame. Output is read and thrown away.
 */
#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"

#define FORMS_MAX 64u
#define ARGS_MAX 64u
#define INFLIGHT_MAX 64u

struct clock {
	struct form forms[FORMS_MAX];
	unsigned nforms;
	int ep;
	unsigned serial; /* of operations, for "%i" */
	uint64_t deadline_ns;
};

char *form_expand(const char *arg, unsigned n)
{
	const char *at = strstr(arg, "%i");
	char *s;

	if (!at)
		return strdup(arg);
	if (asprintf(&s, "%.*s%d-%u%s", (int)(at - arg), arg, (int)getpid(), n, at + 2) < 0)
		return NULL;
	return s;
}

static int form_parse(struct form *f, char *line)
{
	static const char spawn[] = "spawn:";
	char *field[ARGS_MAX + 4], *save = NULL;
	unsigned n = 0;

	for (char *s = strtok_r(line, "\t\n", &save); s && n < ARGS_MAX + 4;
	     s = strtok_r(NULL, "\t\n", &save))
		field[n++] = s;
	if (n < 4)
		return -EINVAL;
	*f = (struct form){ .name = field[0], .mntns = -1, .nargs = n - 3 };
	f->every = (unsigned)strtoul(field[1], NULL, 10);
	if (!strcmp(field[2], "brig")) {
		f->kind = FORM_BRIG;
		if (f->nargs != 2)
			return -EINVAL;
		json_t *js = json_loads(field[4], 0, NULL);
		const char *op = js ? json_string_value(json_object_get(js, "op")) : NULL;
		f->streams = op && (!strcmp(op, "run") || !strcmp(op, "exec"));
		json_decref(js);
		if (!op)
			return -EINVAL;
	} else if (!strncmp(field[2], spawn, sizeof(spawn) - 1)) {
		f->mntns = open(field[2] + sizeof(spawn) - 1, O_RDONLY | O_CLOEXEC);
		if (f->mntns < 0)
			return -errno;
	} else if (strcmp(field[2], "spawn") != 0) {
		return -EINVAL;
	}
	f->args = calloc(f->nargs + 1, sizeof(f->args[0]));
	if (!f->args || !f->every)
		return -EINVAL;
	memcpy(f->args, field + 3, f->nargs * sizeof(f->args[0]));
	return 0;
}

static int plan_read(struct clock *c, const char *path)
{
	FILE *in = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0;
	int r = in ? 0 : -errno;

	while (!r && getline(&line, &cap, in) > 0) {
		if (line[0] == '\n' || line[0] == '#')
			continue;
		if (c->nforms == FORMS_MAX)
			r = -E2BIG;
		else
			r = form_parse(&c->forms[c->nforms++], line);
		line = NULL; /* the form points into it */
		cap = 0;
	}
	if (in)
		fclose(in);
	if (r)
		fprintf(stderr, "clock: plan %s, form %u: %s\n", path, c->nforms, strerror(-r));
	return r;
}

int op_fd_watch(const struct op *op, int fd, enum op_fd which)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = op_tag(op, which) };

	return epoll_ctl(op->ep, EPOLL_CTL_ADD, fd, &ev);
}

void op_fd_drop(const struct op *op, int *fd)
{
	if (*fd >= 0)
		(void)epoll_ctl(op->ep, EPOLL_CTL_DEL, *fd, NULL); /* ENOENT: it never was in it */
	fd_close(fd);
}

static int op_start(struct clock *c, struct op *op, const struct form *f, unsigned slot)
{
	*op = (struct op){ .form = f, .slot = slot, .ep = c->ep, .pid = -1, .pidfd = -1, .out = -1,
			   .sock = -1 };
	return f->kind == FORM_SPAWN ? op_spawn_start(op, c->serial++) :
				       op_brig_start(op, c->serial++);
}

static void op_end(struct op *op)
{
	if (op->form->kind == FORM_SPAWN)
		op_spawn_end(op);
	else
		op_brig_end(op);
}

static void op_print(const struct op *op, unsigned round)
{
	double first = op->first ? (double)(op->first - op->t0) / 1e3 : 0;
	double done = op->done ? (double)(op->done - op->t0) / 1e3 : 0;

	printf("%s,%u,%s,%.1f,%.1f,%llu,%d\n", op->form->name, round, op->failed ? op->failed : "ok",
	       first, done, (unsigned long long)op->bytes, op->code);
}

/* Waits for events of the n operations; calls none of them twice after it is complete. Returns the
 * index of a complete one. One past its deadline is complete too, failed. */
static unsigned ops_wait(struct clock *c, struct op *ops, unsigned n)
{
	for (;;) {
		struct epoll_event ev;
		int got = epoll_wait(c->ep, &ev, 1, 200);
		if (got == 1) {
			unsigned slot = (unsigned)(ev.data.u64 >> 8);
			enum op_fd which = (enum op_fd)(ev.data.u64 & 0xff);
			struct op *op = &ops[slot];
			if (which == OP_FD_SOCK ? op_brig_event(op, ev.events) : op_spawn_event(op, which))
				return slot;
		}
		uint64_t now = raw_now();
		for (unsigned i = 0; i < n; i++)
			if (ops[i].form && now - ops[i].t0 > c->deadline_ns) {
				ops[i].failed = "deadline";
				return i;
			}
	}
}

static void latency_run(struct clock *c, unsigned rounds, unsigned warm, unsigned pause_ms)
{
	const struct timespec pause = { .tv_sec = pause_ms / 1000,
					.tv_nsec = (long)(pause_ms % 1000) * 1000000 };
	struct op op;

	for (unsigned r = 0; r < warm + rounds; r++)
		for (unsigned i = 0; i < c->nforms; i++) {
			const struct form *f = &c->forms[i];
			if (r % f->every)
				continue;
			if (op_start(c, &op, f, 0) == 0)
				(void)ops_wait(c, &op, 1);
			if (r >= warm)
				op_print(&op, r - warm);
			op_end(&op);
			if (pause_ms)
				nanosleep(&pause, NULL);
		}
}

#define FAILURES_MAX 100u /* a form that only fails would spin */

/* Starts the next operation of a slot; 0 when it cannot, with the failures that it met printed. */
static unsigned rate_next(struct clock *c, struct op *op, const struct form *f, unsigned slot,
			  unsigned inflight, unsigned *failures)
{
	while (*failures < FAILURES_MAX) {
		if (op_start(c, op, f, slot) == 0)
			return 1;
		++*failures;
		op_print(op, inflight);
		op_end(op);
	}
	op->form = NULL;
	return 0;
}

static int rate_run(struct clock *c, const char *name, unsigned inflight, double seconds)
{
	static struct op ops[INFLIGHT_MAX];
	const struct form *f = NULL;

	for (unsigned i = 0; i < c->nforms; i++)
		if (!strcmp(c->forms[i].name, name))
			f = &c->forms[i];
	if (!f) {
		fprintf(stderr, "clock: no form '%s'\n", name);
		return 2;
	}
	uint64_t t0 = raw_now(), end = t0 + (uint64_t)(seconds * 1e9);
	unsigned live = 0, failures = 0;
	for (unsigned i = 0; i < inflight; i++)
		live += rate_next(c, &ops[i], f, i, inflight, &failures);
	while (live) {
		unsigned i = ops_wait(c, ops, inflight);
		failures += ops[i].failed != NULL;
		op_print(&ops[i], inflight);
		op_end(&ops[i]);
		ops[i].form = NULL;
		if (raw_now() >= end || !rate_next(c, &ops[i], f, i, inflight, &failures))
			live--;
	}
	printf("# elapsed_us %.1f\n", (double)(raw_now() - t0) / 1e3);
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: clock [-d SECONDS] -n ROUNDS -w WARMUP [-p PAUSE_MS] PLAN\n"
			"       clock [-d SECONDS] -r FORM -k INFLIGHT -t SECONDS PLAN\n");
	return 2;
}

int main(int argc, char **argv)
{
	static struct clock c;
	const char *rate = NULL;
	unsigned rounds = 300, warm = 30, inflight = 1, pause_ms = 0;
	double seconds = 10, deadline = 60;
	int opt;

	while ((opt = getopt(argc, argv, "n:w:p:r:k:t:d:")) != -1) {
		switch (opt) {
		case 'n':
			rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			warm = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'p':
			pause_ms = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			rate = optarg;
			break;
		case 'k':
			inflight = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 't':
			seconds = strtod(optarg, NULL);
			break;
		case 'd':
			deadline = strtod(optarg, NULL);
			break;
		default:
			return usage();
		}
	}
	if (optind != argc - 1 || !inflight || inflight > INFLIGHT_MAX || !rounds)
		return usage();
	if (plan_read(&c, argv[optind]))
		return 1;
	signal(SIGPIPE, SIG_IGN);
	c.deadline_ns = (uint64_t)(deadline * 1e9);
	c.ep = epoll_create1(EPOLL_CLOEXEC);
	if (c.ep < 0) {
		perror("clock: epoll");
		return 1;
	}
	if (rate)
		return rate_run(&c, rate, inflight, seconds);
	latency_run(&c, rounds, warm, pause_ms);
	return 0;
}
