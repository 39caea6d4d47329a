/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile agents and hostile clients: each breaks one rule and loses its own sandbox or connection,
 * with the rule named; a neighbour that runs beside it notices nothing.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

/* ---- agents ---- */

static void send_u32(int fd, uint16_t type, uint32_t stream, uint32_t a, uint32_t b)
{
	uint32_t m[2] = { a, b };
	drv_send(fd, type, 0, stream, m, sizeof(m));
}

static void too_long(struct drv_run *r)
{
	struct brig_frame_hdr h = { .len = BRIG_FRAME_MAX + 1,
				    .type = BRIG_STDOUT,
				    .stream = r->stream };
	drv_send_raw(r->agent, &h, sizeof(h));
}
static void unknown_type(struct drv_run *r)
{
	drv_send(r->agent, 99, 0, r->stream, NULL, 0);
}
static void wrong_direction(struct drv_run *r)
{
	drv_send(r->agent, BRIG_STDIN, 0, r->stream, "x", 1);
}
static void unknown_flags(struct drv_run *r)
{
	drv_send(r->agent, BRIG_STDOUT, 0x8000, r->stream, "12345678", 8);
}
static void eof_on_stdout(struct drv_run *r)
{
	drv_send(r->agent, BRIG_STDOUT, BRIG_FF_EOF, r->stream, "\0\0\0\0\0\0\0\0", 8);
}
static void unknown_stream(struct drv_run *r)
{
	drv_output(r->agent, BRIG_STDOUT, 77, 0, "x", 1);
}
static void stream_zero(struct drv_run *r)
{
	drv_output(r->agent, BRIG_STDOUT, 0, 0, "x", 1);
}
static void attached_twice(struct drv_run *r)
{
	drv_send(r->agent, BRIG_ATTACHED, 0, 0, &r->attach, sizeof(r->attach));
}
static void pong_unasked(struct drv_run *r)
{
	send_u32(r->agent, BRIG_PONG, 0, r->stream, 0);
}
static void offset_jump(struct drv_run *r)
{
	drv_output(r->agent, BRIG_STDOUT, r->stream, 1, "x", 1);
}
static void offset_back(struct drv_run *r)
{
	drv_output(r->agent, BRIG_STDOUT, r->stream, 0, "xy", 2);
	drv_output(r->agent, BRIG_STDOUT, r->stream, 1, "x", 1);
}
static void no_offset(struct drv_run *r)
{
	drv_send(r->agent, BRIG_STDERR, 0, r->stream, "1234567", 7);
}
static void credit_overrun(struct drv_run *r)
{
	static uint8_t block[BRIG_FRAME_MAX - 8];
	uint64_t at = 0;
	for (int i = 0; i < 17 && !t.d.quit; i++, at += sizeof(block)) {
		struct brig_frame_hdr h = { .len = sizeof(block) + 8,
					    .type = BRIG_STDOUT,
					    .stream = r->stream };
		/* In pieces, with the loop running, so that the socket never fills; the client
		 * reads. */
		uint8_t head[20];
		memcpy(head, &h, 12);
		memcpy(head + 12, &at, 8);
		if (send(r->agent, head, 20, MSG_NOSIGNAL) != 20)
			return;
		for (size_t k = 0; k < sizeof(block); k += 65536) {
			size_t n = sizeof(block) - k < 65536 ? sizeof(block) - k : 65536;
			if (send(r->agent, block + k, n, MSG_NOSIGNAL) < 0)
				return;
			drv_step(&t);
			static uint8_t sink[1 << 20];
			while (recv(r->client, sink, sizeof(sink), MSG_DONTWAIT | MSG_PEEK) > 0 &&
			       i < 16)
				if (recv(r->client, sink, sizeof(sink), MSG_DONTWAIT) < 0)
					break;
			drv_step(&t);
		}
	}
}
static void exit_twice(struct drv_run *r)
{
	drv_exit(r->agent, r->stream, 0, 0, 0, 0);
	drv_exit(r->agent, r->stream, 0, 0, 0, 0);
}
static void exit_code_out_of_range(struct drv_run *r)
{
	drv_exit(r->agent, r->stream, 0, 256, 0, 0);
}
static void exit_signal_zero(struct drv_run *r)
{
	drv_exit(r->agent, r->stream, BRIG_EXIT_SIGNALED, 0, 0, 0);
}
static void exit_counts_less(struct drv_run *r)
{
	drv_output(r->agent, BRIG_STDOUT, r->stream, 0, "xy", 2);
	drv_exit(r->agent, r->stream, 0, 0, 1, 0);
}
static void exit_short(struct drv_run *r)
{
	drv_send(r->agent, BRIG_EXIT, 0, r->stream, "1234", 4);
}
static void started_twice(struct drv_run *r)
{
	struct brig_started m = { .pid = 2 };
	drv_send(r->agent, BRIG_STARTED, 0, r->stream, &m, sizeof(m));
}
static void credit_for_stdout(struct drv_run *r)
{
	send_u32(r->agent, BRIG_CREDIT, r->stream, BRIG_CHAN_STDOUT, 10);
}
static void credit_without_end(struct drv_run *r)
{
	send_u32(r->agent, BRIG_CREDIT, r->stream, BRIG_CHAN_STDIN, BRIG_CREDIT_MAX);
	send_u32(r->agent, BRIG_CREDIT, r->stream, BRIG_CHAN_STDIN, 1);
}
static void empty_flood(struct drv_run *r)
{
	for (int i = 0; i < 1100; i++) {
		uint64_t zero = 0;
		uint8_t frame[20];
		struct brig_frame_hdr h = { .len = 8, .type = BRIG_STDOUT, .stream = r->stream };
		memcpy(frame, &h, 12);
		memcpy(frame + 12, &zero, 8);
		if (send(r->agent, frame, sizeof(frame), MSG_NOSIGNAL) < 0)
			return;
		if (i % 64 == 0)
			drv_step(&t);
	}
}
static void fs_frame_on_exec(struct drv_run *r)
{
	struct brig_fs_done m = { .err = 0 };
	drv_send(r->agent, BRIG_FS_DONE, 0, r->stream, &m, sizeof(m));
}

static const struct {
	const char *what;
	void (*breaks)(struct drv_run *r);
	const char *named; /* in the fault; NULL: the run ends as if nothing had happened */
} breaches[] = {
	{ "a frame too long", too_long, "malformed frame header" },
	{ "an unknown type", unknown_type, "frame type 99" },
	{ "a frame of the other direction", wrong_direction, "not the agent's to send" },
	{ "unknown flags", unknown_flags, "malformed frame header" },
	{ "EOF where none belongs", eof_on_stdout, "STDOUT with flags" },
	{ "an unknown stream", unknown_stream, "stream 77, which is not open" },
	{ "output on stream 0", stream_zero, "STDOUT on stream 0" },
	{ "ATTACHED twice", attached_twice, "ATTACHED twice" },
	{ "PONG unasked", pong_unasked, "PONG that nobody asked for" },
	{ "an offset that jumps", offset_jump, "STDOUT offset 1 where 0 was due" },
	{ "an offset that goes back", offset_back, "offset 1 where 2 was due" },
	{ "output without offset", no_offset, "has no offset" },
	{ "more than the credit", credit_overrun, "of credit" },
	{ "EXIT twice", exit_twice, NULL },
	{ "an impossible exit code", exit_code_out_of_range, "EXIT with flags 0x0, code 256" },
	{ "an impossible signal", exit_signal_zero, "EXIT with flags" },
	{ "EXIT that counts too little", exit_counts_less, "fewer output bytes" },
	{ "EXIT too short", exit_short, "EXIT of 4 bytes" },
	{ "STARTED twice", started_twice, "STARTED twice" },
	{ "CREDIT for an output", credit_for_stdout, "CREDIT for channel 1" },
	{ "CREDIT without end", credit_without_end, "CREDIT beyond the maximum" },
	{ "a flood of nothing", empty_flood, "in a row that carry nothing" },
	{ "a file answer on a command", fs_frame_on_exec, "of another kind" },
};

static void each_breach_of_an_agent_ends_its_sandbox_and_names_itself(void **state)
{
	(void)state;
	struct drv_run good;
	drv_run(&t, &good, RUN);
	uint64_t at = 0;
	for (unsigned i = 0; i < sizeof(breaches) / sizeof(breaches[0]); i++) {
		struct drv_run bad;
		print_message("must not: %s\n", breaches[i].what);
		drv_run(&t, &bad, RUN);
		breaches[i].breaks(&bad);
		drv_step(&t);
		drv_destroyed(&t, NULL);
		do
			drv_frame(bad.client, &f);
		while (f.h.type == BRIG_STDOUT || f.h.type == BRIG_CREDIT);
		assert_int_equal(f.h.type, BRIG_CL_END);
		json_t *end = json_loads((char *)f.payload, 0, NULL);
		if (breaches[i].named) {
			assert_string_equal(drv_str(end, "stop_reason"), "host_fault");
			assert_int_equal(drv_int(end, "exit_code"), 125);
			const char *fault = drv_str(json_object_get(end, "evidence"), "fault");
			if (!strstr(fault, breaches[i].named))
				fail_msg("'%s' does not name '%s'", fault, breaches[i].named);
		} else {
			assert_string_equal(drv_str(end, "stop_reason"), "exited");
		}
		json_decref(end);
		drv_run_done(&bad);
		/* The neighbour runs on. */
		drv_output(good.agent, BRIG_STDOUT, good.stream, at++, "k", 1);
		drv_step(&t);
		drv_expect(good.client, BRIG_STDOUT, &f);
		assert_int_equal(f.payload[8], 'k');
	}
	assert_int_equal(t.d.nlive, 1);
	drv_run_done(&good);
}

static void a_silent_half_frame_harms_nobody(void **state)
{
	(void)state;
	struct drv_run bad, good;
	drv_run(&t, &bad,
		"{\"op\":\"run\",\"cmd\":[\"x\"],\"spec\":{\"limits\":{\"timeout_ms\":40}}}");
	drv_run(&t, &good, RUN);
	struct brig_frame_hdr h = { .len = 1000, .type = BRIG_STDOUT, .stream = bad.stream };
	drv_send_raw(bad.agent, &h, sizeof(h));
	drv_send_raw(bad.agent, "\0\0\0\0\0\0\0\0abc", 11);
	drv_wait(&t, 80);
	/* What there was of it has been delivered, in a frame of its own. */
	drv_expect(bad.client, BRIG_STDOUT, &f);
	assert_int_equal(f.h.len, 11);
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(bad.client, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "wall_time");
	json_decref(end);
	drv_output(good.agent, BRIG_STDOUT, good.stream, 0, "k", 1);
	drv_step(&t);
	drv_expect(good.client, BRIG_STDOUT, &f);
	drv_run_done(&bad);
	drv_run_done(&good);
}

/* A run whose agent has not said ATTACHED yet. */
static void unattached(struct drv_run *r)
{
	memset(r, 0, sizeof(*r));
	r->client = drv_connect(&t);
	drv_request(&t, r->client, RUN);
	r->agent = drv_born(&t, &r->create, &r->attach);
	drv_expect(r->agent, BRIG_EXEC, &f);
	r->stream = f.h.stream;
}

static void bytes_before_attached_are_dropped_up_to_a_bound(void **state)
{
	(void)state;
	struct drv_run r;
	uint8_t junk[4000];
	memset(junk, 0xb7, sizeof(junk)); /* the first byte of the magic, over and over */
	unattached(&r);
	drv_send_raw(r.agent, junk, sizeof(junk));
	/* Half of a magic, then the real one, byte by byte. */
	drv_send_raw(r.agent, &r.attach, 13);
	struct brig_frame_hdr h = { .len = sizeof(r.attach), .type = BRIG_ATTACHED };
	drv_send_raw(r.agent, &h, sizeof(h));
	for (size_t i = 0; i < sizeof(r.attach); i++) {
		drv_send_raw(r.agent, (uint8_t *)&r.attach + i, 1);
		drv_step(&t);
	}
	drv_started(&t, r.agent, r.stream, 0);
	json_decref(drv_json(r.client, BRIG_CL_REP));
	drv_run_done(&r);
	drv_step(&t);
	drv_destroyed(&t, NULL);

	unattached(&r);
	for (int i = 0; i < 17; i++) {
		if (send(r.agent, junk, sizeof(junk), MSG_NOSIGNAL) < 0)
			break;
		drv_step(&t);
	}
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(r.client, BRIG_CL_END);
	assert_non_null(
		strstr(drv_str(json_object_get(end, "evidence"), "fault"), "before ATTACHED"));
	json_decref(end);
	drv_run_done(&r);
}

static void another_nonce_is_no_attachment(void **state)
{
	(void)state;
	struct drv_run r;
	unattached(&r);
	r.attach.nonce[3] ^= 1;
	drv_attached(&t, r.agent, &r.attach);
	drv_started(&t, r.agent, r.stream, 0);
	drv_silent(r.client);
	drv_run_done(&r);
}

static void exit_without_started_is_a_breach(void **state)
{
	(void)state;
	struct drv_run r;
	unattached(&r);
	drv_attached(&t, r.agent, &r.attach);
	drv_exit(r.agent, r.stream, 0, 0, 0, 0);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(r.client, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "host_fault");
	assert_non_null(
		strstr(drv_str(json_object_get(end, "evidence"), "fault"), "EXIT without STARTED"));
	json_decref(end);
	drv_run_done(&r);
}

static void another_version_of_the_protocol_is_refused(void **state)
{
	(void)state;
	struct drv_run r;
	unattached(&r);
	r.attach.version = 9;
	drv_attached(&t, r.agent, &r.attach);
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(r.client, BRIG_CL_END);
	assert_non_null(strstr(drv_str(json_object_get(end, "evidence"), "fault"), "version 9"));
	json_decref(end);
	drv_run_done(&r);
}

/* ---- clients ---- */

static void expect_refusal(const char *json, const char *code, const char *named)
{
	int c = drv_connect(&t);
	drv_request(&t, c, json);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	json_t *e = json_object_get(rep, "error");
	if (strcmp(drv_str(e, "code"), code) != 0 || !strstr(drv_str(e, "message"), named))
		fail_msg("%s: got %s: %s", json, drv_str(e, "code"), drv_str(e, "message"));
	assert_true(drv_closed(c));
	json_decref(rep);
	close(c);
	drv_jail_silent(&t);
	drv_step(&t);
	assert_int_equal(t.d.nconns, 0);
}

static void malformed_requests_are_refused_by_name(void **state)
{
	(void)state;
	char deep[128] = "{\"op\":";
	memset(deep + 6, '[', 60);
	static const struct {
		const char *json, *code, *named;
	} rows[] = {
		{ "", "protocol_violation", "not JSON" },
		{ "[]", "protocol_violation", "not a JSON object" },
		{ "{\"op\":\"run\"", "protocol_violation", "not JSON" },
		{ "{\"op\":\"run\",\"op\":\"ls\"}", "protocol_violation", "duplicate" },
		{ "{\"op\":\"run\",\"cmd\":[\"a\\u0000b\"]}", "protocol_violation", "not JSON" },
		{ "{}", "invalid_argument", "'op' is missing" },
		{ "{\"op\":7}", "invalid_argument", "'op' must be a string" },
		{ "{\"op\":\"fly\"}", "invalid_argument", "unknown operation 'fly'" },
		{ "{\"op\":\"ls\",\"x\":1}", "invalid_argument", "unknown key 'x'" },
		{ "{\"op\":\"run\"}", "invalid_argument", "no command" }, /* and the image has none */
		{ "{\"op\":\"run\",\"cmd\":[]}", "invalid_argument", "no command" },
		{ "{\"op\":\"run\",\"cmd\":[\"\"]}", "invalid_argument", "no command" },
		{ "{\"op\":\"run\",\"cmd\":\"ls\"}", "invalid_argument", "'cmd' must be an array" },
		{ "{\"op\":\"run\",\"cmd\":[1]}", "invalid_argument", "array of strings" },
		{ "{\"op\":\"exec\",\"cmd\":[\"x\"]}", "invalid_argument", "'id' is missing" },
		{ "{\"op\":\"exec\",\"id\":\"nope\",\"cmd\":[\"x\"]}", "not_found", "no sandbox" },
		{ "{\"op\":\"kill\",\"id\":\"nope\"}", "not_found", "no sandbox 'nope'" },
		{ "{\"op\":\"run\",\"cmd\":[\"x\"],\"spec\":{\"image\":\"nope\"}}", "not_found",
		  "" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_refusal(rows[i].json, rows[i].code, rows[i].named);
	expect_refusal(deep, "protocol_violation", "deeper than 32");
}

static void a_first_frame_that_is_no_request_is_refused(void **state)
{
	(void)state;
	int c = drv_connect(&t);
	drv_send(c, BRIG_STDIN, 0, 1, "x", 1);
	drv_step(&t);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	assert_string_equal(drv_str(json_object_get(rep, "error"), "code"), "protocol_violation");
	json_decref(rep);
	assert_true(drv_closed(c));
	close(c);
}

static void a_request_too_large_is_refused(void **state)
{
	(void)state;
	int c = drv_connect(&t);
	struct brig_frame_hdr h = { .len = BRIG_FRAME_MAX + 1, .type = BRIG_CL_REQ };
	drv_send_raw(c, &h, sizeof(h));
	drv_step(&t);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	assert_string_equal(drv_str(json_object_get(rep, "error"), "code"), "protocol_violation");
	json_decref(rep);
	close(c);
}

static void descriptors_nobody_asked_for_are_closed(void **state)
{
	(void)state;
	int p[2], c = drv_connect(&t);
	char byte;
	assert_int_equal(pipe(p), 0);
	drv_request_fds(&t, c, "{\"op\":\"ls\"}", &p[1], 1);
	close(p[1]);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	assert_non_null(
		strstr(drv_str(json_object_get(rep, "error"), "message"), "no descriptors"));
	json_decref(rep);
	assert_int_equal(fd_set_nonblock(p[0], 1), 0);
	assert_int_equal(read(p[0], &byte, 1), 0);
	close(p[0]);
	close(c);
}

static void more_descriptors_than_volumes_are_refused_and_closed(void **state)
{
	(void)state;
	int p[2], fds[20], c = drv_connect(&t);
	char byte;
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 20; i++)
		fds[i] = p[1];
	drv_request_fds(&t, c, RUN, fds, 20);
	close(p[1]);
	json_t *rep = drv_json(c, BRIG_CL_REP);
	assert_non_null(json_object_get(rep, "error"));
	json_decref(rep);
	assert_int_equal(fd_set_nonblock(p[0], 1), 0);
	assert_int_equal(read(p[0], &byte, 1), 0);
	close(p[0]);
	close(c);
	drv_jail_silent(&t);
}

static void a_request_in_single_bytes_is_served(void **state)
{
	(void)state;
	const char json[] = "{\"op\":\"version\"}";
	struct brig_frame_hdr h = { .len = sizeof(json) - 1, .type = BRIG_CL_REQ };
	int c = drv_connect(&t);
	for (size_t i = 0; i < sizeof(h); i++) {
		drv_send_raw(c, (uint8_t *)&h + i, 1);
		drv_step(&t);
	}
	for (size_t i = 0; i < sizeof(json) - 1; i++) {
		drv_silent(c);
		drv_send_raw(c, json + i, 1);
		drv_step(&t);
	}
	json_t *rep = drv_json(c, BRIG_CL_REP);
	json_t *ok = json_object_get(rep, "ok");
	assert_string_equal(drv_str(ok, "cgroup"), "v2");
	assert_string_equal(drv_str(ok, "instance"), t.d.instance);
	json_decref(rep);
	close(c);
}

static void frames_a_client_may_not_send_end_its_run(void **state)
{
	(void)state;
	static const struct {
		uint16_t type, flags;
		uint32_t stream;
		size_t n;
	} rows[] = {
		{ BRIG_STDOUT, 0, 1, 8 }, { BRIG_EXEC, 0, 1, 40 },
		{ BRIG_CREDIT, 0, 1, 7 }, { BRIG_CREDIT, 0, 2, 8 },
		{ BRIG_SIGNAL, 0, 1, 4 }, { BRIG_RESIZE, 0, 1, 4 },
		{ BRIG_STDIN, 0, 1, 1 },  { BRIG_CL_REQ, 0, 0, 2 },
		{ 999, 0, 1, 0 },	  { BRIG_SIGNAL, BRIG_FF_EOF, 1, 4 },
	};
	static const uint8_t zeros[64];
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct drv_run r;
		drv_run(&t, &r, RUN);
		drv_send(r.client, rows[i].type, rows[i].flags, rows[i].stream, zeros, rows[i].n);
		drv_step(&t);
		json_t *end = drv_json(r.client, BRIG_CL_END);
		assert_string_equal(drv_str(json_object_get(end, "error"), "code"),
				    "protocol_violation");
		json_decref(end);
		drv_destroyed(&t, NULL);
		drv_run_done(&r);
	}
	drv_step(&t);
	assert_int_equal(t.d.nlive, 0);
}

static void a_request_that_never_comes_whole_is_given_up(void **state)
{
	(void)state;
	int c = drv_connect(&t);
	drv_send_raw(c, "\1\0\0", 3);
	drv_step(&t);
	struct conn *conn = LIST_FIRST(&t.d.conns);
	assert_true(ev_timer_armed(&conn->deadline));
	ev_timer_set(&t.d.ev, &conn->deadline, 1);
	t.d.log.fd = -1;
	drv_step(&t);
	assert_true(drv_closed(c));
	assert_int_equal(t.d.nconns, 0);
	close(c);
}

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path, path, strlen(path) + 1);
	assert_int_equal(connect(c, (struct sockaddr *)&a, sizeof(a)), 0);
	return c;
}

static void expect_turned_away(int c, const char *code)
{
	json_t *rep = drv_json(c, BRIG_CL_REP);
	assert_string_equal(drv_str(json_object_get(rep, "error"), "code"), code);
	assert_true(drv_closed(c));
	json_decref(rep);
	close(c);
}

static void strangers_and_crowds_are_turned_away_with_a_reason(void **state)
{
	(void)state;
	char path[100];
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(path, sizeof(path), "%s/sock", t.dir);
	memcpy(a.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(l, 16), 0);
	assert_int_equal(brigd_listen(&t.d, l), 0);
	t.d.log.fd = -1;

	int c = dial(path);
	drv_request(&t, c, "{\"op\":\"version\"}");
	json_decref(drv_json(c, BRIG_CL_REP));
	close(c);
	drv_step(&t);

	unsigned before = t.d.nconns;
	t.d.nconns = CONNS_MAX;
	c = dial(path);
	drv_step(&t);
	expect_turned_away(c, "busy");
	t.d.nconns = before;

	if (getuid() == 0) {
		/* Only root can be somebody else for a moment; SO_PEERCRED is of connect(). */
		assert_int_equal(chmod(t.dir, 0755), 0);
		assert_int_equal(chmod(path, 0666), 0);
		assert_int_equal(seteuid(65534), 0);
		c = dial(path);
		assert_int_equal(seteuid(0), 0);
		drv_step(&t);
		expect_turned_away(c, "permission_denied");
	}
	unlink(path);
}

/* Hands fd through the door and closes it here. */
static void door_give(int door, const void *bytes, size_t n, int fd)
{
	assert_int_equal(fd_send(door, bytes, n, &fd, fd >= 0), 0);
	if (fd >= 0)
		close(fd);
	drv_step(&t);
}

static void only_connected_streams_come_through_the_door(void **state)
{
	(void)state;
	int door[2], pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door), 0);
	assert_int_equal(brigd_door(&t.d, door[1]), 0);
	t.d.log.fd = -1;
	unsigned before = t.d.nconns;

	/* A client like any other. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	door_give(door[0], "c", 1, pair[1]);
	assert_int_equal(t.d.nconns, before + 1);
	drv_request(&t, pair[0], "{\"op\":\"version\"}");
	json_decref(drv_json(pair[0], BRIG_CL_REP));
	close(pair[0]);
	drv_step(&t);
	assert_int_equal(t.d.nconns, before);

	/* Each of these is closed, and the door stays open. */
	const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, pair), 0);
		door_give(door[0], "c", 1, pair[1]);
		close(pair[0]);
	}
	int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	assert_int_equal(bind(listening, (struct sockaddr *)&any, sizeof(any.sun_family)), 0);
	assert_int_equal(listen(listening, 1), 0);
	door_give(door[0], "c", 1, listening);
	door_give(door[0], "c", 1, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	door_give(door[0], "c", 1, open("/dev/null", O_RDONLY | O_CLOEXEC));
	door_give(door[0], "c", 1, -1);
	door_give(door[0], "cc", 2, open("/dev/null", O_RDONLY | O_CLOEXEC));
	door_give(door[0], "ccccc", 5, -1);
	assert_int_equal(t.d.nconns, before);
	assert_true(t.d.door_fd >= 0);

	/* Full: told so, and places are left for clients of the socket. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	t.d.nconns = CONNS_DOOR_MAX;
	door_give(door[0], "c", 1, pair[1]);
	assert_int_equal(t.d.nconns, CONNS_DOOR_MAX);
	t.d.nconns = before;
	expect_turned_away(pair[0], "busy");

	close(door[0]);
	drv_step(&t);
	assert_int_equal(t.d.door_fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(each_breach_of_an_agent_ends_its_sandbox_and_names_itself),
		T(a_silent_half_frame_harms_nobody),
		T(bytes_before_attached_are_dropped_up_to_a_bound),
		T(another_nonce_is_no_attachment),
		T(exit_without_started_is_a_breach),
		T(another_version_of_the_protocol_is_refused),
		T(malformed_requests_are_refused_by_name),
		T(a_first_frame_that_is_no_request_is_refused),
		T(a_request_too_large_is_refused),
		T(descriptors_nobody_asked_for_are_closed),
		T(more_descriptors_than_volumes_are_refused_and_closed),
		T(a_request_in_single_bytes_is_served),
		T(frames_a_client_may_not_send_end_its_run),
		T(a_request_that_never_comes_whole_is_given_up),
		T(strangers_and_crowds_are_turned_away_with_a_reason),
		T(only_connected_streams_come_through_the_door),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
