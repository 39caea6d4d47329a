/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * An operation is a socket pair whose other end went through the door. REQ is in the socket before
 * brigd gets its end, so no round trip stands before the request. brigd is trusted to say what
 * happens to sandboxes, but its bytes are checked like anybody's: a frame that breaks the rules
 * ends its operation with `failed` and nothing else.
 *
 * - REPLY: REQ is on its way; only REP may come, or END of a command that could not be started. A
 * text of BRIG_FRAME_MAX bytes is continued in the next frame of the same type. Leaves to STREAM
 * or OVER.
 *
 * - STREAM: frames of agents, handed on; leaves to OVER by END, also a text in parts.
 *
 * - OVER: no callback follows. The socket is closed; the memory is freed when the round ends,
 * because handlers further up the stack may still look at it.
 *
 * Reading goes through one buffer of the link. What a held or incomplete frame leaves over moves to
 * the operation's own. While an operation is held its socket is not polled at all: the kernel's
 * buffers fill and brigd stops reading the sandbox.
 *
 * brigd may be slow to fetch ends from the door. Those that the door does not take wait, in order.
 */
#include "api/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"

#define SCRATCH_SIZE (256u * 1024u)
#define READS_PER_ROUND 4
#define NOTES_AT_ONCE 64u
/* REP or END in all its parts. */
#define TEXT_MAX (16u * 1024u * 1024u)

enum phase { LINK_REPLY, LINK_STREAM, LINK_OVER };

struct link_op {
	struct link *link; /* NULL once over */
	struct ev *ev;
	LIST_ENTRY(link_op) all;
	TAILQ_ENTRY(link_op) waiting;
	const struct link_ops *ops;
	void *ctx;
	enum phase phase;
	bool streams, held, above;
	int fd;
	int door_end; /* brigd's end while it waits for the door */
	struct ev_io io;
	struct buf rx, tx;
	struct buf text; /* REP or END so far */
	struct ev_task kick, grave;
};

LIST_HEAD(link_op_list, link_op);
TAILQ_HEAD(link_op_queue, link_op);

struct link {
	struct ev *ev;
	int door;
	struct link_notes notes;
	struct ev_timer again; /* notes are asked for again; armed: they are left alone */
	struct ev_io io;
	bool lost;
	struct link_op_list all;
	struct link_op_queue waiting;
	unsigned nops;
	uint8_t scratch[SCRATCH_SIZE];
};

/* ---- an operation's end ---- */

static void op_free(void *ctx)
{
	struct link_op *op = ctx;
	buf_done(&op->rx);
	buf_done(&op->tx);
	buf_done(&op->text);
	free(op);
}

static void op_over(struct link_op *op)
{
	struct link *l = op->link;
	if (op->phase == LINK_OVER)
		return;
	op->phase = LINK_OVER;
	op->link = NULL;
	ev_io_del(op->ev, &op->io);
	fd_close(&op->fd);
	if (op->door_end >= 0) {
		TAILQ_REMOVE(&l->waiting, op, waiting);
		fd_close(&op->door_end);
	}
	LIST_REMOVE(op, all);
	l->nops--;
	ev_task_queue(op->ev, &op->grave);
}

static void op_failed(struct link_op *op, json_t *error)
{
	op_over(op);
	if (op->ops->failed)
		op->ops->failed(op->ctx, error);
}

/* As if brigd had said it. */
static void op_fail(struct link_op *op, enum brig_code code, const char *message)
{
	json_t *error = json_pack("{s:s,s:s,s:n,s:n,s:{},s:b}", "code", brig_code_name(code),
				  "message", message, "cause", "remediation", "details",
				  "retryable", brig_code_retryable(code));
	op_failed(op, error);
	json_decref(error);
}

/* ---- reading ---- */

static void op_watch(struct link_op *op)
{
	uint32_t events = op->held ? 0 : (uint32_t)EPOLLIN;
	if (op->phase == LINK_OVER)
		return;
	if (buf_len(&op->tx))
		events |= EPOLLOUT;
	ev_io_set(op->ev, op->io, events);
}

static void op_reply(struct link_op *op, json_t *rep)
{
	json_t *ok = json_object_get(rep, "ok"), *error = json_object_get(rep, "error");
	if (json_is_object(error)) {
		op_failed(op, error);
	} else if (!json_is_object(ok)) {
		op_fail(op, BRIG_E_PROTOCOL, "brigd's reply is neither ok nor error");
	} else {
		if (op->streams)
			op->phase = LINK_STREAM;
		else
			op_over(op);
		if (op->ops->reply)
			op->ops->reply(op->ctx, ok);
	}
}

static void op_end(struct link_op *op, json_t *status)
{
	json_t *error = json_object_get(status, "error");
	if (json_is_object(error) && json_object_size(status) == 1) {
		op_failed(op, error);
		return;
	}
	op_over(op);
	if (op->ops->end)
		op->ops->end(op->ctx, status);
}

/* A part of REP or END. */
static void op_text(struct link_op *op, const struct frame *f)
{
	json_error_t je;
	if (buf_add(&op->text, f->payload, f->h.len) < 0) {
		op_fail(op, BRIG_E_PROTOCOL, "brigd's answer is too large");
		return;
	}
	if (f->h.len == BRIG_FRAME_MAX)
		return;
	json_t *v = json_loadb((const char *)buf_head(&op->text), buf_len(&op->text),
			       JSON_REJECT_DUPLICATES, &je);
	buf_done(&op->text);
	if (!json_is_object(v))
		op_fail(op, BRIG_E_PROTOCOL, "brigd's answer is no JSON object");
	else if (f->h.type == BRIG_CL_REP)
		op_reply(op, v);
	else
		op_end(op, v);
	json_decref(v);
}

static void op_frame(struct link_op *op, const struct frame *f)
{
	bool rep = f->h.type == BRIG_CL_REP, end = f->h.type == BRIG_CL_END;
	/* A command that could not be started has an END and no REP. */
	bool first = rep || (end && op->streams);
	if ((op->phase == LINK_REPLY ? !first : rep) ||
	    ((rep || end) && (f->h.stream || f->h.flags)) ||
	    (!rep && !end && (buf_len(&op->text) || !(frame_dir(f->h.type) & FRAME_DIR_A))))
		op_fail(op, BRIG_E_PROTOCOL, "brigd's frame is out of order");
	else if (rep || end)
		op_text(op, f);
	else if (op->ops->frame)
		op->ops->frame(op->ctx, f);
}

/* Hands on the whole frames at the head of b. */
static void op_take(struct link_op *op, struct buf *b)
{
	struct frame f;
	while (op->phase != LINK_OVER && !op->held) {
		int r = frame_peek(b, &f);
		if (r == 0)
			return;
		if (r < 0) {
			op_fail(op, BRIG_E_PROTOCOL, "brigd's frame is malformed");
			return;
		}
		size_t n = frame_size(&f);
		op_frame(op, &f);
		buf_consume(b, n);
	}
}

/* One read. Returns what recv() did, or -errno. */
static ssize_t op_read(struct link_op *op)
{
	struct link *l = op->link;
	ssize_t n = recv(op->fd, l->scratch, sizeof(l->scratch), MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	struct buf view = { .mem = l->scratch, .tail = (size_t)n };
	struct buf *b = &view;
	if (buf_len(&op->rx)) {
		b = &op->rx;
		if (buf_add(b, l->scratch, (size_t)n) < 0) {
			op_fail(op, BRIG_E_EXHAUSTED, "out of memory");
			return n;
		}
	}
	op_take(op, b);
	if (op->phase != LINK_OVER && b == &view && buf_len(b) &&
	    buf_add(&op->rx, buf_head(b), buf_len(b)) < 0)
		op_fail(op, BRIG_E_EXHAUSTED, "out of memory");
	return n;
}

static void op_readable(struct link_op *op)
{
	op_take(op, &op->rx); /* a hold may just have ended */
	for (int i = 0; i < READS_PER_ROUND && op->phase != LINK_OVER && !op->held; i++) {
		ssize_t n = op_read(op);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			op_fail(op, BRIG_E_UNAVAILABLE, "the connection to brigd was lost");
			return;
		}
		if ((size_t)n < SCRATCH_SIZE / 4)
			return;
	}
}

/* ---- writing ---- */

/* Sends what the socket takes. */
static int op_flush(struct link_op *op)
{
	while (buf_len(&op->tx)) {
		ssize_t n = send(op->fd, buf_head(&op->tx), buf_len(&op->tx),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* Its last words may lie in the socket: the reader finds the end. */
			buf_consume(&op->tx, buf_len(&op->tx));
			return -EPIPE;
		}
		buf_consume(&op->tx, (size_t)n);
	}
	op_watch(op);
	return 0;
}

static void op_event(void *ctx, uint32_t events)
{
	struct link_op *op = ctx;
	if (events & EPOLLOUT) {
		op_flush(op);
		if (op->above && buf_len(&op->tx) < LINK_QUEUE_HIGH / 2) {
			op->above = false;
			if (op->ops->room)
				op->ops->room(op->ctx);
		}
	}
	if (op->phase == LINK_OVER)
		return;
	if (!op->held)
		op_readable(op);
	if (op->phase != LINK_OVER)
		op_watch(op);
}

/* After a hold: what was left over comes first. */
static void op_kicked(void *ctx)
{
	struct link_op *op = ctx;
	if (op->phase == LINK_OVER || op->held)
		return;
	op_take(op, &op->rx);
	op_watch(op);
}

/* Sends a frame from where it lies, behind nothing. How many bytes of it went, or -errno. */
static ssize_t send_at_once(const struct link_op *op, struct brig_frame_hdr *h, const void *p, size_t n)
{
	struct iovec v[2] = { { h, sizeof(*h) }, { (void *)(uintptr_t)p, n } };
	const struct msghdr m = { .msg_iov = v, .msg_iovlen = n ? 2 : 1 };
	ssize_t r;
	do
		r = sendmsg(op->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	return r;
}

/* Keeps what is left of a frame of which `gone` bytes went. */
static int keep_rest(struct link_op *op, const struct brig_frame_hdr *h, const void *p, size_t n, size_t gone)
{
	size_t head = gone < sizeof(*h) ? gone : sizeof(*h);
	uint8_t *at;
	int r = buf_reserve(&op->tx, sizeof(*h) + n - gone, &at);
	if (r < 0)
		return r;
	memcpy(at, (const uint8_t *)h + head, sizeof(*h) - head);
	if (n > gone - head)
		memcpy(at + sizeof(*h) - head, (const uint8_t *)p + (gone - head), n - (gone - head));
	buf_commit(&op->tx, sizeof(*h) + n - gone);
	return 0;
}

int link_send(struct link_op *op, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
	      size_t n)
{
	struct brig_frame_hdr h = { .len = (uint32_t)n, .type = type, .flags = flags, .stream = stream };
	if (op->phase == LINK_OVER)
		return -EPIPE;
	if (n > BRIG_FRAME_MAX)
		return -EMSGSIZE;
	ssize_t gone = buf_len(&op->tx) ? 0 : send_at_once(op, &h, p, n);
	if (gone < 0 || (size_t)gone == sizeof(h) + n)
		return gone < 0 ? (int)gone : 0;
	int r = keep_rest(op, &h, p, n, (size_t)gone);
	if (r < 0 && gone) {
		/* Half a frame cannot be taken back: the reader finds the end. */
		shutdown(op->fd, SHUT_RDWR);
		return -EPIPE;
	}
	if (r < 0)
		return r;
	r = op_flush(op);
	if (buf_len(&op->tx) > LINK_QUEUE_HIGH)
		op->above = true;
	return r;
}

size_t link_queued(const struct link_op *op)
{
	return buf_len(&op->tx);
}

void link_bulk(struct link_op *op)
{
	op->tx.keep = LINK_QUEUE_HIGH;
}

void link_hold(struct link_op *op, bool hold)
{
	if (op->phase == LINK_OVER || op->held == hold)
		return;
	op->held = hold;
	if (hold)
		op_watch(op);
	else
		ev_task_queue(op->ev, &op->kick);
}

void link_cancel(struct link_op *op)
{
	if (op)
		op_over(op);
}

/* ---- the door ---- */

/* 1: the end went through; 0: the door is full; -errno. */
static int door_pass(struct link *l, int fd)
{
	int r = fd_send(l->door, "c", 1, &fd, 1);
	/* ETOOMANYREFS: too many descriptors of ours are on their way (unix(7)). */
	if (r == -EAGAIN || r == -ETOOMANYREFS)
		return 0;
	return r < 0 ? r : 1;
}

static void door_lost(struct link *l)
{
	struct link_op *op;
	l->lost = true;
	ev_io_del(l->ev, &l->io);
	ev_timer_stop(l->ev, &l->again);
	/* Those inside have sockets of their own, which end by themselves. */
	while ((op = TAILQ_FIRST(&l->waiting)))
		op_fail(op, BRIG_E_UNAVAILABLE, "brigd has ended");
}

static void door_watch(struct link *l)
{
	uint32_t events = EPOLLRDHUP;
	if (!ev_timer_armed(&l->again))
		events |= EPOLLIN;
	if (!TAILQ_EMPTY(&l->waiting))
		events |= EPOLLOUT;
	ev_io_set(l->ev, l->io, events);
}

static void notes_again(void *ctx)
{
	door_watch(ctx);
}

void link_notes(struct link *l, const struct link_notes *notes)
{
	l->notes = *notes;
	if (!ev_timer_armed(&l->again))
		l->again = (struct ev_timer){ .fn = notes_again, .ctx = l };
}

/* One datagram. 1; 0: there is none, or it is left for later; -1: the door is closed. ended: brigd
 * is: what cannot be taken now never will be. */
static int note_take(struct link *l, bool ended)
{
	char note[128];
	if (l->notes.may && !l->notes.may(l->notes.ctx)) {
		if (ended)
			return -1;
		(void)ev_timer_set(l->ev, &l->again, clock_now() + LINK_NOTES_MS * MS_NS);
		return 0;
	}
	ssize_t n = recv(l->door, note, sizeof(note), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return -1;
	if (n > 0 && l->notes.note)
		l->notes.note(l->notes.ctx, note, (size_t)n);
	return n > 0;
}

static void door_event(void *ctx, uint32_t events)
{
	struct link *l = ctx;
	struct link_op *op;
	int more = (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) ? 1 : 0;
	for (unsigned i = 0; i < NOTES_AT_ONCE && more == 1; i++)
		more = note_take(l, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	if (more < 0) {
		door_lost(l);
		return;
	}
	while ((op = TAILQ_FIRST(&l->waiting))) {
		int r = door_pass(l, op->door_end);
		if (r == 0)
			break;
		if (r < 0) {
			door_lost(l);
			return;
		}
		TAILQ_REMOVE(&l->waiting, op, waiting);
		fd_close(&op->door_end);
	}
	door_watch(l);
}

static int op_request(struct link_op *op, const json_t *req, struct brig_err *err)
{
	AUTO_FREE char *text = json_dumps(req, JSON_COMPACT);
	if (!text)
		return brig_fail(err, BRIG_E_INVALID, 0, "the request cannot be written as JSON");
	int r = frame_add(&op->tx, BRIG_CL_REQ, 0, 0, text, strlen(text), NULL, 0);
	if (json_object_get(req, "secret_env") ||
	    json_object_get(json_object_get(req, "spec"), "secret_env"))
		explicit_bzero(text, strlen(text));
	if (r == -EMSGSIZE)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "command, environment and metadata are larger than %u KiB in all",
				 BRIG_FRAME_MAX / 1024);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "prepare the request");
	return 0;
}

/* Opens the pair, sends the request, passes the other end. */
static int op_open(struct link_op *op, const json_t *req, int fd, struct brig_err *err)
{
	struct link *l = op->link;
	int pair[2];
	if (op_request(op, req, err) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "reach brigd");
	AUTO_FD theirs = pair[1];
	op->fd = pair[0];
	int r = ev_io_add(l->ev, op->fd, EPOLLIN, op_event, op, &op->io);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "reach brigd");
	if (fd >= 0) {
		/* The pair is empty: there is room for one byte. */
		r = fd_send(op->fd, buf_head(&op->tx), 1, &fd, 1);
		if (r < 0) {
			ev_io_del(l->ev, &op->io);
			return brig_fail(err, BRIG_E_EXHAUSTED, -r, "hand a file to brigd");
		}
		buf_consume(&op->tx, 1);
	}
	op_flush(op);
	r = TAILQ_EMPTY(&l->waiting) ? door_pass(l, theirs) : 0;
	if (r < 0) {
		ev_io_del(l->ev, &op->io);
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "reach brigd");
	}
	if (r == 0) {
		op->door_end = fd_steal(&theirs);
		TAILQ_INSERT_TAIL(&l->waiting, op, waiting);
		door_watch(l);
	}
	return 0;
}

int link_start(struct link *l, json_t *req, bool streams, const struct link_ops *ops, void *ctx,
	       struct link_op **ret, struct brig_err *err)
{
	return link_start_fd(l, req, -1, streams, ops, ctx, ret, err);
}

int link_start_fd(struct link *l, json_t *req, int fd, bool streams, const struct link_ops *ops, void *ctx,
		  struct link_op **ret, struct brig_err *err)
{
	struct link_op *op = NULL;
	int r = -1;
	if (!req)
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	else if (l->lost)
		brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "brigd has ended");
	else if (l->nops >= LINK_OPS_MAX)
		brig_err_set(err, BRIG_E_BUSY, 0, "%u operations are under way", LINK_OPS_MAX);
	else if (!(op = calloc(1, sizeof(*op))))
		brig_err_set(err, BRIG_E_EXHAUSTED, ENOMEM, "prepare the request");
	if (op) {
		op->link = l;
		op->ev = l->ev;
		op->ops = ops;
		op->ctx = ctx;
		op->streams = streams;
		op->fd = op->door_end = -1;
		op->rx = (struct buf)BUF_INIT(sizeof(struct brig_frame_hdr) + BRIG_FRAME_MAX +
					      SCRATCH_SIZE);
		op->tx = (struct buf)BUF_INIT(LINK_QUEUE_MAX);
		op->text = (struct buf)BUF_INIT(TEXT_MAX);
		op->kick = (struct ev_task){ .fn = op_kicked, .ctx = op };
		op->grave = (struct ev_task){ .fn = op_free, .ctx = op };
		r = op_open(op, req, fd, err);
		if (r < 0) {
			fd_close(&op->fd);
			op_free(op);
		}
	}
	json_decref(req);
	if (r < 0)
		return -1;
	LIST_INSERT_HEAD(&l->all, op, all);
	l->nops++;
	if (ret)
		*ret = op;
	return 0;
}

int link_open(struct ev *ev, int door_fd, struct link **ret, struct brig_err *err)
{
	AUTO_FD door = door_fd;
	struct link *l = calloc(1, sizeof(*l));
	if (!l)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "open the door to brigd");
	l->ev = ev;
	l->door = door;
	LIST_INIT(&l->all);
	TAILQ_INIT(&l->waiting);
	int r = fd_set_nonblock(door, 1);
	if (r == 0)
		r = ev_io_add(ev, door, EPOLLIN | EPOLLRDHUP, door_event, l, &l->io);
	if (r < 0) {
		free(l);
		return brig_fail(err, BRIG_E_INTERNAL, -r, "open the door to brigd");
	}
	fd_steal(&door);
	*ret = l;
	return 0;
}

void link_close(struct link *l)
{
	struct link_op *op;
	if (!l)
		return;
	while ((op = LIST_FIRST(&l->all)))
		op_over(op);
	ev_io_del(l->ev, &l->io);
	ev_timer_stop(l->ev, &l->again);
	fd_close(&l->door);
	free(l);
}

bool link_lost(const struct link *l)
{
	return l->lost;
}
