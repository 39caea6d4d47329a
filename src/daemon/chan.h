/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chan.h: the host's end of one sandbox's agent channel (agent_proto.h): the table of open streams,
 * what may be sent on each, and the check of every byte that comes back.
 *
 * The channel knows no sandbox and no client. It calls its owner with things that are proven to be
 * in order: an output callback has the right offset and stays within the credit given, EXIT follows
 * STARTED once, and so on. Anything else is a violation: chan_feed() fails with a text that names
 * it, and the owner ends the sandbox.
 *
 * A stream that the host closed is in STREAM_CLOSING until the agent has answered a PING sent after
 * the CLOSE: frames that were already under way are dropped, and its number is not used again
 * before.
 */
#ifndef BRIG_DAEMON_CHAN_H
#define BRIG_DAEMON_CHAN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/ev.h"
#include "brig/agent_proto.h"
#include "daemon/framer.h"

enum stream_kind { STREAM_FREE, STREAM_EXEC, STREAM_FS, STREAM_TCP, STREAM_CLOSING };
enum stream_phase { PHASE_ASKED, PHASE_STARTED, PHASE_EXITED };

struct chan_stream {
	uint32_t id;
	enum stream_kind kind;
	enum stream_phase phase;
	uint16_t fs_type; /* BRIG_FS_* of the request */
	bool gaps;	  /* offsets may jump forward: DROP */
	bool watching;	  /* FS_WATCH: DONE_OPEN was seen */
	bool put;	  /* of a former host: chan_put() */
	bool resumed;	  /* .. and the agent knows it, too */
	bool meta;	  /* FS_STAT, FS_LIST: entries carry pairs */
	bool host;	  /* of kind FS: brigd's own (layerload.h), not a client's */
	void *owner;
	uint64_t offset[2]; /* next byte of each output */
	uint64_t credit[4]; /* what the agent may still send: stdout, stderr, fs, tcp */
	uint64_t may_send;  /* what we may still send: stdin, fs or tcp data */
};

struct chan_ops {
	void (*attached)(void *ctx);
	/* Of a channel that is taken over: a command that its owner put there goes on, or (m NULL) is not
	 * there any more; then, that this was all. */
	void (*resumed)(void *ctx, struct chan_stream *s, const struct brig_resumed *m);
	void (*taken)(void *ctx);
	void (*started)(void *ctx, struct chan_stream *s, const struct brig_started *m);
	/* out: 0 stdout, 1 stderr. p lies in the reader's buffer, valid until chan_feed() returns.
	 */
	void (*output)(void *ctx, struct chan_stream *s, int out, uint64_t offset, const uint8_t *p,
		       size_t n);
	/* For stdin of a command, for data of FS_WRITE and FS_IMPORT, and for a connection. */
	void (*credit)(void *ctx, struct chan_stream *s, uint32_t bytes);
	void (*exited)(void *ctx, struct chan_stream *s, const struct brig_exit *m);
	/* FS_ENTRY, FS_EVENT, FS_DONE; after a final FS_DONE the stream is free. */
	void (*fs_frame)(void *ctx, struct chan_stream *s, const struct frame *f);
	void (*fs_data)(void *ctx, struct chan_stream *s, const uint8_t *p, size_t n, bool eof);
	/* With m->err, and after tcp_done, the stream is free. */
	void (*tcp_opened)(void *ctx, struct chan_stream *s, const struct brig_tcp_opened *m);
	void (*tcp_data)(void *ctx, struct chan_stream *s, const uint8_t *p, size_t n, bool eof);
	void (*tcp_done)(void *ctx, struct chan_stream *s, int err);
};

/* Bytes before ATTACHED, and bytes queued for an agent that does not read. */
#define CHAN_GARBAGE_MAX (64u * 1024u)
/* .. where a former host left its socket full. */
#define CHAN_LEFT_MAX (32u * 1024u * 1024u)
#define CHAN_QUEUE_MAX (4u * 1024u * 1024u)
/* Above this much in the queue the owner stops taking data from clients. */
#define CHAN_QUEUE_HIGH (512u * 1024u)
/* Frames in a row that carry nothing. */
#define CHAN_EMPTY_MAX 1024u

struct chan {
	int fd;
	bool attached, nonce_seen, corked, failed;
	bool taking; /* it was another host's, and the agent has not told all that goes on */
	bool mark;   /* the byte that says so is still to be sent */
	bool held; /* nothing is written until chan_let_go() */
	uint8_t nonce[16];
	size_t garbage;
	uint8_t tail[24]; /* the last bytes before ATTACHED, for a magic cut in two */
	size_t tail_len;
	unsigned empty;
	struct chan_stream **streams; /* by id - 1 */
	uint32_t nstreams, nopen;
	struct buf tx;
	struct framer in;
	const struct chan_ops *ops;
	void *ctx;
	struct brig_err *err; /* of the chan_feed() under way */
};

/* Takes over fd (nonblocking) and queues ATTACH; nothing is written before the first other frame,
 * so that both leave in one system call. */
void chan_init(struct chan *c, int fd, const uint8_t nonce[16], const struct chan_ops *ops,
	       void *ctx);
void chan_done(struct chan *c);
/* Right after chan_init(): the channel was another host's, whose frames may be cut anywhere. */
void chan_take_over(struct chan *c);
/* Before the first byte is fed: a command of the former host. NULL without memory, or if its number is
 * none or taken. */
struct chan_stream *chan_put(struct chan *c, uint32_t id, void *owner, bool gaps);

/* Checks and dispatches bytes read from the agent. 0, or -1 with err: the channel must be closed. A
 * callback that ends the channel sets c->failed; the rest of the bytes is then dropped, and 0 is
 * returned. */
int chan_feed(struct chan *c, const uint8_t *p, size_t n, struct brig_err *err);

/* The output frame whose payload is due next in the socket: its bytes still to come, 0 if something
 * else is due. *ret_frame: its payload in all. Whoever takes n of them from the socket himself, instead
 * of feeding them, says so with chan_skip(). */
size_t chan_output_due(const struct chan *c, struct chan_stream **ret, int *ret_out,
		       size_t *ret_frame);
void chan_skip(struct chan *c, size_t n);

/* Lets what was sent while the channel was held go. As chan_flush(). */
int chan_let_go(struct chan *c);
/* Writes what is queued. 0 when the queue is empty, 1 when the socket is full, -errno. */
int chan_flush(struct chan *c);
static inline size_t chan_queued(const struct chan *c)
{
	return buf_len(&c->tx);
}

/*
 * Sending. 0, or -errno: -ENOBUFS when the agent does not read, -EMFILE when BRIG_STREAMS_MAX
 * streams are open, -EPIPE when it is gone. A caller that gets -EAGAIN from chan_stdin() exceeded
 * may_send.
 */
int chan_exec(struct chan *c, void *owner, const void *payload, size_t n, struct chan_stream **ret);
int chan_fs(struct chan *c, void *owner, uint16_t type, const void *payload, size_t n,
	    struct chan_stream **ret);
int chan_tcp(struct chan *c, void *owner, const struct brig_tcp *m, struct chan_stream **ret);
/* type is STDIN, FS_DATA or TCP_DATA. */
int chan_data(struct chan *c, struct chan_stream *s, uint16_t type, const void *p, size_t n,
	      bool eof);
/* out: 0 stdout, 1 stderr, 2 fs, 3 tcp. Nothing is sent for a grant beyond BRIG_CREDIT_MAX: -ERANGE. */
int chan_grant(struct chan *c, struct chan_stream *s, int out, uint32_t bytes);
int chan_signal(struct chan *c, struct chan_stream *s, uint32_t sig);
int chan_resize(struct chan *c, struct chan_stream *s, uint16_t rows, uint16_t cols);
/* After EXIT: asks for what the agent still has beyond our offsets. */
int chan_reattach(struct chan *c, struct chan_stream *s, uint32_t credit);
/* Of a resumed command: its outputs from these offsets on, or from the oldest bytes that are kept if
 * `gaps`. */
int chan_read_on(struct chan *c, struct chan_stream *s, const uint64_t offset[2], uint32_t credit,
		 bool gaps);
/* Ends the stream. The object is freed by the channel; s is invalid afterwards. */
void chan_close(struct chan *c, struct chan_stream *s);
/* After STARTED with an error: the agent has closed it already. Same for s. */
void chan_release(struct chan *c, struct chan_stream *s);

#endif
