/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes that live longer than one command: create, exec, detach, logs, fs, rm, pool, shutdown.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "daemon/logs.h"
#include "daemon/pool.h"
#include "daemon_driver.h"

#define ALL (~0u)

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

/* A request in which %s stands for the id. */
static int ask(const char *text, const char *id)
{
	char json[512];
	int c = drv_connect(&t);
	const char *at = strstr(text, "%s");
	assert_non_null(at);
	snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - text), text, id, at + 2);
	drv_request(&t, c, json);
	return c;
}

static json_t *answer(const char *format, const char *id)
{
	int c = ask(format, id);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	close(c);
	drv_step(&t);
	return rep;
}

static void expect_ok(const char *format, const char *id)
{
	json_t *rep = answer(format, id);
	if (!json_object_get(rep, "ok"))
		fail_msg("%s: %s", format, drv_str(json_object_get(rep, "error"), "message"));
	json_decref(rep);
}

static void expect_error(const char *format, const char *id, const char *code, const char *says)
{
	json_t *rep = answer(format, id);
	const json_t *e = json_object_get(rep, "error");
	if (strcmp(drv_str(e, "code"), code) != 0 || !strstr(drv_str(e, "message"), says))
		fail_msg("%s: %s: %s", format, drv_str(e, "code"), drv_str(e, "message"));
	json_decref(rep);
}

struct box {
	int agent;
	char id[BRIG_ID_LEN + 8];
	union drv_request create;
};

/* A sandbox made by `create`. */
static void create(struct box *b, const char *spec)
{
	struct brig_attach a;
	char json[512];
	int c = drv_connect(&t);
	snprintf(json, sizeof(json), "{\"op\":\"create\",\"spec\":%s}", spec);
	drv_request(&t, c, json);
	int fds[32];
	unsigned n = 32;
	drv_jail(&t, JAIL_CREATE, &b->create, fds, &n);
	b->agent = fds[0];
	drv_answer_ok(&t, &b->create);
	drv_expect(b->agent, BRIG_ATTACH, &f);
	memcpy(&a, f.payload, sizeof(a));
	drv_silent(c); /* not before the agent is there */
	drv_attached(&t, b->agent, &a);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	memcpy(b->id, b->create.spec.id, sizeof(b->id));
	assert_string_equal(drv_str(json_object_get(rep, "ok"), "id"), b->id);
	json_decref(rep);
	close(c);
	drv_step(&t);
}

static void rm(struct box *b)
{
	int c = ask("{\"op\":\"rm\",\"id\":\"%s\",\"force\":true}", b->id);
	drv_destroyed(&t, NULL);
	json_decref(drv_json(c, BRIG_CL_REP));
	close(c);
	close(b->agent);
	drv_step(&t);
}

/* exec up to STARTED: the client's socket; stream is set. */
static int exec_started(struct box *b, const char *more, uint32_t *stream)
{
	char json[512];
	union drv_request q;
	int c = drv_connect(&t);
	snprintf(json, sizeof(json), "{\"op\":\"exec\",\"id\":\"%s\",\"cmd\":[\"x\"]%s}", b->id,
		 more);
	drv_request(&t, c, json);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	drv_expect(b->agent, BRIG_EXEC, &f);
	*stream = f.h.stream;
	drv_started(&t, b->agent, *stream, 0);
	json_decref(drv_json(c, BRIG_CL_REP));
	return c;
}

static void a_created_sandbox_lives_until_rm(void **state)
{
	(void)state;
	struct box b;
	create(&b, "{\"name\":\"web\",\"labels\":{\"a\":\"b\"}}");
	json_t *rep = answer("{\"op\":\"inspect\",\"id\":\"%s\"}", "web");
	const json_t *info = json_object_get(rep, "ok");
	assert_string_equal(drv_str(info, "state"), "ready");
	assert_string_equal(drv_str(info, "image"), "host");
	assert_string_equal(drv_str(json_object_get(info, "labels"), "a"), "b");
	assert_int_equal(drv_int(json_object_get(info, "limits"), "pids"), 256);
	json_decref(rep);
	expect_error("{\"op\":\"create\",\"spec\":{\"name\":\"%s\"}}", "web", "already_exists",
		     "taken");
	drv_jail_silent(&t);
	expect_error("{\"op\":\"kill\",\"id\":\"%s\"}", "web", "wrong_state", "no main command");
	expect_error("{\"op\":\"logs\",\"id\":\"%s\"}", "web", "wrong_state", "no logs");
	rm(&b);
	expect_error("{\"op\":\"inspect\",\"id\":\"%s\"}", "web", "not_found", "web");
	/* The name is free again. */
	create(&b, "{\"name\":\"web\"}");
	rm(&b);
	assert_int_equal(t.d.nboxes, 0);
}

static void the_environment_of_a_sandbox_is_replaced(void **state)
{
	(void)state;
	struct box b;
	create(&b, "{\"env\":[\"A=1\"]}");
	expect_ok("{\"op\":\"setenv\",\"id\":\"%s\",\"env\":[\"B=2\",\"C=3\"]}", b.id);
	json_t *rep = answer("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	const json_t *env = json_object_get(json_object_get(rep, "ok"), "env");
	assert_int_equal(json_array_size(env), 2);
	assert_string_equal(json_string_value(json_array_get(env, 0)), "B=2");
	json_decref(rep);
	expect_error("{\"op\":\"setenv\",\"id\":\"%s\"}", b.id, "invalid_argument", "missing");
	expect_error("{\"op\":\"setenv\",\"id\":\"%s\",\"env\":[\"=\"]}", b.id,
		     "invalid_argument", "NAME=value");
	rm(&b);
	create(&b, "{}");
	expect_ok("{\"op\":\"setenv\",\"id\":\"%s\",\"env\":[]}", b.id);
	rm(&b);
}

static void a_prefix_finds_one_sandbox_or_says_why_not(void **state)
{
	(void)state;
	struct box b;
	char prefix[8];
	create(&b, "{}");
	snprintf(prefix, sizeof(prefix), "%.5s", b.id);
	expect_ok("{\"op\":\"inspect\",\"id\":\"%s\"}", prefix);
	prefix[3] = '\0';
	expect_error("{\"op\":\"inspect\",\"id\":\"%s\"}", prefix, "not_found", "no sandbox");
	rm(&b);
}

static void exec_reports_the_growth_of_figures_and_frees_its_stream(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream, first = 0;
	union drv_request q;
	create(&b, "{}");
	for (int i = 0; i < 3; i++) {
		char json[128];
		int c = drv_connect(&t);
		snprintf(json, sizeof(json), "{\"op\":\"exec\",\"id\":\"%s\",\"cmd\":[\"x\"]}",
			 b.id);
		drv_request(&t, c, json);
		drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
		struct jail_stats st = { .valid = ~0u, .cpu_us = 7000, .oom_kills = 1 };
		drv_answer_stats(&t, &q, &st);
		drv_expect(b.agent, BRIG_EXEC, &f);
		stream = f.h.stream;
		first = i == 0 ? stream : first;
		assert_int_equal(stream, first); /* the number is used again, .. */
		drv_started(&t, b.agent, stream, 0);
		json_decref(drv_json(c, BRIG_CL_REP));
		drv_exit(b.agent, stream, 0, 0, 0, 0);
		drv_step(&t);
		drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
		st.cpu_us = 19000;
		drv_answer_stats(&t, &q, &st);
		json_t *end = drv_json(c, BRIG_CL_END);
		assert_string_equal(drv_str(end, "stop_reason"), "exited");
		assert_int_equal(drv_int(json_object_get(end, "usage"), "cpu_ms"), 12);
		assert_int_equal(json_array_size(json_object_get(end, "limits_hit")), 0);
		json_decref(end);
		close(c);
		drv_expect(b.agent, BRIG_CLOSE, &f);
		assert_int_equal(f.h.stream, stream);
		drv_expect(b.agent, BRIG_PING, &f);
		drv_send(b.agent, BRIG_PONG, 0, 0, f.payload, f.h.len); /* .. once PONG came */
		drv_step(&t);
	}
	rm(&b);
}

static void a_number_is_not_used_again_before_pong(void **state)
{
	(void)state;
	struct box b;
	uint32_t s1, s2;
	create(&b, "{}");
	int c = exec_started(&b, "", &s1);
	close(c); /* the client leaves: CLOSE, PING */
	drv_step(&t);
	drv_expect(b.agent, BRIG_CLOSE, &f);
	drv_expect(b.agent, BRIG_PING, &f);
	/* Frames that were under way are no breach. */
	drv_output(b.agent, BRIG_STDOUT, s1, 0, "late", 4);
	drv_exit(b.agent, s1, 0, 0, 4, 0);
	drv_step(&t);
	union drv_request q;
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	c = exec_started(&b, "", &s2);
	assert_int_not_equal(s1, s2);
	close(c);
	drv_step(&t);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	rm(&b);
}

static void a_timeout_of_exec_spares_the_sandbox(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	union drv_request q;
	create(&b, "{}");
	int c = exec_started(&b, ",\"timeout_ms\":20", &stream);
	drv_wait(&t, 40);
	drv_expect(b.agent, BRIG_CLOSE, &f);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	json_t *end = drv_json(c, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "wall_time");
	json_decref(end);
	close(c);
	expect_ok("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	rm(&b);
}

static void rm_refuses_a_busy_sandbox_without_force(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	create(&b, "{}");
	int c = exec_started(&b, "", &stream);
	expect_error("{\"op\":\"rm\",\"id\":\"%s\"}", b.id, "wrong_state", "runs a command");
	int r = ask("{\"op\":\"rm\",\"id\":\"%s\",\"force\":true}", b.id);
	union drv_request q;
	drv_jail(&t, JAIL_DESTROY, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	json_t *end = drv_json(c, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "killed");
	json_decref(end);
	drv_silent(r); /* answered when nothing is left */
	drv_answer_gone(&t, &q);
	json_decref(drv_json(r, BRIG_CL_REP));
	close(r);
	close(c);
	close(b.agent);
	drv_step(&t);
	assert_int_equal(t.d.nboxes, 0);
}

/* ---- detached ---- */

static void detached_run(struct box *b, const char *more, uint32_t *stream)
{
	struct drv_run r;
	char json[256];
	snprintf(json, sizeof(json), "{\"op\":\"run\",\"cmd\":[\"d\"],\"detach\":true%s}", more);
	drv_run(&t, &r, json);
	assert_true(drv_closed(r.client));
	close(r.client);
	b->agent = r.agent;
	memcpy(b->id, r.id, sizeof(b->id));
	*stream = r.stream;
	assert_true(r.exec.flags & BRIG_EXEC_DROP);
	drv_step(&t);
}

static void expect_log(const char *format, const char *id, const char *out, uint64_t offset)
{
	int c = ask(format, id);
	json_decref(drv_json(c, BRIG_CL_REP));
	if (out[0]) {
		uint64_t at;
		drv_expect(c, BRIG_STDOUT, &f);
		memcpy(&at, f.payload, sizeof(at));
		assert_int_equal(at, offset);
		assert_int_equal(f.h.len, 8 + strlen(out));
		assert_memory_equal(f.payload + 8, out, strlen(out));
	}
	json_decref(drv_json(c, BRIG_CL_END));
	assert_true(drv_closed(c));
	close(c);
	drv_step(&t);
}

static void a_detached_run_is_exited_with_status_and_logs_until_rm(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	union drv_request q;
	detached_run(&b, "", &stream);
	drv_output(b.agent, BRIG_STDOUT, stream, 0, "hello ", 6);
	drv_output(b.agent, BRIG_STDOUT, stream, 6, "world", 5);
	drv_step(&t);
	expect_log("{\"op\":\"logs\",\"id\":\"%s\"}", b.id, "hello world", 0);
	expect_log("{\"op\":\"logs\",\"id\":\"%s\",\"offset\":6}", b.id, "world", 6);
	expect_log("{\"op\":\"logs\",\"id\":\"%s\",\"stdout\":false}", b.id, "", 0);
	drv_exit(b.agent, stream, 0, 9, 11, 0);
	drv_step(&t);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	json_t *rep = answer("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	const json_t *info = json_object_get(rep, "ok");
	assert_string_equal(drv_str(info, "state"), "exited");
	assert_int_equal(drv_int(json_object_get(info, "status"), "exit_code"), 9);
	json_decref(rep);
	expect_log("{\"op\":\"logs\",\"id\":\"%s\",\"follow\":true}", b.id, "hello world", 0);
	int c = ask("{\"op\":\"rm\",\"id\":\"%s\"}", b.id);
	drv_destroyed(&t, NULL);
	json_decref(drv_json(c, BRIG_CL_REP));
	close(c);
	close(b.agent);
	drv_step(&t);
	assert_int_equal(t.d.nboxes, 0);
}

static void a_follower_sees_what_comes_and_the_end(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	union drv_request q;
	detached_run(&b, ",\"rm\":true", &stream);
	int one = ask("{\"op\":\"logs\",\"id\":\"%s\",\"follow\":true}", b.id);
	int two = ask("{\"op\":\"logs\",\"id\":\"%s\",\"follow\":true}", b.id);
	json_decref(drv_json(one, BRIG_CL_REP));
	json_decref(drv_json(two, BRIG_CL_REP));
	drv_output(b.agent, BRIG_STDOUT, stream, 0, "tick", 4);
	drv_step(&t);
	drv_expect(one, BRIG_STDOUT, &f);
	assert_memory_equal(f.payload + 8, "tick", 4);
	drv_expect(two, BRIG_STDOUT, &f);
	drv_silent(one);
	drv_exit(b.agent, stream, 0, 0, 4, 0);
	drv_step(&t);
	drv_jail(&t, JAIL_DESTROY, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	json_decref(drv_json(one, BRIG_CL_END));
	json_decref(drv_json(two, BRIG_CL_END));
	drv_answer_gone(&t, &q);
	close(one);
	close(two);
	close(b.agent);
	drv_step(&t);
	assert_int_equal(t.d.nboxes, 0); /* rm: nothing to remove by hand */
}

static void last_words_in_the_agents_ring_are_fetched(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	union drv_request q;
	struct brig_reattach m;
	detached_run(&b, "", &stream);
	drv_output(b.agent, BRIG_STDOUT, stream, 0, "a", 1);
	drv_exit(b.agent, stream, 0, 0, 5000, 0); /* it dropped most of what it printed */
	drv_step(&t);
	drv_jail_silent(&t);
	drv_expect(b.agent, BRIG_REATTACH, &f);
	memcpy(&m, f.payload, sizeof(m));
	assert_int_equal(m.stdout_offset, 1);
	drv_output(b.agent, BRIG_STDOUT, stream, 4996, "done", 4);
	drv_exit(b.agent, stream, 0, 0, 5000, 0);
	drv_step(&t);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	expect_log("{\"op\":\"logs\",\"id\":\"%s\"}", b.id, "done", 4996);
	json_t *rep = answer("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	assert_int_equal(
		drv_int(json_object_get(json_object_get(json_object_get(rep, "ok"), "status"),
					"usage"),
			"stdout_bytes"),
		5000);
	json_decref(rep);
	rm(&b);
}

static void a_detached_output_is_granted_again_in_steps_of_time(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	struct brig_credit m;
	detached_run(&b, "", &stream);
	drv_output(b.agent, BRIG_STDOUT, stream, 0, "abc", 3);
	drv_step(&t);
	drv_silent(b.agent);
	drv_wait(&t, 130);
	drv_expect(b.agent, BRIG_CREDIT, &f);
	memcpy(&m, f.payload, sizeof(m));
	assert_int_equal(m.bytes, 3);
	drv_wait(&t, 130);
	drv_silent(b.agent);
	rm(&b);
}

static void a_detached_run_that_dies_is_stopped_and_keeps_its_logs(void **state)
{
	(void)state;
	struct box b;
	uint32_t stream;
	detached_run(&b, "", &stream);
	drv_output(b.agent, BRIG_STDOUT, stream, 0, "argh", 4);
	close(b.agent);
	drv_step(&t);
	struct jail_stats st = { .valid = ~0u, .oom_kills = 1 };
	drv_destroyed(&t, &st);
	json_t *rep = answer("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	const json_t *info = json_object_get(rep, "ok");
	assert_string_equal(drv_str(info, "state"), "stopped");
	assert_string_equal(drv_str(json_object_get(info, "status"), "stop_reason"),
			    "out_of_memory");
	json_decref(rep);
	expect_log("{\"op\":\"logs\",\"id\":\"%s\"}", b.id, "argh", 0);
	expect_error("{\"op\":\"exec\",\"id\":\"%s\",\"cmd\":[\"x\"]}", b.id, "wrong_state",
		     "stopped");
	expect_ok("{\"op\":\"rm\",\"id\":\"%s\"}", b.id);
	drv_jail_silent(&t);
	assert_int_equal(t.d.nboxes, 0);
}

/* ---- files ---- */

static size_t fs_payload(uint8_t *out, const char *user, const char *path, uint32_t credit)
{
	struct brig_fs_req q = { .credit = credit };
	size_t n = sizeof(q);
	memcpy(out, &q, n);
	n += (size_t)sprintf((char *)out + n, "%s", user) + 1;
	n += (size_t)sprintf((char *)out + n, "%s", path) + 1;
	return n;
}

static void file_requests_carry_the_user_of_the_operation(void **state)
{
	(void)state;
	struct box b;
	uint8_t p[256];
	create(&b, "{}");
	int c = ask("{\"op\":\"fs\",\"id\":\"%s\",\"user\":\"root\"}", b.id);
	json_decref(drv_json(c, BRIG_CL_REP));
	drv_send(c, BRIG_FS_READ, 0, 77, p, fs_payload(p, "", "/etc/passwd", 100));
	drv_step(&t);
	drv_expect(b.agent, BRIG_FS_READ, &f);
	uint32_t stream = f.h.stream;
	assert_string_equal((char *)f.payload + sizeof(struct brig_fs_req), "root");
	assert_string_equal((char *)f.payload + sizeof(struct brig_fs_req) + 5, "/etc/passwd");
	drv_send(b.agent, BRIG_FS_DATA, BRIG_FF_EOF, stream, "root:x", 6);
	struct {
		struct brig_fs_done m;
		char text;
	} done = { .m = { .bytes = 6 } };
	drv_send(b.agent, BRIG_FS_DONE, 0, stream, &done, sizeof(done.m) + 1);
	drv_step(&t);
	drv_expect(c, BRIG_FS_DATA, &f);
	assert_int_equal(f.h.stream, 77);
	assert_int_equal(f.h.flags, BRIG_FF_EOF);
	assert_memory_equal(f.payload, "root:x", 6);
	drv_expect(c, BRIG_FS_DONE, &f);
	assert_int_equal(f.h.stream, 77);
	/* A frame that crosses the end is dropped, and the number may be used again. */
	struct brig_credit late = { .chan = BRIG_CHAN_FS, .bytes = 5 };
	drv_send(c, BRIG_CREDIT, 0, 77, &late, sizeof(late));
	drv_send(c, BRIG_FS_STAT, 0, 77, p, fs_payload(p, "", "/", 0));
	drv_step(&t);
	drv_expect(b.agent, BRIG_FS_STAT, &f);
	/* The client leaves: its stream is closed. */
	close(c);
	drv_step(&t);
	drv_expect(b.agent, BRIG_CLOSE, &f);
	rm(&b);
}

static void file_data_flows_within_credit_both_ways(void **state)
{
	(void)state;
	struct box b;
	uint8_t p[256];
	create(&b, "{}");
	int c = ask("{\"op\":\"fs\",\"id\":\"%s\"}", b.id);
	json_decref(drv_json(c, BRIG_CL_REP));
	drv_send(c, BRIG_FS_WRITE, 0, 5, p, fs_payload(p, "", "/tmp/x", 0));
	drv_step(&t);
	drv_expect(b.agent, BRIG_FS_WRITE, &f);
	assert_string_equal((char *)f.payload + sizeof(struct brig_fs_req), "user");
	uint32_t stream = f.h.stream;
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = 4 };
	drv_send(b.agent, BRIG_CREDIT, 0, stream, &m, sizeof(m));
	drv_step(&t);
	drv_expect(c, BRIG_CREDIT, &f);
	drv_send(c, BRIG_FS_DATA, 0, 5, "data", 4);
	drv_step(&t);
	drv_expect(b.agent, BRIG_FS_DATA, &f);
	assert_memory_equal(f.payload, "data", 4);
	drv_send(c, BRIG_FS_DATA, 0, 5, "x", 1);
	drv_step(&t);
	json_t *end = drv_json(c, BRIG_CL_END);
	assert_non_null(
		strstr(drv_str(json_object_get(end, "error"), "message"), "beyond its credit"));
	json_decref(end);
	close(c);
	drv_step(&t);
	rm(&b);
}

static void malformed_file_requests_end_the_operation_only(void **state)
{
	(void)state;
	struct box b;
	uint8_t p[8192];
	char longest[4200];
	memset(longest, 'a', sizeof(longest));
	longest[4199] = '\0';
	create(&b, "{}");
	for (int i = 0; i < 7; i++) {
		size_t n = fs_payload(p, i == 0 ? "root" : "", i == 1 ? "" : "/x", 0);
		uint16_t type = BRIG_FS_STAT;
		if (i == 2)
			n -= 1; /* not terminated */
		if (i == 3)
			p[n++] = 'x'; /* more than it may hold */
		if (i == 4)
			p[0] = 0xff; /* flags */
		if (i == 5)
			type = BRIG_EXEC;
		if (i == 6)
			n = fs_payload(p, "", longest, 0);
		int c = ask("{\"op\":\"fs\",\"id\":\"%s\"}", b.id);
		json_decref(drv_json(c, BRIG_CL_REP));
		drv_send(c, type, 0, 1, p, n);
		drv_step(&t);
		json_t *end = drv_json(c, BRIG_CL_END);
		assert_non_null(json_object_get(end, "error"));
		json_decref(end);
		drv_silent(b.agent);
		close(c);
		drv_step(&t);
	}
	expect_ok("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	rm(&b);
}

static void a_file_answer_without_its_strings_is_a_breach(void **state)
{
	(void)state;
	struct box b;
	uint8_t p[256];
	struct brig_fs_entry e = { .size = 1 };
	create(&b, "{}");
	int c = ask("{\"op\":\"fs\",\"id\":\"%s\"}", b.id);
	json_decref(drv_json(c, BRIG_CL_REP));
	drv_send(c, BRIG_FS_STAT, 0, 1, p, fs_payload(p, "", "/x", 0));
	drv_step(&t);
	drv_expect(b.agent, BRIG_FS_STAT, &f);
	drv_send(b.agent, BRIG_FS_ENTRY, 0, f.h.stream, &e, sizeof(e));
	drv_step(&t);
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(c, BRIG_CL_END);
	assert_non_null(
		strstr(drv_str(json_object_get(end, "error"), "message"), "lacks a string"));
	json_decref(end);
	close(c);
	/* A created sandbox that failed stays to be looked at. */
	json_t *rep = answer("{\"op\":\"inspect\",\"id\":\"%s\"}", b.id);
	assert_string_equal(drv_str(json_object_get(rep, "ok"), "state"), "stopped");
	json_decref(rep);
	expect_ok("{\"op\":\"rm\",\"id\":\"%s\"}", b.id);
	close(b.agent);
}

/* ---- about all ---- */

static void stats_ask_for_each_living_sandbox(void **state)
{
	(void)state;
	struct box a, b;
	union drv_request q1, q2;
	create(&a, "{}");
	create(&b, "{}");
	int c = ask("{\"op\":\"stats\"%s}", "");
	drv_jail(&t, JAIL_MEASURE, &q1, NULL, NULL);
	drv_jail(&t, JAIL_MEASURE, &q2, NULL, NULL);
	struct jail_stats st = { .valid = JAIL_STAT_MEMORY | JAIL_STAT_DISK,
				 .memory_bytes = 4096,
				 .memory_cache_bytes = 1024,
				 .disk_used_bytes = 512 };
	drv_answer_stats(&t, &q1, &st);
	drv_silent(c);
	drv_answer_error(&t, &q2, BRIG_E_NOT_FOUND, "gone meanwhile");
	json_t *rep = drv_json(c, BRIG_CL_REP);
	json_t *rows = json_object_get(json_object_get(rep, "ok"), "stats");
	assert_int_equal(json_array_size(rows), 1);
	assert_int_equal(drv_int(json_array_get(rows, 0), "memory_bytes"), 4096);
	assert_int_equal(drv_int(json_array_get(rows, 0), "disk_used_bytes"), 512);
	assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "memory_cache_bytes")));
	assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "cpu_us")));
	json_decref(rep);
	close(c);
	rm(&a);
	rm(&b);
}

static void a_pool_serves_plain_requests_once_each(void **state)
{
	(void)state;
	struct brig_err err = BRIG_ERR_INIT;
	union drv_request made, other;
	struct brig_attach attach;
	int fds[32];
	unsigned n = 32;
	assert_int_equal(pool_add(&t.d, "host=1", &err), 0);
	pool_schedule(&t.d);
	drv_wait(&t, 10);
	drv_jail(&t, JAIL_CREATE, &made, fds, &n);
	int agent = fds[0];
	drv_answer_ok(&t, &made);
	drv_expect(agent, BRIG_ATTACH, &f);
	memcpy(&attach, f.payload, sizeof(attach));
	drv_attached(&t, agent, &attach);
	drv_wait(&t, 10);
	drv_jail_silent(&t); /* it is full */
	/* Nobody can see or take it by name. */
	expect_error("{\"op\":\"inspect\",\"id\":\"%s\"}", made.spec.id, "not_found", "no sandbox");
	/* Another limit: not from the pool. */
	int cold =
		ask("{\"op\":\"run\",\"cmd\":[\"x\"],\"spec\":{\"limits\":{\"pids\":10%s}}}", "");
	n = 32;
	drv_jail(&t, JAIL_CREATE, &other, fds, &n);
	assert_string_not_equal(other.spec.id, made.spec.id);
	close(cold);
	close(fds[0]);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	/* A plain one is: EXEC goes to the waiting agent at once. */
	int warm = ask("{\"op\":\"run\",\"cmd\":[\"x\"],\"spec\":{\"name\":\"n%s\"}}", "1");
	drv_expect(agent, BRIG_EXEC, &f);
	drv_started(&t, agent, f.h.stream, 0);
	json_t *rep = drv_json(warm, BRIG_CL_REP);
	assert_string_equal(drv_str(json_object_get(rep, "ok"), "id"), made.spec.id);
	assert_string_equal(drv_str(json_object_get(rep, "ok"), "name"), "n1");
	json_decref(rep);
	close(warm);
	drv_step(&t);
	drv_destroyed(&t, NULL); /* never used again */
	rep = answer("{\"op\":\"pool\"%s}", "");
	const json_t *row = json_array_get(json_object_get(json_object_get(rep, "ok"), "pools"), 0);
	assert_int_equal(drv_int(row, "hits"), 1);
	assert_int_equal(drv_int(row, "misses"), 1);
	json_decref(rep);
	/* .. and another takes its place, off the path. */
	drv_wait(&t, 10);
	n = 32;
	drv_jail(&t, JAIL_CREATE, &other, fds, &n);
	close(fds[0]);
	close(agent);
}

static void malformed_pools_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "host",   "host=",	"=3",	   "host=0",
					   "host=x", "host=5x", "host=-1", "host=99999" };
	struct brig_err err = BRIG_ERR_INIT;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (pool_add(&t.d, bad[i], &err) == 0)
			fail_msg("accepted '%s'", bad[i]);
}

static void shutdown_ends_everything_and_refuses_the_rest(void **state)
{
	(void)state;
	struct drv_run r;
	struct box b;
	union drv_request q;
	drv_run(&t, &r, "{\"op\":\"run\",\"cmd\":[\"x\"]}");
	create(&b, "{}");
	brigd_drain(&t.d, "test");
	drv_step(&t);
	assert_false(t.d.quit);
	expect_error("{\"op\":\"create\"%s}", "", "unavailable", "ending");
	for (int i = 0; i < 2; i++) {
		drv_jail(&t, JAIL_DESTROY, &q, NULL, NULL);
		drv_answer_stats(&t, &q, NULL);
		drv_answer_gone(&t, &q);
	}
	json_t *end = drv_json(r.client, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "killed");
	assert_string_equal(drv_str(json_object_get(end, "evidence"), "by"), "shutdown");
	json_decref(end);
	drv_run_done(&r);
	close(b.agent);
	drv_step(&t);
	assert_true(t.d.quit);
	assert_int_equal(t.d.exit_code, 0);
}

static void an_idle_brigd_ends_and_a_busy_one_does_not(void **state)
{
	(void)state;
	struct box b;
	t.d.idle_exit_ns = 30000000;
	create(&b, "{}");
	drv_wait(&t, 60);
	assert_false(t.d.draining);
	rm(&b);
	drv_wait(&t, 60);
	assert_true(t.d.quit);
	assert_int_equal(t.d.exit_code, 0);
}

static void the_end_of_its_client_ends_a_private_brigd(void **state)
{
	(void)state;
	struct box b;
	create(&b, "{}");
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(brigd_serve_client(&t.d, pair[0]), 0);
	drv_step(&t);
	assert_false(t.d.draining);
	close(pair[1]);
	drv_step(&t);
	assert_true(t.d.draining);
	drv_destroyed(&t, NULL);
	assert_true(t.d.quit);
	close(b.agent);
}

static void states_change_only_as_the_table_says(void **state)
{
	(void)state;
	static const struct {
		enum sb_state from, to;
	} allowed[] = {
		{ SB_CREATING, SB_READY },    { SB_CREATING, SB_RUNNING },
		{ SB_CREATING, SB_REMOVING }, { SB_CREATING, SB_GONE },
		{ SB_READY, SB_RUNNING },     { SB_READY, SB_REMOVING },
		{ SB_RUNNING, SB_EXITED },    { SB_RUNNING, SB_REMOVING },
		{ SB_EXITED, SB_REMOVING },   { SB_REMOVING, SB_STOPPED },
		{ SB_REMOVING, SB_GONE },     { SB_STOPPED, SB_GONE },
		{ SB_READY, SB_PAUSED },      { SB_PAUSED, SB_READY },
		{ SB_RUNNING, SB_PAUSED },    { SB_PAUSED, SB_RUNNING },
		{ SB_EXITED, SB_PAUSED },     { SB_PAUSED, SB_EXITED },
		{ SB_PAUSED, SB_REMOVING },   { SB_REMOVING, SB_CREATING },
	};
	t.d.log.fd = -1; /* refusals are logged */
	for (unsigned from = 0; from < SB__N_STATES; from++) {
		for (unsigned to = 0; to < SB__N_STATES; to++) {
			struct sandbox sb = { .d = &t.d, .state = (enum sb_state)from, .id = "x" };
			int want = 0;
			for (unsigned i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
				want |= allowed[i].from == from && allowed[i].to == to;
			assert_int_equal(sandbox_go(&sb, (enum sb_state)to), want ? 0 : -1);
			assert_int_equal(sb.state, want ? to : from);
		}
	}
}

static void a_ring_keeps_the_newest_bytes_and_their_offsets(void **state)
{
	(void)state;
	struct logring *r = logring_new();
	static uint8_t block[3000];
	uint64_t total = 0, at;
	const uint8_t *p;
	assert_non_null(r);
	/* Growth in odd steps through every size up to the maximum, and round it twice. */
	while (total < 3 * LOGRING_MAX) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = (uint8_t)((total + i) * 31 >> 3);
		assert_int_equal(logring_add(r, total, block, sizeof(block)), 0);
		total += sizeof(block);
		assert_int_equal(r->end, total);
		assert_true(r->end - r->start <= LOGRING_MAX);
	}
	assert_int_equal(r->end - r->start, LOGRING_MAX);
	at = 0;
	size_t n, seen = 0;
	while ((n = logring_peek(r, &at, &p)) > 0) {
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], (uint8_t)((at + i) * 31 >> 3));
		at += n;
		seen += n;
	}
	assert_int_equal(seen, LOGRING_MAX);
	/* A gap: what was before it is not mixed with what follows. */
	assert_int_equal(logring_add(r, total + 100, (const uint8_t *)"new", 3), 0);
	at = 0;
	assert_int_equal(logring_peek(r, &at, &p), 3);
	assert_int_equal(at, total + 100);
	logring_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(a_created_sandbox_lives_until_rm),
		T(the_environment_of_a_sandbox_is_replaced),
		T(a_prefix_finds_one_sandbox_or_says_why_not),
		T(exec_reports_the_growth_of_figures_and_frees_its_stream),
		T(a_number_is_not_used_again_before_pong),
		T(a_timeout_of_exec_spares_the_sandbox),
		T(rm_refuses_a_busy_sandbox_without_force),
		T(a_detached_run_is_exited_with_status_and_logs_until_rm),
		T(a_follower_sees_what_comes_and_the_end),
		T(last_words_in_the_agents_ring_are_fetched),
		T(a_detached_output_is_granted_again_in_steps_of_time),
		T(a_detached_run_that_dies_is_stopped_and_keeps_its_logs),
		T(file_requests_carry_the_user_of_the_operation),
		T(file_data_flows_within_credit_both_ways),
		T(malformed_file_requests_end_the_operation_only),
		T(a_file_answer_without_its_strings_is_a_breach),
		T(stats_ask_for_each_living_sandbox),
		T(a_pool_serves_plain_requests_once_each),
		T(malformed_pools_are_refused),
		T(shutdown_ends_everything_and_refuses_the_rest),
		T(an_idle_brigd_ends_and_a_busy_one_does_not),
		T(the_end_of_its_client_ends_a_private_brigd),
		T(states_change_only_as_the_table_says),
		cmocka_unit_test(a_ring_keeps_the_newest_bytes_and_their_offsets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
