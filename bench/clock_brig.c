/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock_brig.c: a run as a request to a resident brigd, in the protocol of client_proto.h: connect,
 * REQ, REP, STDOUT (with credit given back as it is read), END. The answer of a request that does not
 * stream is complete with its REP.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/frame.h"
#include "brig/client_proto.h"
#include "clock.h"

#define CREDIT_STEP (1u << 20)

static int tx_flush(struct op *op)
{
	while (buf_len(&op->tx)) {
		ssize_t n = buf_write_fd(&op->tx, op->sock);
		if (n == -EAGAIN)
			break;
		if (n < 0)
			return -1;
	}
	struct epoll_event ev = { .events = EPOLLIN | (buf_len(&op->tx) ? EPOLLOUT : 0),
				  .data.u64 = op_tag(op, OP_FD_SOCK) };
	return epoll_ctl(op->ep, EPOLL_CTL_MOD, op->sock, &ev);
}

int op_brig_start(struct op *op, unsigned n)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	AUTO_FREE char *req = form_expand(op->form->args[1], n);

	op->rx = (struct buf)BUF_INIT(2u * (BRIG_FRAME_MAX + sizeof(struct brig_frame_hdr)));
	op->tx = (struct buf)BUF_INIT(1u << 20);
	op->failed = "connect";
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", op->form->args[0]);
	if (!req || frame_add(&op->tx, BRIG_CL_REQ, 0, 0, req, strlen(req), NULL, 0))
		return -1;
	op->t0 = raw_now();
	op->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (op->sock < 0 || connect(op->sock, (const struct sockaddr *)&at, sizeof(at)) ||
	    fd_set_nonblock(op->sock, 1) || op_fd_watch(op, op->sock, OP_FD_SOCK) || tx_flush(op))
		return -1;
	op->failed = NULL;
	return 0;
}

static json_t *frame_json(const struct frame *f)
{
	return json_loadb((const char *)f->payload, f->h.len, 0, NULL);
}

/* True when the operation is complete. */
static bool frame_take(struct op *op, const struct frame *f)
{
	if (f->h.type == BRIG_STDOUT && f->h.len >= sizeof(uint64_t)) {
		if (!op->first)
			op->first = raw_now();
		uint32_t n = f->h.len - (uint32_t)sizeof(uint64_t);
		op->bytes += n;
		op->owed += n;
		return false;
	}
	if (f->h.type == BRIG_CL_REP) {
		json_t *js = frame_json(f);
		if (!json_object_get(js, "ok"))
			op->failed = "refused";
		json_decref(js);
		if (op->failed || !op->form->streams)
			op->done = raw_now();
		return op->done != 0;
	}
	if (f->h.type == BRIG_CL_END) {
		op->done = raw_now();
		json_t *js = frame_json(f);
		json_t *code = json_object_get(js, "exit_code");
		op->code = json_is_integer(code) ? (int)json_integer_value(code) : 125;
		if (op->code)
			op->failed = "exit";
		json_decref(js);
		return true;
	}
	return false;
}

bool op_brig_event(struct op *op, uint32_t events)
{
	if ((events & EPOLLOUT) && tx_flush(op))
		goto lost;
	ssize_t n = buf_read_fd(&op->rx, op->sock, BRIG_FRAME_MAX);
	if (n == -EAGAIN)
		return false;
	if (n <= 0)
		goto lost;
	for (;;) {
		struct frame f;
		int r = frame_peek(&op->rx, &f);
		if (r < 0)
			goto lost;
		if (r == 0)
			break;
		if (frame_take(op, &f))
			return true;
		buf_consume(&op->rx, frame_size(&f));
	}
	if (op->owed >= CREDIT_STEP) {
		struct brig_credit grant = { .chan = BRIG_CHAN_STDOUT, .bytes = op->owed };
		op->owed = 0;
		if (frame_add(&op->tx, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &grant, sizeof(grant), NULL,
			      0) ||
		    tx_flush(op))
			goto lost;
	}
	return false;
lost:
	op->failed = "connection lost";
	return true;
}

void op_brig_end(struct op *op)
{
	op_fd_drop(op, &op->sock);
	buf_done(&op->rx);
	buf_done(&op->tx);
}
