/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_agent_host_frames.c: what a host may send, into the agent's dispatcher.
 *
 * Theory of operation
 * -------------------
 * A whole struct agent runs in the fuzzer's process at one end of a socket pair; the input is what
 * the host writes, and what the agent answers is read and thrown away. Only the two openers
 * (agent_openers in core.h) are others than in the product: they check the request with the same
 * code and then open a stream of the same kind that starts no process and names no file. A command
 * is a pair of pipes with some output in them and a process number that cannot exist; a file is a
 * memfd; operations that would act on names are refused after the check.
 *
 * The first byte of the input says how: bit 0: the channel begins with a good ATTACH; bits 1-3: the
 * size of the pieces in which the bytes come; bit 4: the commands end before the channel does.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/core.h"
#include "agent/exec.h"
#include "agent/fs.h"
#include "base/fd.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Above every pid_max: signals to it find nobody. */
#define NOBODY 0x7ffffff0
#define COMMANDS_MAX 16

/* A pipe; fill bytes lie in it. The end that the command would hold is closed, so that it ends. */
static int output_pipe(size_t fill)
{
	static const char text[4096];
	int p[2];
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	if (fill && write(p[1], text, fill) < 0)
		abort();
	close(p[1]);
	return p[0];
}

static int input_pipe(void)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	close(p[0]);
	return p[1];
}

static int open_command(struct agent *a, const struct frame *f)
{
	struct exec_request q;
	int r = stream_check(a, f->h.stream);
	if (r == -EEXIST)
		return -EPROTO;
	if (r < 0 || a->nstreams >= COMMANDS_MAX || exec_request_parse(f, &q) < 0)
		return 0;
	/* The user's name too goes through the product's code. */
	struct user u;
	user_lookup(q.user, &u);
	/* LIFELINE would look for leftovers in /proc, which takes the time of a thousand inputs. */
	q.h.flags &= ~BRIG_EXEC_LIFELINE;
	struct exec *x = exec_new(a, f->h.stream, &q.h);
	if (!x)
		abort();
	struct spawn s = { .pid = NOBODY - (pid_t)a->nstreams, .report_fd = -1 };
	int in = q.h.flags & BRIG_EXEC_STDIN ? input_pipe() : -1;
	int out[2] = { output_pipe(4096), output_pipe(q.h.argc % 4096) };
	if (exec_adopt(x, &s, in, out) < 0)
		abort();
	spawn_args_done(&q.args);
	return 0;
}

static int open_file(struct agent *a, const struct frame *f)
{
	static const char text[30000];
	struct fs_request q;
	int r = stream_check(a, f->h.stream);
	if (r == -EEXIST)
		return -EPROTO;
	if (r == 0)
		r = fs_request_parse(f, &q);
	if (r < 0 || (q.type != BRIG_FS_READ && q.type != BRIG_FS_WRITE)) {
		fs_reply(a, f->h.stream, r < 0 ? -r : EACCES, 0, 0, "request");
		return 0;
	}
	int fd = memfd_create("file", MFD_CLOEXEC);
	if (fd < 0 || write(fd, text, sizeof(text)) != sizeof(text))
		abort();
	q.creds = a->self.own;
	if (q.type == BRIG_FS_READ)
		fs_read_start(a, &q, fd);
	else
		fs_write_start(a, &q, fd);
	return 0;
}

/* Answered as by a sandbox in which nobody listens. */
static int open_port(struct agent *a, const struct frame *f)
{
	struct brig_tcp_opened m = { .err = ECONNREFUSED };
	if (stream_check(a, f->h.stream) == -EEXIST)
		return -EPROTO;
	chan_send(&a->chan, BRIG_TCP_OPENED, f->h.stream, &m, sizeof(m), NULL, 0);
	return 0;
}

static const struct agent_openers openers = { .exec = open_command, .fs = open_file, .tcp = open_port };

static void drain(int fd)
{
	uint8_t buf[65536];
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static void rounds(struct agent *a, int host, int n)
{
	while (n-- && a->end < 0) {
		agent_round(a, 0);
		drain(host);
	}
}

static void feed(struct agent *a, int host, const uint8_t *p, size_t n, size_t piece)
{
	while (n && a->end < 0) {
		ssize_t r = send(host, p, n < piece ? n : piece, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0) {
			p += r;
			n -= (size_t)r;
		} else if (errno != EAGAIN) {
			return;
		}
		rounds(a, host, 1);
	}
}

static void commands_end(struct agent *a)
{
	struct rusage ru = { 0 };
	while (a->children) {
		struct child *c = a->children;
		child_remove(a, c);
		c->reaped(c, 0, &ru);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[8] = { 1, 3, 12, 13, 100, 4096, 65536, 1u << 20 };
	struct brig_attach m = { .magic = BRIG_ATTACH_MAGIC, .version = BRIG_AGENT_PROTO_VERSION };
	struct brig_frame_hdr h = { .len = sizeof(m), .type = BRIG_ATTACH };
	struct agent a;
	int pair[2];
	if (size < 1)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	if (agent_init(&a, pair[1], &openers) != 0)
		abort();
	if (data[0] & 1) {
		feed(&a, pair[0], (const uint8_t *)&h, sizeof(h), sizeof(h));
		feed(&a, pair[0], (const uint8_t *)&m, sizeof(m), sizeof(m));
	}
	feed(&a, pair[0], data + 1, size - 1, pieces[data[0] >> 1 & 7]);
	rounds(&a, pair[0], 2);
	if (data[0] & 16)
		commands_end(&a);
	rounds(&a, pair[0], 4);
	/* Nothing is left to be signalled when the agent ends. */
	while (a.children)
		child_remove(&a, a.children);
	agent_done(&a);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
