/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A process forked from the agent, with its credentials and nothing else open, that serves one
 * brig-sudo from its request to the end of its command. It may block: everything it waits for
 * belongs to the one who asked. It is not traceable by commands for the same reason as the agent
 * (caps.h).
 *
 * The command leads a session of its own without a controlling terminal, though its stdio may be
 * the caller's: reading, writing and the window size work, signals of the keyboard reach the
 * caller's group and are relayed by brig-sudo, job control inside the command does not work, and
 * /dev/tty cannot be opened.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core.h"
#include "agent/spawn.h"
#include "agent/sudo.h"
#include "agent/sudo_proto.h"
#include "base/fd.h"

/* For the request, from the moment of the connection. */
#define REQUEST_SECONDS 2

struct request {
	struct sudo_request h;
	const char *user, *cwd, *file;
	struct spawn_args args;
};

static int reply(int conn, enum sudo_answer answer, int err, uint32_t step, int status)
{
	struct sudo_reply m = {
		.answer = answer, .err = err, .step = step, .status = (uint32_t)status
	};
	return fd_send(conn, &m, sizeof(m), NULL, 0);
}

static bool is_allowed(const struct ucred *peer)
{
	char spec[16];
	struct user u;
	if (peer->uid == 0)
		return true;
	snprintf(spec, sizeof(spec), "%u", peer->uid);
	if (user_lookup(spec, &u) < 0 || u.uid != peer->uid || u.name[0] == '\0')
		return false;
	return user_in_group(&u, "sudo") || users_file_lists(SUDO_USERS_FILE, u.name);
}

static char *next_string(const uint8_t **at, const uint8_t *end)
{
	return (char *)(uintptr_t)frame_str(at, end);
}

static int request_parse(const uint8_t *p, size_t n, struct request *q)
{
	const uint8_t *at = p + sizeof(q->h), *end = p + n;
	if (n < sizeof(q->h))
		return -EPROTO;
	memcpy(&q->h, p, sizeof(q->h));
	if (q->h.magic != SUDO_MAGIC || (q->h.flags & ~SUDO_F_VALIDATE) ||
	    q->h.argc > SUDO_STRINGS_MAX || q->h.envc > SUDO_STRINGS_MAX)
		return -EPROTO;
	if (q->h.flags & SUDO_F_VALIDATE)
		return 0;
	q->user = frame_str(&at, end);
	q->cwd = q->user ? frame_str(&at, end) : NULL;
	q->file = q->cwd ? frame_str(&at, end) : NULL;
	if (!q->file || q->h.argc < 1)
		return -EPROTO;
	if (spawn_args_init(&q->args, q->h.argc, q->h.envc) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < q->h.argc; i++)
		if (!(q->args.argv[i] = next_string(&at, end)))
			return -EPROTO;
	for (uint32_t i = 0; i < q->h.envc; i++) {
		char *text = next_string(&at, end);
		if (!text || !strchr(text, '='))
			return -EPROTO;
		spawn_env_add(&q->args, text);
	}
	return at == end ? 0 : -EPROTO;
}

static void signal_relay(int conn, pid_t group, bool *ret_gone)
{
	struct sudo_signal m;
	ssize_t n = fd_recv(conn, &m, sizeof(m), NULL, NULL, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return;
	if (n != sizeof(m) || m.sig < 1 || m.sig > 64) {
		*ret_gone = true;
		return;
	}
	kill(-group, (int)m.sig);
}

/* Until the command has ended; its wait status. */
static int command_attend(int conn, int sigfd, pid_t pid)
{
	struct pollfd p[2] = { { .fd = conn, .events = POLLIN },
			       { .fd = sigfd, .events = POLLIN } };
	struct signalfd_siginfo si;
	int status;
	for (;;) {
		/* Children of a command that died come to the agent, not here. */
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			kill(-pid, SIGKILL);
		if (p[1].revents && read(sigfd, &si, sizeof(si)) < 0 && errno != EINTR &&
		    errno != EAGAIN)
			kill(-pid, SIGKILL);
		bool gone = false;
		if (p[0].revents)
			signal_relay(conn, pid, &gone);
		if (gone) {
			kill(-pid, SIGKILL);
			p[0].fd = -1;
		}
	}
}

static int command_run(struct agent *a, int conn, struct request *q, const int fds[3])
{
	struct user u;
	sigset_t chld;
	int r = user_lookup(q->user, &u);
	if (r < 0)
		return reply(conn, SUDO_REFUSED, -r, BRIG_STEP_USER, 0);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	AUTO_FD sigfd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	struct spawn s = {
		.args = &q->args,
		.file = q->file[0] ? q->file : NULL,
		.cwd = q->cwd,
		.home = u.home,
		.fd = { fds[0], fds[1], fds[2] },
	};
	creds_of(&u, &s.creds);
	r = sigfd < 0 ? -errno : spawn_start(a, &s);
	if (r < 0)
		return reply(conn, SUDO_REFUSED, -r, BRIG_STEP_SPAWN, 0);
	if (s.report_fd >= 0)
		s.result = spawn_report(&s.report_fd);
	if (s.result.err)
		return reply(conn, SUDO_REFUSED, s.result.err, s.result.step, 0);
	/* The command has them; what is closed here shows it the ends of its pipes. */
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	reply(conn, SUDO_STARTED, 0, 0, 0);
	int status = command_attend(conn, sigfd, s.pid);
	return reply(conn, SUDO_EXITED, 0, 0, status);
}

int sudo_monitor(struct agent *a, int conn, const struct ucred *peer)
{
	struct timeval patience = { .tv_sec = REQUEST_SECONDS };
	AUTO_FREE uint8_t *buf = malloc(SUDO_REQUEST_MAX);
	struct request q = { 0 };
	int fds[3];
	unsigned nfds = 3;
	if (!buf || setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return 1;
	ssize_t n = fd_recv(conn, buf, SUDO_REQUEST_MAX, fds, &nfds, 0);
	if (n <= 0)
		return 1;
	int r = request_parse(buf, (size_t)n, &q);
	if (r == 0 && nfds != 3)
		r = -EPROTO;
	if (r == 0 && !is_allowed(peer))
		r = -EPERM;
	if (r < 0)
		r = reply(conn, SUDO_REFUSED, -r, 0, 0);
	else if (q.h.flags & SUDO_F_VALIDATE)
		r = reply(conn, SUDO_EXITED, 0, 0, 0);
	else
		r = command_run(a, conn, &q, fds);
	spawn_args_done(&q.args);
	return r < 0;
}
