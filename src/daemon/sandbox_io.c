/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The traffic of one sandbox's agent channel. Reads go to the daemon's shared buffer; output frames
 * leave for their client from there, before the next read. The payload of a large output frame is not
 * read: once its head was checked it goes on by reference (relay.h), and behind it only the next head is
 * read, so that most of a flood never enters this process.
 *
 * A sandbox with a single open stream is not read while that stream's client is behind: the bytes stay
 * in the socket and the agent is held back by it. With several streams everything is read, and what a
 * slow client has not taken is queued, at most as much as it gave credit for.
 *
 * The first violation, or the end of the channel, ends the sandbox and nothing else.
 */
#include "daemon/sandbox_io.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "daemon/adopt.h"
#include "daemon/exec.h"
#include "daemon/fsrelay.h"
#include "daemon/layerload.h"
#include "daemon/publish.h"
#include "daemon/sandbox.h"
#include "daemon/tcprelay.h"

/* What one round takes of a channel; then the others have their turn. */
#define BYTES_PER_ROUND (2u * SCRATCH_SIZE)
#define OUTPUT_HEAD (sizeof(struct brig_frame_hdr) + 8)

static void on_attached(void *ctx)
{
	sandbox_check_ready(ctx);
}

static void on_resumed(void *ctx, struct chan_stream *s, const struct brig_resumed *m)
{
	(void)ctx;
	exec_on_resumed(s->owner, m);
}

static void on_taken(void *ctx)
{
	struct sandbox *sb = ctx;
	adopt_settled(sb);
	sandbox_check_ready(sb);
}

static void on_started(void *ctx, struct chan_stream *s, const struct brig_started *m)
{
	(void)ctx;
	exec_on_started(s->owner, m);
}

static void on_output(void *ctx, struct chan_stream *s, int out, uint64_t offset, const uint8_t *p,
		      size_t n)
{
	(void)ctx;
	exec_on_output(s->owner, out, offset, p, n);
}

static const struct tcp_end *tcp_end_of(const struct chan_stream *s)
{
	return s->owner;
}

static void on_credit(void *ctx, struct chan_stream *s, uint32_t bytes)
{
	(void)ctx;
	if (s->kind == STREAM_EXEC)
		exec_on_credit(s->owner, bytes);
	else if (s->kind == STREAM_FS && s->host)
		layerload_on_credit(s->owner);
	else if (s->kind == STREAM_FS)
		fs_on_credit(s->owner, bytes);
	else
		tcp_end_of(s)->ops->credit(s->owner);
}

static void on_exited(void *ctx, struct chan_stream *s, const struct brig_exit *m)
{
	(void)ctx;
	exec_on_exited(s->owner, m);
}

static void on_fs_frame(void *ctx, struct chan_stream *s, const struct frame *f)
{
	(void)ctx;
	if (s->host)
		layerload_on_frame(s->owner, f);
	else
		fs_on_frame(s->owner, f);
}

static void on_fs_data(void *ctx, struct chan_stream *s, const uint8_t *p, size_t n, bool eof)
{
	(void)ctx;
	if (!s->host) /* an import has no data for us */
		fs_on_data(s->owner, p, n, eof);
}

static void on_tcp_opened(void *ctx, struct chan_stream *s, const struct brig_tcp_opened *m)
{
	(void)ctx;
	tcp_end_of(s)->ops->opened(s->owner, m);
}

static void on_tcp_data(void *ctx, struct chan_stream *s, const uint8_t *p, size_t n, bool eof)
{
	(void)ctx;
	tcp_end_of(s)->ops->data(s->owner, p, n, eof);
}

static void on_tcp_done(void *ctx, struct chan_stream *s, int err)
{
	(void)ctx;
	tcp_end_of(s)->ops->done(s->owner, err);
}

static const struct chan_ops chan_ops = {
	.attached = on_attached,
	.resumed = on_resumed,
	.taken = on_taken,
	.started = on_started,
	.output = on_output,
	.credit = on_credit,
	.exited = on_exited,
	.fs_frame = on_fs_frame,
	.fs_data = on_fs_data,
	.tcp_opened = on_tcp_opened,
	.tcp_data = on_tcp_data,
	.tcp_done = on_tcp_done,
};

static void io_update(struct sandbox *sb)
{
	uint32_t events = (sb->paused ? 0 : (uint32_t)EPOLLIN) |
			  (chan_queued(&sb->chan) && !sb->chan.held ? (uint32_t)EPOLLOUT : 0);
	if (sb->chan_open)
		ev_io_set(&sb->d->ev, sb->chan_io, events);
}

void sandbox_pause(struct sandbox *sb)
{
	if (sb->paused || sb->chan.nopen > 1)
		return;
	sb->paused = true;
	io_update(sb);
}

void sandbox_resume(struct sandbox *sb)
{
	if (!sb->paused)
		return;
	sb->paused = false;
	io_update(sb);
}

void sandbox_sent(struct sandbox *sb, int r)
{
	/* An agent that is gone shows at the reading side, behind what it still had to say. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
		sandbox_fault(sb, r == -ENOBUFS ? "the agent does not read its channel"
						: "cannot write to the agent's channel");
		return;
	}
	if (chan_queued(&sb->chan))
		io_update(sb);
}

void sandbox_greet(struct sandbox *sb)
{
	int r = chan_flush(&sb->chan);
	sandbox_sent(sb, r < 0 ? r : 0);
}

bool sandbox_has_room(const struct sandbox *sb)
{
	return !sb->chan_open || chan_queued(&sb->chan) < CHAN_QUEUE_HIGH;
}

/* The channel's queue has emptied: clients that were held back may be read again. */
static void io_drained(struct sandbox *sb)
{
	struct exec *x;
	struct conn *c, *next;
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
		if (x->conn)
			conn_update(x->conn);
	for (c = LIST_FIRST(&sb->fs_conns); c; c = LIST_NEXT(c, peer))
		conn_update(c);
	for (c = LIST_FIRST(&sb->tcp_conns); c; c = next) {
		next = LIST_NEXT(c, peer);
		tcp_drained(c);
	}
	layerload_drained(sb);
	publish_drained(sb);
}

/* What was read has left for its clients, or is queued for them. */
static void io_passed(struct sandbox *sb)
{
	struct exec *x, *next;
	for (x = LIST_FIRST(&sb->execs); x && sb->chan_open; x = next) {
		next = LIST_NEXT(x, link);
		exec_passed(x);
	}
}

/* The only reader of this channel is behind: leave the rest in the socket. */
static void io_hold_back(struct sandbox *sb)
{
	struct exec *x;
	if (sb->chan.nopen != 1)
		return;
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link)) {
		if (x->conn && conn_queued(x->conn)) {
			sandbox_pause(sb);
			return;
		}
	}
}

/* Large output that is due next goes to its client unread. Returns bytes, 0 when there is nothing now, or
 * no room for it; -1 when it has to be read. */
static ssize_t io_relay(struct sandbox *sb)
{
	struct chan_stream *s;
	size_t frame;
	int out;
	size_t due = chan_output_due(&sb->chan, &s, &out, &frame);
	if (!due || frame < RELAY_MIN)
		return -1;
	struct exec *x = s->owner;
	/* The frame that meets the limit of output is cut where it is read. */
	if (exec_unseen_room(x) < due)
		return -1;
	ssize_t n = relay_output(&sb->d->relay, x->conn, out ? BRIG_STDERR : BRIG_STDOUT,
				 s->offset[out], sb->chan.fd, due);
	if (n > 0) {
		sb->relays = true;
		chan_skip(&sb->chan, (size_t)n);
		exec_unseen(x, out, (size_t)n);
	} else if (n == -EAGAIN && sb->chan.nopen == 1) {
		conn_await_room(x->conn);
		sandbox_pause(sb);
		return 0;
	}
	return n < 0 ? -1 : n;
}

/* One read. Returns bytes, 0 when there is nothing now, -1 when the channel ended or broke. */
static ssize_t io_read(struct sandbox *sb, size_t size)
{
	struct brigd *d = sb->d;
	struct brig_err err = BRIG_ERR_INIT;
	ssize_t n = recv(sb->chan.fd, d->scratch, size, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		sandbox_io_stop(sb);
		/* While CREATE is unanswered its ERROR may be on the way, which says more. */
		if (sb->create_seq == 0)
			sandbox_lost(sb, "the agent's channel ended");
		return -1;
	}
	int r = chan_feed(&sb->chan, d->scratch, (size_t)n, &err);
	conn_gather_flush(d);
	io_passed(sb);
	io_hold_back(sb);
	if (r < 0) {
		sandbox_fault(sb, "the agent broke the protocol: %.180s", err.msg);
		sandbox_io_stop(sb);
		return -1;
	}
	return n;
}

static void io_event(void *ctx, uint32_t events)
{
	struct sandbox *sb = ctx;
	if (events & EPOLLOUT) {
		int r = chan_flush(&sb->chan);
		sandbox_sent(sb, r < 0 ? r : 0);
		if (r == 0 || r == -EPIPE) {
			io_update(sb);
			io_drained(sb);
		}
	}
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	for (size_t moved = 0; moved < BYTES_PER_ROUND && sb->chan_open && !sb->paused;) {
		ssize_t n = io_relay(sb);
		if (n < 0) {
			/* Behind relayed output most often comes more of it: its head alone is read. */
			size_t size = sb->relays && framer_idle(&sb->chan.in) ? OUTPUT_HEAD
									      : SCRATCH_SIZE;
			n = io_read(sb, size);
			if (n != 0)
				sb->relays = false;
			/* A short read took all there was. */
			if (n < (ssize_t)(size == OUTPUT_HEAD ? size : BRIG_FRAME_MAX / 4))
				return;
		}
		if (n == 0)
			return;
		moved += (size_t)n;
	}
}

void sandbox_drain_chan(struct sandbox *sb)
{
	/* Bounded by the credit that is left, and by its rules; one frame needs at most two reads.
	 */
	for (int i = 0; i < 1024 && sb->chan_open; i++)
		if (io_read(sb, SCRATCH_SIZE) <= 0)
			return;
}

int sandbox_io_open(struct sandbox *sb, int fd)
{
	uint8_t nonce[16];
	if (getrandom(nonce, sizeof(nonce), 0) != sizeof(nonce))
		return -EIO;
	chan_init(&sb->chan, fd, nonce, &chan_ops, sb);
	int r = ev_io_add(&sb->d->ev, fd, EPOLLIN, io_event, sb, &sb->chan_io);
	if (r < 0) {
		chan_done(&sb->chan);
		return r;
	}
	sb->chan_open = true;
	return 0;
}

void sandbox_io_take_over(struct sandbox *sb)
{
	chan_take_over(&sb->chan);
	sb->taking = true;
}

void sandbox_io_stop(struct sandbox *sb)
{
	if (!sb->chan_open)
		return;
	sb->chan_open = false;
	sb->chan.failed = true;
	ev_io_del(&sb->d->ev, &sb->chan_io);
}

void sandbox_io_close(struct sandbox *sb)
{
	sandbox_io_stop(sb);
	chan_done(&sb->chan);
}
