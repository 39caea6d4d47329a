/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The child makes its session, its descriptors, its credentials and its directory, then execs. It
 * reports the step that failed.
 *
 * The first process of a sandbox is cloned with the agent's memory and the agent waits for its exec
 * (CLONE_VM | CLONE_VFORK): 19 us to execve() where a fork takes 66, measured. Every later one is
 * forked, because tenant code may be running by then: whoever may signal the child could stop it
 * before its exec, and with it an agent that waits for it. The forked child reports through a pipe
 * that its exec closes, and the agent goes on serving.
 *
 * Sharing memory is safe for the time it lasts. No code of the tenant runs yet; the child makes
 * only system calls and writes to its own stack and to *s; and when it changes its ids, the kernel
 * makes the shared memory undumpable first (commit_creds), which the agent undoes afterwards.
 *
 * The last step before the first exec is the gate (agent.h). The host measures the sandbox while all of
 * the above goes on, so that hardly anybody ever waits there.
 *
 * The OOM score is set by the agent after the exec: with shared memory the kernel would change the
 * agent's as well, and the exec'd program need not wait for it.
 */
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/fd.h"
#include "brig/agent_proto.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2) /* Linux 5.11 */
#endif

/* Commands are preferred victims over the agent, and among themselves judged by their size. */
#define COMMAND_OOM_SCORE_ADJ "500"

/* A name that is looked for where PATH is not set. */
static const char default_path[] = "/usr/local/bin:/usr/bin:/bin";

/* The child's stack: the path being tried, and room for the calls below it. */
#define CHILD_STACK (PATH_MAX + 16384)

/* AddressSanitizer keeps a map of the stack in memory; a child that shares memory and leaves by
 * exec would leave its marks in it. */
#if defined(__SANITIZE_ADDRESS__)
#define MAY_SHARE_MEMORY false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MAY_SHARE_MEMORY false
#endif
#endif
#ifndef MAY_SHARE_MEMORY
#define MAY_SHARE_MEMORY true
#endif

int spawn_args_init(struct spawn_args *sa, unsigned argc, unsigned envc)
{
	*sa = (struct spawn_args){ .envcap = envc };
	sa->mem = calloc(1 + (size_t)argc + 1 + envc + 1, sizeof(char *));
	if (!sa->mem)
		return -ENOMEM;
	sa->argv = sa->mem + 1;
	sa->envp = sa->argv + argc + 1;
	return 0;
}

void spawn_args_done(struct spawn_args *sa)
{
	free(sa->mem);
	*sa = (struct spawn_args){ 0 };
}

void spawn_env_add(struct spawn_args *sa, char *text)
{
	if (sa->envc < sa->envcap)
		sa->envp[sa->envc++] = text;
}

const char *spawn_env_get(const struct spawn_args *sa, const char *name)
{
	size_t n = strlen(name);
	for (unsigned i = sa->envc; i-- > 0;)
		if (strncmp(sa->envp[i], name, n) == 0 && sa->envp[i][n] == '=')
			return sa->envp[i] + n + 1;
	return NULL;
}

static void env_default(struct spawn_args *sa, const char *name, const char *value, char *buf,
			size_t cap)
{
	if (value[0] == '\0' || spawn_env_get(sa, name))
		return;
	snprintf(buf, cap, "%s=%s", name, value);
	spawn_env_add(sa, buf);
}

void spawn_env_defaults(struct spawn_args *sa, const struct user *u, struct spawn_env_text *buf)
{
	env_default(sa, "HOME", u->home, buf->home, sizeof(buf->home));
	env_default(sa, "USER", u->name, buf->user, sizeof(buf->user));
	env_default(sa, "LOGNAME", u->name, buf->logname, sizeof(buf->logname));
	env_default(sa, "SHELL", u->shell, buf->shell, sizeof(buf->shell));
}

/* A file without a known format is a shell script (POSIX execvp). */
static int exec_script(const struct spawn *s, const char *path)
{
	char **argv = s->args->argv - 1;
	char *first = argv[1];
	char shell[] = "/bin/sh", script[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof(script))
		return -ENAMETOOLONG;
	memcpy(script, path, n + 1);
	argv[0] = shell;
	argv[1] = script;
	execve(shell, argv, s->args->envp);
	argv[1] = first;
	/* The caller asked for the script; a missing interpreter is the script's fault. */
	return -ENOEXEC;
}

static int exec_file(const struct spawn *s, const char *path)
{
	execve(path, s->args->argv, s->args->envp);
	return errno == ENOEXEC ? exec_script(s, path) : -errno;
}

/* Only returns on failure: -ENOENT if no directory of PATH has the name, -EACCES if one has it but
 * may not run it. */
static int exec_search(const struct spawn *s)
{
	const char *name = s->file ? s->file : s->args->argv[0];
	const char *path = spawn_env_get(s->args, "PATH");
	size_t nlen = strlen(name);
	int found = -ENOENT;
	if (nlen == 0)
		return -ENOENT;
	if (strchr(name, '/'))
		return exec_file(s, name);
	if (nlen > NAME_MAX)
		return -ENAMETOOLONG;
	if (!path)
		path = default_path;
	for (;;) {
		char full[PATH_MAX];
		size_t dlen = strcspn(path, ":");
		/* An empty element is the current directory. */
		if (dlen + 1 + nlen < sizeof(full)) {
			memcpy(full, path, dlen);
			if (dlen)
				full[dlen] = '/';
			memcpy(full + dlen + (dlen > 0), name, nlen + 1);
			int r = exec_file(s, full);
			if (r == -EACCES)
				found = r;
			else if (r != -ENOENT && r != -ENOTDIR && r != -ELOOP && r != -ESTALE &&
				 r != -ENODEV && r != -ETIMEDOUT)
				return r;
		}
		if (path[dlen] == '\0')
			return found;
		path += dlen + 1;
	}
}

static int child_chdir(const struct spawn *s)
{
	/* A relative directory counts from the home, and "" is the home itself. */
	if (s->cwd[0] != '/' && chdir(s->home) < 0 && chdir("/") < 0)
		return -errno;
	return s->cwd[0] && chdir(s->cwd) < 0 ? -errno : 0;
}

static int child_stdio(struct spawn *s)
{
	/* None of the three may be overwritten before it was duplicated. */
	for (int i = 0; i < 3; i++) {
		if (s->fd[i] > 2)
			continue;
		int up = fcntl(s->fd[i], F_DUPFD_CLOEXEC, 3);
		if (up < 0)
			return -errno;
		for (int k = 2; k >= i; k--)
			if (s->fd[k] == s->fd[i])
				s->fd[k] = up;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(s->fd[i], i) < 0)
			return -errno;
	/* Everything of the agent's has CLOEXEC from birth; this is for what it may have been born
	 * with. The report pipe must live until the exec. */
	syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
	return 0;
}

/* The byte stays where it is, for whoever comes next. */
static int child_gate(const struct spawn *s)
{
	char word;
	ssize_t n = 1;
	while (s->gate >= 0 && (n = recv(s->gate, &word, 1, MSG_PEEK)) < 0 && errno == EINTR)
		;
	return n == 1 ? 0 : -ECANCELED;
}

static int child_prepare(struct spawn *s, uint32_t *step)
{
	int r;
	*step = BRIG_STEP_SPAWN;
	setsid();
	if (s->tty && ioctl(s->fd[0], TIOCSCTTY, 0) < 0)
		return -errno;
	r = child_stdio(s);
	if (r < 0)
		return r;
	umask(022);
	signal(SIGPIPE, SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	*step = BRIG_STEP_USER;
	r = creds_become(&s->creds);
	if (r < 0)
		return r;
	*step = BRIG_STEP_CWD;
	r = child_chdir(s);
	if (r < 0)
		return r;
	*step = BRIG_STEP_SPAWN;
	r = child_gate(s);
	if (r < 0)
		return r;
	*step = BRIG_STEP_EXEC;
	return exec_search(s);
}

static int child_main(void *arg)
{
	struct spawn *s = arg;
	int report = s->report_fd;
	struct spawn_result res;
	res.err = -child_prepare(s, &res.step);
	s->result = res;
	if (report >= 0) {
		ssize_t r = write(report, &res, sizeof(res));
		(void)r; /* nobody left to tell */
	}
	_exit(127);
}

static void oom_prefer(pid_t pid)
{
	char path[48];
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	fd_spew_at(AT_FDCWD, path, COMMAND_OOM_SCORE_ADJ);
}

static int spawn_clone(struct spawn *s, int flags)
{
	char stack[CHILD_STACK] __attribute__((aligned(16)));
	s->pid = clone(child_main, stack + sizeof(stack), flags | SIGCHLD, s);
	return s->pid < 0 ? -errno : 0;
}

int spawn_start(struct agent *a, struct spawn *s)
{
	bool share = MAY_SHARE_MEMORY && !a->has_spawned;
	int fds[3] = { s->fd[0], s->fd[1], s->fd[2] };
	int pipefd[2] = { -1, -1 };
	s->result = (struct spawn_result){ 0 };
	s->report_fd = -1;
	char word;
	if (a->gate >= 0 && recv(a->gate, &word, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
		fd_close(&a->gate);
	s->gate = a->gate;
	if (!share) {
		if (pipe2(pipefd, O_CLOEXEC) < 0)
			return -errno;
		s->report_fd = pipefd[1];
	}
	int r = spawn_clone(s, share ? CLONE_VM | CLONE_VFORK : 0);
	memcpy(s->fd, fds, sizeof(fds));
	fd_close(&pipefd[1]);
	s->report_fd = pipefd[0];
	if (r < 0) {
		fd_close(&s->report_fd);
		return r;
	}
	a->has_spawned = true;
	if (share && s->creds.uid != a->self.own.uid)
		creds_restore_dumpable(&a->self);
	oom_prefer(s->pid);
	return 0;
}

struct spawn_result spawn_report(int *report_fd)
{
	struct spawn_result res = { 0 };
	/* End of file without a word: the exec closed the pipe, or the child was killed, which its
	 * exit status will tell. */
	ssize_t n = fd_read_full(*report_fd, &res, sizeof(res));
	if (n != sizeof(res))
		res = (struct spawn_result){ 0 };
	fd_close(report_fd);
	return res;
}
