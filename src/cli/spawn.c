/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in the caller's own context and with no privilege of its own; the programs started are
 * brig's and decide for themselves what they drop. posix_spawn() is used because it shares the
 * address space until exec and because it reports a failed exec to the caller.
 *
 * A private server is the exception: `brig run` waits for its daemons, and of the time until a static
 * program reaches main() most goes to exec, to the faults of a fresh image and, in a virtual machine,
 * to the exits of the CPUID instructions of libc's start. Their main functions are linked into
 * `brig` as well and called in a fork. What the daemon must not have of the caller is taken away
 * before: descriptors, the variables that spawn_environ() leaves out (from memory, too), the
 * arguments, which name the command and are replaced by the daemon's own.
 */
#include "cli/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/calls.h"
#include "base/clock.h"
#include "base/fd.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int spawn_self(char ret[PATH_MAX], struct brig_err *err)
{
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	if (n < 0) {
		brig_err_set(err, BRIG_E_UNSUPPORTED, errno, "find out where brig is installed");
		return brig_fix(err, "mount /proc, or set BRIG_LIBEXEC to the folder of brigd");
	}
	ret[n] = '\0';
	return 0;
}

static bool has_program(const char *dir, const char *program)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", dir, program);
	return n > 0 && (size_t)n < sizeof(path) && access(path, X_OK) == 0;
}

static int find_dir(const char *program, char ret[PATH_MAX], struct brig_err *err)
{
	const char *env = secure_getenv("BRIG_LIBEXEC");
	char self[PATH_MAX];
	if (env && env[0]) {
		if (strlen(env) < PATH_MAX && has_program(env, program)) {
			strcpy(ret, env);
			return 0;
		}
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "'%s' is not in '%.256s' (BRIG_LIBEXEC)",
			     program, env);
		return brig_fix(err, "correct or unset BRIG_LIBEXEC");
	}
	if (spawn_self(self, err) < 0)
		return -1;
	char *slash = strrchr(self, '/');
	*(slash ? slash : self) = '\0';
	if (has_program(self, program)) {
		strcpy(ret, self);
		return 0;
	}
	int n = snprintf(ret, PATH_MAX, "%s/../libexec/brig", self);
	if (n > 0 && n < PATH_MAX && has_program(ret, program))
		return 0;
	brig_err_set(err, BRIG_E_NOT_FOUND, 0, "'%s' is neither in '%.160s' nor in '%.160s'",
		     program, self, ret);
	return brig_fix(err, "install brig completely, or set BRIG_LIBEXEC to the folder of brigd");
}

int spawn_dir(char ret[PATH_MAX], struct brig_err *err)
{
	return find_dir("brig-jaild", ret, err);
}

int spawn_find(const char *program, char ret[PATH_MAX], struct brig_err *err)
{
	char dir[PATH_MAX];
	if (find_dir(program, dir, err) < 0)
		return -1;
	int n = snprintf(ret, PATH_MAX, "%s/%s", dir, program);
	if (n < 0 || n >= PATH_MAX)
		return brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "find '%s'", program);
	return 0;
}

char **spawn_environ(void)
{
	static const char *const kept[] = {
		"PATH=", "HOME=", "TZ=", "BRIG_", "XDG_",
#ifdef __SANITIZE_ADDRESS__
		/* Or a daemon, which may not be traced, fails at its end in the search for leaks. */
		"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=",
#endif
	};
	/* The client's own, though it begins like a setting. */
	static const char key[] = "BRIG_API_KEY=";
	size_t n = 0, at = 0;
	bool path = false;
	while (environ[n])
		n++;
	char **list = malloc((n + 2) * sizeof(*list));
	if (!list)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (strncmp(environ[i], key, sizeof(key) - 1) == 0)
			continue;
		for (size_t k = 0; k < sizeof(kept) / sizeof(kept[0]); k++) {
			if (strncmp(environ[i], kept[k], strlen(kept[k])) == 0) {
				list[at++] = environ[i];
				path = path || k == 0;
				break;
			}
		}
	}
	static char default_path[] = DEFAULT_PATH;
	if (!path)
		list[at++] = default_path;
	list[at] = NULL;
	return list;
}

/* dup2(fds[i], i) in order must not overwrite a descriptor that is still to be copied: such a one
 * is copied out of the way first. moved[] holds what is to be closed afterwards. */
static int untangle(const struct spawn *s, int fds[SPAWN_FDS_MAX], int moved[SPAWN_FDS_MAX])
{
	for (unsigned i = 0; i < s->nfds; i++) {
		fds[i] = s->fds[i];
		moved[i] = -1;
	}
	for (unsigned i = 0; i < s->nfds; i++) {
		if (fds[i] >= (int)i)
			continue;
		fds[i] = moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, SPAWN_FDS_MAX);
		if (fds[i] < 0)
			return -errno;
	}
	return 0;
}

/* Overwrites the strings that the kernel gave the process at its start, which /proc shows: the arguments
 * by argv, variables that are not in the list kept by zeroes. They lie one behind the other. */
static void forget_caller(const char *const *argv, char **kept)
{
	char *at = program_invocation_name, *end = environ[0] ? environ[0] : at + strlen(at);
	for (char **e = environ; *e; e++) {
		size_t i = 0;
		while (kept[i] && kept[i] != *e)
			i++;
		if (!kept[i])
			explicit_bzero(*e, strlen(*e));
	}
	if (end < at)
		return;
	memset(at, 0, (size_t)(end - at));
	for (size_t i = 0; argv[i]; i++) {
		size_t n = strlen(argv[i]) + 1;
		if (n >= (size_t)(end - at))
			break;
		memcpy(at, argv[i], n);
		at += n;
	}
}

static _Noreturn void fork_child(const struct spawn *s, const int fds[SPAWN_FDS_MAX])
{
	sigset_t none;
	int argc = 0;
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (s->session && setsid() < 0)
		_exit(126);
	for (unsigned i = 0; i < s->nfds; i++)
		if (fds[i] == (int)i ? fd_set_cloexec(fds[i], 0) < 0 : dup2(fds[i], (int)i) < 0)
			_exit(126);
	if (fd_close_from((int)s->nfds) < 0)
		_exit(126);
	while (s->argv[argc])
		argc++;
	prctl(PR_SET_NAME, s->argv[0]);
	if (s->envp) {
		forget_caller(s->argv, s->envp);
		environ = s->envp;
	}
	optind = 0; /* from the beginning again */
	int code = s->main(argc, (char **)(uintptr_t)s->argv);
	/* What stands in buffers of the caller is the caller's to write: no exit(). And no _exit(), before
	 * which AddressSanitizer asks for the signal stack; brigd's filter refuses that. */
	for (;;)
		syscall(SYS_exit_group, code);
}

static int spawn_fork(const struct spawn *s, const int fds[SPAWN_FDS_MAX], pid_t *ret_pid)
{
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		fork_child(s, fds);
	*ret_pid = pid;
	return 0;
}

static int spawn_call(const struct spawn *s, const int fds[SPAWN_FDS_MAX], pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r = posix_spawn_file_actions_init(&files);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r) {
		posix_spawn_file_actions_destroy(&files);
		return -r;
	}
	for (unsigned i = 0; i < s->nfds && !r; i++)
		r = posix_spawn_file_actions_adddup2(&files, fds[i], (int)i);
	/* The caller's own, which it may have been started with, stay open here and nowhere else. */
	if (call_cloexec_from(s->nfds) < 0 && !r)
		r = errno;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
		    (s->session ? POSIX_SPAWN_SETSID : 0);
	posix_spawnattr_setflags(&attr, (short)flags);
	if (!r)
		/* The strings are not written to; the prototype is older than const. */
		r = posix_spawn(ret_pid, s->path, &files, &attr, (char *const *)(uintptr_t)s->argv,
				s->envp ? s->envp : environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

int spawn_start(const struct spawn *s, pid_t *ret_pid, struct brig_err *err)
{
	int fds[SPAWN_FDS_MAX], moved[SPAWN_FDS_MAX];
	int r = untangle(s, fds, moved);
	if (r == 0)
		r = s->main ? spawn_fork(s, fds, ret_pid) : spawn_call(s, fds, ret_pid);
	for (unsigned i = 0; i < s->nfds; i++)
		fd_close(&moved[i]);
	if (r < 0) {
		brig_err_set(err, r == -ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_UNAVAILABLE, -r,
			     "start '%.256s'", s->path);
		return brig_fix(err,
				"install brig completely, or set BRIG_LIBEXEC to the folder of "
				"brigd");
	}
	return 0;
}

int spawn_wait(pid_t pid, uint64_t deadline, int *ret_status)
{
	AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
	if (pidfd < 0)
		return -errno;
	for (;;) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		uint64_t now = clock_now();
		int ms = -1;
		if (deadline)
			ms = now >= deadline ? 0 : (int)((deadline - now + MS_NS - 1) / MS_NS);
		int r = poll(&p, 1, ms);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : 0;
		return waitpid(pid, ret_status, 0) == pid ? 1 : -errno;
	}
}

void spawn_gc(unsigned timeout_ms)
{
	static const char *const argv[] = { "brig-jaild", "--gc", NULL };
	char path[PATH_MAX];
	pid_t pid;
	int status;
	AUTO_FREE char **envp = spawn_environ();
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || !envp || spawn_find("brig-jaild", path, NULL) < 0)
		return;
	struct spawn s = { .path = path,
			   .argv = argv,
			   .envp = envp,
			   .fds = { null, null, null },
			   .nfds = 3,
			   .session = true };
	if (spawn_start(&s, &pid, NULL) == 0)
		(void)spawn_wait(pid, clock_now() + timeout_ms * MS_NS, &status);
}

static int read_all(int fd, size_t max, char **ret_text)
{
	size_t cap = 16384, n = 0;
	AUTO_FREE char *text = malloc(cap);
	for (;;) {
		if (!text)
			return -ENOMEM;
		ssize_t r = fd_read_full(fd, text + n, cap - 1 - n);
		if (r < 0)
			return (int)r;
		n += (size_t)r;
		if (n < cap - 1)
			break;
		if (cap >= max)
			return -EFBIG;
		cap *= 2;
		char *more = realloc(text, cap);
		if (!more)
			return -ENOMEM;
		text = more;
	}
	text[n] = '\0';
	*ret_text = text;
	text = NULL;
	return 0;
}

int spawn_capture(const char *program, const char *const *argv, size_t max, char **ret_text,
		  int *ret_status, struct brig_err *err)
{
	char path[PATH_MAX];
	int ends[2];
	pid_t pid;
	AUTO_FREE char *text = NULL;
	AUTO_FREE char **envp = spawn_environ();
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!envp || null < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "run '%s'", program);
	AUTO_FD in = ends[0];
	AUTO_FD out = ends[1];
	if (spawn_find(program, path, err) < 0)
		return -1;
	struct spawn s = {
		.path = path, .argv = argv, .envp = envp, .fds = { null, out, 2 }, .nfds = 3
	};
	if (spawn_start(&s, &pid, err) < 0)
		return -1;
	fd_close(&out);
	int r = read_all(in, max, &text);
	/* A child that still writes gets EPIPE instead of a reader that never comes. */
	fd_close(&in);
	if (spawn_wait(pid, 0, ret_status) != 1)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for '%s'", program);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "read what '%s' says", program);
	*ret_text = text;
	text = NULL;
	return 0;
}
