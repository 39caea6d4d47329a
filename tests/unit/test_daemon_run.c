/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a run, as its client sees it: order, bytes, verdicts, and what is left when it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "daemon_driver.h"

#define ALL (~0u)
#define RUN "{\"op\":\"run\",\"cmd\":[\"prog\"]}"

static struct drv t;
static struct drv_frame f;

static int setup(void **state)
{
	(void)state;
	drv_start(&t, ALL, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	drv_stop(&t);
	return 0;
}

static json_t *end_of(int client)
{
	return drv_json(client, BRIG_CL_END);
}

/* No record, no client, no request is left. */
static void nothing_left(void)
{
	drv_step(&t);
	assert_true(LIST_EMPTY(&t.d.all));
	assert_int_equal(t.d.nlive, 0);
	assert_int_equal(t.d.nboxes, 0);
	assert_int_equal(t.d.jail.npending, 0);
}

static void exec_is_sent_before_anybody_answers(void **state)
{
	(void)state;
	union drv_request create;
	int fds[32], client = drv_connect(&t);
	unsigned n = 32;
	drv_request(&t, client, RUN);
	drv_jail(&t, JAIL_CREATE, &create, fds, &n);
	assert_int_equal(n, 1);
	drv_expect(fds[0], BRIG_ATTACH, &f);
	drv_expect(fds[0], BRIG_EXEC, &f);
	struct brig_exec e;
	memcpy(&e, f.payload, sizeof(e));
	assert_int_equal(e.argc, 1);
	assert_int_equal(e.credit_stdout, BRIG_CLIENT_CREDIT);
	assert_int_equal(e.flags, BRIG_EXEC_LIFELINE);
	drv_silent(client);
	close(fds[0]);
	close(client);
}

static void a_run_ends_with_its_exit_code(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	drv_output(r.agent, BRIG_STDOUT, r.stream, 0, "hi\n", 3);
	drv_output(r.agent, BRIG_STDERR, r.stream, 0, "oh\n", 3);
	drv_exit(r.agent, r.stream, 0, 3, 3, 3);
	drv_step(&t);
	drv_expect(r.client, BRIG_STDOUT, &f);
	assert_int_equal(f.h.len, 11);
	assert_memory_equal(f.payload + 8, "hi\n", 3);
	drv_expect(r.client, BRIG_STDERR, &f);
	drv_silent(r.client); /* END waits for the figures */
	struct jail_stats st = {
		.valid = ~0u, .cpu_us = 5000, .memory_peak_bytes = 4096, .pids_peak = 2
	};
	union drv_request destroy;
	drv_jail(&t, JAIL_DESTROY, &destroy, NULL, NULL);
	drv_answer_stats(&t, &destroy, &st);
	json_t *end = end_of(r.client);
	assert_int_equal(drv_int(end, "exit_code"), 3);
	assert_string_equal(drv_str(end, "stop_reason"), "exited");
	json_t *usage = json_object_get(end, "usage");
	assert_int_equal(drv_int(usage, "cpu_ms"), 5);
	assert_int_equal(drv_int(usage, "stdout_bytes"), 3);
	assert_true(drv_closed(r.client));
	json_decref(end);
	/* .. and not for the removal. */
	assert_int_equal(t.d.nlive, 1);
	drv_answer_gone(&t, &destroy);
	nothing_left();
	drv_run_done(&r);
}

static void a_start_that_fails_is_an_end_with_its_code(void **state)
{
	(void)state;
	static const struct {
		uint32_t step;
		int32_t err;
		int code;
	} rows[] = { { BRIG_STEP_EXEC, 2, 127 },    { BRIG_STEP_EXEC, 13, 126 },
		     { BRIG_STEP_EXEC, 8, 126 },    { BRIG_STEP_USER, 2, 125 },
		     { BRIG_STEP_CWD, 2, 125 },	    { BRIG_STEP_SPAWN, 11, 125 },
		     { BRIG_STEP_REQUEST, 22, 125 } };
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		union drv_request create;
		struct brig_attach attach;
		int client = drv_connect(&t);
		drv_request(&t, client, RUN);
		int agent = drv_born(&t, &create, &attach);
		drv_expect(agent, BRIG_EXEC, &f);
		drv_attached(&t, agent, &attach);
		struct brig_started m = { .err = rows[i].err, .step = rows[i].step };
		drv_send(agent, BRIG_STARTED, 0, f.h.stream, &m, sizeof(m));
		drv_step(&t);
		drv_destroyed(&t, NULL);
		json_t *end = end_of(client);
		assert_int_equal(drv_int(end, "exit_code"), rows[i].code);
		assert_non_null(json_object_get(end, "error"));
		json_decref(end);
		nothing_left();
		close(agent);
		close(client);
	}
}

static void a_create_that_fails_is_an_error_with_its_remedy(void **state)
{
	(void)state;
	union drv_request create;
	int client = drv_connect(&t);
	drv_request(&t, client, RUN);
	drv_jail(&t, JAIL_CREATE, &create, NULL, NULL);
	drv_answer_error(&t, &create, BRIG_E_EXHAUSTED, "no more namespaces");
	json_t *rep = drv_json(client, BRIG_CL_REP);
	json_t *e = json_object_get(rep, "error");
	assert_string_equal(drv_str(e, "code"), "host_resources_exhausted");
	assert_string_equal(drv_str(e, "message"), "no more namespaces");
	assert_string_equal(drv_str(e, "remediation"), "mend the host");
	json_decref(rep);
	nothing_left();
	close(client);
}

static void output_stops_at_exactly_its_limit(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r,
		"{\"op\":\"run\",\"cmd\":[\"yes\"],\"spec\":{\"limits\":{\"max_output_bytes\":10}}"
		"}");
	drv_output(r.agent, BRIG_STDOUT, r.stream, 0, "123456", 6);
	drv_output(r.agent, BRIG_STDERR, r.stream, 0, "1234", 4);
	drv_step(&t);
	drv_jail_silent(&t); /* ten bytes are allowed */
	drv_output(r.agent, BRIG_STDOUT, r.stream, 6, "7", 1);
	drv_output(r.agent, BRIG_STDOUT, r.stream, 7, "8", 1);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	drv_expect(r.client, BRIG_STDOUT, &f);
	assert_int_equal(f.h.len, 8 + 6);
	drv_expect(r.client, BRIG_STDERR, &f);
	assert_int_equal(f.h.len, 8 + 4);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "output");
	assert_true(json_is_true(json_object_get(end, "truncated")));
	assert_int_equal(drv_int(json_object_get(end, "usage"), "stdout_bytes"), 6);
	assert_int_equal(drv_int(json_object_get(end, "evidence"), "stderr_bytes"), 4);
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void the_byte_before_the_limit_is_delivered_from_a_larger_frame(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r,
		"{\"op\":\"run\",\"cmd\":[\"yes\"],\"spec\":{\"limits\":{\"max_output_bytes\":10}}"
		"}");
	drv_output(r.agent, BRIG_STDOUT, r.stream, 0, "0123456789abcdef", 16);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	drv_expect(r.client, BRIG_STDOUT, &f);
	assert_int_equal(f.h.len, 8 + 10);
	assert_memory_equal(f.payload + 8, "0123456789", 10);
	json_decref(end_of(r.client));
	drv_run_done(&r);
}

static void wall_time_ends_a_run_with_124(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r,
		"{\"op\":\"run\",\"cmd\":[\"s\"],\"spec\":{\"limits\":{\"timeout_ms\":30}}}");
	drv_jail_silent(&t);
	drv_wait(&t, 60);
	/* What was printed before the end is delivered with it. */
	drv_output(r.agent, BRIG_STDOUT, r.stream, 0, "late", 4);
	drv_destroyed(&t, NULL);
	drv_expect(r.client, BRIG_STDOUT, &f);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "wall_time");
	assert_int_equal(drv_int(end, "exit_code"), 124);
	assert_true(drv_int(json_object_get(end, "evidence"), "elapsed_ms") >= 30);
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void cpu_time_is_polled_and_ends_a_run(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r,
		"{\"op\":\"run\",\"cmd\":[\"s\"],\"spec\":{\"limits\":{\"cpu_time_ms\":20}}}");
	drv_jail_silent(&t);
	drv_wait(&t, 30);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	struct jail_stats st = { .valid = ~0u, .cpu_us = 19000 };
	drv_answer_stats(&t, &q, &st);
	drv_wait(&t, 8);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	st.cpu_us = 20500;
	drv_answer_stats(&t, &q, &st);
	drv_destroyed(&t, &st);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "cpu_time");
	assert_int_equal(drv_int(json_object_get(end, "evidence"), "cpu_ms"), 20);
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void a_client_that_leaves_takes_its_run_along(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	fd_close(&r.client);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	nothing_left();
	drv_run_done(&r);
}

static void a_client_that_leaves_before_the_sandbox_exists_takes_it_along(void **state)
{
	(void)state;
	union drv_request create;
	int client = drv_connect(&t);
	drv_request(&t, client, RUN);
	drv_jail(&t, JAIL_CREATE, &create, NULL, NULL);
	close(client);
	drv_step(&t);
	/* jaild does not answer a CREATE that DESTROY has overtaken. */
	drv_destroyed(&t, NULL);
	nothing_left();
}

static void an_agent_that_dies_with_an_oom_kill_is_out_of_memory(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	fd_close(&r.agent);
	drv_step(&t);
	struct jail_stats st = { .valid = ~0u, .oom_kills = 2, .memory_limit_bytes = 1 << 29 };
	drv_destroyed(&t, &st);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "out_of_memory");
	assert_int_equal(drv_int(end, "exit_code"), 137);
	assert_int_equal(drv_int(json_object_get(end, "evidence"), "oom_kills"), 2);
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void an_agent_that_just_dies_is_a_host_fault(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	fd_close(&r.agent);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "host_fault");
	assert_int_equal(drv_int(end, "exit_code"), 125);
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void an_unasked_end_keeps_the_last_words_and_figures(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r, RUN);
	drv_output(r.agent, BRIG_STDOUT, r.stream, 0, "bye", 3);
	union drv_request self = { .ref = { .h = { .seq = 0 } } };
	memcpy(self.ref.id, r.id, sizeof(self.ref.id));
	struct jail_stats st = { .valid = ~0u, .oom_kills = 1 };
	drv_answer_stats(&t, &self, &st);
	drv_answer_gone(&t, &self);
	drv_jail(&t, JAIL_DESTROY, &q, NULL, NULL);
	drv_answer_error(&t, &q, BRIG_E_NOT_FOUND, "no such sandbox");
	drv_expect(r.client, BRIG_STDOUT, &f);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "out_of_memory");
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void jaild_gone_ends_every_run_and_brigd(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	fd_close(&t.jail);
	drv_step(&t);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "host_fault");
	json_decref(end);
	assert_true(t.d.quit);
	assert_int_equal(t.d.exit_code, 1);
	drv_run_done(&r);
}

static void jaild_speaking_nonsense_is_a_lost_link(void **state)
{
	(void)state;
	struct jail_ref m = { .h = { .verb = JAIL_OK, .seq = 4711 } };
	assert_int_equal(fd_send(t.jail, &m, sizeof(m), NULL, 0), 0);
	drv_step(&t);
	assert_true(t.d.quit);
	assert_int_equal(t.d.exit_code, 1);
}

static void stdin_and_credit_pass_both_ways(void **state)
{
	(void)state;
	union drv_request create;
	struct brig_attach attach;
	struct brig_credit credit;
	int client = drv_connect(&t);
	drv_request(&t, client, "{\"op\":\"run\",\"cmd\":[\"cat\"],\"stdin\":true}");
	int agent = drv_born(&t, &create, &attach);
	drv_expect(agent, BRIG_EXEC, &f);
	uint32_t stream = f.h.stream;
	drv_attached(&t, agent, &attach);
	drv_started(&t, agent, stream, 100);
	json_decref(drv_json(client, BRIG_CL_REP));
	drv_expect(client, BRIG_CREDIT, &f);
	memcpy(&credit, f.payload, sizeof(credit));
	assert_int_equal(credit.chan, BRIG_CHAN_STDIN);
	assert_int_equal(credit.bytes, 100);
	drv_send(client, BRIG_STDIN, BRIG_FF_EOF, BRIG_CLIENT_STREAM, "hello", 5);
	drv_step(&t);
	drv_expect(agent, BRIG_STDIN, &f);
	assert_int_equal(f.h.stream, stream);
	assert_int_equal(f.h.flags, BRIG_FF_EOF);
	assert_memory_equal(f.payload, "hello", 5);
	/* A grant passes once the agent has used some of what it had. */
	drv_output(agent, BRIG_STDOUT, stream, 0, "abc", 3);
	drv_step(&t);
	credit = (struct brig_credit){ .chan = BRIG_CHAN_STDOUT, .bytes = 3 };
	drv_send(client, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &credit, sizeof(credit));
	drv_step(&t);
	drv_expect(agent, BRIG_CREDIT, &f);
	memcpy(&credit, f.payload, sizeof(credit));
	assert_int_equal(credit.bytes, 3);
	close(agent);
	close(client);
}

static void stdin_beyond_its_credit_ends_the_run(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, "{\"op\":\"run\",\"cmd\":[\"cat\"],\"stdin\":true}");
	drv_send(r.client, BRIG_STDIN, 0, BRIG_CLIENT_STREAM, "x", 1);
	drv_step(&t);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(json_object_get(end, "error"), "code"), "protocol_violation");
	json_decref(end);
	drv_destroyed(&t, NULL);
	nothing_left();
	drv_run_done(&r);
}

static void a_slow_client_holds_back_its_own_channel_only(void **state)
{
	(void)state;
	struct drv_run a, b;
	static uint8_t block[128 * 1024];
	drv_run(&t, &a, RUN);
	drv_run(&t, &b, RUN);
	uint64_t sent = 0;
	/* a's client reads nothing: its channel fills up, in bounded memory. */
	for (int i = 0; i < 31; i++, sent += sizeof(block)) {
		struct brig_frame_hdr h = { .len = sizeof(block) + 8,
					    .type = BRIG_STDOUT,
					    .stream = a.stream };
		uint8_t head[20];
		memcpy(head, &h, sizeof(h));
		memcpy(head + 12, &sent, 8);
		if (send(a.agent, head, sizeof(head), MSG_DONTWAIT) != sizeof(head))
			break;
		size_t put = 0;
		while (put < sizeof(block)) {
			ssize_t n = send(a.agent, block + put, sizeof(block) - put, MSG_DONTWAIT);
			if (n < 0)
				break;
			put += (size_t)n;
			drv_step(&t);
		}
		if (put < sizeof(block))
			break;
	}
	const struct conn *c = LIST_NEXT(LIST_FIRST(&t.d.conns), all);
	assert_true(conn_queued(c) > 0);
	assert_true(conn_queued(c) <= BRIG_CLIENT_CREDIT + 4096);
	drv_output(b.agent, BRIG_STDOUT, b.stream, 0, "quick", 5);
	drv_step(&t);
	drv_expect(b.client, BRIG_STDOUT, &f);
	assert_memory_equal(f.payload + 8, "quick", 5);
	drv_run_done(&a);
	drv_run_done(&b);
}

static void kill_and_the_signals_of_a_client_are_told_apart_from_a_crash(void **state)
{
	(void)state;
	struct drv_run r;
	char kill[128];
	/* A crash. */
	drv_run(&t, &r, RUN);
	drv_exit(r.agent, r.stream, BRIG_EXIT_SIGNALED, 15, 0, 0);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "signaled");
	assert_string_equal(drv_str(end, "signal"), "SIGTERM");
	assert_int_equal(drv_int(end, "exit_code"), 143);
	json_decref(end);
	drv_run_done(&r);
	/* The same signal, asked for. */
	drv_run(&t, &r, RUN);
	snprintf(kill, sizeof(kill), "{\"op\":\"kill\",\"id\":\"%s\",\"signal\":\"TERM\"}", r.id);
	int other = drv_connect(&t);
	drv_request(&t, other, kill);
	json_decref(drv_json(other, BRIG_CL_REP));
	close(other);
	drv_expect(r.agent, BRIG_SIGNAL, &f);
	drv_exit(r.agent, r.stream, BRIG_EXIT_SIGNALED, 15, 0, 0);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "killed");
	json_decref(end);
	drv_run_done(&r);
}

static void a_kill_that_the_agent_ignores_destroys_the_sandbox(void **state)
{
	(void)state;
	struct drv_run r;
	char kill[128];
	drv_run(&t, &r, RUN);
	snprintf(kill, sizeof(kill), "{\"op\":\"kill\",\"id\":\"%s\"}", r.id);
	int other = drv_connect(&t);
	drv_request(&t, other, kill);
	close(other);
	drv_jail_silent(&t);
	drv_wait(&t, 1100);
	drv_destroyed(&t, NULL);
	json_t *end = end_of(r.client);
	assert_string_equal(drv_str(end, "stop_reason"), "killed");
	json_decref(end);
	nothing_left();
	drv_run_done(&r);
}

static void volumes_are_handed_on_and_closed_here(void **state)
{
	(void)state;
	union drv_request create;
	int fds[32], p[2], client = drv_connect(&t);
	unsigned n = 32;
	char c;
	assert_int_equal(pipe(p), 0);
	drv_request_fds(&t, client,
			"{\"op\":\"run\",\"cmd\":[\"x\"],\"spec\":{\"volumes\":[{\"fd\":0,"
			"\"guest\":\"/data\",\"readonly\":true}]}}",
			&p[1], 1);
	close(p[1]);
	drv_jail(&t, JAIL_CREATE, &create, fds, &n);
	assert_int_equal(n, 2);
	assert_int_equal(create.spec.nvolumes, 1);
	assert_string_equal(create.spec.volumes[0].path, "/data");
	assert_int_equal(create.spec.volumes[0].readonly, 1);
	close(fds[0]);
	close(fds[1]);
	/* Only end of file if brigd kept none: the write end was passed. */
	assert_int_equal(fd_set_nonblock(p[0], 1), 0);
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
	close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(exec_is_sent_before_anybody_answers),
		T(a_run_ends_with_its_exit_code),
		T(a_start_that_fails_is_an_end_with_its_code),
		T(a_create_that_fails_is_an_error_with_its_remedy),
		T(output_stops_at_exactly_its_limit),
		T(the_byte_before_the_limit_is_delivered_from_a_larger_frame),
		T(wall_time_ends_a_run_with_124),
		T(cpu_time_is_polled_and_ends_a_run),
		T(a_client_that_leaves_takes_its_run_along),
		T(a_client_that_leaves_before_the_sandbox_exists_takes_it_along),
		T(an_agent_that_dies_with_an_oom_kill_is_out_of_memory),
		T(an_agent_that_just_dies_is_a_host_fault),
		T(an_unasked_end_keeps_the_last_words_and_figures),
		T(jaild_gone_ends_every_run_and_brigd),
		T(jaild_speaking_nonsense_is_a_lost_link),
		T(stdin_and_credit_pass_both_ways),
		T(stdin_beyond_its_credit_ends_the_run),
		T(a_slow_client_holds_back_its_own_channel_only),
		T(kill_and_the_signals_of_a_client_are_told_apart_from_a_crash),
		T(a_kill_that_the_agent_ignores_destroys_the_sandbox),
		T(volumes_are_handed_on_and_closed_here),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
