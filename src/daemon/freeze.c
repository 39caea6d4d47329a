/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * jaild stops the control group and answers when all stands still. Only then the state changes and
 * clocks are stopped: a limit that is met in the moment between is met. What the sandbox had
 * written into its channel before it stopped still arrives afterwards, so a command may end while
 * its sandbox is paused; the state to go back to (sb->unpaused) follows it.
 *
 * A client that leaves changes nothing: the operation goes on, as with create and rm.
 */
#include "daemon/freeze.h"

#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "daemon/adopt.h"
#include "daemon/exec.h"
#include "daemon/record.h"

static void waiter_gone(struct conn *c)
{
	struct sandbox *sb = c->op;
	sb->freeze_conn = NULL;
}

static const struct conn_role waiter_role = { .gone = waiter_gone };

/* Takes the waiting connection away from the sandbox; NULL if it has gone. */
static struct conn *waiter_take(struct sandbox *sb)
{
	struct conn *c = sb->freeze_conn;
	sb->freeze_conn = NULL;
	if (c)
		c->role = NULL;
	return c;
}

void freeze_abort(struct sandbox *sb, const struct brig_err *err)
{
	struct conn *c = waiter_take(sb);
	if (c)
		conn_error(c, err);
}

void freeze_clock_stop(struct exec *x, uint64_t now)
{
	struct ev *ev = &x->sb->d->ev;
	if (!ev_timer_armed(&x->timer))
		return;
	/* What is due in this very moment is due when it goes on. */
	x->left_ns = x->timer.deadline > now ? x->timer.deadline - now : 1;
	ev_timer_stop(ev, &x->timer);
}

static void clock_start(struct exec *x, uint64_t since, uint64_t now)
{
	struct ev *ev = &x->sb->d->ev;
	if (x->phase >= EXEC_ENDING)
		return;
	x->stood_ns += now - since;
	exec_touch(x);
	/* Armed meanwhile: a SIGKILL of which nobody wants to wait longer. */
	if (x->left_ns && !ev_timer_armed(&x->timer))
		ev_timer_set(ev, &x->timer, now + x->left_ns);
	x->left_ns = 0;
}

static void clocks_stop(struct sandbox *sb)
{
	struct exec *x;
	sb->frozen_ns = clock_now();
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
		freeze_clock_stop(x, sb->frozen_ns);
	record_touch(sb);
	sb->cpu_counted = ev_timer_armed(&sb->cpu_timer);
	ev_timer_stop(&sb->d->ev, &sb->cpu_timer);
}

static void clocks_start(struct sandbox *sb)
{
	struct exec *x;
	uint64_t now = clock_now();
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
		clock_start(x, sb->frozen_ns, now);
	/* It asks for the figure and goes on from there. */
	if (sb->cpu_counted)
		ev_timer_set(&sb->d->ev, &sb->cpu_timer, now);
}

static void answered(struct sandbox *sb, const union jail_answer *a, const char *what)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct conn *c = waiter_take(sb);
	bool ok = a->h.verb == JAIL_OK;
	(void)FAILPOINT("freeze.answered");
	sb->freezing = false;
	if (!ok) {
		jail_error_to(a, &err);
		if (!sb->destroying)
			log_line(&sb->d->log, LOG_WARN, sb->id, "%s: %s", what, err.msg);
	}
	if (c && ok)
		conn_ok_last(c, NULL);
	else if (c)
		conn_error(c, &err);
	sandbox_jail_answered(sb);
}

static void pause_answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	if (a->h.verb == JAIL_OK && !sb->destroying) {
		sb->unpaused = sb->state;
		sandbox_go(sb, SB_PAUSED);
		clocks_stop(sb);
	}
	answered(sb, a, "pause");
}

static void goes_on(struct sandbox *sb)
{
	sandbox_go(sb, sb->unpaused);
	clocks_start(sb);
	if (sb->taking)
		sandbox_await_agent(sb, ADOPT_AGENT_MS);
}

void freeze_found(struct sandbox *sb, bool frozen)
{
	if (frozen && sb->state != SB_PAUSED)
		adopt_box_thaw(sb);
	else if (!frozen && sb->state == SB_PAUSED && !sb->freezing)
		goes_on(sb);
}

static void resume_answered(void *ctx, const union jail_answer *a)
{
	struct sandbox *sb = ctx;
	if (a->h.verb == JAIL_OK && !sb->destroying)
		goes_on(sb);
	answered(sb, a, "unpause");
}

static int ask(struct sandbox *sb, struct conn *c, uint32_t verb, jail_answer_fn fn,
	       struct brig_err *err)
{
	struct jail_ref m = { .h = { .verb = verb } };
	memcpy(m.id, sb->id, sizeof(m.id));
	if (sb->freezing)
		return brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is being paused or unpaused",
				 sb->id);
	int r = jail_call(&sb->d->jail, &m, sizeof(m), NULL, 0, fn, sb);
	if (r < 0)
		return brig_fail(err, BRIG_E_BUSY, -r, "ask brig-jaild");
	(void)FAILPOINT("freeze.sent");
	sb->jail_refs++;
	sb->freezing = true;
	if (c) {
		sb->freeze_conn = c;
		conn_set_role(c, CONN_WAIT, &waiter_role, sb);
	}
	return 0;
}

int freeze_pause(struct conn *c, struct sandbox *sb, struct brig_err *err)
{
	if (sb->d->host.enforced & JAIL_ENF_freezer)
		return ask(sb, c, JAIL_PAUSE, pause_answered, err);
	brig_err_set(err, BRIG_E_UNSUPPORTED, 0,
		     "this host cannot pause sandboxes: it has no cgroup freezer for brig");
	return brig_fix(err,
			"mount the freezer controller (cgroup version 1) or use cgroup version "
			"2; `brig doctor` shows what is there");
}

int freeze_resume(struct conn *c, struct sandbox *sb, struct brig_err *err)
{
	if (sb->state == SB_PAUSED)
		return ask(sb, c, JAIL_RESUME, resume_answered, err);
	brig_err_set(err, BRIG_E_STATE, 0, "sandbox '%s' is %s, not paused", sb->id,
		     state_name(sb->state));
	return -1;
}

int freeze_let_die(struct sandbox *sb, struct brig_err *err)
{
	return freeze_resume(NULL, sb, err);
}
