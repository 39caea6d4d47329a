/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "agent/core.h"
#include "base/fd.h"

/* Bytes of one STDOUT frame, whole pages so that the pipe's pages are taken whole. */
#define READ_MAX (BRIG_FRAME_MAX - 4096u)
/* A default pipe: who fills it gains from a larger one. Not for every pipe from the start: the
 * pages of all pipes of a user are limited (fs.pipe-user-pages-soft). */
#define PIPE_DEFAULT 65536
#define PIPE_LARGE (1024 * 1024)
/* So much must wait in the pipe to go by reference. */
#define BULK_MIN 65536
/* A command that writes in large pieces shows as readable with its first page. A moment later there is
 * enough to be worth a frame; who writes slowly pays this once. */
#define BULK_NAP_NS 30000
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
	hist_init(&o->hist);
}

static bool output_loses(const struct output *o)
{
	return o->droppable && o->credit == 0;
}

static uint32_t output_room(const struct output *o)
{
	uint64_t from = o->sent - o->pinned;
	if (output_loses(o))
		return o->size - o->pinned;
	if (o->window) {
		uint64_t granted = o->sent + o->credit;
		uint64_t passed = granted > o->window ? granted - o->window : 0;
		from = passed < from ? passed : from;
	}
	return o->end - from < o->size ? o->size - (uint32_t)(o->end - from) : 0;
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
			  !o->lent && (output_loses(o) || output_room(o) >= o->size / 4) ? EPOLLIN
											  : 0);
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
	if (o->hist.pipe[0] >= 0) {
		hist_done(&o->hist);
		chan_lend_rest(&o->agent->chan);
	}
	o->eof = true;
}

static bool ring_make(struct output *o)
{
	if (!o->ring)
		o->ring = malloc(o->size);
	return o->ring != NULL;
}

/* What is kept by reference moves into the ring, which was made before any was. */
static int output_unrefer(struct output *o)
{
	struct iovec part[2];
	if (o->hist.len == 0)
		return 0;
	int r = hist_trim(&o->hist, o->size);
	if (r < 0)
		return r;
	ring_parts(o, o->end - o->hist.len, o->hist.len, part);
	return hist_take(&o->hist, part);
}

/* Whether the next bytes of the pipe are to go by reference. */
static bool output_is_bulk(const struct output *o)
{
	int held = 0;
	return o->bulk && !o->by_value && !o->mute && !o->droppable && !o->lent && o->running &&
	       o->fd >= 0 && o->last < 0 && o->sent == o->end && o->credit >= BULK_MIN &&
	       ioctl(o->fd, FIONREAD, &held) == 0 && held >= BULK_MIN;
}

/* Makes the next frame of what lies in the pipe. 1, or 0: not so. */
static int output_refer(struct output *o, struct data_frame *f)
{
	struct chan *c = &o->agent->chan;
	uint32_t n = o->size < BRIG_FRAME_MAX - 8 ? o->size : BRIG_FRAME_MAX - 8;
	if (!ring_make(o) || hist_make(&o->hist, o->size) < 0 || hist_trim(&o->hist, o->size) < 0) {
		o->by_value = true;
		return 0;
	}
	ssize_t k = chan_lend(c, o->fd, n < o->credit ? n : o->credit);
	if (k <= 0) {
		o->by_value = k < 0 && k != -EAGAIN;
		return 0;
	}
	n = (uint32_t)k;
	uint32_t kept = hist_add(&o->hist, chan_lent_fd(c), n);
	o->credit -= n;
	f->type = o->type;
	f->stream = o->stream;
	f->has_offset = true;
	f->offset = o->sent;
	o->end += kept;
	if (kept == n) {
		f->lent = o->lent = n;
		o->sent = o->end;
		return 1;
	}
	/* Small pieces in many buffers, more than can be kept: through the ring, this time and from now
	 * on. All of it is there, so only a broken kernel fails here. */
	o->by_value = true;
	if (output_unrefer(o) < 0)
		agent_end(o->agent, 1);
	o->end = o->sent + n;
	ring_parts(o, o->sent, n, f->part);
	struct hist rest = { .pipe = { chan_lent_fd(c), -1 }, .null = -1, .len = n };
	struct iovec part[2] = { f->part[0], f->part[1] };
	if (hist_take(&rest, part) < 0)
		agent_end(o->agent, 1);
	o->sent = o->end;
	o->pinned = n;
	return 1;
}

static int output_fill(struct source *s, struct data_frame *f)
{
	struct output *o = (struct output *)s;
	uint64_t n = o->end - o->sent;
	if (n > o->credit)
		n = o->credit;
	if (n > BRIG_FRAME_MAX - sizeof(uint64_t))
		n = BRIG_FRAME_MAX - sizeof(uint64_t);
	if (output_is_bulk(o) && output_refer(o, f))
		return 1;
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
	if (o->lent)
		o->lent -= (uint32_t)n;
	else
		o->pinned -= (uint32_t)n;
	output_watch(o);
	if (done && o->eof)
		o->settled(o->ctx);
}

/* One read. Bytes, 0 at the end of file, -EAGAIN, -ENOBUFS without room, -errno. */
static ssize_t output_read(struct output *o)
{
	/* Without memory for a ring the output cannot be carried; its end tells the command. */
	if (!ring_make(o))
		return -ENOMEM;
	if (output_loses(o) && o->pinned)
		chan_reclaim(&o->agent->chan, &o->src, false);
	int e = output_unrefer(o);
	if (e < 0)
		return e;
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
	o->bulk = r >= BULK_MIN;
	if (o->last > 0)
		o->last -= r;
	if (o->sent < output_oldest(o))
		o->sent = output_oldest(o);
	return r;
}

/* In the middle of bulk: what is there goes by reference, if a moment makes it enough. */
static bool output_goes_on(struct output *o)
{
	const struct timespec nap = { .tv_nsec = BULK_NAP_NS };
	if (!o->bulk || o->by_value)
		return false;
	if (!output_is_bulk(o))
		nanosleep(&nap, NULL);
	if (!output_is_bulk(o))
		return false;
	chan_offer(&o->agent->chan, &o->src);
	return true;
}

/* One read, and what follows from it. */
static void output_take(struct output *o)
{
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

static void output_ready(void *ctx, uint32_t events)
{
	struct output *o = ctx;
	(void)events;
	/* Most often such a frame has left when this is asked; here is where it has not. */
	if (o->lent)
		output_watch(o);
	else if (!output_goes_on(o))
		output_take(o);
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
	if (output_unrefer(o) < 0)
		return -EPROTO;
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
		output_take(o);
}

bool output_settled(const struct output *o)
{
	return o->eof && o->pinned == 0 && o->lent == 0 && (o->sent == o->end || output_loses(o) || o->mute);
}
