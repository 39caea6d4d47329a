/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client could send to brigd. Input: one byte of options, one byte of piece size, the JSON
 * text of a request up to the first byte 0xff (it is put into a REQ frame; a text that begins with
 * '!' is not: it is the wire itself), then whatever follows on the wire.
 *
 * The other parties are well-behaved: jaild answers everything (options bit 0: CREATE fails), the
 * agent attaches and starts what it is asked to (bit 1: with an error; bit 2: it never answers).
 *
 * Oracle: when the client has gone and brigd is told to end, nothing is left: no sandbox, no
 * request without its answer, no descriptor of a volume; and every answer to the client is JSON in
 * frames.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/frame.h"
#include "daemon/daemon.h"
#include "daemon/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

#define AGENTS 4

struct world {
	struct brigd d;
	int jail, client;
	int agents[AGENTS];
	unsigned nagents;
	uint8_t options;
	struct buf from_agent[AGENTS], from_client;
};

static void step(struct world *w)
{
	while (ev_round(&w->d.ev, 0) > 0)
		;
}

static void jail_answer(struct world *w, const void *msg, size_t n)
{
	must(fd_send(w->jail, msg, n, NULL, 0) == 0);
	step(w);
}

static int jail_serve_one(struct world *w)
{
	union {
		struct jail_hdr h;
		struct jail_spec spec;
		struct jail_ref ref;
	} m;
	int fds[32];
	unsigned n = 32;
	ssize_t got = fd_recv(w->jail, &m, sizeof(m), fds, &n, MSG_DONTWAIT);
	if (got <= 0)
		return 0;
	int keep = -1;
	if (m.h.verb == JAIL_HELLO) {
		struct jail_hello a = { .h = { JAIL_HELLO_OK, m.h.seq },
					.version = BRIG_JAIL_PROTO_VERSION,
					.enforced = ~0u,
					.mem_total = 8ull << 30,
					.cpus = 2,
					.pids_max = 32768,
					.slots = 100,
					.tier = { { .offered = 1 }, { .offered = 1 } } };
		jail_answer(w, &a, sizeof(a));
	} else if (m.h.verb == JAIL_CREATE && (w->options & 1)) {
		struct jail_error a = { .h = { JAIL_ERROR, m.h.seq }, .code = BRIG_E_LIMIT };
		jail_answer(w, &a, sizeof(a));
	} else if (m.h.verb == JAIL_STATS || m.h.verb == JAIL_MEASURE ||
		   m.h.verb == JAIL_DESTROY) {
		struct jail_stats a = { .h = { JAIL_STATS_IS, m.h.seq }, .valid = ~0u };
		jail_answer(w, &a, sizeof(a));
		struct jail_gone g = { .h = { JAIL_GONE, m.h.seq } };
		if (m.h.verb == JAIL_DESTROY)
			jail_answer(w, &g, sizeof(g));
	} else {
		must(m.h.verb == JAIL_CREATE || m.h.verb == JAIL_IMAGE);
		struct jail_ref a = { .h = { JAIL_OK, m.h.seq } };
		if (m.h.verb == JAIL_CREATE && w->nagents < AGENTS) {
			must(m.spec.nvolumes == n - 1 && m.spec.hostname[0] &&
			     !m.spec.id[BRIG_ID_LEN]);
			must(memchr(m.spec.home, 0, sizeof(m.spec.home)) != NULL);
			keep = fds[0];
			w->agents[w->nagents++] = keep;
		}
		jail_answer(w, &a, sizeof(a));
	}
	for (unsigned i = 0; i < n; i++)
		if (fds[i] != keep)
			close(fds[i]);
	return 1;
}

static void agent_frame(struct world *w, int fd, const struct frame *f)
{
	struct brig_started s = { .pid = 2, .stdin_credit = 64 };
	struct buf out = BUF_INIT(4096);
	must(frame_dir(f->h.type) & FRAME_DIR_H); /* brigd sends nothing else */
	if (f->h.type == BRIG_EXEC) {
		struct brig_exec e;
		const uint8_t *at = frame_struct(f, &e, sizeof(e)), *end = f->payload + f->h.len;
		must(at && e.argc >= 1 && e.argc <= 4096 && e.envc <= 4096);
		for (uint32_t i = 0; i < 2 + e.argc + e.envc; i++)
			must(frame_str(&at, end) != NULL);
		must(at == end);
		s.err = w->options & 2 ? 2 : 0;
		s.step = s.err ? BRIG_STEP_EXEC : BRIG_STEP_NONE;
		frame_add(&out, BRIG_STARTED, 0, f->h.stream, &s, sizeof(s), NULL, 0);
	} else if (f->h.type == BRIG_ATTACH) {
		frame_add(&out, BRIG_ATTACHED, 0, 0, f->payload, f->h.len, NULL, 0);
	} else if (f->h.type == BRIG_PING) {
		frame_add(&out, BRIG_PONG, 0, 0, f->payload, f->h.len, NULL, 0);
	}
	if (buf_len(&out) && !(w->options & 4))
		(void)!send(fd, buf_head(&out), buf_len(&out), MSG_NOSIGNAL | MSG_DONTWAIT);
	buf_done(&out);
}

static int agent_serve(struct world *w, unsigned i)
{
	struct frame f;
	ssize_t n = buf_read_fd(&w->from_agent[i], w->agents[i], 65536);
	int r;
	while ((r = frame_peek(&w->from_agent[i], &f)) > 0) {
		agent_frame(w, w->agents[i], &f);
		buf_consume(&w->from_agent[i], frame_size(&f));
	}
	must(r == 0);
	step(w);
	return n > 0;
}

/* What the client gets is whole frames, and JSON where it must be. */
static void client_read(struct world *w)
{
	struct frame f;
	int r;
	while (buf_read_fd(&w->from_client, w->client, 65536) > 0)
		;
	while ((r = frame_peek(&w->from_client, &f)) > 0) {
		if (f.h.type == BRIG_CL_REP || f.h.type == BRIG_CL_END) {
			json_t *o = json_loadb((const char *)f.payload, f.h.len, 0, NULL);
			must(json_is_object(o));
			json_decref(o);
		}
		buf_consume(&w->from_client, frame_size(&f));
	}
	must(r == 0);
}

static void settle(struct world *w)
{
	/* Bounded: each round answers at least one request or ends. */
	for (int busy = 1, i = 0; busy && i < 10000; i++) {
		step(w);
		busy = jail_serve_one(w);
		for (unsigned k = 0; k < w->nagents; k++)
			busy |= agent_serve(w, k);
		if (w->client >= 0)
			client_read(w);
	}
}

static void world_open(struct world *w)
{
	int jail[2], client[2];
	struct brig_err err = BRIG_ERR_INIT;
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, jail) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, client) == 0);
	w->jail = jail[1];
	w->client = client[1];
	w->d.log = (struct log){ .fd = -1, .level = LOG_ERROR };
	for (unsigned i = 0; i < AGENTS; i++)
		w->from_agent[i] = (struct buf)BUF_INIT(1 << 20);
	w->from_client = (struct buf)BUF_INIT(1 << 22);
	must(brigd_init(&w->d, jail[0], "/nonexistent", &err) == 0);
	settle(w);
	must(w->d.host_known);
	must(conn_new(&w->d, client[0]) != NULL);
}

static void world_close(struct world *w)
{
	fd_close(&w->client);
	settle(w);
	must(w->d.nconns == 0);
	brigd_drain(&w->d, "end of input");
	settle(w);
	must(LIST_EMPTY(&w->d.all) && w->d.nlive == 0 && w->d.nboxes == 0);
	must(w->d.jail.npending == 0 && w->d.quit && w->d.exit_code == 0);
	brigd_done(&w->d);
	for (unsigned i = 0; i < w->nagents; i++)
		close(w->agents[i]);
	for (unsigned i = 0; i < AGENTS; i++)
		buf_done(&w->from_agent[i]);
	buf_done(&w->from_client);
	close(w->jail);
}

static void feed(struct world *w, const uint8_t *p, size_t n, size_t piece)
{
	for (size_t at = 0; at < n && !LIST_EMPTY(&w->d.conns); at += piece) {
		struct conn *c = LIST_FIRST(&w->d.conns);
		size_t k = n - at < piece ? n - at : piece;
		/* A connection that is closing is not read any further. */
		if (c->phase == CONN_CLOSING)
			return;
		conn_feed(c, p + at, k);
		settle(w);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > 1 << 19)
		return 0;
	struct world *w = calloc(1, sizeof(*w));
	must(w != NULL);
	w->options = data[0];
	size_t piece = data[1] ? (size_t)data[1] * 16 : size;
	const uint8_t *text = data + 2, *end = data + size;
	world_open(w);
	if (text < end && *text != '!') {
		const uint8_t *stop = memchr(text, 0xff, (size_t)(end - text));
		struct buf req = BUF_INIT(1 << 20);
		stop = stop ? stop : end;
		if (frame_add(&req, BRIG_CL_REQ, 0, 0, text, (size_t)(stop - text), NULL, 0) == 0)
			feed(w, buf_head(&req), buf_len(&req), piece);
		buf_done(&req);
		text = stop < end ? stop + 1 : end;
	} else if (text < end) {
		text++;
	}
	feed(w, text, (size_t)(end - text), piece);
	world_close(w);
	free(w);
	return 0;
}
