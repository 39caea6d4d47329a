/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sudo.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/core.h"
#include "agent/sudo_proto.h"
#include "base/fd.h"

/* Monitors at a time; one more connection is closed at once. */
#define MONITORS_MAX 32

struct sudo_service {
	struct agent *agent;
	int fd;
	struct ev_io io;
	unsigned monitors;
};

struct monitor {
	struct child child;
	struct grave grave;
	struct sudo_service *service;
};

static void monitor_reaped(struct child *c, int status, const struct rusage *ru)
{
	struct monitor *m = (struct monitor *)c;
	(void)status;
	(void)ru;
	m->service->monitors--;
	agent_bury(m->service->agent, &m->grave, m);
}

/* In the forked process. */
static _Noreturn void monitor_run(struct agent *a, int conn, const struct ucred *peer)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (dup2(conn, 3) < 0 || fd_close_from(4) < 0)
		_exit(1);
	_exit(sudo_monitor(a, 3, peer));
}

static void monitor_start(struct sudo_service *s, int conn)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);
	struct monitor *m = s->monitors < MONITORS_MAX ? calloc(1, sizeof(*m)) : NULL;
	if (!m)
		return;
	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0) {
		free(m);
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		monitor_run(s->agent, conn, &peer);
	if (pid < 0) {
		free(m);
		return;
	}
	m->service = s;
	m->child.asker = peer.pid;
	m->child.reaped = monitor_reaped;
	child_add(s->agent, &m->child, pid);
	s->monitors++;
}

static void sudo_ready(void *ctx, uint32_t events)
{
	struct sudo_service *s = ctx;
	(void)events;
	AUTO_FD conn = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	if (conn >= 0)
		monitor_start(s, conn);
}

static int service_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t n = offsetof(struct sockaddr_un, sun_path) + sizeof(SUDO_SOCKET);
	/* A NUL first, and none after it: the name is as long as the address says. */
	memcpy(addr.sun_path + 1, SUDO_SOCKET, sizeof(SUDO_SOCKET) - 1);
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, n) < 0 ||
	    listen(fd, 2 * MONITORS_MAX) < 0)
		return -errno;
	return fd_steal(&fd);
}

void sudo_listen(struct agent *a)
{
	if (a->sudo)
		return;
	struct sudo_service *s = calloc(1, sizeof(*s));
	if (!s)
		return;
	s->agent = a;
	s->fd = service_open();
	if (s->fd >= 0 && ev_io_add(&a->ev, s->fd, EPOLLIN, sudo_ready, s, &s->io) < 0)
		fd_close(&s->fd);
	/* Also without a descriptor: it is tried once. */
	a->sudo = s;
}

void sudo_stop(struct agent *a)
{
	struct sudo_service *s = a->sudo;
	if (!s)
		return;
	for (struct child *c = a->children, *next; c; c = next) {
		next = c->next;
		if (c->reaped != monitor_reaped)
			continue;
		kill(c->pid, SIGKILL);
		child_remove(a, c);
		free(c);
	}
	ev_io_del(&a->ev, &s->io);
	if (s->fd >= 0)
		fd_close(&s->fd);
	free(s);
	a->sudo = NULL;
}
