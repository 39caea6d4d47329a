/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A command over the death of a brigd. It is noted in the ledger when it is started, and its words there
 * follow it. The next brigd makes it again from them, and the agent, which never stopped running it, says
 * whether it still does.
 *
 * What a detached command printed is read on behind the last byte that the ring has. A command that had
 * a reader is an orphan: it runs on, its limits are in force, and its output is held back in the agent
 * (which holds it back in its pipe) until somebody attaches who says what he has seen. So nothing is
 * lost and nothing comes twice: no more is ever under way than the agent keeps (BRIG_EXEC_KEEP).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/exec.h"
#include "daemon/freeze.h"
#include "daemon/logs.h"

void exec_touch(struct exec *x)
{
	struct ledger_exec *k = x->kept;
	if (!k)
		return;
	k->asked_ns = x->asked_ns;
	k->started_ns = x->started_ns;
	k->stood_ns = x->stood_ns;
	k->signal_sent = x->facts.signal_sent;
	k->pid = x->facts.started.pid;
	k->before = x->facts.before;
	k->out_bytes[0] = x->facts.out_bytes[0];
	k->out_bytes[1] = x->facts.out_bytes[1];
	__atomic_store_n(&k->flags,
			 (x->is_main ? LEDGER_MAIN : 0) | (x->detach ? LEDGER_DETACH : 0) |
				 (x->phase >= EXEC_STARTED ? LEDGER_STARTED : 0) |
				 (x->cmd.tty ? LEDGER_TTY : 0) |
				 (x->cmd.stdin_open ? LEDGER_STDIN : 0) |
				 (x->kill_sent ? LEDGER_KILLED : 0),
			 __ATOMIC_RELEASE);
}

void exec_note(struct exec *x)
{
	struct sandbox *sb = x->sb;
	struct ledger *l = &sb->d->ledger;
	if (x->kept || !sb->kept || !x->stream || x->phase >= EXEC_ENDING)
		return;
	struct ledger_exec *k = ledger_exec_new(l);
	char *argv = k ? json_dumps(x->cmd.argv, JSON_COMPACT) : NULL;
	if (!argv || ledger_text_set(l, &k->cmd, argv, strlen(argv)) < 0) {
		log_line(&sb->d->log, LOG_WARN, sb->id,
			 "there is no room to note a command: it would not outlive brigd");
		free(argv);
		return;
	}
	free(argv);
	k->box = (uint32_t)(sb->kept - l->box);
	k->stream = x->stream->id;
	memcpy(k->id, x->id, sizeof(k->id));
	k->timeout_ms = x->facts.timeout_ms;
	k->max_output_bytes = x->facts.max_output_bytes;
	x->kept = k;
	exec_touch(x);
	ledger_commit(&k->used);
}

/* ---- in the next brigd ---- */

static void clock_set(struct exec *x)
{
	struct sandbox *sb = x->sb;
	bool started = x->phase == EXEC_STARTED;
	uint64_t at = started ? x->started_ns + x->facts.timeout_ms * MS_NS + x->stood_ns
			      : x->asked_ns + sandbox_start_ms(sb) * MS_NS;
	if (started && x->facts.timeout_ms == LIMIT_NONE)
		return;
	if (sb->state == SB_PAUSED)
		x->left_ns = at > sb->frozen_ns ? at - sb->frozen_ns : 1;
	else
		ev_timer_set(&sb->d->ev, &x->timer, at);
}

struct exec *exec_restore(struct sandbox *sb, struct ledger_exec *k)
{
	size_t n;
	const char *text = ledger_text(&sb->d->ledger, k->cmd, &n);
	json_t *argv = text ? json_loadb(text, n, 0, NULL) : NULL;
	struct exec *x = NULL;
	if (json_is_string(json_array_get(argv, 0)))
		x = exec_new(sb);
	if (!x) {
		json_decref(argv);
		return NULL;
	}
	x->cmd = (struct cmd){ .root = argv,
			       .argv = argv,
			       .tty = k->flags & LEDGER_TTY,
			       .stdin_open = k->flags & LEDGER_STDIN };
	x->is_main = k->flags & LEDGER_MAIN;
	x->detach = x->cmd.detach = k->flags & LEDGER_DETACH;
	x->orphan = !x->detach;
	x->answered = true;
	x->stream = chan_put(&sb->chan, k->stream, x, true);
	if (!x->stream || (x->is_main && sb->main)) {
		cmd_done(&x->cmd);
		free(x);
		return NULL;
	}
	memcpy(x->id, k->id, sizeof(x->id));
	x->id[BRIG_ID_LEN] = '\0';
	x->phase = k->flags & LEDGER_STARTED ? EXEC_STARTED : EXEC_ASKED;
	sb->d->nstarting += x->phase == EXEC_ASKED;
	x->asked_ns = k->asked_ns;
	x->started_ns = k->started_ns;
	x->stood_ns = k->stood_ns;
	struct stop_facts *f = &x->facts;
	f->guest = sb->spec.tier == BRIG_TIER_microvm;
	f->argv0 = json_string_value(json_array_get(argv, 0));
	f->timeout_ms = k->timeout_ms;
	f->max_output_bytes = k->max_output_bytes;
	f->cpu_time_ms = sb->spec.limits.cpu_time_ms;
	f->signal_sent = k->signal_sent;
	f->started.pid = k->pid;
	f->out_bytes[0] = k->out_bytes[0];
	f->out_bytes[1] = k->out_bytes[1];
	f->before = k->before;
	if (x->is_main)
		f->before.valid = ~0u;
	x->kept = k;
	x->kill_sent = k->flags & LEDGER_KILLED;
	LIST_INSERT_HEAD(&sb->execs, x, link);
	if (x->is_main)
		sb->main = x;
	clock_set(x);
	return x;
}

void exec_on_resumed(struct exec *x, const struct brig_resumed *m)
{
	struct sandbox *sb = x->sb;
	uint64_t from[2] = { 0, 0 };
	if (!m) {
		/* Its word that it did not start, or its end, was the former brigd's last. */
		exec_stop(x, CAUSE_FAULT, "its end was lost with the brigd that ran it");
		return;
	}
	x->resumed_bytes[0] = m->stdout_bytes;
	x->resumed_bytes[1] = m->stderr_bytes;
	if (x->phase == EXEC_ASKED && (m->flags & BRIG_RESUMED_STARTED)) {
		struct brig_started started = { .pid = m->pid, .stdin_credit = m->stdin_credit };
		exec_on_started(x, &started);
	}
	/* Of a sandbox that nobody can name but its client. */
	if (x->stream && x->orphan && x->is_main && x->phase == EXEC_STARTED)
		ev_timer_set(&sb->d->ev, &x->grant_timer, clock_now() + EXEC_RETURN_MS * MS_NS);
	if (!x->stream || x->phase >= EXEC_ENDING || x->orphan)
		return;
	for (int out = 0; out < 2; out++) {
		uint64_t seen = x->is_main && sb->ring[out] ? sb->ring[out]->end : m->stdout_bytes;
		uint64_t made = out ? m->stderr_bytes : m->stdout_bytes;
		from[out] = x->is_main && seen < made ? seen : made;
	}
	sandbox_sent(sb, chan_read_on(&sb->chan, x->stream, from, x->is_main ? LOGRING_MAX : 0, true));
}

static struct exec *orphan_find(struct sandbox *sb, const char *id)
{
	struct exec *x;
	if (!id)
		return sb->main;
	for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
		if (!x->is_main && strcmp(x->id, id) == 0)
			return x;
	return NULL;
}

int exec_attach(struct sandbox *sb, const char *id, struct conn *conn, const uint64_t offset[2],
		struct brig_err *err)
{
	struct exec *x = orphan_find(sb, id);
	if (!x || x->phase >= EXEC_ENDING) {
		brig_err_set(err, BRIG_E_NOT_FOUND, 0, "sandbox '%s' runs no such command", sb->id);
		return brig_fix(err, "see `brig inspect %s` for those that it runs", sb->id);
	}
	if (x->detach) {
		brig_err_set(err, BRIG_E_STATE, 0, "the command is detached");
		return brig_fix(err, "its output, if it is kept: `brig logs %s`", sb->id);
	}
	if (!x->orphan || x->phase != EXEC_STARTED || !x->stream)
		return brig_fail(err, BRIG_E_STATE, 0, "the command has a reader, or has not started");
	for (int out = 0; out < 2; out++)
		if (offset[out] > x->resumed_bytes[out])
			return brig_fail(err, BRIG_E_INVALID, 0,
					 "'%s_offset' is beyond what the command had printed",
					 out ? "stderr" : "stdout");
	x->window = EXEC_KEPT_RING;
	int r = chan_read_on(&sb->chan, x->stream, offset, EXEC_KEPT_RING, true);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "read on in sandbox '%s'", sb->id);
	x->orphan = false;
	ev_timer_stop(&sb->d->ev, &x->grant_timer);
	if (x->ended)
		ev_timer_stop(&sb->d->ev, &x->timer); /* its end comes right behind */
	x->ended = false;
	x->facts.out_bytes[0] = offset[0];
	x->facts.out_bytes[1] = offset[1];
	x->held[0] = x->held[1] = BRIG_CLIENT_CREDIT - EXEC_KEPT_RING;
	exec_serve(x, conn);
	exec_answer(x);
	if (x->stream->may_send)
		exec_on_credit(x, (uint32_t)x->stream->may_send);
	sandbox_sent(sb, 0);
	sandbox_resume(sb);
	return 0;
}
