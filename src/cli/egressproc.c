/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig-egress must live in the host's network and hold sockets of another one, and it may have no
 * right to go there. So brig-jaild, which made that one, opens the sockets and hands them to this process;
 * this process, which has brig's own place in the world, starts brig-egress with them.
 *
 *   jaild --jail_net, sockets--> here --descriptors--> brig-egress <--control--> brigd
 *
 * Both the sockets and brig-egress's end of the control socket are kept here, so brigd does not notice
 * a death of brig-egress but by the READY of the next one: sandboxes live on, their connections are cut
 * and new ones wait. It is started again after 0.1, 0.2, 0.4 .. seconds. If it cannot be started at all
 * the control socket is closed, and brigd refuses networks.
 */
#include "cli/egressproc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/jail_proto.h"
#include "cli/cli.h"
#include "cli/spawn.h"

#define DEATHS_MAX 7u
#define ALIVE_NS (60 * SEC_NS)
#define AWAIT_NS (5 * SEC_NS)
#define END_NS (1 * SEC_NS)

int egressproc_open(struct egressproc *p, int *ret_brigd, int *ret_jaild, struct brig_err *err)
{
	int control[2], jaild[2];
	if (!ret_jaild && p->sock[BRIG_NET_TCP4] < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a socket for brig-egress");
	if (!ret_jaild) {
		p->control = control[0];
		*ret_brigd = control[1];
		p->again = clock_now();
		return 0;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, jaild) < 0) {
		int sys = errno;
		fd_close(&control[0]);
		fd_close(&control[1]);
		return brig_fail(err, BRIG_E_EXHAUSTED, sys, "make a socket for brig-egress");
	}
	p->control = control[0];
	p->jaild = jaild[0];
	p->told = false;
	*ret_brigd = control[1];
	*ret_jaild = jaild[1];
	return 0;
}

static void give_up(struct egressproc *p, const char *why, const char *remedy)
{
	dprintf(p->log, "brig: %s; sandboxes have no network\n", why);
	if (remedy[0])
		dprintf(p->log, "  remedy: %s\n", remedy);
	fd_close(&p->control);
	fd_close(&p->jaild);
	resolvwatch_close(&p->resolv);
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++)
		fd_close(&p->sock[i]);
	p->again = 0;
}

static int start(struct egressproc *p, struct brig_err *err)
{
	static const char *const names[BRIG_NET_SOCKETS] = { "--tcp4-fd", "--tcp6-fd", "--udp4-fd",
							     "--udp6-fd" };
	const char *argv[6 + 2 * BRIG_NET_SOCKETS];
	char path[PATH_MAX], numbers[BRIG_NET_SOCKETS + 1][4];
	size_t n = 0;
	AUTO_FD resolv = -1;
	AUTO_FREE char **envp = spawn_environ();
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!envp || null < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare brig-egress");
	struct spawn s = { .path = path,
			   .envp = envp,
			   .fds = { null, null, p->log, p->control },
			   .nfds = 4,
			   .session = true };
	argv[n++] = "brig-egress";
	argv[n++] = "--control-fd";
	argv[n++] = "3";
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++) {
		if (p->sock[i] < 0)
			continue;
		snprintf(numbers[i], sizeof(numbers[i]), "%u", s.nfds);
		s.fds[s.nfds++] = p->sock[i];
		argv[n++] = names[i];
		argv[n++] = numbers[i];
	}
	if (resolvwatch_open(&p->resolv, &resolv) == 0) {
		snprintf(numbers[BRIG_NET_SOCKETS], sizeof(numbers[0]), "%u", s.nfds);
		s.fds[s.nfds++] = resolv;
		argv[n++] = "--resolv-fd";
		argv[n++] = numbers[BRIG_NET_SOCKETS];
	}
	argv[n] = NULL;
	s.argv = argv;
	if (spawn_find("brig-egress", path, err) < 0 || spawn_start(&s, &p->pid, err) < 0)
		return -1;
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0u);
	p->started = clock_now();
	p->again = 0;
	return 0;
}

static void start_or_give_up(struct egressproc *p)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (start(p, &err) < 0)
		give_up(p, err.msg, err.remedy);
}

/* What jaild has to say, once. */
static void listen_to_jaild(struct egressproc *p)
{
	struct jail_net m;
	int fd[BRIG_NET_SOCKETS];
	unsigned n = BRIG_NET_SOCKETS, at = 0;
	ssize_t got = fd_recv(p->jaild, &m, sizeof(m), fd, &n, MSG_DONTWAIT);
	if (got == -EAGAIN)
		return;
	p->told = true;
	fd_close(&p->jaild);
	if (got != sizeof(m) || m.version != BRIG_JAIL_PROTO_VERSION) {
		for (at = 0; got > 0 && at < n; at++)
			fd_close(&fd[at]);
		/* It has ended: its end is noticed elsewhere. */
		if (got > 0)
			give_up(p, "brig-jaild has another version", "install brig completely");
		else
			fd_close(&p->control);
		return;
	}
	for (unsigned i = 0; i < BRIG_NET_SOCKETS && at < n; i++)
		if (m.sockets & 1u << i)
			p->sock[i] = fd[at++];
	while (at < n)
		fd_close(&fd[at++]);
	m.msg[sizeof(m.msg) - 1] = m.remedy[sizeof(m.remedy) - 1] = '\0';
	if (p->sock[BRIG_NET_TCP4] < 0)
		give_up(p, m.msg, m.remedy);
	else
		start_or_give_up(p);
}

static void died(struct egressproc *p)
{
	int status = 0;
	if (spawn_wait(p->pid, clock_now() + END_NS, &status) != 1)
		return;
	p->pid = 0;
	fd_close(&p->pidfd);
	if (clock_now() - p->started > ALIVE_NS)
		p->deaths = 0;
	p->again = clock_now() + (100 * MS_NS << p->deaths);
	if (p->deaths < DEATHS_MAX)
		p->deaths++;
	dprintf(p->log, "brig: brig-egress ended (%s %d); sandboxes go on; starting it again\n",
		WIFSIGNALED(status) ? "signal" : "exit code",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

void egressproc_poll(const struct egressproc *p, struct pollfd ret[3], int *ret_ms)
{
	uint64_t now = clock_now();
	ret[0] = (struct pollfd){ .fd = p->pidfd, .events = POLLIN };
	ret[1] = (struct pollfd){ .fd = p->jaild, .events = POLLIN };
	ret[2] = (struct pollfd){ .fd = p->resolv.inotify, .events = POLLIN };
	*ret_ms = -1;
	if (p->again)
		*ret_ms = p->again <= now ? 0 : (int)((p->again - now + MS_NS - 1) / MS_NS);
}

int egressproc_work(struct egressproc *p)
{
	struct pollfd fds[3];
	pid_t before = p->pid;
	int ms;
	egressproc_poll(p, fds, &ms);
	(void)poll(fds, 3, 0);
	if (fds[2].fd >= 0 && fds[2].revents)
		resolvwatch_work(&p->resolv);
	if (fds[1].fd >= 0 && fds[1].revents)
		listen_to_jaild(p);
	if (fds[0].fd >= 0 && fds[0].revents)
		died(p);
	else if (p->again && p->again <= clock_now())
		start_or_give_up(p);
	return p->pid != before;
}

void egressproc_await(struct egressproc *p)
{
	uint64_t until = clock_now() + AWAIT_NS;
	while (!p->told && p->jaild >= 0 && clock_now() < until) {
		struct pollfd f = { .fd = p->jaild, .events = POLLIN };
		if (poll(&f, 1, 100) == 1)
			listen_to_jaild(p);
	}
}

void egressproc_leave(struct egressproc *p)
{
	fd_close(&p->control);
	fd_close(&p->jaild);
	resolvwatch_close(&p->resolv);
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++)
		fd_close(&p->sock[i]);
	fd_close(&p->pidfd);
	p->again = 0;
}

void egressproc_end(struct egressproc *p)
{
	int status;
	fd_close(&p->control);
	fd_close(&p->pidfd);
	resolvwatch_close(&p->resolv);
	p->again = 0;
	/* brigd's end of the control socket is gone, or goes with brigd: then it ends by itself. */
	if (p->pid && spawn_wait(p->pid, clock_now() + END_NS, &status) != 1) {
		kill(p->pid, SIGKILL);
		(void)spawn_wait(p->pid, 0, &status);
	}
	p->pid = 0;
}

void egressproc_reap(struct egressproc *p)
{
	egressproc_end(p);
	egressproc_leave(p);
}
