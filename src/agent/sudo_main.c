/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig-sudo takes sudo's place in a sandbox. It runs as whoever calls it and needs no privilege: it
 * puts together what sudo would run, hands that and its own stdio to the agent, relays signals, and
 * ends as the command ends. Whether it may is the agent's decision (sudo_proto.h); whoever may, may
 * do anything as root, so that the environment can be made here.
 *
 * The environment is sudo's default: a fresh one with TERM, the locale and the window size kept, or
 * with -E all of it. PATH is always the secure one. Not there: passwords, a sudoers language, -l,
 * -b, -e, I/O logging. Job control: stopping stops the command and then brig-sudo.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/sudo_args.h"
#include "agent/sudo_proto.h"
#include "agent/users.h"
#include "base/buf.h"
#include "base/fd.h"
#include "brig/agent_proto.h"

extern char **environ;

#define SECURE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char usage[] =
	"usage: sudo [-EHnSk] [-u USER] [-g GROUP] [-D DIR] [VAR=value ...] COMMAND [ARG ...]\n"
	"       sudo [-EHnSk] [-u USER] [-g GROUP] -i|-s [COMMAND [ARG ...]]\n"
	"       sudo -v | -k | -K | -V | -h\n";

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "sudo: %s%s%s\n", what, why ? ": " : "", why ? why : "");
	return -1;
}

/* ---- the request ---- */

struct build {
	struct buf b;
	struct sudo_request h;
	int failed;
};

static void put(struct build *q, const char *text)
{
	if (buf_add_str(&q->b, text) < 0)
		q->failed = 1;
}

static void put_arg(struct build *q, const char *text)
{
	put(q, text);
	q->h.argc++;
}

static void put_env(struct build *q, const char *name, const char *value)
{
	if (buf_add(&q->b, name, strlen(name)) < 0 || buf_add(&q->b, "=", 1) < 0)
		q->failed = 1;
	put(q, value);
	q->h.envc++;
}

static int in_list(const char *list, const char *name, size_t n)
{
	while (list && *list) {
		size_t k = strcspn(list, ",");
		if (k == n && memcmp(list, name, n) == 0)
			return 1;
		list += k + (list[k] == ',');
	}
	return 0;
}

/* Variables that are never taken over: made by us, or by the command line. */
static int is_ours(const struct sudo_args *a, const char *name, size_t n, int keep_home)
{
	static const char made[] =
		"PATH,USER,LOGNAME,SHELL,SUDO_USER,SUDO_UID,SUDO_GID,SUDO_COMMAND";
	for (size_t i = 0; i < a->nassign; i++)
		if (strncmp(a->assign[i], name, n) == 0 && a->assign[i][n] == '=')
			return 1;
	return in_list(made, name, n) || (!keep_home && in_list("HOME", name, n));
}

static int is_kept(const struct sudo_args *a, const char *name, size_t n)
{
	static const char kept[] =
		"TERM,COLORTERM,LANG,LANGUAGE,TZ,DISPLAY,XAUTHORITY,COLUMNS,LINES,"
		"LS_COLORS,PS1,PS2";
	if (a->login)
		return in_list("TERM,COLORTERM", name, n) || in_list(a->preserve_list, name, n);
	return a->preserve || in_list(kept, name, n) || strncmp(name, "LC_", 3) == 0 ||
	       in_list(a->preserve_list, name, n);
}

static int assigned(const struct sudo_args *a, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < a->nassign; i++)
		if (strncmp(a->assign[i], name, n) == 0 && a->assign[i][n] == '=')
			return 1;
	return 0;
}

static void put_default(struct build *q, const struct sudo_args *a, const char *name,
			const char *value)
{
	if (!assigned(a, name))
		put_env(q, name, value);
}

static void put_environment(struct build *q, const struct sudo_args *a, const struct user *target,
			    const char *command)
{
	struct user self;
	char number[16];
	int keep_home = a->preserve && !a->set_home && !a->login && getenv("HOME");
	for (char **e = environ; *e; e++) {
		size_t n = strcspn(*e, "=");
		if ((*e)[n] != '=' || is_ours(a, *e, n, keep_home) || !is_kept(a, *e, n))
			continue;
		put(q, *e);
		q->h.envc++;
	}
	put_default(q, a, "PATH", SECURE_PATH);
	if (!keep_home)
		put_default(q, a, "HOME", target->home);
	put_default(q, a, "USER", target->name);
	put_default(q, a, "LOGNAME", target->name);
	put_default(q, a, "SHELL", target->shell);
	snprintf(number, sizeof(number), "%u", getuid());
	if (user_lookup(number, &self) == 0)
		put_default(q, a, "SUDO_USER", self.name[0] ? self.name : number);
	put_default(q, a, "SUDO_UID", number);
	snprintf(number, sizeof(number), "%u", getgid());
	put_default(q, a, "SUDO_GID", number);
	put_default(q, a, "SUDO_COMMAND", command);
	for (size_t i = 0; i < a->nassign; i++) {
		put(q, a->assign[i]);
		q->h.envc++;
	}
}

/* file, argv. Returns what SUDO_COMMAND is to say. */
static const char *put_command(struct build *q, const struct sudo_args *a,
			       const struct user *target)
{
	const char *env_shell = getenv("SHELL");
	const char *shell =
		a->shell && env_shell && env_shell[0] == '/' ? env_shell : target->shell;
	if (!a->shell && !a->login) {
		put(q, "");
		for (char **w = a->command; *w; w++)
			put_arg(q, *w);
		return a->command[0];
	}
	put(q, shell);
	if (a->login) {
		/* A shell is a login shell if its name begins with a dash. */
		char name[sizeof(target->shell) + 1];
		const char *slash = strrchr(shell, '/');
		snprintf(name, sizeof(name), "-%s", slash ? slash + 1 : shell);
		put_arg(q, name);
	} else {
		put_arg(q, shell);
	}
	if (a->command[0]) {
		AUTO_FREE char *text = sudo_shell_quote(a->command);
		put_arg(q, "-c");
		put_arg(q, text ? text : "");
		q->failed |= !text;
	}
	return shell;
}

static int request_build(struct build *q, const struct sudo_args *a)
{
	char spec[2 * USER_NAME_MAX + 2], cwd[4096];
	struct user target;
	/* "#1000" is sudo's way to write a number. */
	const char *user = a->user ? a->user + (a->user[0] == '#') : "root";
	const char *group = a->group ? a->group + (a->group[0] == '#') : NULL;
	int n = snprintf(spec, sizeof(spec), "%s%s%s", user, group ? ":" : "", group ? group : "");
	if (user[0] == '\0' || n < 0 || (size_t)n >= sizeof(spec))
		return complain("no such user", user);
	if (user_lookup(strcmp(spec, "root") == 0 ? "" : spec, &target) < 0)
		return complain("unknown user or group", spec);
	if (strcmp(spec, "root") == 0)
		spec[0] = '\0';
	if (!getcwd(cwd, sizeof(cwd)))
		snprintf(cwd, sizeof(cwd), "/");
	if (buf_add(&q->b, &q->h, sizeof(q->h)) < 0)
		q->failed = 1;
	put(q, spec);
	put(q, a->directory ? a->directory : a->login ? "" : cwd);
	const char *command = put_command(q, a, &target);
	put_environment(q, a, &target, command);
	if (q->failed || q->h.argc > SUDO_STRINGS_MAX || q->h.envc > SUDO_STRINGS_MAX)
		return complain("the arguments and the environment are too long", NULL);
	memcpy(buf_head(&q->b), &q->h, sizeof(q->h));
	return 0;
}

/* ---- the conversation ---- */

/* The agent listens when it has started its first command, which may be us. */
#define CONNECT_TRIES 50
#define CONNECT_PAUSE_NS 2000000

static int service_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t n = offsetof(struct sockaddr_un, sun_path) + sizeof(SUDO_SOCKET);
	memcpy(addr.sun_path + 1, SUDO_SOCKET, sizeof(SUDO_SOCKET) - 1);
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	for (int i = 0; fd >= 0 && i < CONNECT_TRIES; i++) {
		if (connect(fd, (const struct sockaddr *)&addr, n) == 0)
			return fd_steal(&fd);
		if (errno != ECONNREFUSED)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = CONNECT_PAUSE_NS }, NULL);
	}
	return complain("this sandbox offers no sudo", strerror(errno));
}

static int refused(const struct sudo_reply *m, const struct sudo_args *a)
{
	const char *command = a->command[0] ? a->command[0] : "shell";
	if (m->step == 0 && m->err == EPERM)
		complain("not allowed: the user is neither in the group sudo nor "
			 "in " SUDO_USERS_FILE,
			 NULL);
	else if (m->step == BRIG_STEP_EXEC && m->err == ENOENT)
		complain(command, "command not found");
	else if (m->step == BRIG_STEP_CWD)
		complain("cannot change to the directory", strerror(m->err));
	else
		complain(command, strerror(m->err));
	return 1;
}

/* Ends as the command ended: a shell that asks must see the same signal. */
static int end_like(int status)
{
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	int sig = WTERMSIG(status);
	sigset_t set;
	struct rlimit no_core = { 0 };
	setrlimit(RLIMIT_CORE, &no_core);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	return 128 + sig;
}

static const int relayed[] = { SIGHUP,	SIGINT,	 SIGQUIT, SIGTERM, SIGUSR1,
			       SIGUSR2, SIGALRM, SIGTSTP, SIGCONT, SIGWINCH };

static int signals_open(void)
{
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(relayed) / sizeof(relayed[0]); i++)
		sigaddset(&set, relayed[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void signal_relay(int conn, int sigfd)
{
	struct signalfd_siginfo si;
	if (read(sigfd, &si, sizeof(si)) != sizeof(si))
		return;
	/* The command leads a session of its own: by the rules of orphaned groups only SIGSTOP
	 * stops it. */
	struct sudo_signal m = { .sig = si.ssi_signo == SIGTSTP ? SIGSTOP : si.ssi_signo };
	fd_send(conn, &m, sizeof(m), NULL, 0);
	/* The caller's shell waits for us to stop, too. */
	if (si.ssi_signo == SIGTSTP)
		raise(SIGSTOP);
}

static int converse(int conn, const struct sudo_args *a)
{
	AUTO_FD sigfd = signals_open();
	bool started = false;
	if (sigfd < 0) {
		complain("signals", strerror(errno));
		return 1;
	}
	for (;;) {
		/* A signal waits until there is something to signal. */
		struct pollfd p[2] = { { .fd = conn, .events = POLLIN },
				       { .fd = started ? sigfd : -1, .events = POLLIN } };
		struct sudo_reply m;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 1;
		if (p[1].revents)
			signal_relay(conn, sigfd);
		if (!p[0].revents)
			continue;
		if (fd_recv(conn, &m, sizeof(m), NULL, NULL, 0) != sizeof(m)) {
			complain("the sandbox's agent ended the connection", NULL);
			return 1;
		}
		if (m.answer == SUDO_REFUSED)
			return refused(&m, a);
		if (m.answer == SUDO_EXITED)
			return end_like((int)m.status);
		started = true;
		/* Only the command holds them now: its end shows to who reads or feeds us. */
		close(0);
		close(1);
	}
}

int main(int argc, char **argv)
{
	struct sudo_args a;
	char err[256];
	struct build q = { .b = BUF_INIT(SUDO_REQUEST_MAX), .h = { .magic = SUDO_MAGIC } };
	static const int stdio[3] = { 0, 1, 2 };
	if (sudo_args_parse(argc, argv, &a, err, sizeof(err)) < 0) {
		complain(err, NULL);
		fputs(usage, stderr);
		return 1;
	}
	if (a.verb == SUDO_HELP || a.verb == SUDO_VERSION)
		return fputs(a.verb == SUDO_HELP ? usage : "sudo of brig\n", stdout) < 0;
	if (a.verb == SUDO_NOTHING)
		return 0;
	if (a.verb == SUDO_VALIDATE) {
		q.h.flags = SUDO_F_VALIDATE;
		if (buf_add(&q.b, &q.h, sizeof(q.h)) < 0)
			return complain("out of memory", NULL) < 0;
	} else if (request_build(&q, &a) < 0) {
		return 1;
	}
	AUTO_FD conn = service_connect();
	if (conn < 0)
		return 1;
	int r = fd_send(conn, buf_head(&q.b), buf_len(&q.b), stdio, 3);
	if (r < 0)
		return complain("ask the sandbox's agent", strerror(-r)) < 0;
	buf_done(&q.b);
	return converse(conn, &a);
}
