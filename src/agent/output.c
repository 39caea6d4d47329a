/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/fd.h"

/* Bytes of one STDOUT frame, whole pages so that the pipe's pages are taken whole. */
#define READ_MAX (BRIG_FRAME_MAX - 4096u)
/* A default pipe: who fills it gains from a larger one. Not for every pipe from the start: the
 * pages of all pipes of a user are limited (fs.pipe-user-pages-soft). */
#define PIPE_DEFAULT 65536
#define PIPE_LARGE (1024 * 1024)
/* What is taken from a terminal that does not tell how much it holds. */
#define TTY_LAST 65536

static int output_fill(struct source *s, struct data_frame *f);
static void output_sent(struct source *s, size_t n, bool done);
static void output_ready(void *ctx, uint32_t events);

void output_init(struct output *o, struct agent *a, uint32_t stream, uint16_t type, uint32_t size,
		 uint32_t credit, bool droppable)
{
	*o = (struct output){
		.src = { .fill = output_fill, .sent = output_sent },
		.agent = a,
		.stream = stream,
		.type = type,
		.fd = -1,
		.size = size,
		.credit = credit,
		.droppable = droppable,
		.last = -1,
	};
}

static bool output_loses(const struct output *o)
{
	return o->droppable && o->credit == 0;
}

static uint32_t output_room(const struct output *o)
{
	return output_loses(o) ? o->size - o->pinned
			       : o->size - o->pinned - (uint32_t)(o->end - o->sent);
}

static uint64_t output_oldest(const struct output *o)
{
	return o->end > o->size ? o->end - o->size : 0;
}

/* The ring's memory of [from, from + n), in at most two pieces. */
static void ring_parts(const struct output *o, uint64_t from, uint32_t n, struct iovec part[2])
{
	uint32_t at = (uint32_t)(from % o->size), first = o->size - at;
	if (first > n)
		first = n;
	part[0] = (struct iovec){ .iov_base = o->ring + at, .iov_len = first };
	part[1] = (struct iovec){ .iov_base = o->ring, .iov_len = n - first };
}

/* Reads only when a good part of the ring is free: many small reads cost more than a wait. */
static void output_watch(struct output *o)
{
	if (o->fd >= 0 && o->running)
		ev_io_set(&o->agent->ev, o->io,
			  output_loses(o) || output_room(o) >= o->size / 4 ? EPOLLIN : 0);
}

static void output_end(struct output *o)
{
	ev_io_del(&o->agent->ev, &o->io);
	fd_close(&o->fd);
	o->eof = true;
	o->settled(o->ctx);
}

int output_start(struct output *o, int fd)
{
	o->fd = fd;
	int r = ev_io_add(&o->agent->ev, fd, 0, output_ready, o, &o->io);
	if (r < 0)
		fd_close(&o->fd);
	return r;
}

void output_resume(struct output *o)
{
	o->running = true;
	output_watch(o);
}

void output_none(struct output *o)
{
	o->eof = true;
}

void output_done(struct output *o)
{
	chan_reclaim(&o->agent->chan, &o->src, true);
	ev_io_del(&o->agent->ev, &o->io);
	fd_close(&o->fd);
	free(o->ring);
	o->ring = NULL;
	o->eof = true;
}

static int output_fill(struct source *s, struct data_frame *f)
{
	struct output *o = (struct output *)s;
	uint64_t n = o->end - o->sent;
	if (n > o->credit)
		n = o->credit;
	if (n > BRIG_FRAME_MAX - sizeof(uint64_t))
		n = BRIG_FRAME_MAX - sizeof(uint64_t);
	if (n == 0 || o->mute)
		return 0;
	f->type = o->type;
	f->stream = o->stream;
	f->has_offset = true;
	f->offset = o->sent;
	ring_parts(o, o->sent, (uint32_t)n, f->part);
	o->sent += n;
	o->credit -= (uint32_t)n;
	o->pinned = (uint32_t)n;
	return 1;
}

static void output_sent(struct source *s, size_t n, bool done)
{
	struct output *o = (struct output *)s;
	o->pinned -= (uint32_t)n;
	output_watch(o);
	if (done && o->eof)
		o->settled(o->ctx);
}

static bool ring_make(struct output *o)
{
	if (!o->ring)
		o->ring = malloc(o->size);
	return o->ring != NULL;
}

/* One read. Bytes, 0 at the end of file, -EAGAIN, -ENOBUFS without room, -errno. */
static ssize_t output_read(struct output *o)
{
	/* Without memory for a ring the output cannot be carried; its end tells the command. */
	if (!ring_make(o))
		return -ENOMEM;
	if (output_loses(o) && o->pinned)
		chan_reclaim(&o->agent->chan, &o->src, false);
	uint32_t n = output_room(o);
	if (n > READ_MAX)
		n = READ_MAX;
	if (o->last >= 0 && n > o->last)
		n = (uint32_t)o->last;
	if (n == 0)
		return o->last == 0 ? 0 : -ENOBUFS;
	struct iovec part[2];
	ring_parts(o, o->end, n, part);
	ssize_t r = readv(o->fd, part, part[1].iov_len ? 2 : 1);
	if (r < 0)
		return -errno;
	o->end += (uint64_t)r;
	if (o->last > 0)
		o->last -= r;
	if (o->sent < output_oldest(o))
		o->sent = output_oldest(o);
	return r;
}

static void output_ready(void *ctx, uint32_t events)
{
	struct output *o = ctx;
	(void)events;
	ssize_t r = output_read(o);
	if (r == -EINTR || (r == -EAGAIN && o->last < 0))
		return;
	/* EIO is how a terminal says that its last user has gone. */
	if ((r <= 0 && r != -ENOBUFS) || o->last == 0) {
		if (o->credit)
			chan_offer(&o->agent->chan, &o->src);
		output_end(o);
		return;
	}
	if (r >= PIPE_DEFAULT && !o->grown) {
		o->grown = true;
		fcntl(o->fd, F_SETPIPE_SZ, PIPE_LARGE);
	}
	if (o->credit)
		chan_offer(&o->agent->chan, &o->src);
	output_watch(o);
}

int output_credit(struct output *o, uint32_t bytes)
{
	int r = credit_add(&o->credit, bytes);
	if (r < 0)
		return r;
	if (o->credit && !o->mute)
		chan_offer(&o->agent->chan, &o->src);
	output_watch(o);
	return 0;
}

int output_rewind(struct output *o, uint64_t offset, uint32_t credit)
{
	if (offset > o->end || credit > BRIG_CREDIT_MAX)
		return -EPROTO;
	/* What is under way belongs to the old reader, and is behind it. */
	chan_reclaim(&o->agent->chan, &o->src, false);
	o->sent = offset < output_oldest(o) ? output_oldest(o) : offset;
	o->credit = credit;
	o->mute = false;
	chan_offer(&o->agent->chan, &o->src);
	output_watch(o);
	return 0;
}

void output_detach(struct output *o, bool droppable)
{
	o->credit = 0;
	o->droppable = droppable;
	output_watch(o);
}

void output_finish(struct output *o)
{
	int held = 0;
	if (o->eof || o->last >= 0)
		return;
	/* A descendant that writes on must not delay the end: what lies in the pipe now is the
	 * rest. */
	if (isatty(o->fd) || ioctl(o->fd, FIONREAD, &held) < 0)
		held = TTY_LAST;
	o->last = held;
	/* Lossless with a full ring: the rest follows as room comes. */
	while (o->fd >= 0 && output_room(o) > 0)
		output_ready(o, 0);
}

bool output_settled(const struct output *o)
{
	return o->eof && o->pinned == 0 && (o->sent == o->end || output_loses(o) || o->mute);
}
