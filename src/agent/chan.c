/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * The channel is one nonblocking stream descriptor. It is read when epoll says so and written by a
 * task at the end of each round, so that everything one round produced leaves in one system call.
 *
 * Order on the wire is the order of the calls: tx_before remembers how much of the small-frame
 * queue was there when the data frame under way was chosen; the rest of the queue follows that
 * frame.
 *
 * Bytes that were lent are all in a pipe of the channel before their head is written, so a frame that
 * was begun can be finished. They are not taken from the pipe of the command on their way: it has
 * other readers if the command wishes (/proc/self/fd), which would leave half a frame.
 *
 * A host that takes over sends a byte with a descriptor. It is read without room for one, so nothing
 * enters this process; that something did not is told by MSG_CTRUNC, and the kernel ends a read behind
 * such a byte, so it is the last one read.
 *
 * The receive buffer lies inside struct chan until a frame or a burst does not fit, and goes back
 * there when it is empty and no stream takes data: an idle agent holds one page for it.
 */
#include "agent/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/frame.h"

/* One call moves at most this much, then the rest of the loop has its turn. */
#define RX_READS 4
#define TX_ROUND (1024u * 1024u)
/* What an ordinary user may ask for: a largest frame even in half empty pages. */
#define LEND_PIPE (1024 * 1024)

static void flush_task(void *ctx)
{
	chan_flush(ctx);
}

void chan_init(struct chan *c, int fd, struct agent *a)
{
	c->fd = fd;
	c->agent = a;
	c->flush_task = (struct ev_task){ .fn = flush_task, .ctx = c };
	c->lazy = (struct ev_timer){ .fn = flush_task, .ctx = c };
	c->blocked = false;
	c->rx = c->rx_small;
	c->rx_cap = sizeof(c->rx_small);
	c->rx_head = c->rx_tail = 0;
	c->in_bulk = c->plain = false;
	c->bulk_streams = 0;
	c->tx = (struct buf)BUF_INIT(CHAN_QUEUE_MAX);
	c->tx_before = 0;
	memset(&c->out, 0, sizeof(c->out));
	c->pipe[0] = c->pipe[1] = -1;
	c->line = NULL;
	c->line_end = &c->line;
}

void chan_done(struct chan *c)
{
	if (c->rx != c->rx_small)
		free(c->rx);
	c->rx = c->rx_small;
	free(c->out.carry);
	c->out.carry = NULL;
	fd_close(&c->pipe[0]);
	fd_close(&c->pipe[1]);
	buf_done(&c->tx);
}

uint32_t chan_events(const struct chan *c)
{
	uint32_t events = buf_len(&c->tx) < CHAN_QUEUE_HIGH ? EPOLLIN : 0;
	return c->blocked ? events | EPOLLOUT : events;
}

/* Makes the buffer hold `need` bytes from its head on. */
static int rx_reserve(struct chan *c, size_t need)
{
	size_t have = c->rx_tail - c->rx_head;
	if (c->rx_cap < need) {
		uint8_t *mem = malloc(CHAN_RX_LARGE);
		if (!mem)
			return -ENOMEM;
		memcpy(mem, c->rx + c->rx_head, have);
		if (c->rx != c->rx_small)
			free(c->rx);
		c->rx = mem;
		c->rx_cap = CHAN_RX_LARGE;
	} else if (c->rx_head) {
		memmove(c->rx, c->rx + c->rx_head, have);
	} else {
		return 0;
	}
	c->rx_head = 0;
	c->rx_tail = have;
	return 0;
}

/* Dispatches what the buffer holds. 0, or -errno. */
static int rx_parse(struct chan *c)
{
	struct agent *a = c->agent;
	int r = 0;
	while (r == 0 && a->end < 0) {
		size_t have = c->rx_tail - c->rx_head;
		const uint8_t *at = c->rx + c->rx_head;
		if (c->in_bulk) {
			size_t n = have < c->bulk_left ? have : c->bulk_left;
			if (n == 0 && c->bulk_left)
				break;
			c->rx_head += n;
			c->bulk_left -= (uint32_t)n;
			c->in_bulk = c->bulk_left > 0;
			r = dispatch_data(a, &c->bulk, at, n, !c->in_bulk);
			continue;
		}
		struct frame f;
		if (have < sizeof(f.h))
			break;
		memcpy(&f.h, at, sizeof(f.h));
		r = dispatch_header(a, &f.h);
		if (r < 0)
			break;
		/* Pieces of one file are written as one user; whatever else comes is not. */
		if (f.h.type != BRIG_FS_DATA || f.h.stream != c->bulk.stream)
			creds_release(&a->self);
		if (dispatch_is_data(f.h.type)) {
			c->rx_head += sizeof(f.h);
			c->bulk = f.h;
			c->bulk_left = f.h.len;
			c->in_bulk = true;
			continue;
		}
		if (have < frame_size(&f)) {
			r = rx_reserve(c, frame_size(&f));
			break;
		}
		f.payload = at + sizeof(f.h);
		c->rx_head += frame_size(&f);
		r = dispatch_frame(a, &f);
	}
	creds_release(&a->self);
	return r;
}

/* Returns the large buffer when nothing that needs it is open. */
static void rx_shrink(struct chan *c)
{
	if (c->rx == c->rx_small || c->rx_head != c->rx_tail || c->bulk_streams)
		return;
	free(c->rx);
	c->rx = c->rx_small;
	c->rx_cap = sizeof(c->rx_small);
	c->rx_head = c->rx_tail = 0;
}

/* One read. *ret_cut: behind the last byte, which belongs to no frame, another host begins. */
static ssize_t rx_read(struct chan *c, void *p, size_t n, bool *ret_cut)
{
	struct iovec v = { .iov_base = p, .iov_len = n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	*ret_cut = false;
	if (!c->plain) {
		ssize_t r = recvmsg(c->fd, &m, 0);
		*ret_cut = r > 0 && (m.msg_flags & MSG_CTRUNC);
		if (r >= 0 || errno != ENOTSOCK)
			return r;
		c->plain = true;
	}
	return read(c->fd, p, n);
}

void chan_cut(struct chan *c)
{
	struct source *s = c->out.active ? c->out.src : NULL;
	size_t lost = c->out.part[0].iov_len + c->out.part[1].iov_len + c->out.lent;
	c->rx_head = c->rx_tail = 0;
	c->in_bulk = false;
	c->bulk_left = 0;
	buf_consume(&c->tx, buf_len(&c->tx));
	c->tx_before = 0;
	free(c->out.carry);
	/* Who reads them again has them kept (output.h); the pipe is made anew for the next. */
	if (c->out.lent) {
		fd_close(&c->pipe[0]);
		fd_close(&c->pipe[1]);
	}
	memset(&c->out, 0, sizeof(c->out));
	if (s) {
		chan_offer(c, s);
		s->sent(s, lost, true);
	}
}

int chan_receive(struct chan *c)
{
	for (int i = 0; i < RX_READS && c->agent->end < 0; i++) {
		if (c->rx_head == c->rx_tail)
			c->rx_head = c->rx_tail = 0;
		if (c->rx_tail == c->rx_cap && rx_reserve(c, c->rx_cap) < 0)
			return -ENOMEM;
		size_t room = c->rx_cap - c->rx_tail;
		bool cut;
		ssize_t n = rx_read(c, c->rx + c->rx_tail, room, &cut);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 1 : 0;
		if (n == 0)
			return 0;
		c->rx_tail += (size_t)n - cut;
		int r = rx_parse(c);
		if (r < 0)
			return r;
		if (cut) {
			dispatch_cut(c->agent);
			continue;
		}
		/* A full small buffer: more is coming than it is made for. */
		if ((size_t)n == room && c->rx == c->rx_small && rx_reserve(c, CHAN_RX_LARGE) < 0)
			return -ENOMEM;
		if ((size_t)n < room)
			break;
	}
	rx_shrink(c);
	return 1;
}

void chan_send(struct chan *c, uint16_t type, uint32_t stream, const void *p1, size_t n1,
	       const void *p2, size_t n2)
{
	if (frame_add(&c->tx, type, 0, stream, p1, n1, p2, n2) < 0)
		agent_end(c->agent, 1);
	ev_task_queue(&c->agent->ev, &c->flush_task);
}

void chan_send_lazy(struct chan *c, uint16_t type, uint32_t stream, const void *p, size_t n)
{
	if (frame_add(&c->tx, type, 0, stream, p, n, NULL, 0) < 0)
		agent_end(c->agent, 1);
	if (!ev_timer_armed(&c->lazy) &&
	    ev_timer_set(&c->agent->ev, &c->lazy, clock_now() + CHAN_LAZY_MS * MS_NS) < 0)
		ev_task_queue(&c->agent->ev, &c->flush_task);
}

void chan_offer(struct chan *c, struct source *s)
{
	if (s->waiting || c->out.src == s)
		return;
	s->waiting = true;
	s->next = NULL;
	*c->line_end = s;
	c->line_end = &s->next;
	ev_task_queue(&c->agent->ev, &c->flush_task);
}

static void line_leave(struct chan *c, struct source *s)
{
	struct source **at = &c->line;
	if (!s->waiting)
		return;
	while (*at && *at != s)
		at = &(*at)->next;
	if (*at)
		*at = s->next;
	if (c->line_end == &s->next)
		c->line_end = at;
	s->waiting = false;
}

void chan_reclaim(struct chan *c, struct source *s, bool leave)
{
	if (leave)
		line_leave(c, s);
	if (!c->out.active || c->out.src != s)
		return;
	size_t n0 = c->out.part[0].iov_len, n1 = c->out.part[1].iov_len;
	/* Lent bytes are nobody's any more, and stay where they are. */
	uint8_t *copy = c->out.lent ? NULL : malloc(n0 + n1 ? n0 + n1 : 1);
	if (!copy && !c->out.lent) {
		/* Half a frame cannot be taken back. */
		agent_end(c->agent, 1);
		memset(c->out.part, 0, sizeof(c->out.part));
	} else if (copy) {
		if (n0)
			memcpy(copy, c->out.part[0].iov_base, n0);
		if (n1)
			memcpy(copy + n0, c->out.part[1].iov_base, n1);
		c->out.part[0] = (struct iovec){ .iov_base = copy, .iov_len = n0 + n1 };
		c->out.part[1] = (struct iovec){ 0 };
	}
	c->out.carry = copy;
	c->out.src = NULL;
	if (!leave)
		chan_offer(c, s);
	s->sent(s, n0 + n1 + c->out.lent, true);
}

ssize_t chan_lend(struct chan *c, int from, size_t n)
{
	ssize_t r;
	if (c->pipe[0] < 0) {
		if (pipe2(c->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
			return -errno;
		/* A wish: a smaller one takes less at a time. */
		(void)fcntl(c->pipe[0], F_SETPIPE_SZ, LEND_PIPE);
	}
	do
		r = splice(from, NULL, c->pipe[1], NULL, n, SPLICE_F_NONBLOCK);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

void chan_lend_rest(struct chan *c)
{
	if (c->out.lent)
		return;
	fd_close(&c->pipe[0]);
	fd_close(&c->pipe[1]);
}

/* Chooses the next data frame. */
static void tx_choose(struct chan *c)
{
	while (!c->out.active && c->line) {
		struct source *s = c->line;
		line_leave(c, s);
		struct data_frame d = { 0 };
		if (!s->fill(s, &d))
			continue;
		size_t n = d.part[0].iov_len + d.part[1].iov_len + (d.has_offset ? 8 : 0) +
			   d.lent;
		struct brig_frame_hdr h = {
			.len = (uint32_t)n, .type = d.type, .flags = d.flags, .stream = d.stream
		};
		memcpy(c->out.head, &h, sizeof(h));
		c->out.head_at = 0;
		c->out.head_len = sizeof(h);
		if (d.has_offset) {
			memcpy(c->out.head + sizeof(h), &d.offset, 8);
			c->out.head_len += 8;
		}
		c->out.part[0] = d.part[0];
		c->out.part[1] = d.part[1];
		c->out.lent = d.lent;
		c->out.src = s;
		c->out.active = true;
		c->tx_before = buf_len(&c->tx);
	}
}

static size_t take(size_t *left, size_t have)
{
	size_t n = *left < have ? *left : have;
	*left -= n;
	return n;
}

/* `moved` bytes of the payload under way left. */
static void tx_moved(struct chan *c, size_t moved)
{
	bool done = c->tx_before == 0 && c->out.head_at == c->out.head_len &&
		    c->out.part[0].iov_len == 0 && c->out.part[1].iov_len == 0 &&
		    c->out.lent == 0;
	struct source *s = c->out.src;
	if (done) {
		c->out.active = false;
		c->out.src = NULL;
		free(c->out.carry);
		c->out.carry = NULL;
	}
	if (!s)
		return;
	/* Into the line first: sent() may be its last word, and takes it out again then. */
	if (done)
		chan_offer(c, s);
	s->sent(s, moved, done);
}

/* Accounts for n bytes that the socket took of what was copied to it. */
static void tx_consume(struct chan *c, size_t n)
{
	size_t k = take(&n, c->out.active ? c->tx_before : buf_len(&c->tx));
	buf_consume(&c->tx, k);
	if (!c->out.active)
		return;
	c->tx_before -= k;
	c->out.head_at += take(&n, c->out.head_len - c->out.head_at);
	size_t moved = 0;
	for (int i = 0; i < 2; i++) {
		struct iovec *p = &c->out.part[i];
		k = take(&n, p->iov_len);
		if (k == 0)
			continue;
		p->iov_base = (uint8_t *)p->iov_base + k;
		p->iov_len -= k;
		moved += k;
	}
	/* What follows the frame is there only when all of it has left. */
	buf_consume(&c->tx, take(&n, buf_len(&c->tx)));
	tx_moved(c, moved);
}

static int iov_put(struct iovec *v, int n, void *p, size_t len)
{
	if (len == 0)
		return n;
	v[n] = (struct iovec){ .iov_base = p, .iov_len = len };
	return n + 1;
}

/* What is due next lies in the pipe. */
static bool tx_lent_is_due(const struct chan *c)
{
	return c->out.active && c->out.lent && c->tx_before == 0 &&
	       c->out.head_at == c->out.head_len;
}

/* One write from memory, or one splice. Bytes, 0 if there is nothing to send, -errno; *ret_full = the
 * socket took less than there was. */
static ssize_t tx_write(struct chan *c, bool *ret_full)
{
	struct iovec v[5];
	int n = 0;
	size_t first = c->out.active ? c->tx_before : buf_len(&c->tx), all = 0;
	if (first)
		n = iov_put(v, n, buf_head(&c->tx), first);
	if (c->out.active) {
		n = iov_put(v, n, c->out.head + c->out.head_at, c->out.head_len - c->out.head_at);
		n = iov_put(v, n, c->out.part[0].iov_base, c->out.part[0].iov_len);
		n = iov_put(v, n, c->out.part[1].iov_base, c->out.part[1].iov_len);
		if (buf_len(&c->tx) > first && !c->out.lent)
			n = iov_put(v, n, buf_head(&c->tx) + first, buf_len(&c->tx) - first);
	}
	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++)
		all += v[i].iov_len;
	ssize_t r = writev(c->fd, v, n);
	*ret_full = r < (ssize_t)all;
	if (r > 0)
		tx_consume(c, (size_t)r);
	return r < 0 ? -errno : r;
}

static ssize_t tx_splice(struct chan *c, bool *ret_full)
{
	ssize_t r = splice(c->pipe[0], NULL, c->fd, NULL, c->out.lent, SPLICE_F_NONBLOCK);
	*ret_full = r < 0;
	if (r > 0) {
		c->out.lent -= (uint32_t)r;
		tx_moved(c, (size_t)r);
	}
	return r < 0 ? -errno : r == 0 ? -EIO : r;
}

void chan_flush(struct chan *c)
{
	size_t moved = 0;
	ev_timer_stop(&c->agent->ev, &c->lazy);
	c->blocked = false;
	while (moved < TX_ROUND) {
		tx_choose(c);
		bool full = false;
		ssize_t r = tx_lent_is_due(c) ? tx_splice(c, &full) : tx_write(c, &full);
		if (r == 0)
			return;
		if (r == -EINTR)
			continue;
		if (r < 0 && r != -EAGAIN) {
			agent_lost(c->agent);
			return;
		}
		if (full) {
			c->blocked = true;
			return;
		}
		moved += (size_t)r;
	}
	ev_task_queue(&c->agent->ev, &c->flush_task);
}
