/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large output on its way from an agent to its client, which brigd does not read: every byte, its
 * offset, the limit, and who waits for whom.
 *
 * The pattern depends on the offset, so a byte that is lost, doubled or out of place shows.
 */
#include <dirent.h>
#include <errno.h>
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
#define LARGE 258048u /* what the agent reads at a time */

static struct drv t;
static struct drv_frame f;
static uint8_t wire[BRIG_FRAME_MAX + 32];

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

static uint8_t byte_at(int out, uint64_t at)
{
	return (uint8_t)(at * 2654435761u >> 13) ^ (uint8_t)(out * 85);
}

/* One output of one command, from both ends. */
struct flow {
	int agent, client;
	uint32_t stream;
	int out;
	uint64_t sent, got; /* payload bytes */
	/* of the client's side: the frame under way */
	uint8_t head[20];
	size_t head_len;
	uint32_t left;
	unsigned frames;
};

static size_t frame_make(const struct flow *w, size_t n)
{
	struct brig_frame_hdr h = { .len = (uint32_t)n + 8,
				    .type = w->out ? BRIG_STDERR : BRIG_STDOUT,
				    .stream = w->stream };
	memcpy(wire, &h, sizeof(h));
	memcpy(wire + 12, &w->sent, 8);
	for (size_t i = 0; i < n; i++)
		wire[20 + i] = byte_at(w->out, w->sent + i);
	return 20 + n;
}

/* Reads what has come, at most `most` bytes, and checks it. Returns how many bytes were read. */
static size_t take(struct flow *w, size_t most)
{
	static uint8_t buf[65536];
	size_t all = 0;
	while (all < most) {
		size_t room = w->left ? w->left : 20 - w->head_len;
		room = room < sizeof(buf) ? room : sizeof(buf);
		room = room < most - all ? room : most - all;
		ssize_t n = recv(w->client, buf, room, MSG_DONTWAIT);
		if (n <= 0)
			return all;
		all += (size_t)n;
		if (w->left) {
			for (ssize_t i = 0; i < n; i++)
				if (buf[i] != byte_at(w->out, w->got + (uint64_t)i))
					fail_msg("wrong byte at %llu",
						 (unsigned long long)w->got + (unsigned)i);
			w->got += (uint64_t)n;
			w->left -= (uint32_t)n;
			continue;
		}
		memcpy(w->head + w->head_len, buf, (size_t)n);
		w->head_len += (size_t)n;
		if (w->head_len < 20)
			continue;
		struct brig_frame_hdr h;
		uint64_t at;
		memcpy(&h, w->head, sizeof(h));
		memcpy(&at, w->head + 12, 8);
		assert_int_equal(h.type, w->out ? BRIG_STDERR : BRIG_STDOUT);
		assert_int_equal(h.stream, BRIG_CLIENT_STREAM);
		assert_int_equal(h.flags, 0);
		assert_true(h.len > 8 && h.len <= BRIG_FRAME_MAX);
		assert_true(at == w->got);
		w->left = h.len - 8;
		w->head_len = 0;
		w->frames++;
	}
	return all;
}

/* Sends a frame in pieces; the client reads along unless it is asleep. 0 if it does not go. */
static int give(struct flow *w, size_t n, size_t piece, bool asleep)
{
	size_t len = frame_make(w, n), at = 0;
	while (at < len) {
		size_t k = len - at < piece ? len - at : piece;
		ssize_t r = send(w->agent, wire + at, k, MSG_DONTWAIT);
		if (r > 0)
			at += (size_t)r;
		drv_step(&t);
		if (r < 0 && asleep)
			return 0;
		if (!asleep)
			take(w, SIZE_MAX);
	}
	w->sent += n;
	return 1;
}

static struct flow flow_of(const struct drv_run *r, int out)
{
	return (struct flow){
		.agent = r->agent, .client = r->client, .stream = r->stream, .out = out
	};
}

/* jaild is asked for a command's figures before and after it. */
static void figures(void)
{
	union drv_request q;
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	drv_step(&t);
}

static void credit(int client, int out, uint32_t bytes)
{
	struct brig_credit m = { .chan = out ? BRIG_CHAN_STDERR : BRIG_CHAN_STDOUT, .bytes = bytes };
	drv_send(client, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m));
	drv_step(&t);
}

static void large_output_arrives_unchanged(void **state)
{
	(void)state;
	static const size_t pieces[] = { SIZE_MAX, 65536, 50000, 4097 };
	for (int out = 0; out < 2; out++) {
		struct drv_run r;
		drv_run(&t, &r, RUN);
		struct flow w = flow_of(&r, out);
		for (unsigned i = 0; i < 48; i++) {
			/* Small ones between, and the largest there is. */
			size_t n = i % 5 == 4 ? 100 : i % 7 == 6 ? BRIG_FRAME_MAX - 8 : LARGE;
			assert_true(give(&w, n, pieces[i % 4], false));
			credit(r.client, out, (uint32_t)n);
		}
		take(&w, SIZE_MAX);
		assert_true(w.got == w.sent);
		assert_true(t.d.relay.made);
		uint64_t bytes[2] = { out ? 0 : w.sent, out ? w.sent : 0 };
		drv_exit(r.agent, r.stream, 0, 0, bytes[0], bytes[1]);
		drv_step(&t);
		drv_destroyed(&t, NULL);
		json_t *end = drv_json(r.client, BRIG_CL_END);
		assert_string_equal(drv_str(end, "stop_reason"), "exited");
		assert_int_equal(drv_int(json_object_get(end, "usage"),
					 out ? "stderr_bytes" : "stdout_bytes"),
				 (json_int_t)w.sent);
		json_decref(end);
		drv_run_done(&r);
	}
}

static void the_limit_is_met_to_the_byte(void **state)
{
	(void)state;
	/* Beyond a whole number of frames, at the end of one, and one byte into the next. */
	static const uint32_t limits[] = { 1000000, 3 * LARGE, 3 * LARGE + 1 };
	for (unsigned i = 0; i < 3; i++) {
		struct drv_run r;
		char json[128];
		snprintf(json, sizeof(json),
			 "{\"op\":\"run\",\"cmd\":[\"p\"],\"spec\":{\"limits\":{\"max_output_bytes\":%u}}}",
			 limits[i]);
		drv_run(&t, &r, json);
		struct flow w = flow_of(&r, 0);
		for (int k = 0; k < 5; k++)
			give(&w, LARGE, 60000, false);
		drv_destroyed(&t, NULL);
		while (w.got < limits[i] && take(&w, 20))
			;
		while (w.left && take(&w, w.left))
			;
		assert_int_equal(w.got, limits[i]);
		json_t *end = drv_json(r.client, BRIG_CL_END);
		assert_string_equal(drv_str(end, "stop_reason"), "output");
		json_decref(end);
		drv_run_done(&r);
	}
}

/* A client that reads nothing costs no copy: its bytes stay in the agent's socket. Then it wakes up. */
static void a_client_that_sleeps_holds_its_agent_back(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	struct flow w = flow_of(&r, 0);
	int i = 0;
	while (give(&w, LARGE, SIZE_MAX, true))
		assert_true(++i < 16); /* credit is for 16 */
	const struct conn *c = LIST_FIRST(&t.d.conns);
	assert_true(conn_queued(c) < 2 * BRIG_FRAME_MAX);
	assert_true(LIST_FIRST(&t.d.all)->paused);
	for (int k = 0; k < 1000 && take(&w, 30000); k++)
		drv_step(&t);
	/* With what had left of the frame that did not fit. */
	assert_true(w.got >= w.sent && w.got < w.sent + LARGE);
	assert_false(LIST_FIRST(&t.d.all)->paused);
	drv_run_done(&r);
}

/* Two commands in one sandbox: the one whose client sleeps does not stop the other. */
static void a_client_that_sleeps_stops_nobody_else(void **state)
{
	(void)state;
	struct drv_run r;
	char json[128];
	drv_run(&t, &r, RUN);
	struct flow w = flow_of(&r, 0);
	snprintf(json, sizeof(json), "{\"op\":\"exec\",\"id\":\"%s\",\"cmd\":[\"x\"]}", r.id);
	int client = drv_connect(&t);
	drv_request(&t, client, json);
	drv_expect(r.agent, BRIG_EXEC, &f);
	uint32_t second = f.h.stream;
	drv_started(&t, r.agent, second, 0);
	json_decref(drv_json(client, BRIG_CL_REP));
	figures();
	for (int i = 0; i < 15; i++)
		assert_true(give(&w, LARGE, SIZE_MAX, true));
	drv_output(r.agent, BRIG_STDOUT, second, 0, "quick", 5);
	drv_step(&t);
	drv_expect(client, BRIG_STDOUT, &f);
	assert_memory_equal(f.payload + 8, "quick", 5);
	for (int k = 0; k < 10000 && w.got < w.sent; k++) {
		take(&w, 100000);
		drv_step(&t);
	}
	assert_true(w.got == w.sent);
	close(client);
	drv_run_done(&r);
}

/* .. and a client that leaves in the middle of a frame leaves the channel in step. */
static void a_client_that_leaves_takes_only_its_command_along(void **state)
{
	(void)state;
	struct drv_run r;
	char json[128];
	drv_run(&t, &r, RUN);
	struct flow w = flow_of(&r, 0), x = w;
	snprintf(json, sizeof(json), "{\"op\":\"exec\",\"id\":\"%s\",\"cmd\":[\"x\"]}", r.id);
	x.client = drv_connect(&t);
	drv_request(&t, x.client, json);
	drv_expect(r.agent, BRIG_EXEC, &f);
	x.stream = f.h.stream;
	drv_started(&t, r.agent, x.stream, 0);
	json_decref(drv_json(x.client, BRIG_CL_REP));
	figures();
	assert_true(give(&x, LARGE, 60000, false));
	size_t len = frame_make(&x, LARGE);
	assert_int_equal(send(r.agent, wire, 100000, MSG_DONTWAIT), 100000);
	drv_step(&t);
	close(x.client);
	drv_step(&t);
	for (size_t at = 100000; at < len;) {
		ssize_t n = send(r.agent, wire + at, len - at, MSG_DONTWAIT);
		at += n > 0 ? (size_t)n : 0;
		drv_step(&t);
	}
	drv_expect(r.agent, BRIG_CLOSE, &f);
	figures();
	for (int i = 0; i < 4; i++)
		assert_true(give(&w, LARGE, 60000, false));
	assert_true(w.got == w.sent);
	drv_run_done(&r);
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Descriptors that an agent sends along go nowhere, and cut no frame. */
static void descriptors_in_the_middle_of_output_are_dropped(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	struct flow w = flow_of(&r, 0);
	assert_true(give(&w, LARGE, 60000, false));
	unsigned before = open_fds();
	size_t len = frame_make(&w, LARGE);
	assert_int_equal(send(r.agent, wire, 20, MSG_DONTWAIT), 20);
	for (size_t at = 20, n; at < len; at += n) {
		n = len - at < 1000 ? len - at : 1000;
		assert_int_equal(fd_send(r.agent, wire + at, n, (int[]){ 0, 2 }, 2), 0);
		if (at / 1000 % 16 == 0) {
			drv_step(&t);
			take(&w, SIZE_MAX);
		}
	}
	w.sent += LARGE;
	drv_step(&t);
	take(&w, SIZE_MAX);
	assert_true(w.got == w.sent);
	assert_int_equal(open_fds(), before);
	drv_run_done(&r);
}

/* A host that allows sockets next to nothing (net.core.wmem_max). */
static void a_small_socket_buffer_holds_nothing_up(void **state)
{
	(void)state;
	struct drv_run r;
	int size = 4096;
	drv_run(&t, &r, RUN);
	const struct conn *c = LIST_FIRST(&t.d.conns);
	assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	struct flow w = flow_of(&r, 0);
	for (int i = 0; i < 4; i++)
		assert_true(give(&w, LARGE, 60000, false));
	for (int k = 0; k < 10000 && w.got < w.sent; k++) {
		take(&w, SIZE_MAX);
		drv_step(&t);
	}
	assert_true(w.got == w.sent);
	drv_run_done(&r);
}

/* Where the kernel cannot do it the bytes are read, as they are for every other purpose. */
static void without_splice_output_arrives_all_the_same(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	t.d.relay.off = true;
	struct flow w = flow_of(&r, 0);
	for (int i = 0; i < 8; i++)
		assert_true(give(&w, LARGE, 60000, false));
	assert_true(w.got == w.sent);
	assert_false(t.d.relay.made);
	drv_run_done(&r);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(large_output_arrives_unchanged),
		T(the_limit_is_met_to_the_byte),
		T(a_client_that_sleeps_holds_its_agent_back),
		T(a_client_that_sleeps_stops_nobody_else),
		T(a_client_that_leaves_takes_only_its_command_along),
		T(descriptors_in_the_middle_of_output_are_dropped),
		T(a_small_socket_buffer_holds_nothing_up),
		T(without_splice_output_arrives_all_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
