/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/input.h"

#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/fd.h"

/* Granted again in pieces of this size, so that a CREDIT frame pays for a good deal of data. */
#define GRANT_STEP (INPUT_WINDOW / 4)
#define PIPE_LARGE (1024 * 1024)

static void input_ready(void *ctx, uint32_t events);

void input_none(struct input *in, struct agent *a, uint32_t stream)
{
	*in = (struct input){ .agent = a, .stream = stream, .fd = -1 };
}

int input_start(struct input *in, struct agent *a, uint32_t stream, int fd, bool tty)
{
	*in = (struct input){
		.agent = a,
		.stream = stream,
		.fd = fd,
		.waiting = BUF_INIT(INPUT_WINDOW),
		.credit = INPUT_WINDOW,
		.tty = tty,
		.open = true,
	};
	int r = ev_io_add(&a->ev, fd, 0, input_ready, in, &in->io);
	if (r < 0) {
		fd_close(&in->fd);
		return r;
	}
	a->chan.bulk_streams++;
	return 0;
}

void input_done(struct input *in)
{
	if (in->fd >= 0) {
		ev_io_del(&in->agent->ev, &in->io);
		in->agent->chan.bulk_streams--;
	}
	fd_close(&in->fd);
	buf_done(&in->waiting);
}

/* A terminal has no end of file to close: its line discipline makes one of the EOF character, which
 * ends the line so far where there is one. */
static void input_eof_tty(struct input *in)
{
	struct termios t;
	uint8_t c[2] = { 4, 4 };
	if (tcgetattr(in->fd, &t) == 0 && t.c_cc[VEOF] != _POSIX_VDISABLE)
		c[0] = c[1] = t.c_cc[VEOF];
	ssize_t r = write(in->fd, c, in->mid_line ? 2 : 1);
	(void)r; /* a full terminal takes no end of file either */
}

static void input_grant(struct input *in, size_t n)
{
	in->owed += (uint32_t)n;
	if (in->owed < GRANT_STEP || !in->open)
		return;
	struct brig_credit m = { .chan = BRIG_CHAN_STDIN, .bytes = in->owed };
	in->credit += in->owed;
	in->owed = 0;
	chan_send(&in->agent->chan, BRIG_CREDIT, in->stream, &m, sizeof(m), NULL, 0);
}

/* Nothing waits: an end of file that came meanwhile takes effect. */
static void input_drained(struct input *in)
{
	if (!in->open && in->tty)
		input_eof_tty(in);
	if (!in->open && !in->tty)
		input_done(in);
	else
		ev_io_set(&in->agent->ev, in->io, 0);
}

static void input_ready(void *ctx, uint32_t events)
{
	struct input *in = ctx;
	(void)events;
	ssize_t r = buf_write_fd(&in->waiting, in->fd);
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		/* Nobody reads it any more. No further grant: the host stops by itself. */
		input_done(in);
		return;
	}
	input_grant(in, (size_t)r);
	if (buf_len(&in->waiting) == 0)
		input_drained(in);
}

static int input_write(struct input *in, const uint8_t *p, size_t n)
{
	size_t put = 0;
	if (buf_len(&in->waiting) == 0) {
		ssize_t r = write(in->fd, p, n);
		if (r < 0 && errno != EAGAIN && errno != EINTR) {
			input_done(in);
			return 0;
		}
		put = r > 0 ? (size_t)r : 0;
		input_grant(in, put);
	}
	if (put == n)
		return 0;
	if (!in->grown && !in->tty) {
		in->grown = true;
		fcntl(in->fd, F_SETPIPE_SZ, PIPE_LARGE);
	}
	int r = buf_add(&in->waiting, p + put, n - put);
	return r < 0 ? r : ev_io_set(&in->agent->ev, in->io, EPOLLOUT);
}

int input_data(struct input *in, const uint8_t *p, size_t n, bool eof)
{
	if (n > in->credit || (n && !in->open))
		return -EPROTO;
	in->credit -= (uint32_t)n;
	if (eof)
		in->open = false;
	if (in->fd < 0)
		return 0;
	if (n) {
		in->mid_line = p[n - 1] != '\n';
		int r = input_write(in, p, n);
		if (r < 0)
			return r;
	}
	if (eof && in->fd >= 0 && buf_len(&in->waiting) == 0)
		input_drained(in);
	return 0;
}
