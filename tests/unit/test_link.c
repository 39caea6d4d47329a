/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of brigd as brig-api starts them. The test is brigd: it takes ends from the door. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/api.h"
#include "api/link.h"
#include "base/clock.h"
#include "base/fd.h"

static struct ev ev;
static struct link *link_;
static int door = -1; /* brigd's side */

/* What the callbacks of the operation under test were told. */
static struct told {
	struct link_op *op;
	unsigned replies, failures, frames, ends, rooms;
	json_t *last;
	struct buf data;
	bool hold_each, cancel_on_frame;
} told;

static void keep(json_t *v)
{
	json_decref(told.last);
	told.last = json_incref(v);
}

static void on_reply(void *ctx, json_t *ok)
{
	assert_ptr_equal(ctx, &told);
	told.replies++;
	keep(ok);
}

static void on_failed(void *ctx, json_t *error)
{
	assert_ptr_equal(ctx, &told);
	told.failures++;
	keep(error);
}

static void on_frame(void *ctx, const struct frame *f)
{
	assert_ptr_equal(ctx, &told);
	told.frames++;
	assert_int_equal(buf_add(&told.data, f->payload, f->h.len), 0);
	if (told.hold_each)
		link_hold(told.op, true);
	if (told.cancel_on_frame)
		link_cancel(told.op);
}

static void on_end(void *ctx, json_t *status)
{
	assert_ptr_equal(ctx, &told);
	told.ends++;
	keep(status);
}

static void on_room(void *ctx)
{
	assert_ptr_equal(ctx, &told);
	told.rooms++;
}

static const struct link_ops ops = {
	.reply = on_reply, .failed = on_failed, .frame = on_frame, .end = on_end, .room = on_room
};

static int setup(void **state)
{
	int pair[2];
	struct brig_err err = BRIG_ERR_INIT;
	(void)state;
	told = (struct told){ .data = BUF_INIT(64u << 20) };
	assert_int_equal(ev_init(&ev), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	door = pair[1];
	assert_int_equal(link_open(&ev, pair[0], &link_, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	link_close(link_);
	assert_true(ev_round(&ev, 0) >= 0); /* frees what is over */
	assert_true(ev_round(&ev, 0) >= 0);
	ev_done(&ev);
	fd_close(&door);
	json_decref(told.last);
	buf_done(&told.data);
	return 0;
}

static void rounds(unsigned n)
{
	while (n--)
		assert_true(ev_round(&ev, 0) >= 0);
}

#define until(cond)                                             \
	do {                                                    \
		uint64_t deadline_ = clock_now() + 10 * SEC_NS; \
		while (!(cond)) {                               \
			assert_true(ev_round(&ev, 1) >= 0);     \
			assert_true(clock_now() < deadline_);   \
		}                                               \
	} while (0)

static void start(bool streams)
{
	struct brig_err err = BRIG_ERR_INIT;
	assert_int_equal(link_start(link_, json_pack("{s:s}", "op", "x"), streams, &ops, &told,
				    &told.op, &err),
			 0);
}

/* brigd's end of the operation that came next through the door. */
static int take(void)
{
	char byte[4];
	int fd = -1;
	unsigned n = 1;
	assert_int_equal(fd_recv(door, byte, sizeof(byte), &fd, &n, MSG_DONTWAIT), 1);
	assert_int_equal(n, 1);
	return fd;
}

static void say(int fd, unsigned type, unsigned flags, uint32_t stream, const void *p, size_t n)
{
	struct buf b = BUF_INIT(BRIG_FRAME_MAX + 64);
	assert_int_equal(frame_add(&b, (uint16_t)type, (uint16_t)flags, stream, p, n, NULL, 0), 0);
	assert_int_equal(fd_write_full(fd, buf_head(&b), buf_len(&b)), 0);
	buf_done(&b);
}

static void say_text(int fd, unsigned type, const char *text)
{
	say(fd, type, 0, 0, text, strlen(text));
}

static void expect_request(int fd, const char *text)
{
	struct buf b = BUF_INIT(BRIG_FRAME_MAX + 64);
	struct frame f;
	assert_true(buf_read_fd(&b, fd, 65536) > 0);
	assert_int_equal(frame_peek(&b, &f), 1);
	assert_int_equal(f.h.type, BRIG_CL_REQ);
	assert_int_equal(f.h.len, strlen(text));
	assert_memory_equal(f.payload, text, f.h.len);
	buf_done(&b);
}

static const char *last(const char *key)
{
	const char *s = json_string_value(json_object_get(told.last, key));
	return s ? s : "";
}

static void expect_closed(int fd)
{
	char c;
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
}

/* ---- operations with one answer ---- */

static void a_request_lies_in_the_socket_that_goes_through_the_door(void **state)
{
	(void)state;
	start(false);
	int fd = take(); /* before any round of the loop */
	expect_request(fd, "{\"op\":\"x\"}");
	say_text(fd, BRIG_CL_REP, "{\"ok\":{\"id\":\"abc\"}}");
	assert_int_equal(told.replies, 0);
	rounds(1);
	assert_int_equal(told.replies, 1);
	assert_string_equal(last("id"), "abc");
	expect_closed(fd);
}

static void an_error_reply_fails(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	start(true);
	int fd = take();
	say_text(fd, BRIG_CL_REP,
		 "{\"error\":{\"code\":\"not_found\",\"message\":\"gone\",\"remediation\":\"look\"}"
		 "}");
	rounds(1);
	assert_int_equal(told.failures, 1);
	assert_int_equal(told.replies, 0);
	api_err_from(told.last, &err);
	assert_int_equal(err.code, BRIG_E_NOT_FOUND);
	assert_string_equal(err.msg, "gone");
	assert_string_equal(err.remedy, "look");
	close(fd);
}

static void a_reply_may_come_in_parts(void **state)
{
	(void)state;
	size_t n = BRIG_FRAME_MAX * 2 + 100, at = 0;
	char *text = malloc(n + 1);
	start(false);
	int fd = take();
	snprintf(text, n, "{\"ok\":{\"a\":\"");
	memset(text + strlen(text), 'x', n - strlen(text));
	memcpy(text + n - 3, "\"}}", 3);
	assert_int_equal(fd_set_nonblock(fd, 0), 0);
	while (at < n) {
		size_t k = n - at < BRIG_FRAME_MAX ? n - at : BRIG_FRAME_MAX;
		struct buf b = BUF_INIT(BRIG_FRAME_MAX + 64);
		assert_int_equal(frame_add(&b, BRIG_CL_REP, 0, 0, text + at, k, NULL, 0), 0);
		assert_int_equal(fd_set_nonblock(fd, 1), 0);
		while (buf_len(&b)) {
			ssize_t w = buf_write_fd(&b, fd);
			assert_true(w >= 0 || w == -EAGAIN);
			rounds(1);
		}
		buf_done(&b);
		at += k;
	}
	until(told.replies == 1);
	assert_int_equal(strlen(last("a")), n - strlen("{\"ok\":{\"a\":\"") - 3);
	free(text);
	close(fd);
}

static void a_lost_connection_fails(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		start(true);
		int fd = take();
		if (i == 1)
			say(fd, BRIG_CL_REP, 0, 0, "{\"ok\"", 5); /* whole, but no JSON */
		else if (i == 2)
			say_text(fd, BRIG_CL_REP, "{\"ok\":{}}");
		close(fd);
		rounds(2);
		assert_int_equal(told.failures, i + 1);
		assert_string_equal(last("code"), i == 1 ? "protocol_violation" : "unavailable");
	}
	assert_int_equal(told.replies, 1);
}

/* ---- streams ---- */

static int start_stream(void)
{
	start(true);
	int fd = take();
	expect_request(fd, "{\"op\":\"x\"}");
	say_text(fd, BRIG_CL_REP, "{\"ok\":{}}");
	rounds(1);
	assert_int_equal(told.replies, 1);
	return fd;
}

static void frames_come_between_reply_and_end(void **state)
{
	(void)state;
	int fd = start_stream();
	say(fd, BRIG_STDOUT, 0, 1, "one", 3);
	say(fd, BRIG_STDERR, BRIG_FF_EOF, 1, "two", 3);
	say_text(fd, BRIG_CL_END, "{\"exit_code\":0,\"error\":{\"code\":\"x\"}}");
	rounds(1);
	assert_int_equal(told.frames, 2);
	assert_memory_equal(buf_head(&told.data), "onetwo", 6);
	assert_int_equal(told.ends, 1);
	assert_int_equal(told.failures, 0);
	expect_closed(fd);
}

static void an_end_may_stand_for_a_reply(void **state)
{
	(void)state;
	start(true);
	int fd = take();
	say_text(fd, BRIG_CL_END, "{\"exit_code\":127,\"error\":{\"code\":\"not_found\"}}");
	rounds(1);
	assert_int_equal(told.ends, 1);
	assert_int_equal(told.replies + told.failures, 0);
	close(fd);
}

static void an_end_with_nothing_but_an_error_fails(void **state)
{
	(void)state;
	int fd = start_stream();
	say_text(fd, BRIG_CL_END, "{\"error\":{\"code\":\"busy\"}}");
	rounds(1);
	assert_int_equal(told.failures, 1);
	assert_string_equal(last("code"), "busy");
	close(fd);
}

static void a_stream_may_be_cut_at_every_byte(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(4096);
	frame_add(&b, BRIG_CL_REP, 0, 0, "{\"ok\":{}}", 9, NULL, 0);
	frame_add(&b, BRIG_STDOUT, 0, 1, "data", 4, NULL, 0);
	frame_add(&b, BRIG_STDOUT, 0, 1, "", 0, NULL, 0);
	frame_add(&b, BRIG_CL_END, 0, 0, "{}", 2, NULL, 0);
	for (size_t cut = 0; cut <= buf_len(&b); cut++) {
		start(true);
		int fd = take();
		assert_int_equal(fd_write_full(fd, buf_head(&b), cut), 0);
		rounds(1);
		assert_int_equal(fd_write_full(fd, buf_head(&b) + cut, buf_len(&b) - cut), 0);
		rounds(2);
		assert_int_equal(told.ends, cut + 1);
		assert_int_equal(told.frames, 2 * (cut + 1));
		close(fd);
	}
	buf_done(&b);
}

static void frames_that_break_the_rules_fail_the_operation(void **state)
{
	(void)state;
	static const struct {
		bool replied;
		struct brig_frame_hdr h;
		const char *text;
	} cases[] = {
		{ false, { .type = BRIG_STDOUT, .stream = 1 }, "" },
		{ false, { .type = BRIG_CL_END, .stream = 1 }, "{}" },
		{ false, { .type = BRIG_CL_REP, .stream = 1 }, "{\"ok\":{}}" },
		{ false, { .type = BRIG_CL_REP, .flags = BRIG_FF_EOF }, "{\"ok\":{}}" },
		{ false, { .type = BRIG_CL_REP }, "{}" },
		{ false, { .type = BRIG_CL_REP }, "[]" },
		{ false, { .type = BRIG_CL_REP }, "{\"ok\":1}" },
		{ false, { .type = BRIG_CL_REP }, "" },
		{ false, { .type = BRIG_CL_REP, .flags = 0x80 }, "{\"ok\":{}}" },
		{ false, { .type = BRIG_CL_REQ }, "{}" },
		{ true, { .type = BRIG_CL_REP }, "{\"ok\":{}}" },
		{ true, { .type = BRIG_CL_END }, "nonsense" },
		{ true, { .type = BRIG_CL_END, .stream = 2 }, "{}" },
		{ true, { .type = BRIG_STDIN, .stream = 1 }, "x" },
		{ true, { .type = 9999, .stream = 1 }, "x" },
		{ true, { .type = BRIG_STDOUT, .flags = 0x4000, .stream = 1 }, "x" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct brig_frame_hdr h = cases[i].h;
		h.len = (uint32_t)strlen(cases[i].text);
		start(true);
		int fd = take();
		if (cases[i].replied)
			say_text(fd, BRIG_CL_REP, "{\"ok\":{}}");
		assert_int_equal(fd_write_full(fd, &h, sizeof(h)), 0);
		assert_int_equal(fd_write_full(fd, cases[i].text, h.len), 0);
		rounds(2);
		if (told.failures != i + 1)
			print_message("case %zu\n", i);
		assert_int_equal(told.failures, i + 1);
		assert_string_equal(last("code"), "protocol_violation");
		close(fd);
	}
	assert_int_equal(told.ends, 0);
	assert_int_equal(told.frames, 0);
	struct brig_frame_hdr h = { .len = BRIG_FRAME_MAX + 1, .type = BRIG_CL_REP };
	start(false);
	int fd = take();
	say_text(fd, BRIG_CL_END, "{}");
	rounds(2);
	assert_string_equal(last("code"), "protocol_violation");
	close(fd);
	start(true);
	fd = take();
	assert_int_equal(fd_write_full(fd, &h, sizeof(h)), 0);
	rounds(2);
	assert_string_equal(last("code"), "protocol_violation");
	close(fd);
}

static void a_held_operation_reads_nothing(void **state)
{
	(void)state;
	static char block[65536];
	int fd = start_stream();
	size_t sent = 0;
	assert_int_equal(fd_set_nonblock(fd, 1), 0);
	link_hold(told.op, true);
	struct buf b = BUF_INIT(1 << 20);
	for (int full = 0; full < 10;) {
		if (buf_len(&b) == 0)
			assert_int_equal(
				frame_add(&b, BRIG_STDOUT, 0, 1, block, sizeof(block), NULL, 0), 0);
		ssize_t n = buf_write_fd(&b, fd);
		full = n == -EAGAIN ? full + 1 : 0;
		sent += n > 0 ? (size_t)n : 0;
		rounds(1);
	}
	assert_int_equal(told.frames, 0);
	assert_true(sent < (8u << 20)); /* the kernel's buffers, nothing of ours */
	link_hold(told.op, false);
	assert_int_equal(told.frames, 0); /* callbacks come from the loop */
	while (buf_len(&b)) {
		rounds(1);
		(void)buf_write_fd(&b, fd);
	}
	say_text(fd, BRIG_CL_END, "{}");
	until(told.ends == 1);
	assert_int_equal(buf_len(&told.data), (size_t)told.frames * sizeof(block));
	buf_done(&b);
	close(fd);
}

static void a_hold_within_a_frame_keeps_the_rest_in_order(void **state)
{
	(void)state;
	int fd = start_stream();
	told.hold_each = true;
	for (char c = 'a'; c <= 'e'; c++)
		say(fd, BRIG_STDOUT, 0, 1, &c, 1);
	say_text(fd, BRIG_CL_END, "{}");
	close(fd);
	for (unsigned i = 1; i <= 5; i++) {
		rounds(3);
		assert_int_equal(told.frames, i);
		link_hold(told.op, false);
	}
	until(told.ends == 1);
	assert_memory_equal(buf_head(&told.data), "abcde", 5);
}

static void a_cancelled_operation_says_nothing_more(void **state)
{
	(void)state;
	int fd = start_stream();
	link_cancel(told.op);
	expect_closed(fd);
	told.replies = 0;
	fd = start_stream();
	told.cancel_on_frame = true;
	say(fd, BRIG_STDOUT, 0, 1, "x", 1);
	say(fd, BRIG_STDOUT, 0, 1, "y", 1);
	say_text(fd, BRIG_CL_END, "{}");
	rounds(3);
	assert_int_equal(told.frames, 1);
	assert_int_equal(told.ends + told.failures, 0);
	close(fd);
}

/* ---- sending ---- */

static void what_is_sent_arrives_and_its_queue_is_bounded(void **state)
{
	(void)state;
	static char block[65536];
	struct buf b = BUF_INIT(64u << 20);
	struct frame f;
	size_t frames = 0, got = 0;
	int fd = start_stream();
	int r;
	while ((r = link_send(told.op, BRIG_STDIN, 0, 1, block, sizeof(block))) == 0)
		frames++;
	assert_int_equal(r, -ENOBUFS);
	assert_true(link_queued(told.op) > LINK_QUEUE_HIGH);
	assert_int_equal(told.rooms, 0);
	assert_int_equal(fd_set_nonblock(fd, 1), 0);
	uint64_t deadline = clock_now() + 10 * SEC_NS;
	while (got < frames && clock_now() < deadline) {
		rounds(1);
		while (buf_read_fd(&b, fd, 1 << 20) > 0)
			;
		while (frame_peek(&b, &f) == 1) {
			assert_int_equal(f.h.type, BRIG_STDIN);
			assert_int_equal(f.h.len, sizeof(block));
			buf_consume(&b, frame_size(&f));
			got++;
		}
	}
	assert_int_equal(got, frames);
	assert_int_equal(told.rooms, 1);
	assert_int_equal(link_queued(told.op), 0);
	buf_done(&b);
	close(fd);
	(void)link_send(told.op, BRIG_STDIN, 0, 1, block, 1);
	rounds(2);
	assert_int_equal(told.failures, 1);
}

/* ---- the door ---- */

static void ends_wait_in_order_while_the_door_is_full(void **state)
{
	(void)state;
	enum { N = 1000 };
	struct brig_err err = BRIG_ERR_INIT;
	struct link_op *op[N];
	for (int i = 0; i < N; i++) {
		json_t *req = json_pack("{s:i}", "n", i);
		assert_int_equal(link_start(link_, req, false, &ops, &told, &op[i], &err), 0);
	}
	link_cancel(op[N - 2]); /* still in front of the door: it never gets there */
	for (int i = 0; i < N; i++) {
		char text[32];
		if (i == N - 2)
			continue;
		int fd = take();
		snprintf(text, sizeof(text), "{\"n\":%d}", i);
		expect_request(fd, text);
		say_text(fd, BRIG_CL_REP, "{\"ok\":{}}");
		rounds(1);
		close(fd);
	}
	until(told.replies == N - 1);
	assert_int_equal(told.failures, 0);
}

static void without_brigd_nothing_starts(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	struct link_op *op = NULL;
	start(false);
	assert_false(link_lost(link_));
	fd_close(&door); /* with the end that lies in it */
	until(told.failures == 1);
	assert_string_equal(last("code"), "unavailable");
	assert_true(link_lost(link_));
	assert_int_equal(link_start(link_, json_object(), false, &ops, &told, &op, &err), -1);
	assert_int_equal(err.code, BRIG_E_UNAVAILABLE);
	assert_int_equal(link_start(link_, NULL, false, &ops, &told, &op, &err), -1);
	assert_int_equal(err.code, BRIG_E_EXHAUSTED);
}

static void a_request_too_large_is_refused(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	struct link_op *op = NULL;
	char *big = malloc(BRIG_FRAME_MAX + 1);
	memset(big, 'x', BRIG_FRAME_MAX);
	big[BRIG_FRAME_MAX] = '\0';
	assert_int_equal(
		link_start(link_, json_pack("{s:s}", "a", big), false, &ops, &told, &op, &err), -1);
	assert_int_equal(err.code, BRIG_E_INVALID);
	free(big);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_request_lies_in_the_socket_that_goes_through_the_door),
		T(an_error_reply_fails),
		T(a_reply_may_come_in_parts),
		T(a_lost_connection_fails),
		T(frames_come_between_reply_and_end),
		T(an_end_may_stand_for_a_reply),
		T(an_end_with_nothing_but_an_error_fails),
		T(a_stream_may_be_cut_at_every_byte),
		T(frames_that_break_the_rules_fail_the_operation),
		T(a_held_operation_reads_nothing),
		T(a_hold_within_a_frame_keeps_the_rest_in_order),
		T(a_cancelled_operation_says_nothing_more),
		T(what_is_sent_arrives_and_its_queue_is_bounded),
		T(ends_wait_in_order_while_the_door_is_full),
		T(without_brigd_nothing_starts),
		T(a_request_too_large_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
