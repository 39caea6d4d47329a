/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in `brig` and in `brig serve`. A server is two processes, brigd and brig-jaild, joined by a
 * socket pair that is made here; neither knows how it was started. They get their descriptors by
 * number (3: the link; brigd 4: the client or the listening socket, then the door to brig-api, the ledger and
 * the control socket of brig-egress; jaild 4: where the link to the next brigd comes from, then where it
 * hands out what brig-egress needs), /dev/null as standard input and output, and a session of their own.
 *
 * A private server must be fast, because it is the price of every `brig run` on a machine without a
 * server: both daemons are started before anything is waited for, and forked rather than executed where
 * main.c has named their functions (server_link; not when BRIG_LIBEXEC asks for certain programs).
 * Their standard error is a file
 * in memory: a pipe or the terminal would be held open by daemons that are still cleaning up after
 * brig has returned, and `out=$(brig run ...)` would wait for them.
 *
 * The folder of the socket is checked before anything is sent: in /tmp another user could have made
 * it first, and a request carries open descriptors and standard input.
 */
#include "cli/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/client_proto.h"
#include "cli/spawn.h"

int server_socket_path(const char *given, char ret[SERVER_PATH_MAX], struct brig_err *err)
{
	const char *env = getenv("BRIG_SOCKET"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;
	if (given || (env && env[0]))
		n = snprintf(ret, SERVER_PATH_MAX, "%s", given ? given : env);
	else if (geteuid() == 0)
		n = snprintf(ret, SERVER_PATH_MAX, "%s", BRIG_SOCKET_ROOT);
	else if (xdg && xdg[0] == '/')
		n = snprintf(ret, SERVER_PATH_MAX, "%s/brig/brigd.sock", xdg);
	else
		n = snprintf(ret, SERVER_PATH_MAX, "/tmp/brig-%u/brigd.sock", (unsigned)geteuid());
	if (n <= 0 || (size_t)n >= SERVER_PATH_MAX) {
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "the path of the server's socket is not 1 to %zu bytes long",
			     SERVER_PATH_MAX - 1);
		return brig_fix(err, "set BRIG_SOCKET to a shorter path");
	}
	return 0;
}

int server_open_dir(const char *socket_path, bool make, struct brig_err *err)
{
	char dir[SERVER_PATH_MAX];
	struct stat st;
	strcpy(dir, socket_path);
	char *slash = strrchr(dir, '/');
	if (!slash)
		strcpy(dir, ".");
	else
		slash[slash == dir] = '\0';
	if (make && mkdir(dir, geteuid() == 0 ? 0711 : 0700) < 0 && errno != EEXIST) {
		brig_err_set(err, BRIG_E_UNAVAILABLE, errno, "make the server's folder '%s'", dir);
		return brig_fix(err, "make it by hand, or name another socket in BRIG_SOCKET");
	}
	AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, errno == ENOENT ? BRIG_E_NOT_FOUND : BRIG_E_UNAVAILABLE,
				 errno, "open the server's folder '%s'", dir);
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & 022)) {
		brig_err_set(err, BRIG_E_DENIED, 0,
			     "the server's folder '%s' can be changed by other users", dir);
		return brig_fix(err,
				"give it to yourself with mode 0700, or name another socket in "
				"BRIG_SOCKET");
	}
	return fd_steal(&fd);
}

int server_data_dir(const char *given, char *ret, size_t cap, struct brig_err *err)
{
	const char *env = getenv("BRIG_DATA"), *xdg = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	int n = -1;
	if (given || (env && env[0]))
		n = snprintf(ret, cap, "%s", given ? given : env);
	else if (geteuid() == 0)
		n = snprintf(ret, cap, "/var/lib/brig");
	else if (xdg && xdg[0] == '/')
		n = snprintf(ret, cap, "%s/brig", xdg);
	else if (home && home[0] == '/')
		n = snprintf(ret, cap, "%s/.local/share/brig", home);
	if (n > 0 && (size_t)n < cap)
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "there is no usable name for the data folder");
	return brig_fix(err, "set BRIG_DATA to an absolute path");
}

static int peer_check(int fd, const char *path, struct brig_err *err)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "ask who listens on '%s'", path);
	if (peer.uid != 0 && peer.uid != geteuid()) {
		brig_err_set(err, BRIG_E_DENIED, 0, "the server on '%s' belongs to user %u", path,
			     (unsigned)peer.uid);
		return brig_fix(err, "name your own server's socket in BRIG_SOCKET");
	}
	return 0;
}

int server_connect(struct brig_err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	if (server_socket_path(NULL, addr.sun_path, err) < 0)
		return -1;
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "open a socket");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int sys = errno;
		if (sys == ENOENT || sys == ENOTDIR || sys == ECONNREFUSED)
			return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no server is running");
		brig_err_set(err, sys == EACCES ? BRIG_E_DENIED : BRIG_E_UNAVAILABLE, sys,
			     "connect to the server on '%s'", addr.sun_path);
		return brig_fix(err, "check who owns that path, or name another in BRIG_SOCKET");
	}
	return peer_check(fd, addr.sun_path, err) < 0 ? -1 : fd_steal(&fd);
}

static struct server_mains linked;

void server_link(const struct server_mains *mains)
{
	linked = *mains;
}

/* main: what to call in a fork; NULL: the program is executed. */
static int start_one(const char *dir, const char *program, daemon_main *main, const char **argv,
		     char **envp, const int *fds, unsigned nfds, pid_t *ret, struct brig_err *err)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", dir, program);
	if (n < 0 || (size_t)n >= sizeof(path))
		return brig_fail(err, BRIG_E_INVALID, ENAMETOOLONG, "start '%s'", program);
	struct spawn s = {
		.path = path, .main = main, .argv = argv, .envp = envp, .nfds = nfds, .session = true
	};
	memcpy(s.fds, fds, nfds * sizeof(*fds));
	return spawn_start(&s, ret, err);
}

/* A resident server's daemons are programs of their own: nobody waits for their start, and they outlive the
 * memory image of whoever started them. */
static struct server_mains forked_mains(const struct server_daemons *d)
{
	const char *libexec = secure_getenv("BRIG_LIBEXEC");
	if (d->client >= 0 && !(libexec && libexec[0]))
		return linked;
	return (struct server_mains){ NULL, NULL };
}

static int start_jaild(const struct server_daemons *d, const char *dir, char **envp, int null, int link,
		       pid_t *ret, struct brig_err *err)
{
	char agent[PATH_MAX + 16];
	snprintf(agent, sizeof(agent), "%s/brig-agent", dir);
	/* --once: no stock of prepared sandboxes for a server that serves one command. */
	const char *argv[19] = { "brig-jaild", "--broker-fd", "3", "--agent", agent, "--data", d->data };
	int fds[6] = { null, null, d->log, link };
	unsigned n = 7, nfds = 4;
	if (d->client >= 0) {
		argv[n++] = "--once";
		argv[n++] = "--tier";
		argv[n++] = d->tier;
	} else {
		argv[n++] = "--control-fd";
		argv[n++] = "4";
		fds[nfds++] = d->control;
	}
	if (d->resume)
		argv[n++] = "--resume";
	if (d->net >= 0) {
		argv[n++] = "--net-fd";
		argv[n++] = nfds == 4 ? "4" : "5";
		fds[nfds++] = d->net;
	}
	const char *kernel = d->guest_kernel ? d->guest_kernel : getenv("BRIG_GUEST_KERNEL");
	if (kernel && kernel[0]) {
		argv[n++] = "--guest-kernel";
		argv[n++] = kernel;
	}
	argv[n] = NULL;
	return start_one(dir, "brig-jaild", forked_mains(d).jaild, argv, envp, fds, nfds, ret, err);
}

#define EXTRA_MAX 160
static int start_brigd(const struct server_daemons *d, const char *dir, char **envp, int null, int link,
		       pid_t *ret, struct brig_err *err)
{
	const char *argv[EXTRA_MAX + 16];
	char number[4][4];
	int fds[9] = { null, null, d->log, link, d->client >= 0 ? d->client : d->listen };
	unsigned nfds = 5;
	size_t n = 0;
	argv[n++] = "brigd";
	argv[n++] = "--jail-fd";
	argv[n++] = "3";
	argv[n++] = d->client >= 0 ? "--client-fd" : "--listen-fd";
	argv[n++] = "4";
	argv[n++] = "--data";
	argv[n++] = d->data;
	const struct {
		const char *flag;
		int fd;
	} more[] = { { "--door-fd", d->door },
		     { "--ledger-fd", d->ledger },
		     { "--egress-fd", d->egress },
		     { "--rejoin-fd", d->rejoin } };
	for (unsigned i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		if (more[i].fd < 0)
			continue;
		snprintf(number[i], sizeof(number[i]), "%u", nfds);
		fds[nfds++] = more[i].fd;
		argv[n++] = more[i].flag;
		argv[n++] = number[i];
	}
	for (size_t i = 0; d->extra && d->extra[i] && i < EXTRA_MAX; i++)
		argv[n++] = d->extra[i];
	argv[n] = NULL;
	return start_one(dir, "brigd", forked_mains(d).brigd, argv, envp, fds, nfds, ret, err);
}

/* What both start with. */
static int prepare(char dir[PATH_MAX], char ***ret_envp, int *ret_null, struct brig_err *err)
{
	if (spawn_dir(dir, err) < 0)
		return -1;
	*ret_envp = spawn_environ();
	*ret_null = open("/dev/null", O_RDWR | O_CLOEXEC);
	return *ret_envp && *ret_null >= 0 ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a server");
}

int server_start_jaild(const struct server_daemons *d, int link, struct server *ret, struct brig_err *err)
{
	char dir[PATH_MAX];
	AUTO_FREE char **envp = NULL;
	AUTO_FD null = -1;
	if (prepare(dir, &envp, &null, err) < 0)
		return -1;
	return start_jaild(d, dir, envp, null, link, &ret->jaild, err);
}

int server_start_brigd(const struct server_daemons *d, int link, struct server *ret, struct brig_err *err)
{
	char dir[PATH_MAX];
	AUTO_FREE char **envp = NULL;
	AUTO_FD null = -1;
	if (prepare(dir, &envp, &null, err) < 0)
		return -1;
	return start_brigd(d, dir, envp, null, link, &ret->brigd, err);
}

/* jaild first: its preparations are the longer ones. If brigd then fails the link is closed on return, and
 * jaild ends by itself. */
static int start_both(const struct server_daemons *d, struct server *ret, struct brig_err *err)
{
	struct server s = SERVER_NONE;
	int link[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a server");
	AUTO_FD link_brigd = link[0];
	AUTO_FD link_jaild = link[1];
	if (server_start_jaild(d, link_jaild, &s, err) < 0 || server_start_brigd(d, link_brigd, &s, err) < 0)
		return -1;
	ret->brigd = s.brigd;
	ret->jaild = s.jaild;
	return 0;
}

int server_start_private(struct server *ret, bool net, const char *tier, struct brig_err *err)
{
	char data[PATH_MAX];
	int client[2];
	if (server_data_dir(NULL, data, sizeof(data), err) < 0)
		return -1;
	AUTO_FD log = memfd_create("brig-log", MFD_CLOEXEC);
	if (log < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a private server");
	AUTO_FD mine = client[0];
	AUTO_FD theirs = client[1];
	/* Two writers share one offset; with O_APPEND neither overwrites the other. */
	(void)fcntl(log, F_SETFL, O_APPEND);
	AUTO_FD to_brigd = -1;
	AUTO_FD to_jaild = -1;
	ret->egress.log = log;
	if (net && egressproc_open(&ret->egress, &to_brigd, &to_jaild, err) < 0)
		return -1;
	struct server_daemons d = { .data = data,
				    .tier = tier ? tier : "container",
				    .client = theirs,
				    .listen = -1,
				    .log = log,
				    .door = -1,
				    .control = -1,
				    .rejoin = -1,
				    .ledger = -1,
				    .egress = to_brigd,
				    .net = to_jaild };
	if (start_both(&d, ret, err) < 0) {
		egressproc_leave(&ret->egress);
		return -1;
	}
	ret->log = fd_steal(&log);
	fd_close(&to_brigd);
	fd_close(&to_jaild);
	if (net)
		egressproc_await(&ret->egress);
	/* It ends when brigd does, which must be the only one that has the other end. */
	egressproc_leave(&ret->egress);
	return fd_steal(&mine);
}

/* Of brig-jaild or what it started. What brigd says when one of these is gone is a consequence, and
 * whether it comes before or after their own line is chance. */
static bool line_of_jail(const char *line)
{
	return strncmp(line, "brig-", 5) == 0;
}

int server_last_words(const struct server *s, struct server_words *ret)
{
	static const char remedy[] = "  remedy: ";
	char text[4096];
	off_t end = s->log >= 0 ? lseek(s->log, 0, SEEK_END) : 0;
	off_t from = end > (off_t)sizeof(text) - 1 ? end - ((off_t)sizeof(text) - 1) : 0;
	ssize_t n = end > 0 ? pread(s->log, text, sizeof(text) - 1, from) : 0;
	const char *best = NULL, *fix = NULL, *last = NULL;
	char *rest = text;
	*ret = (struct server_words){ "", "" };
	if (n <= 0)
		return 0;
	text[n] = '\0';
	for (const char *line; (line = strsep(&rest, "\n"));) {
		if (strncmp(line, remedy, sizeof(remedy) - 1) == 0) {
			if (best && last == best)
				fix = line + sizeof(remedy) - 1;
		} else if (line[0] && (!best || !line_of_jail(best))) {
			best = line;
			fix = NULL;
		}
		last = line;
	}
	if (best)
		snprintf(ret->line, sizeof(ret->line), "%s", best);
	if (fix)
		snprintf(ret->remedy, sizeof(ret->remedy), "%s", fix);
	return best != NULL;
}

void server_post_mortem(struct server *s)
{
	int status;
	uint64_t deadline = clock_now() + 2 * SEC_NS;
	if (!s->brigd)
		return;
	/* jaild removes everything when its link ends; what it could not is gc's. */
	(void)spawn_wait(s->brigd, deadline, &status);
	(void)spawn_wait(s->jaild, deadline, &status);
	if (s->egress.pid)
		(void)spawn_wait(s->egress.pid, deadline, &status);
	s->brigd = s->jaild = s->egress.pid = 0;
	spawn_gc(2000);
}

void server_done(struct server *s)
{
	fd_close(&s->log);
}

/* `brig serve` in a session of its own, not a child of this process when it returns. *ret_ready is
 * the end of a pipe: a byte comes when it listens, end of file if it gave up. */
static int background_start(const char *path, int *ret_ready, struct brig_err *err)
{
	/* What serves the network is started by somebody, not by the way. */
	static const char *const argv[] = { "brig",	 "serve",	"--background",
					    "--no-http", "--idle-exit", "30s",
					    NULL };
	char self[PATH_MAX];
	int ends[2], status;
	pid_t pid;
	AUTO_FREE char **envp = spawn_environ();
	AUTO_FD dir = server_open_dir(path, true, err);
	if (dir < 0 || spawn_self(self, err) < 0)
		return -1;
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_FD log = openat(dir, "brigd.log",
			     O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (!envp || null < 0 || log < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "prepare a background server");
	AUTO_FD in = ends[0];
	AUTO_FD out = ends[1];
	struct spawn s = { .path = self,
			   .argv = argv,
			   .envp = envp,
			   .fds = { null, null, log, out },
			   .nfds = 4,
			   .session = true };
	if (spawn_start(&s, &pid, err) < 0)
		return -1;
	/* It forks again and its first process ends at once, so that nobody has to wait for it. */
	if (spawn_wait(pid, clock_now() + 5 * SEC_NS, &status) != 1)
		return brig_fail(err, BRIG_E_UNAVAILABLE, 0,
				 "the background server does not start");
	*ret_ready = fd_steal(&in);
	return 0;
}

static void nap_ms(unsigned ms)
{
	struct timespec ts = { .tv_nsec = (long)ms * 1000000 };
	nanosleep(&ts, NULL);
}

int server_connect_background(struct brig_err *err)
{
	char path[SERVER_PATH_MAX], byte;
	uint64_t deadline = clock_now() + 10 * SEC_NS;
	if (server_socket_path(NULL, path, err) < 0)
		return -1;
	for (;;) {
		int fd = server_connect(err);
		if (fd >= 0 || err->code != BRIG_E_NOT_FOUND)
			return fd;
		if (clock_now() > deadline)
			break;
		AUTO_FD ready = -1;
		if (background_start(path, &ready, err) < 0)
			return -1;
		/* End of file without a byte: somebody else's server won the race for the lock and
		 * is about to listen, or it failed and said so in the log. */
		if (fd_read_full(ready, &byte, 1) != 1)
			nap_ms(20);
	}
	brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "the background server does not come up");
	return brig_fix(err,
			"read brigd.log in the folder of '%.96s', or run `brig serve` to see why",
			path);
}
