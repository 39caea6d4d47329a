/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One thread, one poll() loop between five descriptors: the server's socket, our three standard
 * ones, and a signalfd. (poll, not epoll: standard input may be a regular file, which epoll
 * refuses.)
 *
 * Output is written from the receive buffer itself. A frame's payload is passed on as it arrives,
 * in pieces, so that no frame has to be complete first. What a slow reader does not take is queued
 * for each output apart: a full stdout does not stop stderr. The queue is bounded by the credit
 * that we gave, and credit is given back only as bytes are written, so memory stays flat however
 * much flows. Input is read only as far as the command granted credit for it.
 *
 * Bulk output is not even read. Behind a large frame only the head of the next is received, and where
 * the output is a pipe the payload moves from socket to pipe by splice(). While an output is full the
 * socket is left alone, and with it what comes behind: but only as long as its reader keeps a pace
 * (out.h). What a slow reader does not take is read and queued as said above.
 *
 * When an output cannot be written any more (its reader is gone, the disk is full) nobody wants
 * what the command still has to say: it is killed by CLOSE, and brig ends with 141 (128 + SIGPIPE)
 * or 125.
 *
 * Signals are the matter of stream_signal.c.
 */
#include "cli/stream.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/stream_state.h"

#define HDR sizeof(struct brig_frame_hdr)
/* Several frames a read: measured, fewer and larger reads stopped paying at 1 MiB. */
#define RX_SIZE (1024u * 1024u)
/* Credit goes back in pieces of this size. */
#define GRANT (BRIG_CLIENT_CREDIT / 4)
#define STDIN_PIECE (256u * 1024u)
_Static_assert(STDIN_PIECE <= BRIG_FRAME_MAX, "one frame");
/* After CLOSE the server has this long to say how it ended. */
#define CLOSE_NS (2 * SEC_NS)
/* Frames from this size on are worth the calls. */
#define BULK_MIN (32u * 1024u)
/* What one round takes of the socket; then signals and input have their turn. */
#define BULK_ROUND (1024u * 1024u)

static int violation(struct stream *s, const char *what)
{
	return brig_fail(s->err, BRIG_E_PROTOCOL, 0, "the server broke the protocol: %s", what);
}

int stream_send(struct stream *s, uint16_t type, const void *p, size_t n)
{
	return conn_send(s->c, type, 0, BRIG_CLIENT_STREAM, p, n, s->err);
}

int stream_close(struct stream *s)
{
	if (s->closing || s->phase == ENDED)
		return 0;
	s->closing = true;
	s->give_up = clock_now() + CLOSE_NS;
	return stream_send(s, BRIG_CLOSE, NULL, 0);
}

static int grant(struct stream *s, unsigned i)
{
	struct out *o = &s->out[i];
	if (s->phase != RUNNING || s->closing || o->written < GRANT)
		return 0;
	struct brig_credit m = { .chan = i ? BRIG_CHAN_STDERR : BRIG_CHAN_STDOUT,
				 .bytes = (uint32_t)o->written }; /* <= the credit */
	s->may_send[i] += o->written;
	o->written = 0;
	return stream_send(s, BRIG_CREDIT, &m, sizeof(m));
}

/* The output's descriptor took or refused bytes: what follows from that. */
static int out_moved(struct stream *s, unsigned i)
{
	if (s->out[i].error) {
		if (!s->res->out_error)
			s->res->out_error = s->out[i].error;
		if (!s->o->gaps)
			return stream_close(s);
		s->phase = ENDED; /* logs: only we go */
		return 0;
	}
	return grant(s, i);
}

static int bulk_begin(struct stream *s, const struct brig_frame_hdr *h, const uint8_t *p)
{
	unsigned i = h->type == BRIG_STDERR;
	uint64_t offset;
	memcpy(&offset, p, sizeof(offset));
	uint32_t n = h->len - (uint32_t)sizeof(offset);
	if (n > s->may_send[i])
		return violation(s, "more output than was asked for");
	if (s->offset_known[i] && offset != s->offset[i]) {
		if (!(s->o->gaps || s->attached) || offset < s->offset[i])
			return violation(s, "output at the wrong place");
		s->res->lost += offset - s->offset[i];
	}
	if (__builtin_add_overflow(offset, n, &s->offset[i]))
		return violation(s, "output at the wrong place");
	s->offset_known[i] = true;
	s->may_send[i] -= n;
	s->bulk_out = i;
	s->bulk_left = n;
	s->bulk = n >= BULK_MIN;
	return 0;
}

static int on_reply(struct stream *s, const struct frame *f)
{
	json_t *error = NULL, *rep = NULL;
	if (conn_reply(f, &rep, &error, s->err) < 0) {
		if (!error)
			return -1;
		s->res->error = error;
		s->phase = ENDED;
		return 0;
	}
	s->phase = s->o->detach ? ENDED : RUNNING;
	if (s->res->rep) { /* of the former connection */
		json_decref(rep);
		return 0;
	}
	s->res->rep = rep;
	if (s->o->started)
		s->o->started(s->o->ctx, rep);
	if (s->phase == RUNNING && s->o->tty)
		(void)tty_raw(&s->tty);
	return 0;
}

static int on_credit(struct stream *s, const struct frame *f)
{
	struct brig_credit m;
	if (f->h.len != sizeof(m) || !frame_struct(f, &m, sizeof(m)))
		return violation(s, "malformed CREDIT");
	if (m.chan != BRIG_CHAN_STDIN || m.bytes > BRIG_CREDIT_MAX - s->stdin_credit)
		return violation(s, "CREDIT out of range");
	s->stdin_credit += m.bytes;
	return 0;
}

static int on_frame(struct stream *s, const struct frame *f)
{
	switch (f->h.type) {
	case BRIG_CL_REP:
		if (s->phase != WAIT_REPLY || f->h.stream != 0)
			break;
		return on_reply(s, f);
	case BRIG_CL_END:
		if (s->phase == ENDED)
			break;
		s->phase = ENDED;
		return conn_json(f, &s->res->end, s->err);
	case BRIG_CREDIT:
		if (s->phase != RUNNING || f->h.stream != BRIG_CLIENT_STREAM)
			break;
		return on_credit(s, f);
	}
	return violation(s, "a frame out of order");
}

/* One step of the bytes at head: 1 = something was taken, 0 = more bytes are needed, -1. */
static int take(struct stream *s)
{
	uint8_t *p = s->rx + s->head;
	size_t have = s->tail - s->head;
	struct brig_frame_hdr h;
	if (s->bulk_left) {
		size_t n = have < s->bulk_left ? have : s->bulk_left;
		if (!n)
			return 0;
		if (out_write(&s->out[s->bulk_out], p, n) < 0)
			return brig_fail(s->err, BRIG_E_EXHAUSTED, ENOMEM, "keep output");
		s->head += n;
		s->bulk_left -= (uint32_t)n;
		return out_moved(s, s->bulk_out) < 0 ? -1 : 1;
	}
	if (have < HDR)
		return 0;
	memcpy(&h, p, HDR);
	if (h.len > BRIG_FRAME_MAX || (h.flags & ~BRIG_FF_EOF))
		return violation(s, "malformed frame header");
	if (h.type == BRIG_STDOUT || h.type == BRIG_STDERR) {
		if (s->phase != RUNNING || h.stream != BRIG_CLIENT_STREAM || h.len < 8)
			return violation(s, "output out of order");
		if (have < HDR + 8)
			return 0;
		s->head += HDR + 8;
		return bulk_begin(s, &h, p + HDR) < 0 ? -1 : 1;
	}
	if (have < HDR + h.len)
		return 0;
	struct frame f = { .h = h, .payload = p + HDR };
	s->head += HDR + h.len;
	return on_frame(s, &f) < 0 ? -1 : 1;
}

/* Moves payload of the frame under way on. 1 = go on, 0 = wait, -1; *ret_read = it has to be read. */
static int splice_bulk(struct stream *s, bool *ret_read)
{
	struct out *o = &s->out[s->bulk_out];
	*ret_read = true;
	if (!out_splices(o) || o->slow)
		return 1;
	ssize_t n = out_splice(o, s->c->fd, s->bulk_left);
	if (n == -EOPNOTSUPP)
		return 1;
	*ret_read = false;
	if (n == -EAGAIN || n == 0)
		return 0;
	s->bulk_left -= (uint32_t)n;
	return out_moved(s, s->bulk_out) < 0 ? -1 : 1;
}

/* One read, and what it brought. 1 = go on, 0 = wait, -1. */
static int read_socket(struct stream *s)
{
	int r;
	/* Whatever is incomplete at the head fits behind it, header and all. */
	if (RX_SIZE - s->tail < HDR + BRIG_FRAME_MAX) {
		memmove(s->rx, s->rx + s->head, s->tail - s->head);
		s->tail -= s->head;
		s->head = 0;
	}
	bool head_only = s->bulk && !s->bulk_left && s->head == s->tail;
	size_t room = head_only ? HDR + 8 : RX_SIZE - s->tail;
	s->bulk = s->bulk && s->bulk_left;
	ssize_t n = recv(s->c->fd, s->rx + s->tail, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		s->bulk = s->bulk || head_only;
		return 0;
	}
	if (n < 0 && errno != ECONNRESET)
		return brig_fail(s->err, BRIG_E_UNAVAILABLE, errno, "read from the server");
	if (n <= 0)
		return stream_lost(s);
	s->tail += (size_t)n;
	while ((r = take(s)) == 1 && s->phase != ENDED)
		;
	if (s->head == s->tail)
		s->head = s->tail = 0;
	return r < 0 ? -1 : head_only || (s->bulk_left && out_splices(&s->out[s->bulk_out]));
}

static int on_socket(struct stream *s)
{
	uint64_t until = s->offset[0] + s->offset[1] + BULK_ROUND;
	int r = 1;
	while (r > 0 && s->phase != ENDED && s->offset[0] + s->offset[1] < until) {
		bool read = true;
		if (s->bulk_left && s->head == s->tail)
			r = splice_bulk(s, &read);
		if (r > 0 && read)
			r = read_socket(s);
	}
	return r < 0 ? -1 : 0;
}

static int on_stdin(struct stream *s)
{
	uint8_t *at;
	size_t room = s->stdin_credit < STDIN_PIECE ? (size_t)s->stdin_credit : STDIN_PIECE;
	int r = buf_reserve(&s->c->tx, HDR + room, &at);
	if (r < 0)
		return brig_fail(s->err, BRIG_E_EXHAUSTED, -r, "read standard input");
	ssize_t n = read(s->o->stdin_fd, at + HDR, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* An input that cannot be read has no more to give. A terminal that went away says EIO. */
	struct brig_frame_hdr h = { .len = n > 0 ? (uint32_t)n : 0,
				    .type = BRIG_STDIN,
				    .flags = (uint16_t)(n > 0 ? 0 : BRIG_FF_EOF),
				    .stream = BRIG_CLIENT_STREAM };
	memcpy(at, &h, HDR);
	buf_commit(&s->c->tx, HDR + h.len);
	s->stdin_credit -= h.len;
	s->stdin_sent += h.len + (n <= 0);
	if (n <= 0)
		s->stdin_open = false;
	return conn_flush(s->c, s->err);
}

static bool wants_stdin(const struct stream *s)
{
	return s->phase == RUNNING && !s->closing && s->stdin_open && s->stdin_credit &&
	       !buf_len(&s->c->tx);
}

static bool is_over(const struct stream *s)
{
	if (s->res->signal)
		return true;
	if (s->closing && s->phase != ENDED && clock_now() >= s->give_up)
		return true;
	return s->phase == ENDED && !out_queued(&s->out[0]) && !out_queued(&s->out[1]);
}

static int wait_ms(const struct stream *s, uint64_t hold)
{
	uint64_t at = s->closing && s->phase != ENDED ? s->give_up : 0;
	if (hold && (!at || hold < at))
		at = hold;
	if (!at)
		return -1;
	uint64_t now = clock_now();
	return now >= at ? 0 : (int)((at - now) / MS_NS + 1);
}

/* Until when the socket is to be left alone for the sake of an output; 0 = it is not. */
static uint64_t hold_until(struct stream *s)
{
	bool waits = out_waits(&s->out[0]) || out_waits(&s->out[1]);
	uint64_t now = waits ? clock_now() : 0;
	uint64_t a = out_holds(&s->out[0], now), b = out_holds(&s->out[1], now);
	return a && b ? (a < b ? a : b) : a + b;
}

enum { P_SOCKET, P_STDIN, P_OUT, P_ERR, P_SIGNAL, P__N };

static int stream_round(struct stream *s)
{
	struct pollfd p[P__N];
	uint64_t hold = hold_until(s);
	bool sends = buf_len(&s->c->tx), on = s->phase != ENDED && (!hold || sends);
	p[P_SOCKET] = (struct pollfd){ on ? s->c->fd : -1, hold ? 0 : POLLIN, 0 };
	if (sends)
		p[P_SOCKET].events |= POLLOUT;
	p[P_STDIN] = (struct pollfd){ wants_stdin(s) ? s->o->stdin_fd : -1, POLLIN, 0 };
	p[P_OUT] = (struct pollfd){ out_waits(&s->out[0]) ? s->out[0].fd : -1, POLLOUT, 0 };
	p[P_ERR] = (struct pollfd){ out_waits(&s->out[1]) ? s->out[1].fd : -1, POLLOUT, 0 };
	p[P_SIGNAL] = (struct pollfd){ s->sigfd, POLLIN, 0 };
	if (poll(p, P__N, wait_ms(s, hold)) < 0)
		return errno == EINTR
			       ? 0
			       : brig_fail(s->err, BRIG_E_INTERNAL, errno, "wait for events");
	if (p[P_SIGNAL].revents && stream_on_signal(s) < 0)
		return -1;
	for (unsigned i = 0; i < 2; i++) {
		if (!p[P_OUT + i].revents)
			continue;
		out_flush(&s->out[i]);
		if (out_moved(s, i) < 0)
			return -1;
	}
	if ((p[P_SOCKET].revents & POLLOUT) && conn_flush(s->c, s->err) < 0)
		return -1;
	/* What it waited for may have just come: no need to be told so once more. */
	bool ready = hold ? !hold_until(s) : p[P_SOCKET].revents & ~POLLOUT;
	if (ready && s->phase != ENDED && on_socket(s) < 0)
		return -1;
	if (p[P_STDIN].revents && wants_stdin(s) && on_stdin(s) < 0)
		return -1;
	return 0;
}

int stream_run(struct conn *c, const struct stream_opts *o, struct stream_result *ret,
	       struct brig_err *err)
{
	struct stream s = { .c = c,
			    .o = o,
			    .res = ret,
			    .err = err,
			    .may_send = { BRIG_CLIENT_CREDIT, BRIG_CLIENT_CREDIT },
			    .offset_known = { !o->gaps, !o->gaps },
			    .stdin_open = o->stdin_fd >= 0,
			    .sigfd = -1,
			    .tty = { .fd = o->stdin_fd } };
	*ret = (struct stream_result){ .rep = NULL };
	s.rx = malloc(RX_SIZE);
	if (!s.rx)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare for output");
	/* One frame beyond the credit can be under way when an output begins to wait. */
	for (int i = 0; i < 2; i++)
		out_init(&s.out[i], i + 1, (o->again ? 2 : 1) * (BRIG_CLIENT_CREDIT + BRIG_FRAME_MAX));
	int r = o->signals ? stream_signals_open(&s) : 0;
	while (r == 0 && !is_over(&s))
		r = stream_round(&s);
	tty_restore(&s.tty);
	if (s.sigfd >= 0) {
		fd_close(&s.sigfd);
		sigprocmask(SIG_SETMASK, &s.old_mask, NULL);
	}
	out_done(&s.out[0]);
	out_done(&s.out[1]);
	free(s.rx);
	if (r < 0)
		stream_result_done(ret);
	return r;
}

void stream_result_done(struct stream_result *r)
{
	json_decref(r->rep);
	json_decref(r->error);
	json_decref(r->end);
	*r = (struct stream_result){ .rep = NULL };
}
