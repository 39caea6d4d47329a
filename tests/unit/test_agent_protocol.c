/* SPDX-License-Identifier: Apache-2.0 */
/* The channel itself: order, broken frames, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent_driver.h"
#include "base/clock.h"

static struct agent_driver *plain(void)
{
	return drv_start(&(struct drv_options){ 0 });
}

static const char *me(void)
{
	static char spec[16];
	snprintf(spec, sizeof(spec), "%u", getuid());
	return spec;
}

struct broken {
	const char *what;
	uint32_t len;
	uint16_t type, flags;
	uint32_t stream;
	bool before_attach;
};

static void frames_that_break_a_rule_end_the_agent(void **state)
{
	static const struct broken cases[] = {
		{ "unknown type", 0, 999, 0, 1, false },
		{ "type 0", 0, 0, 0, 0, false },
		{ "agent's own type", 0, BRIG_STDOUT, 0, 1, false },
		{ "agent's own type", 16, BRIG_STARTED, 0, 1, false },
		{ "longer than a frame", BRIG_FRAME_MAX + 1, BRIG_STDIN, 0, 1, false },
		{ "endless", UINT32_MAX, BRIG_EXEC, 0, 1, false },
		{ "unknown flag", 0, BRIG_STDIN, 2, 1, false },
		{ "EOF on EXEC", 0, BRIG_EXEC, BRIG_FF_EOF, 1, false },
		{ "EXEC on stream 0", 0, BRIG_EXEC, 0, 0, false },
		{ "STDIN on stream 0", 0, BRIG_STDIN, 0, 0, false },
		{ "PING on a stream", 0, BRIG_PING, 0, 1, false },
		{ "long PING", 65, BRIG_PING, 0, 0, false },
		{ "SHUTDOWN with payload", 1, BRIG_SHUTDOWN, 0, 0, false },
		{ "short CREDIT", 7, BRIG_CREDIT, 0, 1, false },
		{ "long CREDIT", 9, BRIG_CREDIT, 0, 1, false },
		{ "CLOSE with payload", 1, BRIG_CLOSE, 0, 1, false },
		{ "short SIGNAL", 3, BRIG_SIGNAL, 0, 1, false },
		{ "short RESIZE", 2, BRIG_RESIZE, 0, 1, false },
		{ "short REATTACH", 23, BRIG_REATTACH, 0, 1, false },
		{ "short ATTACH", 31, BRIG_ATTACH, 0, 0, false },
		{ "ATTACH without magic", 32, BRIG_ATTACH, 0, 0, false },
		{ "PING before ATTACH", 0, BRIG_PING, 0, 0, true },
		{ "EXEC before ATTACH", 0, BRIG_EXEC, 0, 1, true },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static const uint8_t zero[128];
		const struct broken *b = &cases[i];
		struct agent_driver *d = b->before_attach ? drv_start_raw(NULL) : plain();
		struct brig_frame_hdr h = {
			.len = b->len, .type = b->type, .flags = b->flags, .stream = b->stream
		};
		assert_int_equal(send(d->fd, &h, sizeof(h), MSG_NOSIGNAL), sizeof(h));
		if (b->len <= sizeof(zero))
			send(d->fd, zero, b->len, MSG_NOSIGNAL);
		int r = drv_wait_end(d);
		if (r != 1)
			fail_msg("%s: the agent ended with %d", b->what, r);
	}
}

static struct drv_stream *start_cat(struct agent_driver *d, uint32_t id)
{
	const char *const argv[] = { "/bin/cat", NULL };
	struct drv_stream *s = drv_exec(
		d, id, &(struct drv_exec){ .user = me(), .argv = argv, .flags = BRIG_EXEC_STDIN });
	drv_until(d, &s->started);
	assert_int_equal(s->start.err, 0);
	return s;
}

static void stream_rules_are_kept(void **state)
{
	static uint8_t data[BRIG_FRAME_MAX];
	struct brig_credit much = { .chan = BRIG_CHAN_STDOUT, .bytes = BRIG_CREDIT_MAX };
	struct brig_credit little = { .chan = BRIG_CHAN_STDOUT, .bytes = 1 };
	struct brig_credit wrong = { .chan = BRIG_CHAN_FS, .bytes = 1 };
	uint32_t sig = 65;
	(void)state;
	for (int i = 0; i < 8; i++) {
		struct agent_driver *d = plain();
		struct drv_stream *s = start_cat(d, 1);
		switch (i) {
		case 0: /* an id that is open */
			s->open = false;
			start_cat(d, 2);
			drv_send(d, BRIG_EXEC, 0, 1, NULL, 0);
			break;
		case 1:
			drv_send(d, BRIG_FS_STAT, 0, 1, NULL, 0);
			break;
		case 2: /* more stdin than was granted: the window, and a pipe that nobody reads */
			kill((pid_t)s->start.pid, SIGSTOP);
			drv_send(d, BRIG_STDIN, 0, 1, data, sizeof(data));
			drv_send(d, BRIG_STDIN, 0, 1, data, sizeof(data));
			drv_send(d, BRIG_STDIN, 0, 1, data, sizeof(data));
			drv_send(d, BRIG_STDIN, 0, 1, data, sizeof(data));
			drv_send(d, BRIG_STDIN, 0, 1, data, sizeof(data));
			drv_send(d, BRIG_STDIN, 0, 1, data, sizeof(data));
			break;
		case 3: /* more credit than may be */
			drv_send(d, BRIG_CREDIT, 0, 1, &much, sizeof(much));
			drv_send(d, BRIG_CREDIT, 0, 1, &little, sizeof(little));
			break;
		case 4:
			drv_send(d, BRIG_CREDIT, 0, 1, &wrong, sizeof(wrong));
			break;
		case 5:
			drv_send(d, BRIG_SIGNAL, 0, 1, &sig, sizeof(sig));
			break;
		case 6: /* data after its end */
			drv_send(d, BRIG_STDIN, BRIG_FF_EOF, 1, NULL, 0);
			drv_send(d, BRIG_STDIN, 0, 1, data, 1);
			break;
		default: /* the data of another kind of stream */
			drv_send(d, BRIG_FS_DATA, 0, 1, data, 1);
			break;
		}
		int r = drv_wait_end(d);
		if (r != 1)
			fail_msg("case %d: the agent ended with %d", i, r);
	}
}

static void frames_for_streams_that_are_gone_are_dropped(void **state)
{
	static const uint8_t data[1000];
	struct agent_driver *d = plain();
	uint32_t sig = SIGTERM;
	struct brig_credit c = { .chan = BRIG_CHAN_STDOUT, .bytes = 1 };
	struct brig_reattach r = { 0 };
	(void)state;
	drv_send(d, BRIG_STDIN, BRIG_FF_EOF, 50, data, sizeof(data));
	drv_send(d, BRIG_FS_DATA, 0, 51, data, sizeof(data));
	drv_send(d, BRIG_SIGNAL, 0, 52, &sig, sizeof(sig));
	drv_send(d, BRIG_CREDIT, 0, 53, &c, sizeof(c));
	drv_send(d, BRIG_REATTACH, 0, 54, &r, sizeof(r));
	drv_send(d, BRIG_CLOSE, 0, 55, NULL, 0);
	drv_sync(d);
	assert_int_equal(drv_stop(d), 0);
}

static void malformed_exec_is_answered_with_a_step(void **state)
{
	struct request {
		struct brig_exec h;
		char strings[64];
		size_t n;
	};
	static const struct request cases[] = {
		{ { .argc = 0 }, "\0/\0", 3 },
		{ { .argc = 1, .flags = 0x100 }, "\0/\0x\0", 5 },
		{ { .argc = 1, .ring_bytes = 100 }, "\0/\0x\0", 5 },
		{ { .argc = 1, .ring_bytes = 1u << 30 }, "\0/\0x\0", 5 },
		{ { .argc = 1, .reserved = 1 }, "\0/\0x\0", 5 },
		{ { .argc = 1, .credit_stdout = UINT32_MAX }, "\0/\0x\0", 5 },
		{ { .argc = 5000 }, "\0/\0x\0", 5 },
		{ { .argc = 2 }, "\0/\0x\0", 5 },    /* too few strings */
		{ { .argc = 1 }, "\0/\0x", 4 },	     /* not terminated */
		{ { .argc = 1 }, "\0/\0x\0y\0", 7 }, /* too many */
		{ { .argc = 1, .envc = 1 }, "\0/\0x\0NOEQ\0", 10 },
		{ { .argc = 1, .envc = UINT32_MAX }, "\0/\0x\0", 5 },
	};
	struct agent_driver *d = plain();
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t buf[128];
		struct drv_stream *s = &d->s[1];
		memset(s, 0, sizeof(*s));
		s->open = true;
		memcpy(buf, &cases[i].h, sizeof(cases[i].h));
		memcpy(buf + sizeof(cases[i].h), cases[i].strings, cases[i].n);
		drv_send(d, BRIG_EXEC, 0, 1, buf, sizeof(cases[i].h) + cases[i].n);
		drv_until(d, &s->started);
		assert_int_equal(s->start.err, EINVAL);
		assert_int_equal(s->start.step, BRIG_STEP_REQUEST);
	}
	assert_int_equal(drv_stop(d), 0);
}

static void one_stream_too_many_is_refused(void **state)
{
	/* Waiting reads of a file: streams without a process. */
	struct agent_driver *d = plain();
	struct {
		struct brig_fs_req h;
		char strings[16];
	} q = { .h = { .credit = 0 } };
	char user[16];
	(void)state;
	int n = snprintf(user, sizeof(user), "%s", me());
	memcpy(q.strings, user, (size_t)n + 1);
	memcpy(q.strings + n + 1, "/bin/sh", 8);
	size_t size = sizeof(q.h) + (size_t)n + 9;
	for (uint32_t id = 1000; id < 1000 + BRIG_STREAMS_MAX; id++)
		drv_send(d, BRIG_FS_READ, 0, id, &q, size);
	drv_sync(d);
	struct drv_stream *s =
		drv_fs(d, 1, BRIG_FS_STAT, &(struct drv_fs){ .user = me(), .path = "/" });
	drv_until(d, &s->done);
	assert_int_equal(s->fs.err, EMFILE);
	s = drv_sh(d, 2, me(), "true");
	assert_int_equal(s->start.err, EMFILE);
	assert_int_equal(s->start.step, BRIG_STEP_SPAWN);
	drv_send(d, BRIG_CLOSE, 0, 1500, NULL, 0);
	assert_int_equal(drv_sh(d, 2, me(), "exit 4")->exit.code, 4);
	assert_int_equal(drv_stop(d), 0);
}

static void bytes_may_come_one_at_a_time(void **state)
{
	struct agent_driver *d = drv_start_raw(NULL);
	static const char strings[] = "/bin/echo\0one\0PATH=/bin";
	struct brig_attach at = { .magic = BRIG_ATTACH_MAGIC, .version = BRIG_AGENT_PROTO_VERSION };
	struct brig_exec e = { .argc = 2, .envc = 1, .credit_stdout = 100, .credit_stderr = 100 };
	struct buf b = BUF_INIT(4096);
	char head[24];
	(void)state;
	int n = snprintf(head, sizeof(head), "%s", me());
	memcpy(head + n + 1, "/", 2);
	uint8_t payload[256];
	size_t k = 0;
	memcpy(payload, &e, sizeof(e));
	k += sizeof(e);
	memcpy(payload + k, head, (size_t)n + 3);
	k += (size_t)n + 3;
	memcpy(payload + k, strings, sizeof(strings));
	k += sizeof(strings);
	assert_int_equal(frame_add(&b, BRIG_ATTACH, 0, 0, &at, sizeof(at), NULL, 0), 0);
	assert_int_equal(frame_add(&b, BRIG_EXEC, 0, 1, payload, k, NULL, 0), 0);
	struct drv_stream *s = &d->s[1];
	s->open = true;
	s->out[0].max = s->out[1].max = 4096;
	s->credit[0] = s->credit[1] = 100;
	while (buf_len(&b)) {
		assert_int_equal(send(d->fd, buf_head(&b), 1, MSG_NOSIGNAL), 1);
		buf_consume(&b, 1);
		drv_pump(d, 0);
	}
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "one\n");
	buf_done(&b);
	assert_int_equal(drv_stop(d), 0);
}

static void host_that_does_not_read_blocks_nobody_but_itself(void **state)
{
	struct agent_driver *d = plain();
	const char *const argv[] = { "/bin/sh", "-c", "head -c 30000000 /dev/zero; exit 3", NULL };
	(void)state;
	struct drv_stream *s = drv_exec(d, 1,
					&(struct drv_exec){ .user = me(),
							    .argv = argv,
							    .credit = { 40u << 20, 1u << 20 },
							    .discard = true });
	/* PINGs whose answers nobody takes: the agent must not collect them without bound, and go
	 * on when they are taken. */
	struct brig_frame_hdr h = { .len = 64, .type = BRIG_PING };
	uint8_t ping[sizeof(h) + 64] = { 0 };
	memcpy(ping, &h, sizeof(h));
	unsigned sent = 0;
	uint64_t until = clock_now() + SEC_NS / 2;
	while (clock_now() < until && sent < 100000) {
		ssize_t r = send(d->fd, ping, sizeof(ping), MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r == (ssize_t)sizeof(ping))
			sent++;
		else if (r >= 0)
			fail_msg("a frame was cut in two");
	}
	assert_true(sent < 100000);
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.code, 3);
	assert_int_equal(s->total[0], 30000000);
	while (d->pongs < sent)
		assert_true(drv_pump(d, 1000));
	assert_int_equal(drv_stop(d), 0);
}

/* The program as it is installed, not this test's copy of its code. */
static void idle_agent_stays_below_a_mebibyte(void **state)
{
	const char *program = drv_program("brig-agent", "BRIG_AGENT");
	char path[64], line[256];
	long kib = 0;
	(void)state;
	if (!program || drv_is_sanitized()) {
		print_message("skipped: %s\n", program ? "a sanitizer's memory is not the agent's"
						       : "brig-agent is not built");
		skip();
	}
	struct agent_driver *d = drv_start(&(struct drv_options){ .program = program });
	/* After work that took large buffers. */
	assert_int_equal(drv_sh(d, 1, me(), "head -c 3000000 /dev/zero")->exit.code, 0);
	drv_close(d, 1);
	drv_sync(d);
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)d->pid);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	while (kib == 0 && fgets(line, sizeof(line), f))
		sscanf(line, "Rss: %ld", &kib);
	fclose(f);
	print_message("%ld KiB\n", kib);
	assert_in_range(kib, 1, 1023);
	assert_int_equal(drv_stop(d), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_that_break_a_rule_end_the_agent),
		cmocka_unit_test(stream_rules_are_kept),
		cmocka_unit_test(frames_for_streams_that_are_gone_are_dropped),
		cmocka_unit_test(malformed_exec_is_answered_with_a_step),
		cmocka_unit_test(one_stream_too_many_is_refused),
		cmocka_unit_test(bytes_may_come_one_at_a_time),
		cmocka_unit_test(host_that_does_not_read_blocks_nobody_but_itself),
		cmocka_unit_test(idle_agent_stays_below_a_mebibyte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
