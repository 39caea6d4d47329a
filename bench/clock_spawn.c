/* SPDX-License-Identifier: Apache-2.0 */
/* clock_spawn.c: a run as a whole process: vfork and exec, first byte on its pipe, exit. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "clock.h"

/* vfork and not posix_spawn, for the setns() between: some peers need another view of
 * /sys/fs/cgroup. The child shares our memory and calls nothing but system calls. */
static pid_t spawn(const struct form *f, char **argv, int out, int nil, volatile int *err)
{
	extern char **environ;
	pid_t pid = vfork();

	if (pid != 0)
		return pid;
	if (dup2(nil, 0) == 0 && dup2(out, 1) == 1 &&
	    (f->mntns < 0 || (setns(f->mntns, CLONE_NEWNS) == 0 && chdir("/") == 0)))
		execvp(argv[0], argv);
	*err = errno;
	_exit(127);
}

int op_spawn_start(struct op *op, unsigned n)
{
	const struct form *f = op->form;
	int p[2], r = -1;
	volatile int err = 0;
	AUTO_FD nil = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char **argv = calloc(f->nargs + 1, sizeof(argv[0]));

	for (unsigned i = 0; argv && i < f->nargs; i++)
		argv[i] = form_expand(f->args[i], n);
	op->failed = "spawn";
	if (!argv || pipe2(p, O_CLOEXEC))
		goto out;
	(void)fcntl(p[0], F_SETPIPE_SZ, 1 << 20); /* for every form alike; the default would do */
	op->t0 = raw_now();
	op->pid = spawn(f, argv, p[1], nil, &err);
	close(p[1]);
	op->out = p[0];
	if (op->pid < 0 || err)
		goto out;
	op->pidfd = pidfd_open(op->pid, 0);
	if (op->pidfd < 0 || op_fd_watch(op, op->pidfd, OP_FD_PID) || fd_set_nonblock(op->out, 1) ||
	    op_fd_watch(op, op->out, OP_FD_OUT))
		goto out;
	op->failed = NULL;
	r = 0;
out:
	for (unsigned i = 0; argv && i < f->nargs; i++)
		free(argv[i]);
	free(argv);
	return r;
}

/* Reads what there is. False at the end of the output. */
static bool drain(struct op *op)
{
	static uint8_t sink[1 << 20];

	for (;;) {
		ssize_t n = read(op->out, sink, sizeof(sink));
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (!op->first)
			op->first = raw_now();
		op->bytes += (uint64_t)n;
	}
}

bool op_spawn_event(struct op *op, enum op_fd which)
{
	if (which == OP_FD_OUT) {
		if (!drain(op))
			op_fd_drop(op, &op->out);
		return false;
	}
	op->done = raw_now();
	int st = 0;
	if (waitpid(op->pid, &st, 0) == op->pid) {
		op->pid = -1;
		op->code = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
	}
	if (op->out >= 0)
		(void)drain(op);
	if (op->first > op->done) /* both were there when we were told of the exit */
		op->first = op->done;
	if (op->code)
		op->failed = "exit";
	return true;
}

void op_spawn_end(struct op *op)
{
	if (op->pid > 0) {
		kill(op->pid, SIGKILL);
		waitpid(op->pid, NULL, 0);
	}
	op_fd_drop(op, &op->pidfd);
	op_fd_drop(op, &op->out);
}
