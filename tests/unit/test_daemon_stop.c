/* SPDX-License-Identifier: Apache-2.0 */
/* From facts to verdict: one row per way in which a command can end. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/stop.h"

#define SIG(n) .end = ENDED_EXIT, .exit = { .flags = BRIG_EXIT_SIGNALED, .code = n }
#define CODE(n) .end = ENDED_EXIT, .exit = { .code = n }
#define OOM(n) .after = { .valid = ~0u, .oom_kills = n }
#define LIM .timeout_ms = 1000, .cpu_time_ms = 500, .max_output_bytes = 100

static const struct row {
	const char *what;
	struct stop_facts f;
	const char *reason;
	int code, signal;
	unsigned hits;
	int truncated;
} rows[] = {
	{ "success", { CODE(0) }, "exited", 0, 0, 0, 0 },
	{ "a code of its own", { CODE(42) }, "exited", 42, 0, 0, 0 },
	{ "a signal", { SIG(SIGSEGV) }, "signaled", 139, SIGSEGV, 0, 0 },
	{ "SIGKILL from inside", { SIG(SIGKILL) }, "signaled", 137, SIGKILL, 0, 0 },
	{ "exit code 137 alone", { CODE(137) }, "exited", 137, 0, 0, 0 },
	{ "SIGKILL and an oom kill",
	  { SIG(SIGKILL), OOM(1) },
	  "out_of_memory",
	  137,
	  SIGKILL,
	  HIT_MEMORY,
	  0 },
	{ "a shell's 137 and an oom kill",
	  { CODE(137), OOM(1) },
	  "out_of_memory",
	  137,
	  0,
	  HIT_MEMORY,
	  0 },
	{ "an oom kill of a guest's own kernel",
	  { .end = ENDED_EXIT, .guest = true, .exit = { .flags = BRIG_EXIT_SIGNALED | BRIG_EXIT_OOM, .code = SIGKILL } },
	  "out_of_memory",
	  137,
	  SIGKILL,
	  HIT_MEMORY,
	  0 },
	{ "an agent that says so where the host would know",
	  { .end = ENDED_EXIT, .exit = { .flags = BRIG_EXIT_SIGNALED | BRIG_EXIT_OOM, .code = SIGKILL } },
	  "signaled",
	  137,
	  SIGKILL,
	  0,
	  0 },
	{ "an oom kill survived", { CODE(0), OOM(3) }, "exited", 0, 0, HIT_MEMORY, 0 },
	{ "an oom kill and another signal",
	  { SIG(SIGTERM), OOM(1) },
	  "signaled",
	  143,
	  SIGTERM,
	  HIT_MEMORY,
	  0 },
	{ "oom kills before it began",
	  { SIG(SIGKILL), .before = { .valid = ~0u, .oom_kills = 2 },
	    .after = { .valid = ~0u, .oom_kills = 2 } },
	  "signaled",
	  137,
	  SIGKILL,
	  0,
	  0 },
	{ "oom figures of a host that has none",
	  { SIG(SIGKILL), .after = { .valid = JAIL_STAT_CPU, .oom_kills = 9 } },
	  "signaled",
	  137,
	  SIGKILL,
	  0,
	  0 },
	{ "a denied system call", { SIG(SIGSYS) }, "syscall_denied", 159, SIGSYS, 0, 0 },
	{ "the signal that a client sent",
	  { SIG(SIGINT), .signal_sent = SIGINT },
	  "killed",
	  130,
	  SIGINT,
	  0,
	  0 },
	{ "another than the client sent",
	  { SIG(SIGSEGV), .signal_sent = SIGINT },
	  "signaled",
	  139,
	  SIGSEGV,
	  0,
	  0 },
	{ "a client's SIGKILL beside an oom kill",
	  { SIG(SIGKILL), .signal_sent = SIGKILL, OOM(1) },
	  "killed",
	  137,
	  SIGKILL,
	  HIT_MEMORY,
	  0 },
	{ "a client's signal that it handled",
	  { CODE(5), .signal_sent = SIGINT },
	  "exited",
	  5,
	  0,
	  0,
	  0 },
	{ "time up",
	  { .end = ENDED_LOST, .cause = CAUSE_WALL, LIM },
	  "wall_time",
	  124,
	  SIGKILL,
	  HIT_WALL,
	  0 },
	{ "time up as it exits",
	  { CODE(0), .cause = CAUSE_WALL, LIM },
	  "wall_time",
	  124,
	  SIGKILL,
	  HIT_WALL,
	  0 },
	{ "CPU time up",
	  { .end = ENDED_LOST, .cause = CAUSE_CPU, LIM },
	  "cpu_time",
	  137,
	  SIGKILL,
	  HIT_CPU,
	  0 },
	{ "CPU time met at the end, not stopped",
	  { CODE(0), LIM, .after = { .valid = ~0u, .cpu_us = 500000 } },
	  "exited",
	  0,
	  0,
	  HIT_CPU,
	  0 },
	{ "CPU time just below",
	  { CODE(0), LIM, .after = { .valid = ~0u, .cpu_us = 499999 } },
	  "exited",
	  0,
	  0,
	  0,
	  0 },
	{ "too much output",
	  { .end = ENDED_LOST, .cause = CAUSE_OUTPUT, LIM },
	  "output",
	  137,
	  SIGKILL,
	  HIT_OUTPUT,
	  1 },
	{ "asked for", { .end = ENDED_LOST, .cause = CAUSE_KILL }, "killed", 137, SIGKILL, 0, 0 },
	{ "the client left",
	  { .end = ENDED_LOST, .cause = CAUSE_CLIENT },
	  "killed",
	  137,
	  SIGKILL,
	  0,
	  0 },
	{ "brigd ends",
	  { .end = ENDED_LOST, .cause = CAUSE_SHUTDOWN },
	  "killed",
	  137,
	  SIGKILL,
	  0,
	  0 },
	{ "the agent broke the protocol",
	  { .end = ENDED_LOST, .cause = CAUSE_FAULT, OOM(1) },
	  "host_fault",
	  125,
	  0,
	  HIT_MEMORY,
	  0 },
	{ "the agent died", { .end = ENDED_LOST }, "host_fault", 125, 0, 0, 0 },
	{ "the agent died of memory",
	  { .end = ENDED_LOST, OOM(1) },
	  "out_of_memory",
	  137,
	  SIGKILL,
	  HIT_MEMORY,
	  0 },
	{ "not found",
	  { .end = ENDED_NOT_STARTED, .started = { .err = ENOENT, .step = BRIG_STEP_EXEC } },
	  "exited",
	  127,
	  0,
	  0,
	  0 },
	{ "not executable",
	  { .end = ENDED_NOT_STARTED, .started = { .err = EACCES, .step = BRIG_STEP_EXEC } },
	  "exited",
	  126,
	  0,
	  0,
	  0 },
	{ "no such directory",
	  { .end = ENDED_NOT_STARTED, .started = { .err = ENOENT, .step = BRIG_STEP_CWD } },
	  "exited",
	  125,
	  0,
	  0,
	  0 },
	{ "limits met on the way",
	  { .end = ENDED_EXIT,
	    .exit = { .flags = BRIG_EXIT_DISK_FULL | BRIG_EXIT_INODES_FULL | BRIG_EXIT_NOFILE },
	    .after = { .valid = ~0u, .pids_limit_hits = 1 } },
	  "exited",
	  0,
	  0,
	  HIT_DISK | HIT_INODES | HIT_NOFILE | HIT_PIDS,
	  0 },
};

/* Rows that do not say otherwise: a fresh sandbox without limits of the kind that kills. */
static struct stop_facts facts_of(const struct row *r)
{
	struct stop_facts f = r->f;
	if (!f.before.valid)
		f.before.valid = ~0u;
	if (f.timeout_ms == 0)
		f.timeout_ms = f.cpu_time_ms = f.max_output_bytes = LIMIT_NONE;
	return f;
}

static void each_end_has_its_reason_code_and_hits(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct stop_facts f = facts_of(r);
		struct stop_verdict v;
		stop_decide(&f, &v);
		if (strcmp(stop_reason_name(v.reason), r->reason) != 0 || v.exit_code != r->code ||
		    v.signal != r->signal || v.hits != r->hits || v.truncated != r->truncated)
			fail_msg("%s: %s, code %d, signal %d, hits 0x%x", r->what,
				 stop_reason_name(v.reason), v.exit_code, v.signal, v.hits);
	}
}

static void each_status_is_complete_and_proves_its_reason(void **state)
{
	(void)state;
	static const char *const keys[] = { "id",     "tier",	     "exit_code",
					    "signal", "stop_reason", "evidence",
					    "usage",  "limits_hit",  "truncated" };
	static const char *const usage[] = { "wall_ms",	  "cpu_ms",	  "memory_peak_bytes",
					     "pids_peak", "stdout_bytes", "stderr_bytes",
					     "io_bytes" };
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stop_facts f = facts_of(&rows[i]);
		struct stop_verdict v;
		f.fault = "STDOUT twice";
		stop_decide(&f, &v);
		json_t *s = stop_status("abc", "container", &f, &v);
		assert_non_null(s);
		for (unsigned k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			assert_non_null(json_object_get(s, keys[k]));
		json_t *u = json_object_get(s, "usage");
		for (unsigned k = 0; k < sizeof(usage) / sizeof(usage[0]); k++)
			assert_non_null(json_object_get(u, usage[k]));
		assert_true(json_object_size(json_object_get(s, "evidence")) > 0);
		/* Exactly what brig itself could not do carries an error. */
		int failed = v.reason == STOP_HOST_FAULT || f.end == ENDED_NOT_STARTED;
		assert_int_equal(json_object_get(s, "error") != NULL, failed);
		json_decref(s);
	}
}

static void a_name_that_is_no_utf8_is_still_reported(void **state)
{
	(void)state;
	struct stop_facts f = { .end = ENDED_NOT_STARTED,
				.started = { .err = ENOENT, .step = BRIG_STEP_EXEC } };
	struct stop_verdict v;
	/* Cut in the middle of a character by the bound of the message. */
	char name[140];
	memset(name, 'a', sizeof(name));
	memcpy(name + 127, "\xc3\xa4", 3);
	f.argv0 = name;
	stop_decide(&f, &v);
	json_t *s = stop_status("abc", "container", &f, &v);
	assert_non_null(json_object_get(json_object_get(s, "error"), "message"));
	json_decref(s);
}

static void signals_are_named_both_ways(void **state)
{
	(void)state;
	char name[16];
	signal_name(SIGKILL, name);
	assert_string_equal(name, "SIGKILL");
	signal_name(40, name);
	assert_string_equal(name, "SIG40");
	assert_int_equal(signal_parse("KILL"), SIGKILL);
	assert_int_equal(signal_parse("SIGTERM"), SIGTERM);
	assert_int_equal(signal_parse("15"), 15);
	assert_int_equal(signal_parse("64"), 64);
	assert_int_equal(signal_parse("0"), 0);
	assert_int_equal(signal_parse("65"), 0);
	assert_int_equal(signal_parse("-9"), 0);
	assert_int_equal(signal_parse("TERMINATE"), 0);
	assert_int_equal(signal_parse(""), 0);
	assert_int_equal(signal_parse("SIG"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_end_has_its_reason_code_and_hits),
		cmocka_unit_test(each_status_is_complete_and_proves_its_reason),
		cmocka_unit_test(a_name_that_is_no_utf8_is_still_reported),
		cmocka_unit_test(signals_are_named_both_ways),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
