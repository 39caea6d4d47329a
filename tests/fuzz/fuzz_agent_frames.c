/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent could send to brigd. The first byte selects what is open on the channel, the second
 * in how large pieces the rest is fed; the rest is the agent's side of the wire after ATTACHED (or,
 * with bit 0 of the first byte clear, before it).
 *
 * Oracle: callbacks come in the order and within the bounds that chan.h promises, whatever is fed;
 * the same bytes in one piece and in many, and with output that is taken from under the channel, give
 * the same calls; nothing is sent but what was asked
 * for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/chan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

#define STREAMS 8 /* two commands, five file operations, a connection */
#define TCP (STREAMS - 1)
/* The second command is closed in the middle of a frame, when it has printed more than this. */
#define CLOSE_AFTER 100u

struct watch {
	struct chan chan;
	struct chan_stream *s[STREAMS];
	int attached, started[STREAMS], exited[STREAMS], done[STREAMS];
	uint64_t at[STREAMS][2], credit[STREAMS][4], bytes[STREAMS];
	uint64_t sum; /* of everything that was told, order included */
};

static unsigned index_of(const struct chan_stream *s)
{
	return (unsigned)(uintptr_t)s->owner - 1;
}

static void tell(struct watch *w, uint64_t v)
{
	w->sum = (w->sum ^ v) * 1099511628211ull; /* FNV-1a */
}

static void tell_bytes(struct watch *w, const uint8_t *p, size_t n)
{
	while (n--)
		tell(w, *p++);
}

static void on_attached(void *ctx)
{
	struct watch *w = ctx;
	must(!w->attached++);
}

static void on_started(void *ctx, struct chan_stream *s, const struct brig_started *m)
{
	struct watch *w = ctx;
	unsigned i = index_of(s);
	must(w->attached && s->kind == STREAM_EXEC && !w->started[i]++);
	must(m->err >= 0 && m->step <= BRIG_STEP_EXEC && m->stdin_credit <= BRIG_CREDIT_MAX);
	tell(w, 1000 + (uint64_t)m->err);
	if (m->err) {
		w->done[i] = 1;
		chan_release(&w->chan, s);
	}
}

static void on_output(void *ctx, struct chan_stream *s, int out, uint64_t offset, const uint8_t *p,
		      size_t n)
{
	struct watch *w = ctx;
	unsigned i = index_of(s);
	must(w->started[i] && !w->exited[i] && !w->done[i] && n > 0);
	must(s->gaps ? offset >= w->at[i][out] : offset == w->at[i][out]);
	must(n <= w->credit[i][out]);
	w->credit[i][out] -= n;
	w->at[i][out] = offset + n;
	/* Byte by byte, so that pieces do not matter; and no further than where it is closed. */
	for (size_t k = 0; k < n && (i != 1 || w->bytes[i] + k <= CLOSE_AFTER); k++) {
		tell(w, (uint64_t)out << 56 | (offset + k));
		tell(w, p[k]);
	}
	w->bytes[i] += n;
	if (i == 1 && w->bytes[i] > CLOSE_AFTER) {
		w->done[i] = 1;
		s->owner = NULL;
		chan_close(&w->chan, s);
	}
}

static void on_credit(void *ctx, struct chan_stream *s, uint32_t bytes)
{
	struct watch *w = ctx;
	must(bytes > 0 && bytes <= BRIG_CREDIT_MAX && s->may_send <= BRIG_CREDIT_MAX);
	if (s->kind == STREAM_FS)
		must(s->fs_type == BRIG_FS_WRITE || s->fs_type == BRIG_FS_IMPORT);
	else
		must(w->started[index_of(s)] && !w->done[index_of(s)]);
	tell(w, bytes);
}

static void on_exited(void *ctx, struct chan_stream *s, const struct brig_exit *m)
{
	struct watch *w = ctx;
	unsigned i = index_of(s);
	must(w->started[i] && !w->exited[i]++ && !w->done[i]);
	must(m->code <= 255 && m->stdout_bytes >= w->at[i][0] && m->stderr_bytes >= w->at[i][1]);
	tell(w, m->code);
}

static void on_fs_frame(void *ctx, struct chan_stream *s, const struct frame *f)
{
	struct watch *w = ctx;
	unsigned i = index_of(s);
	struct brig_fs_done done;
	must(s->kind == STREAM_FS && !w->done[i] && f->h.len > 0);
	must(f->payload[f->h.len - 1] == 0); /* the strings end */
	tell(w, f->h.type);
	tell_bytes(w, f->payload, f->h.len);
	if (f->h.type == BRIG_FS_DONE) {
		frame_struct(f, &done, sizeof(done));
		w->done[i] = !(done.flags & BRIG_FS_DONE_OPEN);
		must(w->done[i] || s->fs_type == BRIG_FS_WATCH);
	}
}

static void on_fs_data(void *ctx, struct chan_stream *s, const uint8_t *p, size_t n, bool eof)
{
	struct watch *w = ctx;
	unsigned i = index_of(s);
	must(s->fs_type == BRIG_FS_READ || s->fs_type == BRIG_FS_EXPORT);
	must(!w->done[i] && n <= w->credit[i][2]);
	w->credit[i][2] -= n;
	tell_bytes(w, p, n);
	if (eof)
		tell(w, 4711);
}

static void on_tcp_opened(void *ctx, struct chan_stream *s, const struct brig_tcp_opened *m)
{
	struct watch *w = ctx;
	must(w->attached && s->kind == STREAM_TCP && !w->started[TCP]++);
	must(m->err >= 0 && m->credit <= BRIG_CREDIT_MAX);
	w->done[TCP] = m->err != 0;
	tell(w, 2000 + (uint64_t)m->err);
}

static void on_tcp_data(void *ctx, struct chan_stream *s, const uint8_t *p, size_t n, bool eof)
{
	struct watch *w = ctx;
	must(s->kind == STREAM_TCP && w->started[TCP] && !w->done[TCP] && !w->exited[TCP]);
	must(n <= w->credit[TCP][3]);
	w->credit[TCP][3] -= n;
	w->exited[TCP] = eof;
	tell_bytes(w, p, n);
	if (eof)
		tell(w, 4712);
}

static void on_tcp_done(void *ctx, struct chan_stream *s, int err)
{
	struct watch *w = ctx;
	must(s->kind == STREAM_TCP && w->started[TCP] && !w->done[TCP]++);
	must(err >= 0 && err <= 4095);
	tell(w, 3000 + (uint64_t)err);
}

static const struct chan_ops ops = { .attached = on_attached,
				     .started = on_started,
				     .output = on_output,
				     .credit = on_credit,
				     .exited = on_exited,
				     .fs_frame = on_fs_frame,
				     .fs_data = on_fs_data,
				     .tcp_opened = on_tcp_opened,
				     .tcp_data = on_tcp_data,
				     .tcp_done = on_tcp_done };

static void open_streams(struct watch *w, uint8_t what)
{
	struct brig_exec e = { .credit_stdout = 300, .credit_stderr = 200, .argc = 1 };
	struct brig_fs_req q = { .credit = 250 };
	static const uint16_t fs[] = { BRIG_FS_READ, BRIG_FS_LIST, BRIG_FS_WATCH, BRIG_FS_WRITE,
				       BRIG_FS_EXPORT };
	struct brig_tcp tcp = { .port = 80, .credit = 220 };
	for (unsigned i = 0; i < STREAMS; i++) {
		void *owner = (void *)(uintptr_t)(i + 1);
		if (i < 2) {
			e.flags = i && (what & 2) ? BRIG_EXEC_DROP : 0;
			must(chan_exec(&w->chan, owner, &e, sizeof(e), &w->s[i]) == 0);
		} else if (i == TCP) {
			must(chan_tcp(&w->chan, owner, &tcp, &w->s[i]) == 0);
		} else {
			uint16_t type = i == 2 && (what & 4) ? BRIG_FS_STAT : fs[i - 2];
			type = type == BRIG_FS_WRITE && (what & 16) ? BRIG_FS_IMPORT : type;
			q.flags = what & 8 ? BRIG_FS_META : 0;
			must(chan_fs(&w->chan, owner, type, &q, sizeof(q), &w->s[i]) == 0);
		}
		w->credit[i][0] = 300;
		w->credit[i][1] = 200;
		w->credit[i][2] = 250;
		w->credit[i][3] = 220;
		must(w->s[i]->id == i + 1);
	}
}

/* As relay.h does: output that is due is taken unfed. Returns how much of the piece. */
static size_t take_unfed(struct watch *w, const uint8_t *p, size_t n)
{
	struct chan_stream *s;
	size_t frame, due;
	int out;
	due = chan_output_due(&w->chan, &s, &out, &frame);
	if (!due)
		return 0;
	must(s->kind == STREAM_EXEC && s->owner && due <= frame && frame <= BRIG_FRAME_MAX);
	uint64_t offset = s->offset[out];
	n = n < due ? n : due;
	chan_skip(&w->chan, n);
	on_output(w, s, out, offset, p, n);
	return n;
}

/* Feeds the input in pieces; returns a digest of all that was told. */
static uint64_t run(const uint8_t *data, size_t size, uint8_t what, size_t piece, int unfed)
{
	static const uint8_t nonce[16] = "0123456789abcdef";
	struct watch *w = calloc(1, sizeof(*w));
	struct brig_err err = BRIG_ERR_INIT;
	int pair[2], r = 0;
	must(w && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	chan_init(&w->chan, pair[0], nonce, &ops, w);
	open_streams(w, what);
	if (what & 1) {
		struct brig_attach a = { .magic = BRIG_ATTACH_MAGIC,
					 .version = BRIG_AGENT_PROTO_VERSION };
		memcpy(a.nonce, nonce, sizeof(nonce));
		must(chan_feed(&w->chan, (uint8_t *)&a, sizeof(a), &err) == 0 && w->attached);
	}
	for (size_t at = 0, n; at < size && r == 0; at += n) {
		n = size - at < piece ? size - at : piece;
		size_t taken = unfed ? take_unfed(w, data + at, n) : 0;
		if (taken)
			n = taken;
		else
			r = chan_feed(&w->chan, data + at, n, &err);
	}
	must(r == 0 || (err.code != BRIG_E_OK && err.msg[0]));
	uint64_t sum = w->sum ^ (uint64_t)(r != 0);
	chan_done(&w->chan);
	close(pair[1]);
	free(w);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	size_t piece = data[1] ? data[1] : 1;
	uint64_t whole = run(data + 2, size - 2, data[0], size, 0);
	must(run(data + 2, size - 2, data[0], piece, 0) == whole);
	must(run(data + 2, size - 2, data[0], piece, 1) == whole);
	return 0;
}
