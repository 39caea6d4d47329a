/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The life of a command from its spawn to its EXIT. A spawn may be known to have succeeded at once,
 * or later through its report pipe (spawn.h); until then its outputs are not read, so that nothing
 * precedes STARTED, and signals are kept.
 *
 * The end has three parts that come in any order: the main process is reaped, the outputs reach end
 * of file, and what they produced has been sent. A descendant that holds an output open delays the
 * second by 100 ms at most, counted from the reaping; what lies in the pipe then is the rest.
 */
#include "agent/agent.h"
#include "agent/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/procs.h"
#include "agent/pty.h"
#include "agent/sample.h"
#include "base/clock.h"
#include "base/fd.h"

/* For descendants that keep an output open after the main process has ended. */
#define LINGER_NS (100 * MS_NS)

static int exec_frame(struct stream *s, const struct frame *f);
static int exec_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof);
static void exec_close(struct stream *s);
static void exec_orphan(struct stream *s);
static void exec_resume(struct stream *s);
static void exec_reaped(struct child *c, int status, const struct rusage *ru);
static void exec_settle(void *ctx);
static void exec_linger(void *ctx);
static void exec_reported(void *ctx, uint32_t events);

static const struct stream_ops exec_ops = {
	.frame = exec_frame,
	.data = exec_data,
	.close = exec_close,
	.orphan = exec_orphan,
	.resume = exec_resume,
};

static struct exec *exec_of_stream(struct stream *s)
{
	return (struct exec *)s; /* its first member */
}

static struct exec *exec_of_child(struct child *c)
{
	return (struct exec *)((char *)c - offsetof(struct exec, child));
}

struct exec *exec_new(struct agent *a, uint32_t id, const struct brig_exec *h)
{
	struct exec *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	bool drop = h->flags & BRIG_EXEC_DROP;
	x->flags = h->flags;
	x->report_fd = x->tty = -1;
	x->oom_kills = guest_oom_kills();
	x->child.reaped = exec_reaped;
	x->linger = (struct ev_timer){ .fn = exec_linger, .ctx = x };
	output_init(&x->out[0], a, id, BRIG_STDOUT, h->ring_bytes, h->credit_stdout, drop);
	output_init(&x->out[1], a, id, BRIG_STDERR, h->ring_bytes, h->credit_stderr, drop);
	input_none(&x->in, a, id);
	for (int i = 0; i < 2; i++) {
		if (h->flags & BRIG_EXEC_KEEP)
			x->out[i].window = x->out[i].credit;
		x->out[i].settled = exec_settle;
		x->out[i].ctx = x;
	}
	stream_add(a, &x->s, id, &exec_ops);
	x->next = a->execs;
	a->execs = x;
	return x;
}

/* Gives back what serves the stream. */
static void exec_release_io(struct exec *x)
{
	struct agent *a = x->s.agent;
	output_done(&x->out[0]);
	output_done(&x->out[1]);
	input_done(&x->in);
	ev_timer_stop(&a->ev, &x->linger);
	ev_io_del(&a->ev, &x->report_io);
	fd_close(&x->report_fd);
	fd_close(&x->tty);
}

/* The object goes when nothing can reach it any more: no stream, no process. */
static void exec_release(struct exec *x)
{
	struct agent *a = x->s.agent;
	if (!x->closed || x->child.listed)
		return;
	struct exec **at = &a->execs;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	agent_bury(a, &x->grave, x);
}

static void exec_leave(struct exec *x)
{
	x->closed = true;
	stream_remove(&x->s);
	exec_release_io(x);
	exec_release(x);
}

static void exec_signal_now(struct exec *x, int sig)
{
	pid_t group = x->tty >= 0 ? pty_signal_group(x->tty, sig, x->child.pid) : x->child.pid;
	kill(-group, sig);
}

/* Started and reaped. */
static void exec_ended(struct exec *x)
{
	struct agent *a = x->s.agent;
	/* Without memory for the timer there is no grace. */
	if ((!x->out[0].eof || !x->out[1].eof) &&
	    ev_timer_set(&a->ev, &x->linger, clock_now() + LINGER_NS) < 0)
		exec_linger(x);
	exec_settle(x);
}

static void exec_announce(struct exec *x)
{
	struct agent *a = x->s.agent;
	struct brig_started m = { .pid = (uint32_t)x->child.pid, .stdin_credit = x->in.credit };
	x->started = true;
	/* With an input the other side may wait for the word to send it. */
	if (x->in.credit)
		chan_send(&a->chan, BRIG_STARTED, x->s.id, &m, sizeof(m), NULL, 0);
	else
		chan_send_lazy(&a->chan, BRIG_STARTED, x->s.id, &m, sizeof(m));
	for (int sig = 1; sig <= 64; sig++)
		if (x->signals >> (sig - 1) & 1)
			exec_signal_now(x, sig);
	x->signals = 0;
	sample_start(a);
	for (int i = 0; i < 2; i++)
		output_resume(&x->out[i]);
	if (x->reaped)
		exec_ended(x);
}

void exec_abandon(struct exec *x, int err, enum brig_exec_step step)
{
	struct agent *a = x->s.agent;
	struct brig_started m = { .err = err, .step = step };
	chan_send(&a->chan, BRIG_STARTED, x->s.id, &m, sizeof(m), NULL, 0);
	if (x->child.listed)
		kill(x->child.pid, SIGKILL);
	child_remove(a, &x->child);
	exec_leave(x);
}

int exec_adopt(struct exec *x, struct spawn *s, int in_fd, const int out_fd[2])
{
	struct agent *a = x->s.agent;
	int r = 0, fds[3] = { in_fd, out_fd[0], out_fd[1] };
	child_add(a, &x->child, s->pid);
	x->report_fd = s->report_fd;
	if (in_fd >= 0)
		r = input_start(&x->in, a, x->s.id, fd_steal(&fds[0]), x->tty >= 0);
	for (int i = 0; i < 2; i++) {
		if (r == 0 && out_fd[i] >= 0)
			r = output_start(&x->out[i], fd_steal(&fds[i + 1]));
		else if (r == 0)
			output_none(&x->out[i]);
	}
	if (r == 0 && x->report_fd >= 0)
		r = ev_io_add(&a->ev, x->report_fd, EPOLLIN, exec_reported, x, &x->report_io);
	for (int i = 0; i < 3; i++)
		fd_close(&fds[i]);
	if (r < 0)
		return r;
	if (x->report_fd >= 0)
		return 0;
	if (s->result.err)
		exec_abandon(x, s->result.err, s->result.step);
	else
		exec_announce(x);
	return 0;
}

static void exec_reported(void *ctx, uint32_t events)
{
	struct exec *x = ctx;
	(void)events;
	ev_io_del(&x->s.agent->ev, &x->report_io);
	struct spawn_result res = spawn_report(&x->report_fd);
	if (res.err)
		exec_abandon(x, res.err, res.step);
	else
		exec_announce(x);
}

static uint64_t timeval_us(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

static void exec_send_exit(struct exec *x)
{
	bool signaled = WIFSIGNALED(x->status);
	struct brig_exit m = {
		.flags = x->met | (signaled ? BRIG_EXIT_SIGNALED : 0),
		.code = (uint32_t)(signaled ? WTERMSIG(x->status) : WEXITSTATUS(x->status)),
		.stdout_bytes = x->out[0].end,
		.stderr_bytes = x->out[1].end,
		.utime_us = timeval_us(x->ru.ru_utime),
		.stime_us = timeval_us(x->ru.ru_stime),
		.maxrss_bytes = (uint64_t)x->ru.ru_maxrss * 1024u,
	};
	if (signaled && WCOREDUMP(x->status))
		m.flags |= BRIG_EXIT_CORE;
	x->exit_sent = true;
	x->out[0].mute = x->out[1].mute = true;
	chan_send(&x->s.agent->chan, BRIG_EXIT, x->s.id, &m, sizeof(m), NULL, 0);
}

/* Something about the end has changed: is it complete? */
static void exec_settle(void *ctx)
{
	struct exec *x = ctx;
	if (!x->started || !x->reaped || x->exit_sent || x->closed)
		return;
	if (x->out[0].eof && x->out[1].eof)
		ev_timer_stop(&x->s.agent->ev, &x->linger);
	if (output_settled(&x->out[0]) && output_settled(&x->out[1]))
		exec_send_exit(x);
}

static void exec_linger(void *ctx)
{
	struct exec *x = ctx;
	output_finish(&x->out[0]);
	output_finish(&x->out[1]);
}

static void exec_reaped(struct child *c, int status, const struct rusage *ru)
{
	struct exec *x = exec_of_child(c);
	struct agent *a = x->s.agent;
	x->reaped = true;
	x->status = status;
	x->ru = *ru;
	if (x->started)
		x->met |= sample_disk() | (guest_oom_kills() > x->oom_kills ? BRIG_EXIT_OOM : 0);
	if (x->flags & BRIG_EXEC_LIFELINE)
		procs_kill_leftovers(a, c->pid, x->since);
	if (x->closed) {
		exec_release(x);
		return;
	}
	input_done(&x->in);
	/* Not started: its exec, or its end before that, still comes through the report pipe. */
	if (x->started)
		exec_ended(x);
}

static int exec_rx_credit(struct exec *x, const struct frame *f)
{
	struct brig_credit m;
	frame_struct(f, &m, sizeof(m));
	if (m.chan != BRIG_CHAN_STDOUT && m.chan != BRIG_CHAN_STDERR)
		return -EPROTO;
	return output_credit(&x->out[m.chan == BRIG_CHAN_STDERR], m.bytes);
}

static int exec_rx_signal(struct exec *x, const struct frame *f)
{
	uint32_t sig;
	frame_struct(f, &sig, sizeof(sig));
	if (sig < 1 || sig > 64)
		return -EPROTO;
	/* After the reaping the number may be somebody else's. */
	if (x->reaped)
		return 0;
	if (x->started)
		exec_signal_now(x, (int)sig);
	else
		x->signals |= 1ull << (sig - 1);
	return 0;
}

static int exec_rx_resize(struct exec *x, const struct frame *f)
{
	uint16_t size[2];
	frame_struct(f, size, sizeof(size));
	if (x->tty >= 0)
		pty_resize(x->tty, size[0], size[1]);
	return 0;
}

static int exec_rx_reattach(struct exec *x, const struct frame *f)
{
	struct brig_reattach m;
	frame_struct(f, &m, sizeof(m));
	x->exit_sent = false;
	for (int i = 0; i < 2; i++)
		x->out[i].droppable = x->flags & BRIG_EXEC_DROP;
	if (output_rewind(&x->out[0], m.stdout_offset, m.credit_stdout) < 0 ||
	    output_rewind(&x->out[1], m.stderr_offset, m.credit_stderr) < 0)
		return -EPROTO;
	if (x->new_host && x->in.credit) {
		struct brig_credit c = { .chan = BRIG_CHAN_STDIN, .bytes = x->in.credit };
		chan_send(&x->s.agent->chan, BRIG_CREDIT, x->s.id, &c, sizeof(c), NULL, 0);
	}
	x->new_host = false;
	exec_settle(x);
	return 0;
}

static void exec_detach(struct exec *x)
{
	for (int i = 0; i < 2; i++)
		output_detach(&x->out[i], true);
	exec_settle(x);
}

static int exec_frame(struct stream *s, const struct frame *f)
{
	struct exec *x = exec_of_stream(s);
	switch (f->h.type) {
	case BRIG_CREDIT:
		return exec_rx_credit(x, f);
	case BRIG_SIGNAL:
		return exec_rx_signal(x, f);
	case BRIG_RESIZE:
		return exec_rx_resize(x, f);
	case BRIG_REATTACH:
		return exec_rx_reattach(x, f);
	case BRIG_DETACH:
		exec_detach(x);
		return 0;
	default:
		return -EPROTO;
	}
}

static int exec_data(struct stream *s, uint16_t type, const uint8_t *p, size_t n, bool eof)
{
	struct exec *x = exec_of_stream(s);
	return type == BRIG_STDIN ? input_data(&x->in, p, n, eof) : -EPROTO;
}

static void exec_close(struct stream *s)
{
	struct exec *x = exec_of_stream(s);
	if (x->child.listed)
		procs_kill_command(s->agent, x->child.pid);
	exec_leave(x);
}

static void exec_orphan(struct stream *s)
{
	struct exec *x = exec_of_stream(s);
	x->new_host = true;
	for (int i = 0; i < 2; i++)
		output_detach(&x->out[i], x->out[i].droppable);
}

static void exec_resume(struct stream *s)
{
	struct exec *x = exec_of_stream(s);
	struct brig_resumed m = { .flags = x->started ? BRIG_RESUMED_STARTED : 0,
				  .pid = x->started ? (uint32_t)x->child.pid : 0,
				  .stdin_credit = x->started ? x->in.credit : 0,
				  .stdout_bytes = x->out[0].end,
				  .stderr_bytes = x->out[1].end };
	/* Told here; REATTACH need not. */
	x->new_host = false;
	chan_send(&s->agent->chan, BRIG_RESUMED, s->id, &m, sizeof(m), NULL, 0);
}

void exec_drop_all(struct agent *a)
{
	while (a->execs) {
		struct exec *x = a->execs;
		child_remove(a, &x->child);
		if (x->closed)
			exec_release(x);
		else
			exec_leave(x);
	}
}
