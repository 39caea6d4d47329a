/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A ring grows by doubling until LOGRING_MAX and only then wraps, so a command that prints a line
 * costs a page. Readers are pumped when bytes arrive, when their queue has emptied and when they
 * grant credit; a reader that does not follow stops at the bytes that were there when it asked, so
 * a command that prints without end cannot hold it for ever.
 *
 * A ring in the ledger is right at any instruction: bytes that are about to be overwritten are given up
 * first, new ones count once they are there. What the ring lacks then, the agent still has.
 */
#include "daemon/logs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/exec.h"
#include "daemon/sandbox.h"

struct logring *logring_new(void)
{
	return calloc(1, sizeof(struct logring));
}

static void mem_free(struct logring *r)
{
	if (!r->kept)
		free(r->mem);
	else
		ledger_piece_free(r->ledger, r->kept->mem);
}

void logring_free(struct logring *r)
{
	if (!r)
		return;
	mem_free(r);
	if (r->kept)
		*r->kept = (struct ledger_ring){ .mem = 0 };
	free(r);
}

static void range_set(struct logring *r, uint64_t start, uint64_t end)
{
	r->start = start;
	r->end = end;
	if (r->kept) {
		ledger_put64(&r->kept->start, start);
		ledger_put64(&r->kept->end, end);
	}
}

/* [start, end) in memory of another size. */
static void ring_copy(const struct logring *r, uint8_t *mem, size_t cap)
{
	/* Below the maximum a ring never dropped bytes, so they lie in one piece modulo cap; moving
	 * them to their place under the new modulus is a copy of at most two pieces. */
	for (uint64_t at = r->start; r->cap && at < r->end;) {
		size_t from = (size_t)(at % r->cap), to = (size_t)(at % cap);
		size_t n = (size_t)(r->end - at);
		n = n < r->cap - from ? n : r->cap - from;
		n = n < cap - to ? n : cap - to;
		memcpy(mem + to, r->mem + from, n);
		at += n;
	}
}

int logring_keep(struct logring *r, struct ledger *l, struct ledger_ring *kept)
{
	ledger_ref ref = 0;
	uint8_t *mem = NULL;
	if (r->cap) {
		mem = ledger_piece(l, r->cap, &ref);
		if (!mem)
			return -ENOMEM;
		ring_copy(r, mem, r->cap);
		free(r->mem);
	}
	r->mem = mem;
	r->ledger = l;
	r->kept = kept;
	*kept = (struct ledger_ring){ .mem = ref, .start = r->start, .end = r->end };
	return 0;
}

struct logring *logring_kept(struct ledger *l, struct ledger_ring *kept)
{
	struct logring *r = logring_new();
	if (!r)
		return NULL;
	r->ledger = l;
	r->kept = kept;
	r->cap = (uint32_t)kept->mem;
	r->mem = kept->mem ? ledger_at(l, kept->mem) : NULL;
	r->start = kept->start;
	r->end = kept->end;
	/* Between the two stores of a jump, or nonsense: empty, from where it is sure. */
	if (r->start > r->end || r->end - r->start > r->cap)
		range_set(r, r->end, r->end);
	return r;
}

static int logring_grow(struct logring *r, size_t want)
{
	size_t cap = r->cap ? r->cap : 4096;
	if (r->cap == LOGRING_MAX || want <= r->cap)
		return 0;
	while (cap < want && cap < LOGRING_MAX)
		cap *= 2;
	ledger_ref ref = 0, old = r->kept ? r->kept->mem : 0;
	uint8_t *mem = r->kept ? ledger_piece(r->ledger, cap, &ref) : malloc(cap);
	if (!mem)
		return -ENOMEM;
	ring_copy(r, mem, cap);
	if (r->kept) {
		ledger_put64(&r->kept->mem, ref);
		ledger_piece_free(r->ledger, old);
	} else {
		free(r->mem);
	}
	r->mem = mem;
	r->cap = cap;
	return 0;
}

int logring_add(struct logring *r, uint64_t offset, const uint8_t *p, size_t n)
{
	if (offset != r->end)
		range_set(r, offset, offset);
	if (n > LOGRING_MAX) {
		p += n - LOGRING_MAX;
		offset += n - LOGRING_MAX;
		range_set(r, offset, offset);
		n = LOGRING_MAX;
	}
	int e = logring_grow(r, (size_t)(r->end - r->start) + n);
	if (e < 0) {
		range_set(r, r->end + n, r->end + n);
		return e;
	}
	uint64_t end = r->end;
	/* What is overwritten is given up before. */
	if (end + n - r->start > r->cap)
		range_set(r, end + n - r->cap, end);
	while (n) {
		size_t at = (size_t)(end % r->cap);
		size_t k = n < r->cap - at ? n : r->cap - at;
		memcpy(r->mem + at, p, k);
		p += k;
		n -= k;
		end += k;
	}
	range_set(r, r->start, end);
	return 0;
}

size_t logring_peek(const struct logring *r, uint64_t *offset, const uint8_t **ret)
{
	if (*offset < r->start)
		*offset = r->start;
	if (*offset >= r->end)
		return 0;
	size_t at = (size_t)(*offset % r->cap), n = (size_t)(r->end - *offset);
	*ret = r->mem + at;
	return n < r->cap - at ? n : r->cap - at;
}

/* ---- readers ---- */

struct logs_view {
	struct sandbox *sb;
	struct logs_options o;
	uint64_t at[2], stop[2], credit[2];
};

static void view_detach(struct conn *c)
{
	LIST_REMOVE(c, peer);
	free(c->op);
	c->op = NULL;
	c->role = NULL;
}

static bool view_done(const struct logs_view *v)
{
	const struct sandbox *sb = v->sb;
	/* Followed until the main command has ended and its output is out. */
	if (v->o.follow && sb->main)
		return false;
	for (int out = 0; out < 2; out++) {
		uint64_t stop = v->o.follow && sb->ring[out] ? sb->ring[out]->end : v->stop[out];
		if (v->o.want[out] && v->at[out] < stop)
			return false;
	}
	return true;
}

static void view_pump(struct conn *c)
{
	struct logs_view *v = c->op;
	for (int out = 0; out < 2; out++) {
		struct logring *r = v->sb->ring[out];
		while (v->o.want[out] && r && v->credit[out] && conn_queued(c) < CONN_QUEUE_HIGH) {
			const uint8_t *p;
			size_t n = logring_peek(r, &v->at[out], &p);
			if (!v->o.follow && v->at[out] + n > v->stop[out])
				n = v->stop[out] > v->at[out] ? (size_t)(v->stop[out] - v->at[out])
							      : 0;
			n = n < v->credit[out] ? n : (size_t)v->credit[out];
			n = n < BRIG_FRAME_MAX - 8 ? n : BRIG_FRAME_MAX - 8;
			if (n == 0)
				break;
			conn_bulk(c, out ? BRIG_STDERR : BRIG_STDOUT, 0, BRIG_CLIENT_STREAM,
				  &v->at[out], p, n);
			conn_gather_flush(c->d);
			if (c->gone)
				return; /* v is gone with it */
			v->at[out] += n;
			v->credit[out] -= n;
		}
	}
	if (view_done(v)) {
		view_detach(c);
		conn_end(c, json_object());
	}
}

static int role_shape(struct conn *c, const struct brig_frame_hdr *h, enum framer_shape *ret,
		      struct brig_err *err)
{
	(void)c;
	(void)ret;
	if (h->type != BRIG_CREDIT || h->stream != BRIG_CLIENT_STREAM)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame type %u on a reader of logs",
				 h->type);
	return 0;
}

static int role_frame(struct conn *c, const struct frame *f, struct brig_err *err)
{
	struct logs_view *v = c->op;
	struct brig_credit m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m) ||
	    (m.chan != BRIG_CHAN_STDOUT && m.chan != BRIG_CHAN_STDERR))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "malformed CREDIT");
	uint64_t *credit = &v->credit[m.chan == BRIG_CHAN_STDERR];
	if (m.bytes > BRIG_CREDIT_MAX || *credit > BRIG_CREDIT_MAX - m.bytes)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREDIT beyond the maximum");
	*credit += m.bytes;
	view_pump(c);
	return 0;
}

static void role_gone(struct conn *c)
{
	view_detach(c);
}

static const struct conn_role logs_role = {
	.shape = role_shape, .frame = role_frame, .drained = view_pump, .gone = role_gone
};

void logs_serve(struct conn *c, struct sandbox *sb, const struct logs_options *o)
{
	struct logs_view *v = calloc(1, sizeof(*v));
	if (!v) {
		struct brig_err err = BRIG_ERR_INIT;
		brig_err_set(&err, BRIG_E_EXHAUSTED, ENOMEM, "read logs");
		conn_error(c, &err);
		return;
	}
	v->sb = sb;
	v->o = *o;
	for (int out = 0; out < 2; out++) {
		v->at[out] = o->offset;
		v->stop[out] = sb->ring[out] ? sb->ring[out]->end : 0;
		v->credit[out] = BRIG_CLIENT_CREDIT;
	}
	conn_set_role(c, CONN_STREAM, &logs_role, v);
	LIST_INSERT_HEAD(&sb->followers, c, peer);
	conn_ok(c, NULL);
	if (!c->gone)
		view_pump(c);
}

void logs_pump(struct sandbox *sb)
{
	struct conn *c, *next;
	for (c = LIST_FIRST(&sb->followers); c; c = next) {
		next = LIST_NEXT(c, peer);
		view_pump(c);
	}
}

void logs_end(struct sandbox *sb)
{
	struct conn *c;
	while ((c = LIST_FIRST(&sb->followers))) {
		view_detach(c);
		conn_end(c, json_object());
	}
}
