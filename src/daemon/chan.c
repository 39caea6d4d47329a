/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * This half of the channel sends and keeps the table of streams; chan_rx.c checks what comes in. A
 * frame goes straight from the caller's memory to the socket; only what the socket did not take is
 * copied to the queue. Numbers of streams are places in the table, so the lowest free one is used
 * first and the table stays as small as the number of commands that ever ran at once.
 *
 * Taking over: what the former host had begun to send ends with a byte that carries a descriptor, which
 * no client could have written (agent_proto.h). Then come ATTACH and a PING; the agent tells what it
 * runs, and the PONG says that this was all. The descriptor is the end of a pipe of its own that nobody
 * writes to.
 */
#include "daemon/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "daemon/chan_rx.h"

void chan_init(struct chan *c, int fd, const uint8_t nonce[16], const struct chan_ops *ops,
	       void *ctx)
{
	*c = (struct chan){
		.fd = fd, .corked = true, .tx = BUF_INIT(CHAN_QUEUE_MAX), .ops = ops, .ctx = ctx
	};
	memcpy(c->nonce, nonce, sizeof(c->nonce));
	framer_init(&c->in, &chan_rx_ops, c);
	struct brig_attach a = { .magic = BRIG_ATTACH_MAGIC, .version = BRIG_AGENT_PROTO_VERSION };
	memcpy(a.nonce, nonce, sizeof(a.nonce));
	/* An allocation that fails here shows as a channel that is never attached. */
	frame_add(&c->tx, BRIG_ATTACH, 0, 0, &a, sizeof(a), NULL, 0);
}

void chan_take_over(struct chan *c)
{
	const uint32_t all[2] = CHAN_TAKEN_MARK;
	c->taking = c->mark = true;
	frame_add(&c->tx, BRIG_PING, 0, 0, all, sizeof(all), NULL, 0);
}

/* 0, 1 if the socket is full, -errno. */
static int mark_send(struct chan *c)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return errno == EMFILE || errno == ENFILE ? 1 : -errno;
	int r = fd_send(c->fd, "", 1, &ends[0], 1);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	if (r == 0)
		c->mark = false;
	return r == -EAGAIN ? 1 : r;
}

void chan_done(struct chan *c)
{
	fd_close(&c->fd);
	for (uint32_t i = 0; i < c->nstreams; i++)
		free(c->streams[i]);
	free(c->streams);
	c->streams = NULL;
	c->nstreams = c->nopen = 0;
	buf_done(&c->tx);
	framer_done(&c->in);
	c->failed = true;
}

int chan_let_go(struct chan *c)
{
	bool waiting = c->held && !c->corked;
	c->held = false;
	return waiting ? chan_flush(c) : 0;
}

int chan_flush(struct chan *c)
{
	c->corked = false;
	if (c->held)
		return 1;
	if (c->mark) {
		int r = mark_send(c);
		if (r)
			return r;
	}
	while (buf_len(&c->tx)) {
		ssize_t n = send(c->fd, buf_head(&c->tx), buf_len(&c->tx), MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		buf_consume(&c->tx, (size_t)n);
	}
	return 0;
}

static int chan_send(struct chan *c, uint16_t type, uint16_t flags, uint32_t stream, const void *p,
		     size_t n)
{
	struct brig_frame_hdr h = {
		.len = (uint32_t)n, .type = type, .flags = flags, .stream = stream
	};
	struct iovec iov[2] = { { .iov_base = &h, .iov_len = sizeof(h) },
				{ .iov_base = (void *)(uintptr_t)p, .iov_len = n } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n ? 2 : 1 };
	ssize_t put = 0;
	if (c->fd < 0)
		return -EPIPE;
	if (n > BRIG_FRAME_MAX)
		return -EMSGSIZE;
	if (buf_len(&c->tx) == 0) {
		put = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if (put < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		put = put < 0 ? 0 : put;
	}
	for (size_t i = 0; i < (n ? 2u : 1u); i++) {
		size_t skip = (size_t)put < iov[i].iov_len ? (size_t)put : iov[i].iov_len;
		put -= (ssize_t)skip;
		int r = buf_add(&c->tx, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
		if (r < 0)
			return r;
	}
	if (c->corked) {
		int r = chan_flush(c);
		return r < 0 ? r : 0;
	}
	return 0;
}

static int stream_at(struct chan *c, uint32_t i, enum stream_kind kind, void *owner,
		     struct chan_stream **ret)
{
	if (i >= c->nstreams) {
		uint32_t n = c->nstreams ? c->nstreams * 2 : 4;
		while (n <= i)
			n *= 2;
		struct chan_stream **v = reallocarray(c->streams, n, sizeof(struct chan_stream *));
		if (!v)
			return -ENOMEM;
		for (uint32_t k = c->nstreams; k < n; k++)
			v[k] = NULL;
		c->streams = v;
		c->nstreams = n;
	}
	struct chan_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->id = i + 1;
	s->kind = kind;
	s->owner = owner;
	c->streams[i] = s;
	c->nopen++;
	*ret = s;
	return 0;
}

static int stream_new(struct chan *c, enum stream_kind kind, void *owner, struct chan_stream **ret)
{
	uint32_t i = 0;
	while (i < c->nstreams && c->streams[i])
		i++;
	return i >= BRIG_STREAMS_MAX ? -EMFILE : stream_at(c, i, kind, owner, ret);
}

struct chan_stream *chan_put(struct chan *c, uint32_t id, void *owner, bool gaps)
{
	struct chan_stream *s = NULL;
	if (id < 1 || id > BRIG_STREAMS_MAX || (id <= c->nstreams && c->streams[id - 1]) ||
	    stream_at(c, id - 1, STREAM_EXEC, owner, &s) < 0)
		return NULL;
	s->gaps = gaps;
	s->put = true;
	return s;
}

void chan_stream_free(struct chan *c, struct chan_stream *s)
{
	c->streams[s->id - 1] = NULL;
	c->nopen -= s->kind != STREAM_CLOSING;
	free(s);
}

int chan_exec(struct chan *c, void *owner, const void *payload, size_t n, struct chan_stream **ret)
{
	struct brig_exec req;
	struct chan_stream *s;
	memcpy(&req, payload, sizeof(req));
	int r = stream_new(c, STREAM_EXEC, owner, &s);
	if (r < 0)
		return r;
	s->credit[0] = req.credit_stdout;
	s->credit[1] = req.credit_stderr;
	s->gaps = req.flags & BRIG_EXEC_DROP;
	r = chan_send(c, BRIG_EXEC, 0, s->id, payload, n);
	if (r < 0) {
		chan_stream_free(c, s);
		return r;
	}
	*ret = s;
	return 0;
}

int chan_fs(struct chan *c, void *owner, uint16_t type, const void *payload, size_t n,
	    struct chan_stream **ret)
{
	struct brig_fs_req req;
	struct chan_stream *s;
	memcpy(&req, payload, sizeof(req));
	int r = stream_new(c, STREAM_FS, owner, &s);
	if (r < 0)
		return r;
	s->fs_type = type;
	s->meta = (type == BRIG_FS_STAT || type == BRIG_FS_LIST) && (req.flags & BRIG_FS_META);
	s->credit[2] = req.credit;
	r = chan_send(c, type, 0, s->id, payload, n);
	if (r < 0) {
		chan_stream_free(c, s);
		return r;
	}
	*ret = s;
	return 0;
}

int chan_tcp(struct chan *c, void *owner, const struct brig_tcp *m, struct chan_stream **ret)
{
	struct chan_stream *s;
	int r = stream_new(c, STREAM_TCP, owner, &s);
	if (r < 0)
		return r;
	s->credit[3] = m->credit;
	r = chan_send(c, BRIG_TCP_CONNECT, 0, s->id, m, sizeof(*m));
	if (r < 0) {
		chan_stream_free(c, s);
		return r;
	}
	*ret = s;
	return 0;
}

int chan_data(struct chan *c, struct chan_stream *s, uint16_t type, const void *p, size_t n,
	      bool eof)
{
	if (n > s->may_send)
		return -EAGAIN;
	s->may_send -= n;
	return chan_send(c, type, eof ? BRIG_FF_EOF : 0, s->id, p, n);
}

int chan_grant(struct chan *c, struct chan_stream *s, int out, uint32_t bytes)
{
	static const uint32_t chans[] = { BRIG_CHAN_STDOUT, BRIG_CHAN_STDERR, BRIG_CHAN_FS,
					  BRIG_CHAN_TCP };
	if (bytes > BRIG_CREDIT_MAX || s->credit[out] > BRIG_CREDIT_MAX - bytes)
		return -ERANGE;
	if (bytes == 0)
		return 0;
	struct brig_credit m = { .chan = chans[out], .bytes = bytes };
	s->credit[out] += bytes;
	return chan_send(c, BRIG_CREDIT, 0, s->id, &m, sizeof(m));
}

int chan_signal(struct chan *c, struct chan_stream *s, uint32_t sig)
{
	return chan_send(c, BRIG_SIGNAL, 0, s->id, &sig, sizeof(sig));
}

int chan_resize(struct chan *c, struct chan_stream *s, uint16_t rows, uint16_t cols)
{
	uint16_t m[2] = { rows, cols };
	return chan_send(c, BRIG_RESIZE, 0, s->id, m, sizeof(m));
}

int chan_reattach(struct chan *c, struct chan_stream *s, uint32_t credit)
{
	struct brig_reattach m = { .stdout_offset = s->offset[0],
				   .stderr_offset = s->offset[1],
				   .credit_stdout = credit,
				   .credit_stderr = credit };
	/* All that was sent before EXIT has been received, so nothing overlaps. */
	s->credit[0] = s->credit[1] = credit;
	s->phase = PHASE_STARTED;
	s->gaps = true;
	return chan_send(c, BRIG_REATTACH, 0, s->id, &m, sizeof(m));
}

int chan_read_on(struct chan *c, struct chan_stream *s, const uint64_t offset[2], uint32_t credit,
		 bool gaps)
{
	s->offset[0] = offset[0];
	s->offset[1] = offset[1];
	int r = chan_reattach(c, s, credit);
	s->gaps = gaps;
	return r;
}

void chan_release(struct chan *c, struct chan_stream *s)
{
	chan_stream_free(c, s);
}

void chan_close(struct chan *c, struct chan_stream *s)
{
	uint32_t mark[2] = { s->id, 0 };
	c->nopen--;
	s->kind = STREAM_CLOSING;
	s->owner = NULL;
	/* A send that fails leaves the stream closing for ever; the channel is then broken anyway
	 * and its owner learns it from the socket. */
	if (chan_send(c, BRIG_CLOSE, 0, s->id, NULL, 0) == 0)
		chan_send(c, BRIG_PING, 0, 0, mark, sizeof(mark));
}
