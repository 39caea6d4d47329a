/* SPDX-License-Identifier: Apache-2.0 */
/* What flows through a command: stdin, outputs, rings, credit, terminals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent_driver.h"
#include "base/clock.h"

#define MIB (1u << 20)

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

static struct drv_stream *start_sh(struct agent_driver *d, uint32_t id, const char *script,
				   struct drv_exec e)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };
	e.user = me();
	e.argv = argv;
	struct drv_stream *s = drv_exec(d, id, &e);
	drv_until(d, &s->started);
	assert_int_equal(s->start.err, 0);
	return s;
}

/* A byte stream in which every position differs from its neighbours far and near. */
static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

static void echo_of_64_mib_comes_back_unchanged(void **state)
{
	enum { TOTAL = 64 << 20 };
	struct agent_driver *d = plain();
	uint8_t *data = malloc(TOTAL);
	size_t sent = 0;
	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < TOTAL; i++)
		data[i] = pattern(i);
	struct drv_stream *s = start_sh(d, 1, "cat",
					(struct drv_exec){ .flags = BRIG_EXEC_STDIN,
							   .credit = { 4 * MIB, MIB },
							   .regrant = true });
	uint64_t until = clock_now() + 20 * SEC_NS;
	while (!s->exited) {
		size_t n = TOTAL - sent < s->may_send ? TOTAL - sent : (size_t)s->may_send;
		n = n < BRIG_FRAME_MAX ? n : BRIG_FRAME_MAX;
		if (n) {
			drv_stdin(d, 1, data + sent, n, sent + n == TOTAL);
			sent += n;
		}
		drv_pump(d, n ? 0 : 100);
		assert_true(clock_now() < until);
	}
	assert_int_equal(s->exit.code, 0);
	assert_int_equal(s->exit.stdout_bytes, TOTAL);
	assert_int_equal(buf_len(&s->out[0]), TOTAL);
	assert_memory_equal(buf_head(&s->out[0]), data, TOTAL);
	free(data);
	assert_int_equal(drv_stop(d), 0);
}

static void stdin_is_granted_as_it_is_consumed(void **state)
{
	static uint8_t data[BRIG_FRAME_MAX];
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s =
		start_sh(d, 1, "read x; cat >/dev/null; echo done",
			 (struct drv_exec){ .flags = BRIG_EXEC_STDIN, .credit = { MIB, MIB } });
	/* The shell takes nothing but a line that does not end: the pipe and the window fill up. */
	kill((pid_t)s->start.pid, SIGSTOP);
	uint64_t sent = 0;
	for (int quiet = 0; quiet < 2;) {
		size_t n = s->may_send < sizeof(data) ? (size_t)s->may_send : sizeof(data);
		if (n)
			drv_stdin(d, 1, data, n, false);
		sent += n;
		drv_sync(d);
		quiet = n ? 0 : quiet + 1;
	}
	assert_in_range(sent, 256 * 1024, 2 * MIB);
	/* Others are served meanwhile. */
	assert_string_equal(drv_out(drv_sh(d, 2, me(), "echo other")), "other\n");
	kill((pid_t)s->start.pid, SIGCONT);
	uint64_t granted = s->granted;
	drv_stdin(d, 1, NULL, 0, true);
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "done\n");
	(void)granted;
	assert_int_equal(drv_stop(d), 0);
}

static void stdin_nobody_reads_is_discarded(void **state)
{
	static uint8_t data[65536];
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s =
		start_sh(d, 1, "exec <&-; sleep 0.1; echo alive",
			 (struct drv_exec){ .flags = BRIG_EXEC_STDIN, .credit = { MIB, MIB } });
	for (int i = 0; i < 4; i++)
		drv_stdin(d, 1, data, sizeof(data), i == 3);
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "alive\n");
	/* Late data after the end, within the credit: no reason to end the channel. */
	drv_send(d, BRIG_STDIN, BRIG_FF_EOF, 1, NULL, 0);
	drv_sync(d);
	assert_int_equal(drv_stop(d), 0);
}

static void lossless_output_waits_for_credit_and_loses_nothing(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	/* The driver fails the test if a byte more than granted comes. */
	struct drv_stream *s =
		start_sh(d, 1, "head -c 3000000 /dev/zero; echo end >&2",
			 (struct drv_exec){ .ring = 65536, .credit = { 1000, MIB } });
	drv_sync(d);
	for (int i = 0; i < 20; i++)
		drv_pump(d, 5);
	assert_int_equal(s->total[0], 1000);
	assert_int_equal(s->total[1], 0); /* held back by its full pipe */
	drv_credit(d, 1, BRIG_CHAN_STDOUT, 500000);
	for (int i = 0; i < 50 && s->total[0] < 501000; i++)
		drv_pump(d, 20);
	assert_int_equal(s->total[0], 501000);
	assert_false(s->exited);
	drv_credit(d, 1, BRIG_CHAN_STDOUT, 4 * MIB);
	drv_until(d, &s->exited);
	assert_int_equal(s->total[0], 3000000);
	assert_int_equal(s->exit.stdout_bytes, 3000000);
	assert_string_equal(drv_err(s), "end\n");
	assert_int_equal(drv_stop(d), 0);
}

static void stalled_stream_stops_no_other(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = start_sh(d, 1, "yes", (struct drv_exec){ .credit = { 0, 0 } });
	/* And one whose output is dropped: it writes on as fast as it can. */
	struct drv_stream *t = start_sh(d, 2, "yes", (struct drv_exec){ .flags = BRIG_EXEC_DROP });
	uint64_t slow = 0;
	for (uint32_t id = 3; id < 13; id++) {
		uint64_t at = clock_now();
		struct drv_stream *u = drv_sh(d, id, me(), "head -c 1000000 /dev/zero");
		uint64_t took = clock_now() - at;
		assert_int_equal(u->total[0], 1000000);
		slow = took > slow ? took : slow;
	}
	assert_true(slow < SEC_NS);
	assert_int_equal(s->total[0] + t->total[0], 0);
	drv_close(d, 1);
	drv_close(d, 2);
	drv_sync(d);
	assert_int_equal(drv_stop(d), 0);
}

static void dropped_output_keeps_the_last_ring(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = start_sh(
		d, 1,
		"i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo last >&2",
		(struct drv_exec){ .flags = BRIG_EXEC_DROP, .ring = 4096 });
	drv_until(d, &s->exited);
	uint64_t all = s->exit.stdout_bytes;
	assert_int_equal(all, 20000 * 5 + 10 + 180 + 2700 + 36000 + 50000 + 20000);
	assert_int_equal(s->total[0], 0);
	struct brig_reattach m = { .credit_stdout = MIB, .credit_stderr = MIB };
	s->exited = false;
	s->credit[0] = s->credit[1] = MIB;
	drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
	drv_until(d, &s->exited);
	assert_int_equal(s->next[0], all);
	assert_int_equal(s->total[0], 4096);
	assert_string_equal(drv_out(s) + 4096 - 11, "line 19999\n");
	assert_string_equal(drv_err(s), "last\n");
	assert_int_equal(s->exit.stdout_bytes, all);
	assert_int_equal(drv_stop(d), 0);
}

static void reattach_resends_from_the_offset(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s =
		start_sh(d, 1, "printf 0123456789; read x; printf abcdef",
			 (struct drv_exec){ .flags = BRIG_EXEC_STDIN, .credit = { MIB, MIB } });
	while (s->total[0] < 10)
		assert_true(drv_pump(d, 1000));
	drv_send(d, BRIG_DETACH, 0, 1, NULL, 0);
	drv_stdin(d, 1, "\n", 1, false);
	drv_until(d, &s->exited);
	assert_int_equal(s->total[0], 10);
	assert_int_equal(s->exit.stdout_bytes, 16);
	/* Twice: from the middle, and with a credit that ends before the data does. */
	struct brig_reattach m = { .stdout_offset = 4, .credit_stdout = 100, .credit_stderr = 0 };
	buf_done(&s->out[0]);
	s->next[0] = 4;
	s->exited = false;
	s->credit[0] = 100;
	drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "456789abcdef");
	m = (struct brig_reattach){ .stdout_offset = 12, .credit_stdout = 1 };
	buf_done(&s->out[0]);
	s->next[0] = 12;
	s->exited = false;
	s->credit[0] = 1;
	drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
	drv_sync(d);
	assert_false(s->exited); /* lossless: three bytes are still due */
	drv_credit(d, 1, BRIG_CHAN_STDOUT, 3);
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "cdef");
	/* Beyond what was produced there is nothing to attach to. */
	m = (struct brig_reattach){ .stdout_offset = 17 };
	drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
	assert_int_equal(drv_wait_end(d), 1);
}

static void detached_command_is_not_held_back(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = start_sh(d, 1, "head -c 5000000 /dev/zero", (struct drv_exec){ 0 });
	drv_send(d, BRIG_DETACH, 0, 1, NULL, 0);
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.stdout_bytes, 5000000);
	assert_int_equal(drv_stop(d), 0);
}

static void new_host_takes_over_by_reattach(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s =
		start_sh(d, 1, "printf one; read x; printf $x",
			 (struct drv_exec){ .flags = BRIG_EXEC_STDIN, .credit = { MIB, MIB } });
	while (s->total[0] < 3)
		assert_true(drv_pump(d, 1000));
	struct brig_attach at = { .magic = BRIG_ATTACH_MAGIC, .version = BRIG_AGENT_PROTO_VERSION };
	d->attached = false;
	s->credit[0] = s->credit[1] = 0; /* nothing of the old grants is in force */
	drv_send(d, BRIG_ATTACH, 0, 0, &at, sizeof(at));
	drv_until(d, &d->attached);
	drv_stdin(d, 1, "two\n", 4, false);
	for (int i = 0; i < 10; i++)
		drv_pump(d, 10);
	assert_int_equal(s->total[0], 3);
	s->granted = 0;
	struct brig_reattach m = { .stdout_offset = 3, .credit_stdout = 100, .credit_stderr = 100 };
	s->credit[0] = s->credit[1] = 100;
	drv_send(d, BRIG_REATTACH, 0, 1, &m, sizeof(m));
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "onetwo");
	/* What stdin may take is told, because the new host cannot know. */
	assert_int_equal(s->granted, 256 * 1024 - 4);
	assert_int_equal(drv_stop(d), 0);
}

static void throughput_is_not_paid_with_small_frames(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = start_sh(
		d, 1, "head -c 268435456 /dev/zero",
		(struct drv_exec){ .credit = { 8 * MIB, MIB }, .regrant = true, .discard = true });
	uint64_t t = clock_now();
	drv_until(d, &s->exited);
	t = clock_now() - t;
	assert_int_equal(s->total[0], 268435456);
	print_message("256 MiB in %llu ms\n", (unsigned long long)(t / MS_NS));
	assert_int_equal(drv_stop(d), 0);
}

/* ---- terminals ---- */

static struct drv_stream *start_tty(struct agent_driver *d, uint32_t id, const char *script)
{
	return start_sh(
		d, id, script,
		(struct drv_exec){
			.flags = BRIG_EXEC_TTY, .rows = 33, .cols = 111, .credit = { MIB, MIB } });
}

static void wait_text(struct agent_driver *d, struct drv_stream *s, const char *text)
{
	uint64_t until = clock_now() + 5 * SEC_NS;
	while (!strstr(drv_out(s), text)) {
		assert_true(drv_pump(d, 100));
		if (clock_now() > until)
			fail_msg("'%s' does not come; came: '%s'", text, drv_out(s));
	}
}

static void terminal_has_size_owner_and_session(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	for (uint32_t id = 1; id < 3; id++) {
		struct drv_stream *s =
			start_tty(d, id,
				  "stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all;"
				  "echo > /dev/tty && echo controlling; stat -c %u $(tty)");
		drv_until(d, &s->exited);
		char want[128];
		snprintf(want, sizeof(want), "33 111\r\nall\r\n\r\ncontrolling\r\n%u\r\n",
			 getuid());
		assert_string_equal(drv_out(s), want);
	}
	assert_int_equal(drv_stop(d), 0);
}

static void resize_changes_the_size_and_signals(void **state)
{
	struct agent_driver *d = plain();
	uint16_t size[2] = { 50, 132 };
	(void)state;
	struct drv_stream *s = start_tty(d, 1,
					 "trap 'stty size; exit 7' WINCH; echo ready;"
					 "while :; do sleep 0.01; done");
	wait_text(d, s, "ready");
	drv_send(d, BRIG_RESIZE, 0, 1, size, sizeof(size));
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.code, 7);
	assert_string_equal(drv_out(s), "ready\r\n50 132\r\n");
	assert_int_equal(drv_stop(d), 0);
}

static void terminal_echoes_and_ends_by_eof(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	/* cat ends at once at the start of a line, and after a line that was begun. */
	static const char *const cases[][2] = { { "hello\n", "hello\r\nhello\r\nbye\r\n" },
						{ "tail", "tailtailbye\r\n" } };
	for (uint32_t i = 0; i < 2; i++) {
		struct drv_stream *s = start_tty(d, i + 1, "cat; echo bye");
		drv_stdin(d, i + 1, cases[i][0], strlen(cases[i][0]), true);
		drv_until(d, &s->exited);
		assert_string_equal(drv_out(s), cases[i][1]);
	}
	assert_int_equal(drv_stop(d), 0);
}

static void interrupt_goes_to_the_foreground_group(void **state)
{
	struct agent_driver *d = plain();
	uint32_t sig = SIGINT;
	(void)state;
	/* With job control the shell gives the terminal to the job's own group. */
	const char *const argv[] = {
		"/bin/bash", "-mc",
		"trap 'echo shell' INT;"
		"sh -c 'trap \"exit 9\" INT; echo ready; while :; do sleep 0.01; done';"
		"echo job $?; exit 5",
		NULL
	};
	struct drv_stream *s = drv_exec(d, 1,
					&(struct drv_exec){ .user = me(),
							    .argv = argv,
							    .flags = BRIG_EXEC_TTY,
							    .credit = { MIB, MIB } });
	wait_text(d, s, "ready");
	drv_send(d, BRIG_SIGNAL, 0, 1, &sig, sizeof(sig));
	drv_until(d, &s->exited);
	assert_string_equal(drv_out(s), "ready\r\njob 9\r\n");
	assert_int_equal(s->exit.code, 5);
	/* Another signal is for the command's own group. */
	sig = SIGTERM;
	s = drv_exec(d, 2,
		     &(struct drv_exec){
			     .user = me(),
			     .argv = argv,
			     .flags = BRIG_EXEC_TTY,
			     .credit = { MIB, MIB },
		     });
	wait_text(d, s, "ready");
	drv_send(d, BRIG_SIGNAL, 0, 2, &sig, sizeof(sig));
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.flags, BRIG_EXIT_SIGNALED);
	assert_int_equal(s->exit.code, SIGTERM);
	assert_int_equal(drv_stop(d), 0);
}

static void terminal_output_is_whole_when_the_command_ends(void **state)
{
	struct agent_driver *d = plain();
	(void)state;
	struct drv_stream *s = start_tty(d, 1, "stty -onlcr; seq 1 20000");
	drv_until(d, &s->exited);
	assert_int_equal(s->exit.stdout_bytes, 108894);
	assert_string_equal(drv_out(s) + 108894 - 6, "20000\n");
	assert_int_equal(drv_stop(d), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echo_of_64_mib_comes_back_unchanged),
		cmocka_unit_test(stdin_is_granted_as_it_is_consumed),
		cmocka_unit_test(stdin_nobody_reads_is_discarded),
		cmocka_unit_test(lossless_output_waits_for_credit_and_loses_nothing),
		cmocka_unit_test(stalled_stream_stops_no_other),
		cmocka_unit_test(dropped_output_keeps_the_last_ring),
		cmocka_unit_test(reattach_resends_from_the_offset),
		cmocka_unit_test(detached_command_is_not_held_back),
		cmocka_unit_test(new_host_takes_over_by_reattach),
		cmocka_unit_test(throughput_is_not_paid_with_small_frames),
		cmocka_unit_test(terminal_has_size_owner_and_session),
		cmocka_unit_test(resize_changes_the_size_and_signals),
		cmocka_unit_test(terminal_echoes_and_ends_by_eof),
		cmocka_unit_test(interrupt_goes_to_the_foreground_group),
		cmocka_unit_test(terminal_output_is_whole_when_the_command_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
