/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The peer is a local program of the same user or of root, not a tenant; its bytes are checked all
 * the same, and none of them can cost more than its own connection and what it started.
 *
 * Reading: one buffer of the daemon is shared by all connections and channels; the framer hands
 * data frames on from there. While REQ is awaited the read takes descriptors; afterwards plain
 * recv() lets the kernel drop descriptors that nobody expects.
 *
 * Writing: a frame goes to the socket at once. What the socket did not take is queued, and from
 * then on everything is, until the queue has left. Output of a command is gathered first, so that
 * all frames of one read leave in one writev() straight from the read buffer.
 *
 * END is followed by a shutdown of our direction and not by close(): closing a unix socket with
 * unread input would turn the client's end of file into ECONNRESET.
 */
#include "daemon/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "daemon/daemon.h"
#include "daemon/ops.h"
#include "daemon/stop.h"

#define READS_PER_ROUND 4

static const struct framer_ops conn_rx_ops;

static void conn_free(void *ctx)
{
	struct conn *c = ctx;
	framer_done(&c->in);
	buf_done(&c->tx);
	free(c);
}

void conn_update(struct conn *c)
{
	if (c->gone)
		return;
	uint32_t events = EPOLLRDHUP;
	bool held = c->phase == CONN_REQUEST && !c->d->host_known;
	if (c->role && c->role->may_read && !c->role->may_read(c))
		held = true;
	if (!held)
		events |= EPOLLIN;
	if (buf_len(&c->tx) || c->wants_room)
		events |= EPOLLOUT;
	/* The other end of a socket that was shut down has nothing more to tell but its close. */
	ev_io_set(&c->d->ev, c->io, events);
}

void conn_await_room(struct conn *c)
{
	c->wants_room = true;
	conn_update(c);
}

void conn_drop(struct conn *c)
{
	struct brigd *d = c->d;
	if (c->gone)
		return;
	c->gone = true;
	ev_io_del(&d->ev, &c->io);
	fd_close(&c->fd);
	for (unsigned i = 0; i < c->nfds; i++)
		fd_close(&c->fds[i]);
	c->nfds = 0;
	ev_timer_stop(&d->ev, &c->deadline);
	if (d->gather.c == c)
		d->gather = (struct gather){ .c = NULL };
	const struct conn_role *role = c->role;
	c->role = NULL;
	if (role)
		role->gone(c);
	LIST_REMOVE(c, all);
	d->nconns--;
	ev_task_queue(&d->ev, &c->grave);
	brigd_conn_left(d);
}

static void conn_expired(void *ctx)
{
	struct conn *c = ctx;
	if (c->phase == CONN_REQUEST)
		log_line(&c->d->log, LOG_WARN, NULL, "client sent no whole request within %u s",
			 CONN_REQUEST_DEADLINE_MS / 1000);
	conn_drop(c);
}

void conn_set_role(struct conn *c, enum conn_phase phase, const struct conn_role *role, void *op)
{
	if (c->gone)
		return;
	c->phase = phase;
	c->role = role;
	c->op = op;
	conn_update(c);
}

/* Nothing more will be queued; when the queue is empty our direction ends. */
static void conn_finish(struct conn *c)
{
	if (c->gone || c->shut || buf_len(&c->tx))
		return;
	c->shut = true;
	shutdown(c->fd, SHUT_WR);
	ev_timer_set(&c->d->ev, &c->deadline, clock_now() + CONN_CLOSE_DEADLINE_MS * MS_NS);
	conn_update(c);
	brigd_conn_told(c->d);
}

static void conn_write(struct conn *c, struct iovec *iov, unsigned n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t put = 0;
	if (c->gone || c->shut)
		return;
	if (buf_len(&c->tx) == 0) {
		put = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if (put < 0 && errno != EAGAIN && errno != EINTR) {
			conn_drop(c);
			return;
		}
		put = put < 0 ? 0 : put;
	}
	for (unsigned i = 0; i < n; i++) {
		size_t skip = (size_t)put < iov[i].iov_len ? (size_t)put : iov[i].iov_len;
		put -= (ssize_t)skip;
		if (buf_add(&c->tx, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip) < 0) {
			log_line(&c->d->log, LOG_WARN, NULL, "client does not read, dropping it");
			conn_drop(c);
			return;
		}
	}
	if (buf_len(&c->tx))
		conn_update(c);
}

void conn_frame(struct conn *c, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
		size_t n)
{
	struct brig_frame_hdr h = {
		.len = (uint32_t)n, .type = type, .flags = flags, .stream = stream
	};
	struct iovec iov[2] = { { .iov_base = &h, .iov_len = sizeof(h) },
				{ .iov_base = (void *)(uintptr_t)p, .iov_len = n } };
	if (c->d->gather.c == c)
		conn_gather_flush(c->d);
	conn_write(c, iov, n ? 2 : 1);
}

void conn_gather_flush(struct brigd *d)
{
	struct gather *g = &d->gather;
	struct conn *c = g->c;
	unsigned n = g->n;
	g->c = NULL;
	g->n = 0;
	if (c)
		conn_write(c, g->iov, 2 * n);
}

void conn_bulk(struct conn *c, uint16_t type, uint16_t flags, uint32_t stream,
	       const uint64_t *offset, const uint8_t *p, size_t n)
{
	struct gather *g = &c->d->gather;
	if (c->gone)
		return;
	if (g->c && (g->c != c || g->n == GATHER_MAX))
		conn_gather_flush(c->d);
	if (c->gone)
		return;
	size_t extra = offset ? sizeof(*offset) : 0;
	struct brig_frame_hdr h = {
		.len = (uint32_t)(n + extra), .type = type, .flags = flags, .stream = stream
	};
	memcpy(g->head[g->n], &h, sizeof(h));
	if (offset)
		memcpy(g->head[g->n] + sizeof(h), offset, extra);
	g->iov[2 * g->n] =
		(struct iovec){ .iov_base = g->head[g->n], .iov_len = sizeof(h) + extra };
	g->iov[2 * g->n + 1] = (struct iovec){ .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	g->c = c;
	g->n++;
}

static void conn_json(struct conn *c, uint16_t type, json_t *obj, bool last)
{
	char *text = obj ? json_dumps(obj, JSON_COMPACT) : NULL;
	json_decref(obj);
	/* An answer beyond one frame (ls of thousands of sandboxes) goes out in several; the client
	 * joins REP or END frames until one is shorter than the maximum. */
	if (text && !c->gone) {
		size_t n = strlen(text);
		for (size_t at = 0;; at += BRIG_FRAME_MAX) {
			size_t k = n - at < BRIG_FRAME_MAX ? n - at : BRIG_FRAME_MAX;
			conn_frame(c, type, 0, 0, text + at, k);
			if (k < BRIG_FRAME_MAX)
				break;
		}
	} else if (!c->gone) {
		log_line(&c->d->log, LOG_ERROR, NULL,
			 "cannot compose an answer, dropping the client");
		conn_drop(c);
	}
	free(text);
	if (last && !c->gone) {
		conn_set_role(c, CONN_CLOSING, NULL, NULL);
		ev_timer_stop(&c->d->ev, &c->deadline);
		conn_finish(c);
	}
}

void conn_ok(struct conn *c, json_t *body)
{
	conn_json(c, BRIG_CL_REP, json_pack("{s:o}", "ok", body ? body : json_object()), false);
}

void conn_ok_last(struct conn *c, json_t *body)
{
	conn_json(c, BRIG_CL_REP, json_pack("{s:o}", "ok", body ? body : json_object()), true);
}

void conn_error(struct conn *c, const struct brig_err *err)
{
	conn_json(c, BRIG_CL_REP, json_pack("{s:o}", "error", err_json(err)), true);
}

void conn_end(struct conn *c, json_t *status)
{
	conn_json(c, BRIG_CL_END, status, true);
}

void conn_end_error(struct conn *c, const struct brig_err *err)
{
	conn_json(c, BRIG_CL_END, json_pack("{s:o}", "error", err_json(err)), true);
}

void conn_abort(struct conn *c, const struct brig_err *err)
{
	const struct conn_role *role = c->role;
	enum conn_phase phase = c->phase;
	if (c->gone)
		return;
	c->role = NULL;
	if (role)
		role->gone(c);
	if (c->gone || phase == CONN_CLOSING)
		return;
	if (phase == CONN_STREAM)
		conn_end_error(c, err);
	else
		conn_error(c, err);
}

static int rx_shape(void *ctx, const struct brig_frame_hdr *h, enum framer_shape *ret,
		    uint32_t *ret_prefix)
{
	struct conn *c = ctx;
	*ret_prefix = 0;
	if (c->phase == CONN_REQUEST) {
		if (h->type != BRIG_CL_REQ || h->stream != 0 || h->flags != 0)
			return brig_fail(c->err, BRIG_E_PROTOCOL, 0,
					 "the first frame is no request (type %u)", h->type);
		return 0;
	}
	if (c->phase != CONN_STREAM || !c->role || !c->role->shape)
		return brig_fail(c->err, BRIG_E_PROTOCOL, 0, "frame type %u while none is expected",
				 h->type);
	return c->role->shape(c, h, ret, c->err);
}

static int rx_frame(void *ctx, const struct frame *f)
{
	struct conn *c = ctx;
	int r = 0;
	if (c->phase == CONN_REQUEST) {
		ev_timer_stop(&c->d->ev, &c->deadline);
		c->phase = CONN_WAIT;
		ops_request(c, f->payload, f->h.len);
		for (unsigned i = 0; i < c->nfds; i++)
			fd_close(&c->fds[i]);
		c->nfds = 0;
	} else {
		r = c->role->frame(c, f, c->err);
	}
	if (r < 0)
		return r;
	return c->gone || c->phase == CONN_CLOSING ? -ECANCELED : 0;
}

static int rx_open(void *ctx, const struct brig_frame_hdr *h, const uint8_t *prefix)
{
	(void)ctx;
	(void)h;
	(void)prefix;
	return 0;
}

static int rx_data(void *ctx, const struct brig_frame_hdr *h, const uint8_t *p, size_t n, bool last)
{
	struct conn *c = ctx;
	/* The role can have changed in the middle of a data frame only by the end of the operation.
	 */
	if (!c->role || !c->role->data)
		return -ECANCELED;
	int r = c->role->data(c, h, p, n, last, c->err);
	if (r < 0)
		return r;
	return c->gone || c->phase == CONN_CLOSING ? -ECANCELED : 0;
}

static const struct framer_ops conn_rx_ops = {
	.shape = rx_shape, .frame = rx_frame, .open = rx_open, .data = rx_data
};

void conn_feed(struct conn *c, const uint8_t *p, size_t n)
{
	struct brig_err err = BRIG_ERR_INIT;
	c->err = &err;
	int r = framer_feed(&c->in, p, n);
	c->err = NULL;
	if (r >= 0 || r == -ECANCELED)
		return;
	if (err.code == BRIG_E_OK)
		brig_err_set(&err, BRIG_E_PROTOCOL, 0, "malformed frame header");
	conn_abort(c, &err);
}

/* One read. Returns bytes, 0 when nothing is there, -1 at the end of the stream. */
static ssize_t conn_read(struct conn *c)
{
	uint8_t *buf = c->d->scratch;
	ssize_t n;
	if (c->phase == CONN_REQUEST) {
		int fds[JAIL_VOLUMES_MAX];
		unsigned nfds = JAIL_VOLUMES_MAX - c->nfds;
		n = fd_recv(c->fd, buf, BRIG_FRAME_MAX, fds, &nfds, MSG_DONTWAIT);
		if (n == -EMSGSIZE) {
			struct brig_err err = BRIG_ERR_INIT;
			brig_err_set(&err, BRIG_E_INVALID, 0,
				     "more than %u descriptors with a request", JAIL_VOLUMES_MAX);
			conn_abort(c, &err);
			return 0;
		}
		for (unsigned i = 0; n >= 0 && i < nfds; i++)
			c->fds[c->nfds++] = fds[i];
	} else {
		n = recv(c->fd, buf, SCRATCH_SIZE, MSG_DONTWAIT);
		n = n < 0 ? -errno : n;
	}
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0)
		return -1;
	if (c->phase != CONN_CLOSING)
		conn_feed(c, buf, (size_t)n);
	return n;
}

void conn_poll(struct conn *c)
{
	for (int i = 0; i < READS_PER_ROUND && !c->gone; i++) {
		ssize_t n = conn_read(c);
		if (n < 0)
			conn_drop(c);
		if (n <= 0)
			return;
		if (c->role && c->role->may_read && !c->role->may_read(c)) {
			conn_update(c);
			return;
		}
		/* Small frames come alone; a second read would find nothing. */
		if ((size_t)n < BRIG_FRAME_MAX / 4)
			return;
	}
}

static void conn_event(void *ctx, uint32_t events)
{
	struct conn *c = ctx;
	if (events & EPOLLOUT) {
		ssize_t n = buf_write_fd(&c->tx, c->fd);
		if (n < 0 && n != -EAGAIN) {
			conn_drop(c);
			return;
		}
		if (buf_len(&c->tx) == 0) {
			c->wants_room = false;
			conn_update(c);
			if (c->phase == CONN_CLOSING)
				conn_finish(c);
			else if (c->role && c->role->drained)
				c->role->drained(c);
		}
	}
	if (c->gone)
		return;
	if (events & EPOLLIN)
		conn_poll(c);
	else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn_drop(c); /* held back, so what it may still have sent has nowhere to go */
}

struct conn *conn_new(struct brigd *d, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	if (!c || fd_set_nonblock(fd, 1) < 0) {
		free(c);
		fd_close(&fd);
		return NULL;
	}
	c->d = d;
	c->fd = fd;
	c->tx = (struct buf)BUF_INIT(CONN_QUEUE_MAX);
	c->deadline = (struct ev_timer){ .fn = conn_expired, .ctx = c };
	c->grave = (struct ev_task){ .fn = conn_free, .ctx = c };
	framer_init(&c->in, &conn_rx_ops, c);
	/* Room for a burst of output; the kernel may give less. */
	int room = 1024 * 1024;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	uint32_t events = EPOLLRDHUP | (d->host_known ? (uint32_t)EPOLLIN : 0);
	if (ev_io_add(&d->ev, fd, events, conn_event, c, &c->io) < 0 ||
	    ev_timer_set(&d->ev, &c->deadline, clock_now() + CONN_REQUEST_DEADLINE_MS * MS_NS) <
		    0) {
		ev_io_del(&d->ev, &c->io);
		fd_close(&fd);
		free(c);
		return NULL;
	}
	LIST_INSERT_HEAD(&d->conns, c, all);
	d->nconns++;
	return c;
}
