/* SPDX-License-Identifier: Apache-2.0 */
/* File requests with pairs, and the writable layer, through brigd: what it passes and what it
 * stops. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon_driver.h"

static struct drv t;
static struct drv_frame f;
static struct drv_run r;
static int client;

static int setup(void **state)
{
	(void)state;
	drv_start(&t, ~0u, 0);
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

static void files_open(void)
{
	char req[128];
	client = drv_connect(&t);
	snprintf(req, sizeof(req), "{\"op\":\"fs\",\"id\":\"%s\",\"user\":\"0\"}", r.id);
	drv_request(&t, client, req);
	json_decref(drv_json(client, BRIG_CL_REP));
}

/* Sends a request with these strings, n bytes with the user's own "". */
static void ask(uint16_t type, uint32_t flags, uint64_t arg2, const char *strings, size_t n)
{
	uint8_t p[8192];
	struct brig_fs_req q = { .flags = flags, .credit = 1000, .arg2 = arg2 };
	memcpy(p, &q, sizeof(q));
	memcpy(p + sizeof(q), strings, n);
	drv_send(client, type, 0, 9, p, sizeof(q) + n);
	drv_step(&t);
}

#define TEXT(text) text, sizeof(text)

/* An FS_ENTRY with these strings on the stream of the agent that f came with. */
static void entry(uint32_t stream, const char *strings, size_t n)
{
	uint8_t p[1024];
	struct brig_fs_entry e = { .mode = 0100644 };
	memcpy(p, &e, sizeof(e));
	memcpy(p + sizeof(e), strings, n);
	drv_send(r.agent, BRIG_FS_ENTRY, 0, stream, p, sizeof(e) + n);
	drv_step(&t);
}

static void pairs_pass_both_ways(void **state)
{
	(void)state;
	files_open();
	ask(BRIG_FS_WRITE, BRIG_FS_XATTRS, 2, TEXT("\0/f\0k\0v\0k2\0"));
	drv_expect(r.agent, BRIG_FS_WRITE, &f);
	const char want[] = "0\0/f\0k\0v\0k2\0";
	assert_int_equal(f.h.len, sizeof(struct brig_fs_req) + sizeof(want));
	assert_memory_equal(f.payload + sizeof(struct brig_fs_req), want, sizeof(want));
	close(client);
	drv_step(&t);
	drv_expect(r.agent, BRIG_CLOSE, &f);
	drv_expect(r.agent, BRIG_PING, &f);

	files_open();
	ask(BRIG_FS_STAT, BRIG_FS_META | BRIG_FS_RESOLVE, 0, TEXT("\0/f"));
	drv_expect(r.agent, BRIG_FS_STAT, &f);
	entry(f.h.stream, TEXT("/f\0\0u\0g\0key\0value\0other\0"));
	drv_expect(client, BRIG_FS_ENTRY, &f);
	assert_int_equal(f.h.stream, 9);
	assert_string_equal((char *)f.payload + f.h.len - 7, "other");
	close(client);
	drv_step(&t);
}

static void a_layer_passes_both_ways(void **state)
{
	struct brig_credit m = { .chan = BRIG_CHAN_FS, .bytes = 3 };
	struct {
		struct brig_fs_done m;
		char text;
	} done = { .m = { .bytes = 5 } };
	(void)state;
	files_open();
	ask(BRIG_FS_EXPORT, 0, 0, TEXT("\0/"));
	drv_expect(r.agent, BRIG_FS_EXPORT, &f);
	uint32_t stream = f.h.stream;
	drv_send(r.agent, BRIG_FS_DATA, BRIG_FF_EOF, stream, "layer", 5);
	drv_send(r.agent, BRIG_FS_DONE, 0, stream, &done, sizeof(done.m) + 1);
	drv_step(&t);
	drv_expect(client, BRIG_FS_DATA, &f);
	assert_memory_equal(f.payload, "layer", 5);
	drv_expect(client, BRIG_FS_DONE, &f);

	ask(BRIG_FS_IMPORT, 0, 0, TEXT("\0/"));
	drv_expect(r.agent, BRIG_FS_IMPORT, &f);
	stream = f.h.stream;
	drv_send(r.agent, BRIG_CREDIT, 0, stream, &m, sizeof(m));
	drv_step(&t);
	drv_expect(client, BRIG_CREDIT, &f);
	drv_send(client, BRIG_FS_DATA, 0, 9, "lay", 3);
	drv_step(&t);
	drv_expect(r.agent, BRIG_FS_DATA, &f);
	assert_memory_equal(f.payload, "lay", 3);
	/* More than was granted. */
	drv_send(client, BRIG_FS_DATA, 0, 9, "er", 2);
	drv_step(&t);
	drv_expect(r.agent, BRIG_CLOSE, &f);
	json_t *end = drv_json(client, BRIG_CL_END);
	assert_string_equal(drv_str(json_object_get(end, "error"), "code"), "protocol_violation");
	json_decref(end);
	close(client);
}

static void malformed_pairs_are_refused(void **state)
{
	static char big[5000];
	static const struct {
		uint16_t type;
		uint32_t flags;
		uint64_t pairs;
		const char *text;
		size_t n;
	} bad[] = {
		{ BRIG_FS_WRITE, BRIG_FS_XATTRS, 1, TEXT("\0/f") },
		{ BRIG_FS_WRITE, BRIG_FS_XATTRS, 1, TEXT("\0/f\0k") },
		{ BRIG_FS_WRITE, BRIG_FS_XATTRS, 1, TEXT("\0/f\0\0v") },
		{ BRIG_FS_WRITE, BRIG_FS_XATTRS, 1, TEXT("\0/f\0k\0v\0more") },
		{ BRIG_FS_WRITE, BRIG_FS_XATTRS, UINT64_MAX, TEXT("\0/f\0k\0v") },
		{ BRIG_FS_WRITE, BRIG_FS_XATTRS, 1, big, sizeof(big) },
		{ BRIG_FS_WRITE, 0, 1, TEXT("\0/f\0k\0v") },
		{ BRIG_FS_WRITE, BRIG_FS_META, 0, TEXT("\0/f") },
		{ BRIG_FS_READ, BRIG_FS_RESOLVE, 0, TEXT("\0/f") },
		{ BRIG_FS_EXPORT, BRIG_FS_META, 0, TEXT("\0/") },
		{ BRIG_FS_IMPORT, 0, 0, TEXT("root\0/") },
	};
	(void)state;
	memset(big, 'v', sizeof(big) - 1);
	memcpy(big, "\0/f\0k", 6);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		files_open();
		ask(bad[i].type, bad[i].flags, bad[i].pairs, bad[i].text, bad[i].n);
		json_t *end = drv_json(client, BRIG_CL_END);
		if (!json_object_get(end, "error"))
			fail_msg("case %u is taken", i);
		json_decref(end);
		close(client);
		drv_step(&t);
		drv_silent(r.agent);
	}
}

static void an_agent_that_tells_wrong_pairs_loses_its_sandbox(void **state)
{
	static const struct {
		uint32_t flags;
		const char *text;
		size_t n;
		const char *named;
	} bad[] = {
		{ BRIG_FS_META, TEXT("/f\0\0u\0g\0key"), "lacks a value" },
		{ 0, TEXT("/f\0\0u\0g\0key\0value"), "bytes after its strings" },
		{ BRIG_FS_META, "/f\0\0u\0g\0key\0value", 17, "lacks a value" },
	};
	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		files_open();
		ask(BRIG_FS_STAT, bad[i].flags, 0, TEXT("\0/f"));
		drv_expect(r.agent, BRIG_FS_STAT, &f);
		entry(f.h.stream, bad[i].text, bad[i].n);
		drv_destroyed(&t, NULL);
		json_t *end = drv_json(client, BRIG_CL_END);
		const char *message = drv_str(json_object_get(end, "error"), "message");
		if (!strstr(message, bad[i].named))
			fail_msg("'%s' does not name '%s'", message, bad[i].named);
		json_decref(end);
		close(client);
		drv_run_done(&r);
		drv_step(&t);
		drv_run(&t, &r, "{\"op\":\"run\",\"cmd\":[\"prog\"]}");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(pairs_pass_both_ways),
		T(a_layer_passes_both_ways),
		T(malformed_pairs_are_refused),
		T(an_agent_that_tells_wrong_pairs_loses_its_sandbox),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
