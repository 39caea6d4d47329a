/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/calls.h"
#include "base/fd.h"

/* A pipe that much has passed and that was full is enlarged once, because each time that it fills and
 * empties costs two switches of tasks. Not more than this: an ordinary user's pipes share a budget
 * (fs.pipe-user-pages-soft), and the pipe is the caller's. */
#define GROW_AFTER (4u * 1024u * 1024u)
#define GROW_TO (256 * 1024)

void out_init(struct out *o, int fd, size_t max)
{
	struct stat st;
	*o = (struct out){
		.fd = fd, .way = OUT_PLAIN, .lend = { -1, -1 }, .queue = BUF_INIT(max)
	};
	if (fstat(fd, &st) < 0)
		o->error = errno;
	else if (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd)))
		o->way = OUT_NOWAIT;
	else if (S_ISSOCK(st.st_mode))
		o->way = OUT_SOCKET;
	o->fifo = o->splices = !o->error && S_ISFIFO(st.st_mode);
}

void out_done(struct out *o)
{
	fd_close(&o->lend[0]);
	fd_close(&o->lend[1]);
	buf_done(&o->queue);
}

/* What our pipe holds goes on: 1 = all of it, 0 = it would have to wait, -errno. */
static int lend_on(struct out *o)
{
	while (o->lent) {
		ssize_t r = splice(o->lend[0], NULL, o->fd, NULL, o->lent, SPLICE_F_NONBLOCK);
		if (r < 0 && errno == EAGAIN)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0)
			o->lent -= (size_t)r;
	}
	return 1;
}

/* splice() from pipe to pipe is the one way to write to any pipe that never waits. */
static ssize_t lend(struct out *o, const void *p, size_t n)
{
	if (o->lend[0] < 0 && pipe2(o->lend, O_CLOEXEC | O_NONBLOCK) < 0) {
		o->way = OUT_POLL;
		errno = EINTR;
		return -1;
	}
	int e = lend_on(o);
	if (e > 0) {
		ssize_t r = write(o->lend[1], p, n);
		if (r < 0)
			return r;
		o->lent = (size_t)r;
		e = lend_on(o);
		if (e >= 0)
			return r;
	}
	errno = e < 0 ? -e : EAGAIN;
	return -1;
}

/* Bytes written, 0 if it would have to wait, -errno. */
static ssize_t write_some(struct out *o, const void *p, size_t n)
{
	for (;;) {
		ssize_t r = -1;
		switch (o->way) {
		case OUT_PLAIN:
			r = write(o->fd, p, n);
			break;
		case OUT_SOCKET:
			r = send(o->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
			break;
		case OUT_NOWAIT: {
			struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
			r = call_writev2(o->fd, &iov, 1, RWF_NOWAIT);
			if (r < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
				o->way = o->fifo ? OUT_LEND : OUT_POLL;
				continue;
			}
			break;
		}
		case OUT_LEND:
			r = lend(o, p, n);
			break;
		case OUT_POLL: {
			struct pollfd w = { .fd = o->fd, .events = POLLOUT };
			if (poll(&w, 1, 0) <= 0)
				return 0;
			/* pipe(7): a pipe that polls writable takes PIPE_BUF bytes. */
			r = write(o->fd, p, n < PIPE_BUF ? n : PIPE_BUF);
			break;
		}
		}
		if (r >= 0)
			return r;
		if (errno == EAGAIN)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

static void count(struct out *o, size_t n)
{
	o->written += n;
	o->total += n;
}

static void fail(struct out *o, int err)
{
	o->error = err;
	o->lent = 0;
}

/* Writes as much as goes; returns how much. After an error everything "goes". */
static size_t write_now(struct out *o, const uint8_t *p, size_t n)
{
	size_t put = 0;
	while (put < n && !o->error) {
		ssize_t r = write_some(o, p + put, n - put);
		if (r == 0)
			break;
		if (r < 0)
			fail(o, (int)-r);
		else
			put += (size_t)r;
	}
	if (o->error)
		put = n;
	count(o, put);
	return put;
}

int out_write(struct out *o, const void *p, size_t n)
{
	size_t put = 0;
	if (!out_queued(o))
		put = write_now(o, p, n);
	return put < n ? buf_add(&o->queue, (const uint8_t *)p + put, n - put) : 0;
}

/* Nothing is written here: what waits in the queue goes before anything new. */
static bool grow(struct out *o)
{
	if (o->grown || o->total < GROW_AFTER)
		return false;
	o->grown = true;
	int size = fcntl(o->fd, F_GETPIPE_SZ);
	return size >= 0 && size < GROW_TO && fcntl(o->fd, F_SETPIPE_SZ, GROW_TO) > size;
}

ssize_t out_splice(struct out *o, int from, size_t n)
{
	ssize_t r = splice(from, NULL, o->fd, NULL, n, SPLICE_F_NONBLOCK);
	if (r > 0) {
		/* The kernel takes RWF_NOWAIT away from a pipe that was spliced to. */
		if (o->way == OUT_NOWAIT)
			o->way = OUT_LEND;
		count(o, (size_t)r);
		return r;
	}
	if (r < 0 && errno == EINTR)
		return -EAGAIN;
	if (r < 0 && errno == EAGAIN) {
		struct pollfd w = { .fd = o->fd, .events = POLLOUT };
		if (poll(&w, 1, 0) == 1)
			return -EAGAIN;
		if (grow(o))
			return out_splice(o, from, n);
		o->full = true;
		return 0;
	}
	if (r < 0 && errno != EPIPE)
		o->splices = false;
	return -EOPNOTSUPP;
}

void out_flush(struct out *o)
{
	o->full = false;
	if (o->lent) {
		int r = lend_on(o);
		if (r < 0)
			fail(o, -r);
		if (r == 0)
			return;
	}
	if (buf_len(&o->queue))
		buf_consume(&o->queue, write_now(o, buf_head(&o->queue), buf_len(&o->queue)));
}

uint64_t out_holds(struct out *o, uint64_t now)
{
	if (!out_waits(o)) {
		o->pace_at = 0;
		o->slow = false;
		return 0;
	}
	if (!o->pace_at) {
		o->pace_at = now;
		o->pace_from = o->total;
	}
	if (now - o->pace_at >= OUT_PACE_NS) {
		o->slow = o->total - o->pace_from < OUT_PACE_BYTES;
		o->pace_at = now;
		o->pace_from = o->total;
	}
	return o->slow ? 0 : o->pace_at + OUT_PACE_NS;
}
