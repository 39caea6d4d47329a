/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * How bytes move, in both directions, within what budgets and bandwidth allow. What a sandbox sends
 * is read only as far as it may be passed on, or is needed to decide, so that no connection holds
 * more than HEAD_MAX bytes here.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/flow.h"

#define PAUSE_NS (10 * MS_NS)

/* ---- what may pass now ---- */

static void pause_flow(struct flow *f)
{
	struct net_lease *l = f->l;
	f->paused = true;
	if (!ev_timer_armed(&l->resume) &&
	    ev_timer_set(&l->gw->ev, &l->resume, clock_now() + PAUSE_NS) < 0)
		flow_close(f, true);
}

static void refuse_budget(struct flow *f, enum amount which, unsigned scope, uint64_t figure)
{
	flow_refuse(f, &(struct denial){ .reason = EGRESS_R_BUDGET,
					 .scope = scope,
					 .figure = figure,
					 .amount = amount_text(which) });
}

/* Of at most `want` bytes; 0: paused, refused, or *ret_wait: nothing has come that would be too
 * much. */
static uint64_t allowance(struct flow *f, struct bucket *b, enum amount which, uint64_t want,
			  int from, bool *ret_wait)
{
	unsigned scope = EGRESS_S_NONE;
	uint64_t limit = 0, room = lease_room(f->l, f->dest, which, &scope, &limit);
	*ret_wait = false;
	if (room == 0) {
		char c;
		if (from >= 0 && recv(from, &c, 1, MSG_PEEK) < 0 && errno == EAGAIN)
			*ret_wait = true;
		else
			refuse_budget(f, which, scope, limit);
		return 0;
	}
	uint64_t n = bucket_level(b, clock_now(), want < room ? want : room);
	if (n == 0)
		pause_flow(f);
	return n;
}

bool flow_charge(struct flow *f)
{
	unsigned scope = EGRESS_S_NONE;
	uint64_t limit = 0;
	char addr[NET_ADDR_TEXT_MAX];
	if (!f->dest)
		f->dest = lease_dest(f->l, f->name[0] ? f->name : net_addr_text(&f->dst, addr));
	if (lease_room(f->l, f->dest, AMOUNT_requests, &scope, &limit) == 0) {
		refuse_budget(f, AMOUNT_requests, scope, limit);
		return false;
	}
	lease_spend(f->l, f->dest, AMOUNT_requests, 1);
	return true;
}

void flow_free(struct flow *f)
{
	if (!f->charged && !flow_charge(f))
		return;
	f->charged = true;
	f->out = OUT_FREE;
}

/* ---- what the sandbox sends ---- */

/* True: all that may pass has been sent. */
static bool flush(struct flow *f, struct flow_wants *w)
{
	while (f->ok) {
		bool wait;
		uint64_t n = allowance(f, &f->l->out, AMOUNT_bytes_out, f->ok, -1, &wait);
		if (n == 0)
			return false;
		ssize_t sent = send(f->ufd, f->buf, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0) {
			if (errno == EAGAIN || errno == EINTR)
				w->uw = true;
			else
				flow_close(f, true);
			return false;
		}
		bucket_take(&f->l->out, (uint64_t)sent);
		lease_spend(f->l, f->dest, AMOUNT_bytes_out, (uint64_t)sent);
		f->ok -= (size_t)sent;
		f->len -= (size_t)sent;
		memmove(f->buf, f->buf + sent, f->len);
		f->last = f->gw->ev.now;
	}
	return true;
}

void flow_client_lost(struct flow *f)
{
	if (f->out == OUT_LOOK && f->by == BY_NOTHING)
		flow_refuse_as(f, EGRESS_R_NO_NAME);
	flow_close(f, true);
}

/* Nothing more comes from the sandbox, and what came is no whole beginning. True: go on. */
static bool look_end(struct flow *f)
{
	if (flow_look(f, true))
		return true;
	if (f->by == BY_NOTHING)
		flow_refuse_as(f, EGRESS_R_NO_NAME);
	else if (f->len || f->connect)
		flow_close(f, true);
	else
		flow_free(f);
	return !f->refused && !f->over;
}

/* 1: more bytes, 0: not now, -1: no more for ever (or the flow is over). */
static int collect(struct flow *f, struct flow_wants *w)
{
	if (f->len == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 2048;
		uint8_t *p = cap <= HEAD_MAX ? realloc(f->buf, cap) : NULL;
		if (!p)
			return 0; /* full of what may pass: when it has, there is room */
		f->buf = p;
		f->cap = cap;
	}
	ssize_t n = recv(f->cfd, f->buf + f->len, f->cap - f->len, MSG_DONTWAIT);
	if (n > 0) {
		f->len += (size_t)n;
		return 1;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		w->cr = true;
		return 0;
	}
	if (n < 0)
		flow_client_lost(f);
	return -1;
}

static void out_end(struct flow *f)
{
	if (f->to_up.shut)
		return;
	f->to_up.eof = f->to_up.shut = true;
	shutdown(f->ufd, SHUT_WR);
	flow_arm(f);
}

/* True: go on. */
static bool out_splice(struct flow *f, struct flow_wants *w)
{
	uint64_t most = f->out == OUT_LENGTH ? f->left : UINT64_MAX;
	bool wait = false;
	if (f->to_up.shut)
		return false;
	if (f->out == OUT_FREE) {
		free(f->buf); /* what it was for is over */
		f->buf = NULL;
		f->cap = 0;
	}
	uint64_t n =
		f->to_up.held ? 0 : allowance(f, &f->l->out, AMOUNT_bytes_out, most, f->cfd, &wait);
	if (n == 0 && !f->to_up.held) {
		w->cr = wait;
		return false;
	}
	uint64_t limit = n;
	enum pump_result r = pump_run(f->gw, &f->to_up, f->cfd, f->ufd, &limit);
	uint64_t took = n - limit;
	bucket_take(&f->l->out, took);
	lease_spend(f->l, f->dest, AMOUNT_bytes_out, took);
	if (f->out == OUT_LENGTH)
		f->left -= took;
	if (f->to_up.moved)
		f->last = f->gw->ev.now;
	f->to_up.moved = false;
	switch (r) {
	case PUMP_END:
		out_end(f);
		return false;
	case PUMP_WAIT_READ:
		w->cr = true;
		return false;
	case PUMP_WAIT_WRITE:
		w->uw = true;
		return false;
	case PUMP_LIMIT:
		return true;
	default:
		flow_close(f, true);
		return false;
	}
}

/* Bytes of a body that are in the buffer; true: go on. */
static bool body_pass(struct flow *f)
{
	size_t n = f->len - f->ok;
	if (f->out == OUT_LENGTH) {
		if (n > f->left)
			n = (size_t)f->left;
		f->ok += n;
		f->left -= n;
		if (f->left == 0)
			f->out = OUT_HEAD;
		return true;
	}
	bool end = false;
	long k = head_chunks_feed(&f->chunks, f->buf + f->ok, n, &end);
	if (k < 0) {
		flow_refuse_as(f, EGRESS_R_MALFORMED);
		return false;
	}
	f->ok += (size_t)k;
	if (end)
		f->out = OUT_HEAD;
	return true;
}

void flow_out_run(struct flow *f, struct flow_wants *w)
{
	while (!f->over && !f->refused && !f->paused) {
		bool open = f->up == UP_OPEN;
		if (open && !flush(f, w))
			return;
		if (f->out == OUT_ANSWER || f->up == UP_RESOLVING)
			return;
		if (f->out == OUT_FREE && f->len) {
			f->ok = f->len;
			if (!open)
				return;
			continue;
		}
		if (f->out == OUT_FREE || (f->out == OUT_LENGTH && f->len == f->ok)) {
			if (!open || f->ok || !out_splice(f, w))
				return;
			if (f->out == OUT_LENGTH && f->left == 0)
				f->out = OUT_HEAD;
			continue;
		}
		if (f->len > f->ok) {
			bool moved = f->out == OUT_LOOK	  ? flow_look(f, false)
				     : f->out == OUT_HEAD ? flow_head(f, false)
							  : body_pass(f);
			if (moved)
				continue;
			if (f->over || f->refused)
				return;
		}
		/* A looked-at connection that goes on before its way is open could fill the buffer.
		 */
		if (f->out != OUT_LOOK && !open)
			return;
		int r = collect(f, w);
		if (r > 0)
			continue;
		if (r < 0 && !f->over) {
			if (f->out == OUT_LOOK && look_end(f))
				continue;
			if (f->over || f->refused)
				return;
			if (f->len > f->ok)
				flow_close(f, true);
			else if (open)
				out_end(f);
		}
		return;
	}
}

/* ---- what comes back ---- */

/* Whether an Upgrade was answered with 101; false: not yet known. */
static bool answer_look(struct flow *f)
{
	char line[12];
	const int low = 1;
	ssize_t n = recv(f->ufd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n > 0 && n < (ssize_t)sizeof(line) && memcmp(line, "HTTP/1.1 101", (size_t)n) == 0)
		return false;
	setsockopt(f->ufd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	bool yes = n == sizeof(line) && memcmp(line, "HTTP/1.1 101", sizeof(line)) == 0;
	f->out = yes ? OUT_FREE : OUT_HEAD;
	return true;
}

static enum pump_result in_splice(struct flow *f, struct flow_wants *w)
{
	bool wait = false;
	uint64_t n = f->to_client.held
			     ? 0
			     : allowance(f, &f->l->in, AMOUNT_bytes_in, UINT64_MAX, f->ufd, &wait);
	if (n == 0 && !f->to_client.held) {
		w->ur = wait;
		return PUMP_BROKEN;
	}
	uint64_t limit = n;
	enum pump_result r = pump_run(f->gw, &f->to_client, f->ufd, f->cfd, &limit);
	bucket_take(&f->l->in, n - limit);
	lease_spend(f->l, f->dest, AMOUNT_bytes_in, n - limit);
	if (n != limit)
		f->last = f->gw->ev.now;
	if (r == PUMP_END) {
		f->to_client.shut = true;
		shutdown(f->cfd, SHUT_WR);
		flow_arm(f);
	} else if (r == PUMP_BROKEN) {
		flow_close(f, true);
	} else {
		w->ur = r == PUMP_WAIT_READ;
		w->cw = r == PUMP_WAIT_WRITE;
	}
	return r;
}

void flow_in_run(struct flow *f, struct flow_wants *w)
{
	if (f->over || f->refused || f->paused || f->up != UP_OPEN || f->to_client.shut)
		return;
	if (f->out == OUT_ANSWER && !answer_look(f)) {
		w->ur = true;
		return;
	}
	for (enum pump_result r = PUMP_LIMIT; r == PUMP_LIMIT && !f->over && !f->refused;)
		r = in_splice(f, w);
}

/* The last words, and then whatever still comes is thrown away: closing on unread bytes would be a
 * reset, which may overtake them. */
void flow_last_words(struct flow *f, struct flow_wants *w)
{
	static char waste[16384];
	while (f->reply_sent < f->reply_len) {
		ssize_t n = send(f->cfd, f->reply + f->reply_sent, f->reply_len - f->reply_sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			w->cw = true;
			return;
		}
		if (n < 0) {
			flow_close(f, true);
			return;
		}
		f->reply_sent += (size_t)n;
	}
	if (!f->drained)
		shutdown(f->cfd, SHUT_WR);
	f->drained = true;
	for (unsigned i = 0; i < 16; i++) {
		ssize_t n = recv(f->cfd, waste, sizeof(waste), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			flow_close(f, false);
			return;
		}
	}
	w->cr = true;
}
