/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * brig-agent is the first process of a sandbox: uid 0 of its user namespace with BRIG_CAPS_AGENT,
 * under the sandbox's system call filter and no_new_privs. It serves one channel to the host and
 * starts, feeds and reaps the commands of the tenant. Nothing it does is trusted by the host, and
 * it needs nothing that the tenant could not do to itself.
 *
 * One thread, one loop. The channel, the outputs and inputs of commands, the report of a spawn,
 * inotify and the sudo socket are descriptors of it; the end of a child comes through a signalfd.
 * System calls on files may block for as long as a disk does, never for as long as a tenant likes:
 * FIFOs and devices are not opened, and trees are walked in slices (fs.h).
 *
 * Nothing is allocated before it is needed: an idle agent is this struct on the stack, an epoll set
 * with two descriptors and a few pages of code.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/core.h"
#include "agent/exec.h"
#include "agent/fs.h"
#include "agent/procs.h"
#include "agent/sample.h"
#include "agent/sudo.h"
#include "agent/users.h"
#include "base/fd.h"

const struct agent_openers agent_openers = { .exec = exec_open, .fs = fs_open, .tcp = tcp_open };

int credit_add(uint32_t *credit, uint32_t bytes)
{
	if (bytes > BRIG_CREDIT_MAX || *credit > BRIG_CREDIT_MAX - bytes)
		return -EPROTO;
	*credit += bytes;
	return 0;
}

void agent_end(struct agent *a, int code)
{
	if (a->end < 0)
		a->end = code;
}

void agent_bury(struct agent *a, struct grave *g, void *mem)
{
	g->mem = mem;
	g->next = a->graves;
	a->graves = g;
}

static void graves_clear(struct agent *a)
{
	while (a->graves) {
		struct grave *g = a->graves;
		a->graves = g->next;
		free(g->mem);
	}
}

static struct stream **bucket_of(struct agent *a, uint32_t id)
{
	return &a->bucket[id % STREAM_BUCKETS];
}

struct stream *stream_find(const struct agent *a, uint32_t id)
{
	struct stream *s = a->bucket[id % STREAM_BUCKETS];
	while (s && s->id != id)
		s = s->next;
	return s;
}

int stream_check(const struct agent *a, uint32_t id)
{
	if (stream_find(a, id))
		return -EEXIST;
	return a->nstreams < BRIG_STREAMS_MAX ? 0 : -EMFILE;
}

void stream_add(struct agent *a, struct stream *s, uint32_t id, const struct stream_ops *ops)
{
	struct stream **b = bucket_of(a, id);
	*s = (struct stream){ .id = id, .agent = a, .ops = ops, .next = *b };
	*b = s;
	a->nstreams++;
}

void stream_remove(struct stream *s)
{
	struct stream **at = bucket_of(s->agent, s->id);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->agent->nstreams--;
}

/* Attached, and no command yet (a sandbox of a pool, or made by create): the answer need not wait for one,
 * and what the first command will look up may be looked up now. */
static void idle_use(struct agent *a)
{
	struct user u;
	chan_flush(&a->chan);
	if (a->has_spawned || a->sudo)
		return;
	sudo_listen(a);
	(void)user_lookup("", &u);
}

static void chan_ready(void *ctx, uint32_t events)
{
	struct agent *a = ctx;
	if (events & EPOLLOUT)
		chan_flush(&a->chan);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || a->end >= 0)
		return;
	int r = chan_receive(&a->chan);
	if (r < 0)
		agent_end(a, 1);
	else if (r == 0)
		agent_lost(a);
	else if (a->nstreams == 0)
		idle_use(a);
}

static int redial(struct agent *a)
{
	int at = a->chan.fd;
	AUTO_FD fd = a->redial ? a->redial() : -ENOTCONN;
	if (fd < 0)
		return fd;
	ev_io_del(&a->ev, &a->chan_io);
	if (dup3(fd, at, O_CLOEXEC) < 0)
		return -errno;
	int r = fd_set_nonblock(at, 1);
	if (r == 0)
		r = ev_io_add(&a->ev, at, EPOLLIN, chan_ready, a, &a->chan_io);
	if (r == 0)
		dispatch_cut(a);
	return r;
}

void agent_lost(struct agent *a)
{
	if (a->end < 0 && redial(a) < 0)
		agent_end(a, 0);
}

static void child_ended(void *ctx, uint32_t events)
{
	struct agent *a = ctx;
	struct signalfd_siginfo si;
	(void)events;
	/* The signal only says that somebody ended; it may stand for several. */
	while (read(a->sigfd, &si, sizeof(si)) == sizeof(si))
		;
	child_reap(a);
}

void agent_prepare(void)
{
	/* By the bare call, because libc refuses to touch the two or three signals that it keeps for its
	 * threads, and whoever started brig may have ignored those too. All zero is SIG_DFL in the
	 * kernel's struct, whose mask is 8 bytes wide. */
	static const unsigned long dfl[4];
	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			syscall(SYS_rt_sigaction, sig, dfl, NULL, 8);
}

static int signals_open(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A descriptor of ours must never be one of the three that commands are given. */
static int stdio_hold(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -EBADF;
	return 0;
}

int agent_init(struct agent *a, int chan, const struct agent_openers *open)
{
	*a = (struct agent){ .open = open, .layer = -1, .base = -1, .gate = -1, .sigfd = -1, .end = -1 };
	a->is_init = getpid() == 1;
	chan_init(&a->chan, chan, a);
	sample_init(a);
	int r = ev_init(&a->ev);
	if (r < 0)
		return r;
	r = stdio_hold();
	if (r == 0)
		r = fd_set_nonblock(chan, 1);
	if (r == 0)
		r = fd_set_cloexec(chan, 1);
	if (r == 0)
		r = creds_self_init(&a->self);
	if (r == 0)
		r = ev_io_add(&a->ev, chan, EPOLLIN, chan_ready, a, &a->chan_io);
	if (r == 0)
		r = a->sigfd = signals_open();
	if (r >= 0)
		r = ev_io_add(&a->ev, a->sigfd, EPOLLIN, child_ended, a, &a->sig_io);
	/* What our children leave behind comes to us, as it does to pid 1. */
	if (r == 0 && !a->is_init && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		r = -errno;
	return r;
}

void agent_round(struct agent *a, int max_wait_ms)
{
	if (ev_round(&a->ev, max_wait_ms) < 0)
		agent_end(a, 1);
	graves_clear(a);
	ev_io_set(&a->ev, a->chan_io, chan_events(&a->chan));
}

void agent_done(struct agent *a)
{
	if (a->has_spawned)
		procs_kill_all(a);
	sudo_stop(a);
	exec_drop_all(a);
	for (unsigned i = 0; i < STREAM_BUCKETS; i++)
		while (a->bucket[i])
			a->bucket[i]->ops->close(a->bucket[i]);
	ev_timer_stop(&a->ev, &a->sample);
	ev_timer_stop(&a->ev, &a->chan.lazy);
	ev_io_del(&a->ev, &a->sig_io);
	ev_io_del(&a->ev, &a->chan_io);
	fd_close(&a->sigfd);
	fd_close(&a->gate);
	chan_done(&a->chan);
	graves_clear(a);
	ev_done(&a->ev);
}

int agent_main(int chan, int layer, int base, int gate, int (*call_again)(void))
{
	struct agent a;
	/* What belongs to the process and not to a struct agent; modes of files are what the host
	 * says. */
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	int r = agent_init(&a, chan, &agent_openers);
	a.layer = layer;
	a.base = base;
	a.gate = gate;
	a.redial = call_again;
	/* The host writes before the sandbox exists: what it wants first is often there already. */
	if (r == 0)
		chan_ready(&a, EPOLLIN);
	while (r == 0 && a.end < 0)
		agent_round(&a, -1);
	agent_done(&a);
	return r < 0 ? 1 : a.end;
}
