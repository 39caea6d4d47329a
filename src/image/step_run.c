/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step_run.c: `brig create`, `exec`, `snapshot create` and `rm`, one after the other.
 *
 * Theory of operation
 * -------------------
 * Nothing of a RUN happens on the host: it is a sandbox like every other, made by whatever server serves this
 * user (or one that brig starts), with no network unless the build asks for it. brig-image is not a client of
 * brigd; `brig` is, so it is executed for each of the steps. What the command changed comes as a snapshot,
 * the agent's own export, which is as hostile as the command was.
 *
 * Whatever happens, the sandbox is removed, and the snapshot's name is gone before the file is read. Of a
 * build that was killed both stay; they carry the number of its process, and the next build, or `brig image
 * gc`, removes what belongs to none that is alive.
 */
#include "image/step_run.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* Label of a sandbox, and beginning of the name of a snapshot: with the number of the process. */
#define LABEL "brig-build"
#define LIST_MAX (1u << 20)
#define ARGS_MAX (2 * IMAGE_WORDS_MAX + 2 * IMAGE_ENV_MAX + 64)

struct args {
	const char *v[ARGS_MAX];
	unsigned n;
};

static void add(struct args *a, const char *word)
{
	if (a->n + 1 < ARGS_MAX)
		a->v[a->n++] = word;
	a->v[a->n] = NULL;
}

/* `brig image` says where brig is; else it is found where it always is. */
static const char *program(char path[PATH_MAX])
{
	const char *said = getenv("BRIG_PROGRAM");
	ssize_t n = said ? 0 : readlink("/proc/self/exe", path, PATH_MAX - 16);
	char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
	if (said)
		return said;
	if (slash) {
		strcpy(slash + 1, "brig");
		if (access(path, X_OK) == 0)
			return path;
	}
	return "brig";
}

/* out: where its stdout goes. */
static __attribute__((noreturn)) void child(const char *path, const struct args *a, const char *data,
					    int out)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	/* What it does for a build that is killed is ended, too. */
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || setenv("BRIG_DATA", data, 1) < 0 ||
	    fd_close_from(3) < 0)
		_exit(127);
	/* The store is of this machine. */
	unsetenv("BRIG_URL");
	execvp(path, (char *const *)(uintptr_t)a->v);
	_exit(127);
}

/* Waits; *ret_code is its exit code, 128 + n for a signal. */
static int wait_child(pid_t pid, int cancel, int *ret_code, struct brig_err *err)
{
	int status, r = 0;
	AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = cancel, .events = POLLIN } };
	while (pidfd >= 0 && poll(p, 2, -1) < 0)
		if (errno != EINTR)
			break;
	if (pidfd >= 0 && p[1].revents && !p[0].revents) {
		kill(pid, SIGTERM);
		r = brig_fail(err, BRIG_E_STATE, 0, "interrupted");
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for brig");
	*ret_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return r;
}

/* text NULL: its output goes to stderr. Else it, of at most cap - 1 bytes. */
static int brig(const struct step_run *s, const struct args *a, char *text, size_t cap, int *ret_code,
		struct brig_err *err)
{
	char path[PATH_MAX];
	int pipefd[2] = { -1, -1 };
	const char *what = program(path);
	if (text && pipe2(pipefd, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start brig");
	AUTO_FD in = pipefd[0];
	AUTO_FD out = pipefd[1];
	pid_t pid = fork();
	if (pid < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start brig");
	if (pid == 0)
		child(what, a, s->data, text ? out : 2);
	fd_close(&out);
	if (text) {
		ssize_t n = fd_read_full(in, text, cap - 1);
		text[n > 0 ? n : 0] = '\0';
	}
	if (wait_child(pid, s->cancel, ret_code, err) < 0)
		return -1;
	if (*ret_code == 127 && text)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "'%.200s' cannot be executed", what);
	return 0;
}

/* A line of letters and digits: an id. */
static bool id_take(char *s)
{
	s[strcspn(s, "\n")] = '\0';
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789");
	return n >= 4 && n < 40 && !s[n];
}

static int make_sandbox(const struct step_run *s, char id[64], struct brig_err *err)
{
	struct args a = { .n = 0 };
	char label[64];
	int code;
	add(&a, "brig");
	add(&a, "create");
	add(&a, "--quiet");
	add(&a, "--image");
	add(&a, s->image->text);
	snprintf(label, sizeof(label), LABEL "=%d", (int)getpid());
	add(&a, "--label");
	add(&a, label);
	for (size_t i = 0; i < s->flags->n; i++)
		add(&a, s->flags->v[i]);
	if (brig(s, &a, id, 64, &code, err) < 0)
		return -1;
	if (code == 0 && id_take(id))
		return 0;
	brig_fail(err, BRIG_E_UNAVAILABLE, 0, "the sandbox for it could not be made");
	return brig_fix(err, "the lines above say why; a server must use the store '%.200s'", s->data);
}

static int run_command(const struct step_run *s, const char *id, struct brig_err *err)
{
	struct args a = { .n = 0 };
	int code;
	add(&a, "brig");
	add(&a, "exec");
	add(&a, "--interactive=false");
	add(&a, "--no-tty");
	for (size_t i = 0; i < s->env->n; i++) {
		add(&a, "--env");
		add(&a, s->env->v[i]);
	}
	add(&a, id);
	add(&a, "--");
	for (size_t i = 0; i < s->argv->n; i++)
		add(&a, s->argv->v[i]);
	if (brig(s, &a, NULL, 0, &code, err) < 0)
		return -1;
	if (code == 0)
		return 0;
	brig_fail(err, BRIG_E_STATE, 0, "the command ended with %d", code);
	return brig_fix(err, "its output stands above; --memory, --disk, --timeout, --net and --allow say what "
			     "it may use");
}

/* The file of a snapshot, which has no name any more when this returns. */
static int take_snapshot(const struct step_run *s, const char *id, int *ret_fd, struct brig_err *err)
{
	struct args a = { .n = 0 };
	char snap[64], name[64], path[PATH_MAX], text[64];
	int code;
	snprintf(name, sizeof(name), LABEL "-%d", (int)getpid());
	add(&a, "brig");
	add(&a, "snapshot");
	add(&a, "create");
	add(&a, "--name");
	add(&a, name);
	add(&a, id);
	if (brig(s, &a, snap, sizeof(snap), &code, err) < 0)
		return -1;
	if (code != 0 || !id_take(snap))
		return brig_fail(err, BRIG_E_UNAVAILABLE, 0, "what it changed could not be taken");
	int n = snprintf(path, sizeof(path), "%s/snapshots/%s.layer", s->data, snap);
	*ret_fd = n < (int)sizeof(path) ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	int sys = errno;
	a.n = 0;
	add(&a, "brig");
	add(&a, "snapshot");
	add(&a, "rm");
	add(&a, snap);
	if (brig(s, &a, text, sizeof(text), &code, err) < 0 || *ret_fd < 0) {
		fd_close(ret_fd);
		return brig_fail(err, BRIG_E_INTERNAL, sys, "open what it changed");
	}
	return 0;
}

int step_run(const struct step_run *s, int *ret_fd, struct brig_err *err)
{
	char id[64], text[64];
	int code;
	struct args a = { .n = 0 };
	if (make_sandbox(s, id, err) < 0)
		return -1;
	int r = run_command(s, id, err);
	if (r == 0)
		r = take_snapshot(s, id, ret_fd, err);
	/* Not interrupted: this is what cleans up. */
	const struct step_run last = { .data = s->data, .cancel = -1 };
	add(&a, "brig");
	add(&a, "rm");
	add(&a, "--force");
	add(&a, id);
	(void)brig(&last, &a, text, sizeof(text), &code, NULL);
	return r;
}

/* Does this number belong to nobody any more? */
static bool is_gone(const char *pid)
{
	long n = pid ? strtol(pid, NULL, 10) : 0;
	return n > 0 && kill((pid_t)n, 0) < 0 && errno == ESRCH;
}

/* Removes what `list` shows and a build that is gone has made. */
static void sweep(const struct step_run *s, const char *verb, const char *list)
{
	struct args a = { .n = 0 };
	AUTO_FREE char *text = malloc(LIST_MAX);
	json_t *all, *o;
	size_t i;
	int code = 1;
	add(&a, "brig");
	if (verb)
		add(&a, verb);
	add(&a, list);
	add(&a, "-o");
	add(&a, "json");
	if (!text || brig(s, &a, text, LIST_MAX, &code, NULL) < 0 || code)
		return;
	all = json_loads(text, 0, NULL);
	json_array_foreach(all, i, o)
	{
		const char *id = json_string_value(json_object_get(o, "id"));
		const char *name = json_string_value(json_object_get(o, "name"));
		const char *pid =
			json_string_value(json_object_get(json_object_get(o, "labels"), LABEL));
		char out[64];
		if (verb)
			pid = name && strncmp(name, LABEL "-", sizeof(LABEL)) == 0 ? name + sizeof(LABEL) : NULL;
		if (!id || !is_gone(pid))
			continue;
		a.n = 0;
		add(&a, "brig");
		if (verb)
			add(&a, verb);
		add(&a, "rm");
		if (!verb)
			add(&a, "--force");
		add(&a, id);
		(void)brig(s, &a, out, sizeof(out), &code, NULL);
	}
	json_decref(all);
}

void step_sweep(const char *data)
{
	const struct step_run s = { .data = data, .cancel = -1 };
	sweep(&s, NULL, "ls");
	sweep(&s, "snapshot", "ls");
}
