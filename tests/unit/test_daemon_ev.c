/* SPDX-License-Identifier: Apache-2.0 */
/* The loop that everything runs in, and the framer that cuts what it reads. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/ev.h"
#include "daemon/framer.h"

static struct ev ev;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(ev_init(&ev), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ev_done(&ev);
	return 0;
}

/* ---- timers ---- */

static unsigned fired[1000], nfired;

static void on_timer(void *ctx)
{
	fired[nfired++] = (unsigned)(uintptr_t)ctx;
}

static void timers_fire_in_the_order_of_their_deadlines(void **state)
{
	(void)state;
	static struct ev_timer t[500];
	uint64_t now = clock_now();
	nfired = 0;
	/* A permutation; every third is moved, every seventh stopped. */
	for (unsigned i = 0; i < 500; i++) {
		unsigned rank = i * 211 % 500;
		t[i] = (struct ev_timer){ .fn = on_timer, .ctx = (void *)(uintptr_t)rank };
		assert_int_equal(ev_timer_set(&ev, &t[i], now - 1000000 + rank), 0);
	}
	for (unsigned i = 0; i < 500; i++) {
		unsigned rank = (unsigned)(uintptr_t)t[i].ctx;
		if (i % 3 == 0)
			assert_int_equal(ev_timer_set(&ev, &t[i], now - 2000000 + rank), 0);
		if (i % 7 == 0)
			ev_timer_stop(&ev, &t[i]);
	}
	assert_int_equal(ev_round(&ev, 0), (int)(500 - 72));
	assert_int_equal(nfired, 500 - 72);
	/* First the moved ones, each group in order; none of the stopped. */
	unsigned groups = 1;
	for (unsigned i = 1; i < nfired; i++)
		groups += fired[i] < fired[i - 1];
	assert_int_equal(groups, 2);
	assert_int_equal(ev.ntimers, 0);
}

static void a_timer_in_the_future_waits_for_it_and_no_longer(void **state)
{
	(void)state;
	struct ev_timer t = { .fn = on_timer };
	uint64_t begin = clock_now();
	nfired = 0;
	ev_timer_set(&ev, &t, begin + 20 * MS_NS);
	while (nfired == 0)
		ev_round(&ev, -1);
	uint64_t took = clock_now() - begin;
	assert_true(took >= 20 * MS_NS && took < 500 * MS_NS);
	assert_false(ev_timer_armed(&t));
}

/* ---- descriptors ---- */

struct side {
	int fd;
	struct ev_io io;
	int calls;
	struct side *kills;
};

static void on_io(void *ctx, uint32_t events)
{
	struct side *s = ctx;
	(void)events;
	s->calls++;
	if (s->kills) {
		ev_io_del(&ev, &s->kills->io);
		s->kills = NULL;
	}
}

static void side_open(struct side *s, int *peer)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	*s = (struct side){ .fd = pair[0] };
	*peer = pair[1];
	assert_int_equal(ev_io_add(&ev, pair[0], EPOLLIN, on_io, s, &s->io), 0);
}

static void an_event_of_a_deleted_registration_is_dropped(void **state)
{
	(void)state;
	struct side a, b;
	int pa, pb;
	side_open(&a, &pa);
	side_open(&b, &pb);
	/* Both are ready in one batch; whichever runs first deletes the other. */
	a.kills = &b;
	b.kills = &a;
	assert_int_equal(write(pa, "x", 1), 1);
	assert_int_equal(write(pb, "x", 1), 1);
	ev_round(&ev, 0);
	assert_int_equal(a.calls + b.calls, 1);
	close(a.fd);
	close(b.fd);
	close(pa);
	close(pb);
}

static void a_slot_that_was_given_out_again_gets_no_old_event(void **state)
{
	(void)state;
	struct side a, c;
	int pa, pc;
	side_open(&a, &pa);
	struct ev_io stale = a.io;
	ev_io_del(&ev, &a.io);
	side_open(&c, &pc);
	assert_int_equal(c.io.slot, stale.slot);
	assert_int_not_equal(c.io.gen, stale.gen);
	assert_int_equal(ev_io_set(&ev, stale, EPOLLOUT), -ENOENT);
	ev_io_del(&ev, &stale); /* harms nobody */
	assert_int_equal(write(pc, "x", 1), 1);
	ev_round(&ev, 0);
	assert_int_equal(c.calls, 1);
	close(a.fd);
	close(c.fd);
	close(pa);
	close(pc);
}

static void a_paused_descriptor_does_not_spin_when_its_peer_is_gone(void **state)
{
	(void)state;
	struct side a;
	int pa;
	side_open(&a, &pa);
	assert_int_equal(ev_io_set(&ev, a.io, 0), 0);
	close(pa);
	assert_int_equal(ev_round(&ev, 0), 0);
	assert_int_equal(a.calls, 0);
	assert_int_equal(ev_io_set(&ev, a.io, EPOLLIN), 0);
	ev_round(&ev, 0);
	assert_int_equal(a.calls, 1);
	close(a.fd);
}

static struct ev_task again;
static int task_runs;

static void on_task(void *ctx)
{
	(void)ctx;
	if (++task_runs < 3)
		ev_task_queue(&ev, &again);
}

static void a_task_queued_by_a_task_runs_in_the_next_round(void **state)
{
	(void)state;
	again = (struct ev_task){ .fn = on_task };
	task_runs = 0;
	ev_task_queue(&ev, &again);
	ev_task_queue(&ev, &again); /* once is enough */
	ev_round(&ev, -1);	    /* and a queued task does not wait for events */
	assert_int_equal(task_runs, 1);
	ev_round(&ev, -1);
	ev_round(&ev, -1);
	assert_int_equal(task_runs, 3);
}

/* ---- framer ---- */

struct seen {
	struct framer f;
	char text[4096];
	size_t n;
	int frames, opens;
};

static void note(struct seen *s, const void *p, size_t n)
{
	assert_true(s->n + n < sizeof(s->text));
	memcpy(s->text + s->n, p, n);
	s->n += n;
	s->text[s->n] = '\0';
}

static int seen_shape(void *ctx, const struct brig_frame_hdr *h, enum framer_shape *ret,
		      uint32_t *ret_prefix)
{
	(void)ctx;
	if (h->type == 2) {
		*ret = FRAMER_BULK;
		*ret_prefix = 2;
	}
	return h->type == 9 ? -EPERM : 0;
}

static int seen_frame(void *ctx, const struct frame *f)
{
	struct seen *s = ctx;
	s->frames++;
	note(s, "<", 1);
	note(s, f->payload, f->h.len);
	note(s, ">", 1);
	return 0;
}

static int seen_open(void *ctx, const struct brig_frame_hdr *h, const uint8_t *prefix)
{
	struct seen *s = ctx;
	(void)h;
	s->opens++;
	note(s, "[", 1);
	note(s, prefix, 2);
	note(s, ":", 1);
	return 0;
}

static int seen_data(void *ctx, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		     bool last)
{
	struct seen *s = ctx;
	(void)h;
	note(s, p, n);
	if (last)
		note(s, "]", 1);
	return 0;
}

static const struct framer_ops seen_ops = { seen_shape, seen_frame, seen_open, seen_data };

static void frames_are_the_same_however_the_bytes_are_cut(void **state)
{
	(void)state;
	struct buf wire = BUF_INIT(4096);
	frame_add(&wire, 1, 0, 1, "hello", 5, NULL, 0);
	frame_add(&wire, 2, 0, 1, "pqbulk of bytes", 15, NULL, 0);
	frame_add(&wire, 1, 0, 1, NULL, 0, NULL, 0);
	frame_add(&wire, 2, 0, 1, "rs", 2, NULL, 0); /* no bulk */
	frame_add(&wire, 2, 0, 1, "tuX", 3, NULL, 0);
	frame_add(&wire, 1, 0, 1, "end", 3, NULL, 0);
	static const char want[] = "<hello>[pq:bulk of bytes]<>[rs:][tu:X]<end>";
	for (size_t piece = 1; piece <= buf_len(&wire); piece++) {
		struct seen s = { .n = 0 };
		framer_init(&s.f, &seen_ops, &s);
		for (size_t at = 0; at < buf_len(&wire); at += piece) {
			size_t n = buf_len(&wire) - at < piece ? buf_len(&wire) - at : piece;
			assert_int_equal(framer_feed(&s.f, buf_head(&wire) + at, n), 0);
		}
		assert_string_equal(s.text, want);
		assert_int_equal(s.frames, 3);
		assert_int_equal(s.opens, 3);
		assert_true(framer_idle(&s.f));
		framer_done(&s.f);
	}
	buf_done(&wire);
}

static void a_header_that_breaks_the_format_ends_the_feed(void **state)
{
	(void)state;
	static const struct brig_frame_hdr bad[] = {
		{ .len = BRIG_FRAME_MAX + 1, .type = 1 },
		{ .len = UINT32_MAX, .type = 1 },
		{ .len = 0, .type = 1, .flags = 2 },
		{ .len = 0, .type = 9 }, /* the owner refuses it */
		{ .len = 1, .type = 2 }, /* shorter than its prefix */
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct seen s = { .n = 0 };
		uint8_t wire[sizeof(bad[i]) + 2] = { 0 };
		memcpy(wire, &bad[i], sizeof(bad[i]));
		framer_init(&s.f, &seen_ops, &s);
		assert_true(framer_feed(&s.f, wire, sizeof(wire)) < 0);
		assert_int_equal(s.n, 0);
		framer_done(&s.f);
	}
}

static void the_largest_frame_passes_and_holds_no_more_than_itself(void **state)
{
	(void)state;
	static uint8_t payload[BRIG_FRAME_MAX];
	struct buf wire = BUF_INIT(2 * BRIG_FRAME_MAX);
	struct seen s = { .n = 0 };
	/* Zeros are no text; only the count matters here. */
	frame_add(&wire, 2, 0, 1, payload, sizeof(payload), NULL, 0);
	framer_init(&s.f, &seen_ops, &s);
	assert_int_equal(framer_feed(&s.f, buf_head(&wire), 13), 0);
	assert_int_equal(buf_len(&s.f.carry), 13); /* header and half a prefix */
	assert_int_equal(framer_feed(&s.f, buf_head(&wire) + 13, 100), 0);
	assert_int_equal(buf_len(&s.f.carry), 0); /* bulk is never kept */
	assert_int_equal(s.f.left, BRIG_FRAME_MAX - 2 - 99);
	framer_done(&s.f);
	buf_done(&wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(timers_fire_in_the_order_of_their_deadlines),
		T(a_timer_in_the_future_waits_for_it_and_no_longer),
		T(an_event_of_a_deleted_registration_is_dropped),
		T(a_slot_that_was_given_out_again_gets_no_old_event),
		T(a_paused_descriptor_does_not_spin_when_its_peer_is_gone),
		T(a_task_queued_by_a_task_runs_in_the_next_round),
		cmocka_unit_test(frames_are_the_same_however_the_bytes_are_cut),
		cmocka_unit_test(a_header_that_breaks_the_format_ends_the_feed),
		cmocka_unit_test(the_largest_frame_passes_and_holds_no_more_than_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
