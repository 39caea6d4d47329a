/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/out.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

void out_init(struct out *o, int fd, size_t max)
{
	struct stat st;
	*o = (struct out){ .fd = fd, .way = OUT_PLAIN, .queue = BUF_INIT(max) };
	if (fstat(fd, &st) < 0)
		o->error = errno;
	else if (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd)))
		o->way = OUT_NOWAIT;
	else if (S_ISSOCK(st.st_mode))
		o->way = OUT_SOCKET;
}

void out_done(struct out *o)
{
	buf_done(&o->queue);
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
			r = pwritev2(o->fd, &iov, 1, -1, RWF_NOWAIT);
			if (r < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
				o->way = OUT_POLL;
				continue;
			}
			break;
		}
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

/* Writes as much as goes; returns how much. After an error everything "goes". */
static size_t write_now(struct out *o, const uint8_t *p, size_t n)
{
	size_t put = 0;
	while (put < n && !o->error) {
		ssize_t r = write_some(o, p + put, n - put);
		if (r == 0)
			break;
		if (r < 0)
			o->error = (int)-r;
		else
			put += (size_t)r;
	}
	if (o->error)
		put = n;
	o->written += put;
	return put;
}

int out_write(struct out *o, const void *p, size_t n)
{
	size_t put = 0;
	if (!out_waits(o))
		put = write_now(o, p, n);
	return put < n ? buf_add(&o->queue, (const uint8_t *)p + put, n - put) : 0;
}

void out_flush(struct out *o)
{
	if (out_waits(o))
		buf_consume(&o->queue, write_now(o, buf_head(&o->queue), buf_len(&o->queue)));
}
