/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chan.h: the agent's end of the channel.
 *
 * Receiving: bytes are parsed where they were read. The payload of STDIN, FS_DATA and TCP_DATA is
 * handed on in the pieces in which it comes; every other frame is handed on whole.
 *
 * Sending: small frames are copied into a queue. Data frames are lent by their source (an output's
 * ring, the buffer of a file or of connections) and written from there, or lie in the channel's own pipe
 * and leave by reference; one is under way at a time. Sources with
 * something to send stand in a line and send one frame each in turn, so no output delays another by
 * more than one frame.
 */
#ifndef BRIG_AGENT_CHAN_H
#define BRIG_AGENT_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/ev.h"
#include "brig/agent_proto.h"

struct agent;

/* One data frame. The bytes of part[] stay valid until all of them were reported by sent(). */
struct data_frame {
	uint16_t type, flags;
	uint32_t stream;
	bool has_offset;
	uint64_t offset;
	struct iovec part[2];
	/* Instead of parts: so many bytes, all that chan_lend() has put into the channel's pipe. */
	uint32_t lent;
};

struct source {
	/* Lends the next frame: 1, or 0 if there is nothing to send now. */
	int (*fill)(struct source *s, struct data_frame *f);
	/* n bytes of the payload left; done = the frame is complete. */
	void (*sent)(struct source *s, size_t n, bool done);
	struct source *next;
	bool waiting; /* in the line */
};

/* Bytes that may stand in the queue of small frames before the host is no longer read. */
#define CHAN_QUEUE_HIGH (256u * 1024u)
#define CHAN_QUEUE_MAX (4u * 1024u * 1024u)
/* The receive buffer of an idle agent, and the one it uses while data comes in. */
#define CHAN_RX_SMALL 4096u
#define CHAN_RX_LARGE (BRIG_FRAME_MAX + 4096u)

struct chan {
	int fd;
	struct agent *agent;
	struct ev_task flush_task;
	struct ev_timer lazy; /* when a frame that may wait for company leaves alone */
	bool blocked;	      /* the socket is full */

	/* receiving */
	uint8_t *rx;
	size_t rx_cap, rx_head, rx_tail;
	struct brig_frame_hdr bulk; /* the frame whose payload is passing through */
	uint32_t bulk_left;
	bool in_bulk;
	bool plain;	       /* no socket: read() it */
	uint32_t bulk_streams; /* streams on which the host may send data */

	/* sending */
	struct buf tx;
	size_t tx_before; /* bytes of tx that precede the data frame under way */
	struct {
		bool active;
		uint8_t head[sizeof(struct brig_frame_hdr) + 8];
		size_t head_at, head_len;
		struct iovec part[2];
		uint32_t lent;	    /* bytes of it in the pipe */
		struct source *src; /* NULL: the rest lies in carry */
		uint8_t *carry;
	} out;
	int pipe[2]; /* -1: not made; empty unless out.lent */
	struct source *line, **line_end;

	uint8_t rx_small[CHAN_RX_SMALL];
};

void chan_init(struct chan *c, int fd, struct agent *a);
/* Does not close fd. */
void chan_done(struct chan *c);

/* Reads and dispatches, a bounded amount per call. 1 while the channel stands, 0 at its end,
 * -EPROTO for a broken rule. */
int chan_receive(struct chan *c);
/* Another host takes over: forgets what was begun in either direction, and what waits to be sent. */
void chan_cut(struct chan *c);
/* What epoll should report now. */
uint32_t chan_events(const struct chan *c);

/* Queues a small frame of two parts. A failure (memory, a host that never reads) ends the agent. */
void chan_send(struct chan *c, uint16_t type, uint32_t stream, const void *p1, size_t n1,
	       const void *p2, size_t n2);
/* The same for a frame that may wait CHAN_LAZY_MS for others to leave with it: every write wakes the host,
 * and on a busy CPU that comes before the command which has just been started. */
#define CHAN_LAZY_MS 1u
void chan_send_lazy(struct chan *c, uint16_t type, uint32_t stream, const void *p, size_t n);
/* Puts a source into the line. */
void chan_offer(struct chan *c, struct source *s);
/* The source goes away, or needs its lent bytes back: what is under way is copied. leave = also out
 * of the line. */
void chan_reclaim(struct chan *c, struct source *s, bool leave);
/* Only from a source's fill(): moves at most n bytes from a pipe into the channel's. Bytes, 0 at its end,
 * -EAGAIN, -errno. They are the next frame (`lent`), or are read back from chan_lent_fd(). */
ssize_t chan_lend(struct chan *c, int from, size_t n);
static inline int chan_lent_fd(const struct chan *c)
{
	return c->pipe[0];
}
/* Nobody lends at present: the pipe goes back, if it is empty. */
void chan_lend_rest(struct chan *c);
/* Writes as much as the socket takes, a bounded amount per call. */
void chan_flush(struct chan *c);

#endif
