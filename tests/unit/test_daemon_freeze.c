/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes that stand still: pause, resume, what is refused meanwhile, and the clocks. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon_driver.h"

static struct drv t;
static struct drv_frame f;

static int setup(void **state)
{
	(void)state;
	drv_start(&t, ~0u, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	drv_stop(&t);
	return 0;
}

#define RUN "{\"op\":\"run\",\"spec\":{},\"cmd\":[\"x\"]}"

static int ask(const char *op, const char *id, const char *more)
{
	char json[256];
	int c = drv_connect(&t);
	snprintf(json, sizeof(json), "{\"op\":\"%s\",\"id\":\"%s\"%s}", op, id, more);
	drv_request(&t, c, json);
	return c;
}

static void expect_rep(int c, const char *code, const char *says)
{
	json_t *rep = drv_json(c, BRIG_CL_REP);
	const json_t *e = json_object_get(rep, "error");
	if (code && (strcmp(drv_str(e, "code"), code) != 0 || !strstr(drv_str(e, "message"), says)))
		fail_msg("%s: %s", drv_str(e, "code"), drv_str(e, "message"));
	if (!code && !json_object_get(rep, "ok"))
		fail_msg("%s", drv_str(e, "message"));
	json_decref(rep);
	close(c);
	drv_step(&t);
}

static void expect_state(const char *id, const char *state)
{
	int c = ask("inspect", id, "");
	json_t *rep = drv_json(c, BRIG_CL_REP);
	assert_string_equal(drv_str(json_object_get(rep, "ok"), "state"), state);
	json_decref(rep);
	close(c);
	drv_step(&t);
}

static void pause_it(const char *id)
{
	union drv_request q;
	int c = ask("pause", id, "");
	drv_jail(&t, JAIL_PAUSE, &q, NULL, NULL);
	assert_string_equal(q.ref.id, id);
	drv_silent(c); /* not before all stands still */
	drv_answer_ok(&t, &q);
	expect_rep(c, NULL, NULL);
	expect_state(id, "paused");
}

static void resume_it(const char *id)
{
	union drv_request q;
	int c = ask("resume", id, "");
	drv_jail(&t, JAIL_RESUME, &q, NULL, NULL);
	drv_answer_ok(&t, &q);
	expect_rep(c, NULL, NULL);
}

static void a_paused_sandbox_takes_nothing_and_goes_on(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r, RUN);
	pause_it(r.id);
	expect_rep(ask("exec", r.id, ",\"cmd\":[\"x\"]"), "wrong_state", "is paused");
	expect_rep(ask("fs", r.id, ""), "wrong_state", "is paused");
	expect_rep(ask("pause", r.id, ""), "wrong_state", "paused already");
	expect_rep(ask("kill", r.id, ",\"signal\":\"TERM\""), "wrong_state", "no signal but KILL");
	expect_rep(ask("rm", r.id, ""), "wrong_state", "runs a command");
	drv_jail_silent(&t);
	drv_silent(r.agent);
	resume_it(r.id);
	expect_state(r.id, "running");
	expect_rep(ask("resume", r.id, ""), "wrong_state", "not paused");
	drv_run_done(&r);
}

static void what_jaild_says_is_passed_on(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r, RUN);
	t.d.log.fd = -1;
	int c = ask("pause", r.id, "");
	drv_jail(&t, JAIL_PAUSE, &q, NULL, NULL);
	expect_rep(ask("pause", r.id, ""), "wrong_state", "is being paused");
	drv_answer_error(&t, &q, BRIG_E_STATE, "a process does not stop");
	expect_rep(c, "wrong_state", "does not stop");
	expect_state(r.id, "running");
	t.d.host.enforced &= ~(uint32_t)JAIL_ENF_freezer;
	expect_rep(ask("pause", r.id, ""), "unsupported_on_this_host", "freezer");
	drv_jail_silent(&t);
	drv_run_done(&r);
}

static void wall_time_stands_still(void **state)
{
	(void)state;
	struct drv_run r;
	drv_run(&t, &r,
		"{\"op\":\"run\",\"spec\":{\"limits\":{\"timeout_ms\":300}},\"cmd\":[\"x\"]}");
	pause_it(r.id);
	drv_wait(&t, 500);
	drv_silent(r.client);
	drv_jail_silent(&t);
	resume_it(r.id);
	drv_wait(&t, 50);
	drv_jail_silent(&t); /* it has what it had left */
	drv_wait(&t, 400);
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(r.client, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "wall_time");
	json_int_t elapsed = drv_int(json_object_get(end, "evidence"), "elapsed_ms");
	assert_in_range(elapsed, 300, 450);
	json_decref(end);
	drv_run_done(&r);
}

static void a_command_may_have_ended_before_it_stopped(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r, "{\"op\":\"run\",\"spec\":{},\"cmd\":[\"x\"],\"detach\":true}");
	pause_it(r.id);
	drv_exit(r.agent, r.stream, 0, 0, 0, 0);
	drv_step(&t);
	drv_jail(&t, JAIL_STATS, &q, NULL, NULL);
	drv_answer_stats(&t, &q, NULL);
	expect_state(r.id, "paused");
	resume_it(r.id);
	expect_state(r.id, "exited");
	drv_run_done(&r);
}

static void killing_lets_it_go_on(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r, RUN);
	pause_it(r.id);
	expect_rep(ask("kill", r.id, ""), NULL, NULL);
	drv_jail(&t, JAIL_RESUME, &q, NULL, NULL);
	drv_answer_ok(&t, &q);
	drv_expect(r.agent, BRIG_SIGNAL, &f);
	expect_state(r.id, "running");
	drv_exit(r.agent, r.stream, BRIG_EXIT_SIGNALED, SIGKILL, 0, 0);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	json_t *end = drv_json(r.client, BRIG_CL_END);
	assert_string_equal(drv_str(end, "stop_reason"), "killed");
	json_decref(end);
	drv_run_done(&r);
}

static void removal_does_not_wait_for_it(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r, RUN);
	t.d.log.fd = -1;
	int c = ask("pause", r.id, "");
	drv_jail(&t, JAIL_PAUSE, &q, NULL, NULL);
	int rm = ask("rm", r.id, ",\"force\":true");
	expect_rep(c, "wrong_state", "was removed");
	drv_answer_error(&t, &q, BRIG_E_STATE, "it was destroyed");
	drv_destroyed(&t, NULL);
	expect_rep(rm, NULL, NULL);
	json_decref(drv_json(r.client, BRIG_CL_END));
	assert_int_equal(t.d.nboxes, 0);
	drv_run_done(&r);
}

static void a_client_that_leaves_changes_nothing(void **state)
{
	(void)state;
	struct drv_run r;
	union drv_request q;
	drv_run(&t, &r, RUN);
	close(ask("pause", r.id, ""));
	drv_step(&t);
	drv_jail(&t, JAIL_PAUSE, &q, NULL, NULL);
	drv_answer_ok(&t, &q);
	expect_state(r.id, "paused");
	/* The end of its own client ends it, standing or not. */
	close(r.client);
	drv_step(&t);
	drv_destroyed(&t, NULL);
	assert_int_equal(t.d.nboxes, 0);
	r.client = -1;
	drv_run_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(a_paused_sandbox_takes_nothing_and_goes_on),
		T(what_jaild_says_is_passed_on),
		T(wall_time_stands_still),
		T(a_command_may_have_ended_before_it_stopped),
		T(killing_lets_it_go_on),
		T(removal_does_not_wait_for_it),
		T(a_client_that_leaves_changes_nothing),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
