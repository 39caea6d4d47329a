/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A command's output is opaque to brigd: it checks and counts the heads of frames, and the bytes
 * between them need not be in its memory. splice() moves them by reference, from the agent's socket
 * into a pipe and from there into the client's socket.
 *
 * A frame to the client needs its length in front, and how much there is shows only when it was taken.
 * So there are two pipes: the bytes go into the first, the head, which now can be written, into the
 * second, and the bytes behind it. The client is woken once, with head and bytes together, and is
 * never promised a byte that we do not hold.
 *
 * Nothing is taken that the client's socket has no room for (SIOCOUTQ counts what lies in it): a client
 * that is behind costs no copy, its bytes stay in the agent's socket. Should the socket take less all
 * the same, the rest moves to the client's queue, and the pipes are empty again.
 *
 * The bytes can still change after they passed here, when a hostile agent lent pages that it kept. No
 * one is deceived by that: what it says is its own, and heads are copied before they are believed.
 */
#include "daemon/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "daemon/conn.h"
#include "daemon/daemon.h"

/* Both hold a frame even where each of its pages came alone. An ordinary user may ask for 1 MiB; the
 * second is the larger one, so that the head fits beside what the first holds. */
#define IN_SIZE (512 * 1024)
#define OUT_SIZE (1024 * 1024)
/* What the kernel counts for a buffer of a socket beside its bytes, with a page each way of doubt. */
#define ROOM_MARGIN (16 * 1024)

void relay_done(struct relay *r)
{
	if (!r->made)
		return;
	for (int i = 0; i < 2; i++) {
		fd_close(&r->in[i]);
		fd_close(&r->out[i]);
	}
	r->made = false;
}

static bool relay_make(struct relay *r)
{
	if (r->made || r->off)
		return r->made;
	if (pipe2(r->in, O_CLOEXEC | O_NONBLOCK) < 0)
		return false; /* perhaps another time */
	if (pipe2(r->out, O_CLOEXEC | O_NONBLOCK) < 0) {
		fd_close(&r->in[0]);
		fd_close(&r->in[1]);
		return false;
	}
	/* A wish: a smaller pipe takes less at a time. */
	(void)fcntl(r->in[0], F_SETPIPE_SZ, IN_SIZE);
	(void)fcntl(r->out[0], F_SETPIPE_SZ, OUT_SIZE);
	return r->made = true;
}

/* Bytes that the client's socket would take now, or -EOPNOTSUPP. */
static ssize_t room_of(const struct conn *c)
{
	int size = 0, held = 0;
	socklen_t len = sizeof(size);
	if (getsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, &len) < 0 ||
	    ioctl(c->fd, SIOCOUTQ, &held) < 0)
		return -EOPNOTSUPP;
	/* EPOLLOUT comes when it is three quarters empty, which must be enough. */
	if (size < (int)(2 * RELAY_MIN))
		return -EOPNOTSUPP;
	return size - held > ROOM_MARGIN ? size - held - ROOM_MARGIN : 0;
}

/* Moves what a pipe holds, n bytes, to the client's queue. */
static int queue_rest(struct conn *c, int pipe, size_t n)
{
	while (n) {
		uint8_t *at;
		int r = buf_reserve(&c->tx, n, &at);
		if (r < 0)
			return r;
		ssize_t k = read(pipe, at, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		buf_commit(&c->tx, (size_t)k);
		n -= (size_t)k;
	}
	return 0;
}

/* Sends the `head` bytes that lie in the second pipe and the n that lie in the first. */
static int send_on(struct relay *r, struct conn *c, size_t head, size_t n)
{
	size_t second = head;
	while (second || n) {
		ssize_t k = n ? splice(r->in[0], NULL, r->out[1], NULL, n, SPLICE_F_NONBLOCK) : 0;
		if (k < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (k > 0) {
			n -= (size_t)k;
			second += (size_t)k;
		}
		k = splice(r->out[0], NULL, c->fd, NULL, second,
			   SPLICE_F_NONBLOCK | (n ? SPLICE_F_MORE : 0));
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno != EAGAIN)
			return -errno;
		if (k <= 0) {
			int e = queue_rest(c, r->out[0], second);
			return e < 0 ? e : queue_rest(c, r->in[0], n);
		}
		second -= (size_t)k;
	}
	return 0;
}

ssize_t relay_output(struct relay *r, struct conn *c, uint16_t type, uint64_t offset, int from,
		     size_t n)
{
	uint8_t head[sizeof(struct brig_frame_hdr) + sizeof(offset)];
	if (c->gone || c->shut || buf_len(&c->tx) || !relay_make(r))
		return -EOPNOTSUPP;
	ssize_t room = room_of(c);
	if (room < 0)
		return room;
	if ((size_t)room < n) {
		if (room < (ssize_t)RELAY_MIN)
			return -EAGAIN;
		n = (size_t)room;
	}
	ssize_t got = splice(from, NULL, r->in[1], NULL, n, SPLICE_F_NONBLOCK);
	if (got < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM)) {
		r->off = true; /* a kernel, or a filter around us, that has no such thing */
		relay_done(r);
	}
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EOPNOTSUPP;
	if (got == 0)
		return 0;
	struct brig_frame_hdr h = { .len = (uint32_t)((size_t)got + sizeof(offset)),
				    .type = type,
				    .stream = BRIG_CLIENT_STREAM };
	memcpy(head, &h, sizeof(h));
	memcpy(head + sizeof(h), &offset, sizeof(offset));
	int e = write(r->out[1], head, sizeof(head)) == (ssize_t)sizeof(head)
			? send_on(r, c, sizeof(head), (size_t)got)
			: -EIO;
	if (e < 0) {
		/* What the pipes still hold was this client's. */
		relay_done(r);
		log_line(&c->d->log, LOG_DEBUG, NULL, "output does not reach its client: %s",
			 strerror(-e));
		conn_drop(c);
	} else if (buf_len(&c->tx)) {
		conn_update(c);
	}
	return got;
}
