/* SPDX-License-Identifier: Apache-2.0 */
/* The operation connect: what passes between a client and an agent, and what hostile ones lose. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/tcprelay.h"
#include "daemon_driver.h"

#define ALL (~0u)

static struct drv t;
static struct drv_frame f;

/* A sandbox that a client of the test owns, and one connection into it. */
static struct drv_run r;
static int client;
static uint32_t stream;

static int setup(void **state)
{
	(void)state;
	drv_start(&t, ALL, 0);
	drv_run(&t, &r, "{\"op\":\"run\",\"cmd\":[\"prog\"]}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	drv_run_done(&r);
	drv_stop(&t);
	return 0;
}

static int ask(const char *port)
{
	char req[128];
	int c = drv_connect(&t);
	snprintf(req, sizeof(req), "{\"op\":\"connect\",\"id\":\"%s\"%s%s}", r.id,
		 *port ? ",\"port\":" : "", port);
	drv_request(&t, c, req);
	return c;
}

static void asked(void)
{
	struct brig_tcp m;
	client = ask("8080");
	drv_expect(r.agent, BRIG_TCP_CONNECT, &f);
	stream = f.h.stream;
	assert_int_equal(f.h.len, sizeof(m));
	memcpy(&m, f.payload, sizeof(m));
	assert_int_equal(m.port, 8080);
	assert_int_equal(m.credit, TCP_AHEAD);
	drv_silent(client);
}

static void answer(int err, uint32_t credit)
{
	struct brig_tcp_opened m = { .err = err, .credit = credit };
	drv_send(r.agent, BRIG_TCP_OPENED, 0, stream, &m, sizeof(m));
	drv_step(&t);
}

static void opened(uint32_t credit)
{
	asked();
	answer(0, credit);
	json_t *rep = drv_json(client, BRIG_CL_REP);
	assert_int_equal(json_object_size(json_object_get(rep, "ok")), 0);
	json_decref(rep);
}

static void done(int err)
{
	struct brig_tcp_done m = { .err = err };
	drv_send(r.agent, BRIG_TCP_DONE, 0, stream, &m, sizeof(m));
	drv_step(&t);
}

static void credit(int fd, uint32_t id, uint32_t bytes)
{
	struct brig_credit m = { .chan = BRIG_CHAN_TCP, .bytes = bytes };
	drv_send(fd, BRIG_CREDIT, 0, id, &m, sizeof(m));
	drv_step(&t);
}

static uint32_t credited(int fd)
{
	struct brig_credit m;
	drv_expect(fd, BRIG_CREDIT, &f);
	memcpy(&m, f.payload, sizeof(m));
	assert_int_equal(m.chan, BRIG_CHAN_TCP);
	return m.bytes;
}

/* The last frame is an error of this code that says this. */
static void ends_with(uint16_t type, const char *code, const char *words)
{
	json_t *end = drv_json(client, type), *err = json_object_get(end, "error");
	assert_string_equal(drv_str(err, "code"), code);
	const char *message = drv_str(err, "message");
	if (!strstr(message, words))
		fail_msg("'%s' does not say '%s'", message, words);
	json_decref(end);
	close(client);
	drv_step(&t);
}

static void bytes_pass_both_ways_and_each_way_ends(void **state)
{
	(void)state;
	opened(1000);
	drv_send(client, BRIG_TCP_DATA, 0, 1, "up", 2);
	drv_step(&t);
	drv_expect(r.agent, BRIG_TCP_DATA, &f);
	assert_int_equal(f.h.stream, stream);
	assert_memory_equal(f.payload, "up", 2);
	drv_send(r.agent, BRIG_TCP_DATA, 0, stream, "down", 4);
	drv_step(&t);
	drv_expect(client, BRIG_TCP_DATA, &f);
	assert_int_equal(f.h.stream, BRIG_CLIENT_STREAM);
	assert_memory_equal(f.payload, "down", 4);
	drv_send(client, BRIG_TCP_DATA, BRIG_FF_EOF, 1, NULL, 0);
	drv_step(&t);
	drv_expect(r.agent, BRIG_TCP_DATA, &f);
	assert_int_equal(f.h.flags, BRIG_FF_EOF);
	drv_send(r.agent, BRIG_TCP_DATA, BRIG_FF_EOF, stream, "!", 1);
	done(0);
	drv_expect(client, BRIG_TCP_DATA, &f);
	assert_int_equal(f.h.flags, BRIG_FF_EOF);
	json_t *end = drv_json(client, BRIG_CL_END);
	assert_int_equal(json_object_size(end), 0);
	json_decref(end);
	close(client);
}

static void refusals_and_breaks_are_told(void **state)
{
	(void)state;
	asked();
	answer(ECONNREFUSED, 0);
	ends_with(BRIG_CL_REP, "unavailable", "connect to port 8080");
	opened(10);
	done(ECONNRESET);
	ends_with(BRIG_CL_END, "unavailable", "port 8080");
	static const char *const bad[] = { "", "0", "65536", "-1", "\"80\"", "80,\"x\":1" };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		client = ask(bad[i]);
		json_t *rep = drv_json(client, BRIG_CL_REP);
		assert_non_null(json_object_get(rep, "error"));
		json_decref(rep);
		close(client);
	}
	drv_silent(r.agent);
}

static void a_client_may_be_ahead_of_the_agent(void **state)
{
	static uint8_t data[200000];
	uint64_t sent = 0, seen = 0;
	(void)state;
	asked();
	/* Before it is connected, and more than the agent will take. */
	for (; sent < 1000000; sent += sizeof(data)) {
		drv_send(client, BRIG_TCP_DATA, 0, 1, data, sizeof(data));
		drv_step(&t);
	}
	drv_silent(r.agent);
	answer(0, 150000);
	json_decref(drv_json(client, BRIG_CL_REP));
	while (seen < 150000) {
		drv_expect(r.agent, BRIG_TCP_DATA, &f);
		seen += f.h.len;
	}
	assert_int_equal(seen, 150000);
	drv_silent(r.agent);
	drv_silent(client);
	/* What leaves is granted to the client again, in steps. */
	credit(r.agent, stream, 850000);
	while (seen < sent) {
		drv_expect(r.agent, BRIG_TCP_DATA, &f);
		seen += f.h.len;
		drv_step(&t);
	}
	uint32_t again = 0;
	while (again < 900000)
		again += credited(client);
	assert_true(again <= sent);
	/* Its end comes behind its data. */
	drv_send(client, BRIG_TCP_DATA, BRIG_FF_EOF, 1, data, 10);
	drv_step(&t);
	drv_silent(r.agent);
	credit(r.agent, stream, 10);
	drv_expect(r.agent, BRIG_TCP_DATA, &f);
	assert_int_equal(f.h.len, 10);
	assert_int_equal(f.h.flags, 0);
	drv_expect(r.agent, BRIG_TCP_DATA, &f);
	assert_int_equal(f.h.flags, BRIG_FF_EOF);
	close(client);
	drv_step(&t);
	drv_expect(r.agent, BRIG_CLOSE, &f);
}

static void an_agent_is_granted_what_the_client_takes(void **state)
{
	static uint8_t data[BRIG_FRAME_MAX];
	(void)state;
	opened(0);
	/* A client that grants nothing more has granted BRIG_CLIENT_CREDIT. */
	uint64_t granted = TCP_AHEAD, sent = 0;
	while (sent + sizeof(data) <= granted) {
		for (size_t at = 0; at < sizeof(data); at += 65536) {
			drv_send(r.agent, BRIG_TCP_DATA, 0, stream, data, 65536);
			drv_step(&t);
			drv_expect(client, BRIG_TCP_DATA, &f);
			assert_int_equal(f.h.len, 65536);
		}
		sent += sizeof(data);
		if (granted < BRIG_CLIENT_CREDIT)
			granted += credited(r.agent);
	}
	assert_int_equal(granted, BRIG_CLIENT_CREDIT);
	drv_silent(r.agent);
	credit(client, 1, 1000000);
	assert_int_equal(credited(r.agent), 1000000);
	close(client);
	drv_step(&t);
}

static void hostile_clients_lose_their_connection(void **state)
{
	static uint8_t data[65536];
	(void)state;
	for (int i = 0; i < 6; i++) {
		opened(0);
		switch (i) {
		case 0:
			for (unsigned k = 0; k <= BRIG_CLIENT_CREDIT / sizeof(data); k++) {
				drv_send(client, BRIG_TCP_DATA, 0, 1, data, sizeof(data));
				drv_step(&t);
			}
			break;
		case 1:
			drv_send(client, BRIG_TCP_DATA, BRIG_FF_EOF, 1, NULL, 0);
			drv_send(client, BRIG_TCP_DATA, 0, 1, data, 1);
			break;
		case 2:
			drv_send(client, BRIG_TCP_DATA, 0, 2, data, 1);
			break;
		case 3:
			drv_send(client, BRIG_STDIN, 0, 1, data, 1);
			break;
		case 4:
			credit(client, 1, BRIG_CREDIT_MAX);
			break;
		default:
			drv_send(client, BRIG_CREDIT, 0, 1, data, 7);
			break;
		}
		drv_step(&t);
		do
			drv_frame(r.agent, &f);
		while (f.h.type == BRIG_TCP_DATA || f.h.type == BRIG_CREDIT);
		assert_int_equal(f.h.type, BRIG_CLOSE);
		drv_expect(r.agent, BRIG_PING, &f);
		drv_send(r.agent, BRIG_PONG, 0, 0, f.payload, f.h.len);
		drv_step(&t);
		ends_with(BRIG_CL_END, "protocol_violation", "");
	}
	/* The sandbox lives. */
	opened(1);
	close(client);
	drv_step(&t);
}

static void frame_of(uint16_t type, const void *p, size_t n)
{
	drv_send(r.agent, type, 0, stream, p, n);
}

static void opened_twice(void)
{
	struct brig_tcp_opened m = { .credit = 1 };
	frame_of(BRIG_TCP_OPENED, &m, sizeof(m));
}
static void opened_short(void)
{
	frame_of(BRIG_TCP_OPENED, "1234", 4);
}
static void opened_with_much_credit(void)
{
	struct brig_tcp_opened m = { .credit = BRIG_CREDIT_MAX + 1 };
	frame_of(BRIG_TCP_OPENED, &m, sizeof(m));
}
static void opened_with_no_errno(void)
{
	struct brig_tcp_opened m = { .err = -1 };
	frame_of(BRIG_TCP_OPENED, &m, sizeof(m));
}
static void data_early(void)
{
	frame_of(BRIG_TCP_DATA, "x", 1);
}
static void data_late(void)
{
	drv_send(r.agent, BRIG_TCP_DATA, BRIG_FF_EOF, stream, NULL, 0);
	frame_of(BRIG_TCP_DATA, "x", 1);
}
static void data_beyond(void)
{
	static uint8_t data[65536]; /* a whole frame is more than a socket holds */
	while (sandbox_by_id(&t.d, r.id)->state != SB_REMOVING) {
		frame_of(BRIG_TCP_DATA, data, sizeof(data));
		drv_step(&t);
	}
}
static void done_early(void)
{
	struct brig_tcp_done m = { 0 };
	frame_of(BRIG_TCP_DONE, &m, sizeof(m));
}
static void done_with_no_errno(void)
{
	struct brig_tcp_done m = { .err = 5000 };
	frame_of(BRIG_TCP_DONE, &m, sizeof(m));
}
static void credit_of_another_channel(void)
{
	struct brig_credit m = { .chan = BRIG_CHAN_STDIN, .bytes = 1 };
	frame_of(BRIG_CREDIT, &m, sizeof(m));
}
static void credit_early(void)
{
	struct brig_credit m = { .chan = BRIG_CHAN_TCP, .bytes = 1 };
	frame_of(BRIG_CREDIT, &m, sizeof(m));
}
static void file_data(void)
{
	frame_of(BRIG_FS_DATA, "x", 1);
}

static const struct {
	const char *what;
	void (*breaks)(void);
	bool opened;
	const char *named;
} breaches[] = {
	{ "OPENED twice", opened_twice, true, "TCP_OPENED twice" },
	{ "OPENED too short", opened_short, false, "TCP_OPENED of 4 bytes" },
	{ "OPENED with much credit", opened_with_much_credit, false, "TCP_OPENED with" },
	{ "OPENED with a negative errno", opened_with_no_errno, false, "TCP_OPENED with err -1" },
	{ "data before OPENED", data_early, false, "before TCP_OPENED" },
	{ "data after its end", data_late, true, "after its end" },
	{ "data beyond the credit", data_beyond, true, "of credit" },
	{ "DONE before OPENED", done_early, false, "without TCP_OPENED" },
	{ "DONE with an impossible errno", done_with_no_errno, true, "TCP_DONE with err 5000" },
	{ "CREDIT of another channel", credit_of_another_channel, true, "CREDIT for channel 0" },
	{ "CREDIT before OPENED", credit_early, false, "CREDIT for channel 4" },
	{ "data of another kind", file_data, true, "of another kind" },
};

static void each_breach_of_an_agent_ends_its_sandbox(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(breaches) / sizeof(breaches[0]); i++) {
		print_message("must not: %s\n", breaches[i].what);
		if (breaches[i].opened)
			opened(1000);
		else
			asked();
		breaches[i].breaks();
		drv_step(&t);
		drv_destroyed(&t, NULL);
		/* Behind data that waited for the client there is a last frame, which says why. */
		static uint8_t all[8u << 20];
		size_t n = 0;
		ssize_t got;
		while ((got = recv(client, all + n, sizeof(all) - n, MSG_DONTWAIT)) > 0) {
			n += (size_t)got;
			drv_step(&t);
		}
		if (!memmem(all, n, breaches[i].named, strlen(breaches[i].named)))
			fail_msg("the client does not learn '%s'", breaches[i].named);
		close(client);
		drv_run_done(&r);
		drv_step(&t);
		drv_run(&t, &r, "{\"op\":\"run\",\"cmd\":[\"prog\"]}");
	}
}

static void frames_under_way_at_the_clients_end_are_dropped(void **state)
{
	struct brig_tcp_opened m = { .credit = 5 };
	(void)state;
	/* The client leaves before the answer. */
	asked();
	close(client);
	drv_step(&t);
	drv_expect(r.agent, BRIG_CLOSE, &f);
	frame_of(BRIG_TCP_OPENED, &m, sizeof(m));
	frame_of(BRIG_TCP_DATA, "late", 4);
	done(0);
	drv_expect(r.agent, BRIG_PING, &f);
	drv_send(r.agent, BRIG_PONG, 0, 0, f.payload, f.h.len);
	drv_step(&t);
	/* CLOSE ends in order. */
	opened(5);
	drv_send(client, BRIG_CLOSE, 0, 1, NULL, 0);
	drv_step(&t);
	drv_expect(r.agent, BRIG_CLOSE, &f);
	json_t *end = drv_json(client, BRIG_CL_END);
	assert_int_equal(json_object_size(end), 0);
	json_decref(end);
	close(client);
	drv_step(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(bytes_pass_both_ways_and_each_way_ends),
		T(refusals_and_breaks_are_told),
		T(a_client_may_be_ahead_of_the_agent),
		T(an_agent_is_granted_what_the_client_takes),
		T(hostile_clients_lose_their_connection),
		T(each_breach_of_an_agent_ends_its_sandbox),
		T(frames_under_way_at_the_clients_end_are_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
