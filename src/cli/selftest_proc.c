/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The program gets a session of its own, so that its end can be made that of all it started. What
 * it prints comes through two pipes of which the first bytes are kept and the others read and
 * dropped: nothing that an attack prints can hold it up, or us. The canaries' listeners are served
 * in the same loop.
 */
#include "cli/selftest_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/spawn.h"

/* The descriptor that must not arrive, and how many there are with it. */
#define LEAK_FDS 10u

static char leak_variable[] = "BRIG_CANARY_LEAK=1";

static char **environment(const struct proc *p, struct canary *canary)
{
	size_t n = 0, at = 0;
	while (environ[n])
		n++;
	char **list = calloc(n + CANARY_ENV + 3, sizeof(*list));
	if (!list)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!p->bare || strncmp(environ[i], "PATH=", 5) == 0)
			list[at++] = environ[i];
	for (size_t i = 0; p->bare && canary && i < canary->nenv; i++)
		list[at++] = canary->env[i];
	if (p->leaky)
		list[at++] = leak_variable;
	return list;
}

/* What is there; -1 at the end. */
static int take(int fd, char *text, size_t *n)
{
	char more[4096];
	ssize_t r = read(fd, more, sizeof(more));
	if (r < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -1;
	if (r == 0)
		return -1;
	for (ssize_t i = 0; i < r && *n < PROC_TEXT_MAX - 1; i++)
		/* It is used as text. */
		text[(*n)++] = more[i] ? more[i] : '?';
	text[*n] = '\0';
	return 0;
}

static void watch(struct proc *p, pid_t pid, int out, int err, struct canary *canary)
{
	uint64_t until = clock_now() + p->timeout_s * SEC_NS;
	size_t nout = 0, nerr = 0;
	while (out >= 0 || err >= 0) {
		struct pollfd fds[2 + CANARY_LISTENERS] = { { .fd = out, .events = POLLIN },
							    { .fd = err, .events = POLLIN } };
		uint64_t now = clock_now();
		for (size_t i = 2; i < 2 + CANARY_LISTENERS; i++)
			fds[i].fd = -1;
		if (canary)
			canary_poll(canary, fds + 2);
		if (now >= until && !p->timed_out) {
			p->timed_out = true;
			kill(-pid, SIGKILL);
			until = now + 5 * SEC_NS;
		} else if (now >= until) {
			return; /* whoever holds the pipes is not of its session any more */
		}
		if (poll(fds, 2 + CANARY_LISTENERS, (int)((until - now) / MS_NS) + 1) < 0 &&
		    errno != EINTR)
			return;
		if (fds[0].revents && take(out, p->out, &nout) < 0)
			out = -1;
		if (fds[1].revents && take(err, p->err, &nerr) < 0)
			err = -1;
		if (canary)
			canary_work(canary, fds + 2);
	}
}

int proc_run(struct proc *p, struct canary *canary, struct brig_err *err)
{
	int out[2], errs[2];
	pid_t pid;
	p->out[0] = p->err[0] = '\0';
	p->timed_out = false;
	p->status = 0;
	AUTO_FREE char **envp = environment(p, canary);
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_FD root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!envp || null < 0 || root < 0 || pipe2(out, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare an attack");
	AUTO_FD out_in = out[0];
	AUTO_FD out_out = out[1];
	if (pipe2(errs, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare an attack");
	AUTO_FD err_in = errs[0];
	AUTO_FD err_out = errs[1];
	struct spawn s = { .path = p->path,
			   .argv = p->argv,
			   .envp = envp,
			   .fds = { null, out_out, err_out },
			   .nfds = p->leaky ? LEAK_FDS : 3,
			   .session = true };
	for (unsigned i = 3; i < LEAK_FDS; i++)
		s.fds[i] = root;
	if (spawn_start(&s, &pid, err) < 0)
		return -1;
	fd_close(&out_out);
	fd_close(&err_out);
	watch(p, pid, out_in, err_in, canary);
	if (spawn_wait(pid, clock_now() + 5 * SEC_NS, &p->status) != 1) {
		p->timed_out = true;
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		(void)spawn_wait(pid, 0, &p->status);
	}
	return 0;
}
