/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * From the EXEC frame to a started process: the request is checked, the user is looked up in the
 * sandbox's files, the descriptors are made, the process is spawned. The strings of the request
 * stay in the receive buffer and are used there: a child that shares memory has called execve()
 * when the spawn returns, and a forked one has its own copy.
 *
 * Whatever fails is answered with STARTED and a step; the stream is then closed. It is never a
 * reason to end the channel, because it may be the tenant's doing (a missing user, a full process
 * table).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/exec.h"
#include "agent/procs.h"
#include "agent/pty.h"
#include "agent/spawn.h"
#include "agent/sudo.h"
#include "agent/users.h"
#include "base/fd.h"

#define ARGS_MAX 4096u
#define RING_DEFAULT (256u * 1024u)
#define RING_MIN 4096u
#define RING_MAX (16u * 1024u * 1024u)

static void refuse(struct agent *a, uint32_t id, int err, enum brig_exec_step step)
{
	struct brig_started m = { .err = err, .step = step };
	chan_send(&a->chan, BRIG_STARTED, id, &m, sizeof(m), NULL, 0);
}

static int request_check(struct brig_exec *h)
{
	const uint32_t known =
		BRIG_EXEC_TTY | BRIG_EXEC_STDIN | BRIG_EXEC_DROP | BRIG_EXEC_KEEP | BRIG_EXEC_LIFELINE;
	if ((h->flags & ~known) || h->reserved || h->argc < 1 || h->argc > ARGS_MAX ||
	    h->envc > ARGS_MAX)
		return -EINVAL;
	if (h->credit_stdout > BRIG_CREDIT_MAX || h->credit_stderr > BRIG_CREDIT_MAX)
		return -EINVAL;
	if (h->ring_bytes == 0)
		h->ring_bytes = RING_DEFAULT;
	if ((h->flags & BRIG_EXEC_KEEP) &&
	    ((h->flags & BRIG_EXEC_DROP) || h->credit_stdout > h->ring_bytes ||
	     h->credit_stderr > h->ring_bytes))
		return -EINVAL;
	return h->ring_bytes < RING_MIN || h->ring_bytes > RING_MAX ? -EINVAL : 0;
}

/* The strings of a payload are ours to point at; only execve() sees them as mutable. */
static char *request_string(const uint8_t **at, const uint8_t *end)
{
	return (char *)(uintptr_t)frame_str(at, end);
}

int exec_request_parse(const struct frame *f, struct exec_request *ret)
{
	const uint8_t *at = frame_struct(f, &ret->h, sizeof(ret->h)), *end = f->payload + f->h.len;
	if (!at || request_check(&ret->h) < 0)
		return -EINVAL;
	ret->user = frame_str(&at, end);
	ret->cwd = ret->user ? frame_str(&at, end) : NULL;
	if (!ret->cwd)
		return -EINVAL;
	int r = spawn_args_init(&ret->args, ret->h.argc, ret->h.envc + SPAWN_ENV_DEFAULTS);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < ret->h.argc && r == 0; i++)
		if (!(ret->args.argv[i] = request_string(&at, end)))
			r = -EINVAL;
	for (uint32_t i = 0; i < ret->h.envc && r == 0; i++) {
		char *text = request_string(&at, end);
		if (text && strchr(text, '='))
			spawn_env_add(&ret->args, text);
		else
			r = -EINVAL;
	}
	if (r == 0 && at != end)
		r = -EINVAL;
	if (r < 0)
		spawn_args_done(&ret->args);
	return r;
}

/* The two sides of a command's stdio. Its own is only for the spawn. */
struct stdio {
	int own[3];
	int in, out[2];
	int tty;
};

static void stdio_init(struct stdio *io)
{
	*io = (struct stdio){ .own = { -1, -1, -1 }, .in = -1, .out = { -1, -1 }, .tty = -1 };
}

static void stdio_close_own(struct stdio *io)
{
	/* With a terminal all three are one descriptor. */
	for (int i = 1; i < 3; i++)
		if (io->own[i] == io->own[0])
			io->own[i] = -1;
	for (int i = 0; i < 3; i++)
		fd_close(&io->own[i]);
}

static void stdio_done(struct stdio *io)
{
	stdio_close_own(io);
	fd_close(&io->in);
	fd_close(&io->out[0]);
	fd_close(&io->out[1]);
	fd_close(&io->tty);
}

/* A pipe whose end `ours` (0 reads, 1 writes) is nonblocking. */
static int pipe_open(int ours, int *ret_ours, int *ret_own)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*ret_ours = p[ours];
	*ret_own = p[!ours];
	return fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int stdio_open_tty(struct stdio *io, const struct exec_request *q, uid_t uid)
{
	int r = pty_open(uid, q->h.rows, q->h.cols, &io->tty, &io->own[0]);
	if (r < 0)
		return r;
	io->own[1] = io->own[2] = io->own[0];
	/* One registration each: input and output wait for different things. */
	io->in = fcntl(io->tty, F_DUPFD_CLOEXEC, 3);
	io->out[0] = fcntl(io->tty, F_DUPFD_CLOEXEC, 3);
	return io->in < 0 || io->out[0] < 0 ? -errno : 0;
}

static int stdio_open(struct stdio *io, const struct exec_request *q, uid_t uid)
{
	int r;
	if (q->h.flags & BRIG_EXEC_TTY)
		return stdio_open_tty(io, q, uid);
	if (q->h.flags & BRIG_EXEC_STDIN) {
		r = pipe_open(1, &io->in, &io->own[0]);
	} else {
		io->own[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		r = io->own[0] < 0 ? -errno : 0;
	}
	for (int i = 0; i < 2 && r == 0; i++)
		r = pipe_open(0, &io->out[i], &io->own[i + 1]);
	return r;
}

static int exec_spawn(struct agent *a, struct exec *x, struct exec_request *q, struct user *u,
		      struct stdio *io, struct spawn *s)
{
	struct spawn_env_text text;
	spawn_env_defaults(&q->args, u, &text);
	creds_of(u, &x->creds);
	*s = (struct spawn){
		.args = &q->args,
		.cwd = q->cwd,
		.home = u->home,
		.creds = x->creds,
		.fd = { io->own[0], io->own[1], io->own[2] },
		.tty = io->tty >= 0,
	};
	x->since = procs_clock();
	int r = spawn_start(a, s);
	/* Not before: the command that calls sudo soonest has a program to load first. */
	sudo_listen(a);
	return r;
}

/* Everything after the checks. */
static void exec_launch(struct agent *a, uint32_t id, struct exec_request *q, struct user *u)
{
	struct stdio io;
	struct spawn s = { .report_fd = -1 };
	struct exec *x = exec_new(a, id, &q->h);
	if (!x) {
		refuse(a, id, ENOMEM, BRIG_STEP_SPAWN);
		return;
	}
	stdio_init(&io);
	int r = stdio_open(&io, q, u->uid);
	if (r == 0)
		r = exec_spawn(a, x, q, u, &io, &s);
	stdio_close_own(&io);
	if (r == 0) {
		x->tty = fd_steal(&io.tty);
		r = exec_adopt(x, &s, fd_steal(&io.in),
			       (int[2]){ fd_steal(&io.out[0]), fd_steal(&io.out[1]) });
	}
	stdio_done(&io);
	if (r < 0)
		exec_abandon(x, -r, BRIG_STEP_SPAWN);
}

int exec_open(struct agent *a, const struct frame *f)
{
	struct exec_request q;
	struct user u;
	int r = stream_check(a, f->h.stream);
	if (r == -EEXIST)
		return -EPROTO;
	if (r < 0) {
		refuse(a, f->h.stream, -r, BRIG_STEP_SPAWN);
		return 0;
	}
	r = exec_request_parse(f, &q);
	if (r < 0) {
		refuse(a, f->h.stream, -r, BRIG_STEP_REQUEST);
		return 0;
	}
	r = user_lookup(q.user, &u);
	if (r < 0)
		refuse(a, f->h.stream, -r, BRIG_STEP_USER);
	else
		exec_launch(a, f->h.stream, &q, &u);
	spawn_args_done(&q.args);
	return 0;
}
