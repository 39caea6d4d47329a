/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A command has two ends: a stream of the agent's channel and a connection of a client, either of
 * which may go away first. Output goes from one to the other without a copy; credit goes back. What
 * brigd itself must enforce is counted here: wall time by a timer, output by its bytes as they
 * pass, so the byte that reaches the limit is the last one delivered.
 *
 * Credit: the agent is granted at most CREDIT_WINDOW per output, and no more while the client's
 * queue is above CONN_QUEUE_HIGH; what the client has granted beyond that is held here. So a client
 * that grants much and reads nothing costs one window, not all that it granted. Where the next brigd
 * must be able to read again what was under way, the window is what the agent keeps, and it moves as bytes
 * reach the client's socket, where they outlive us.
 *
 * A detached main command has no client. Its output goes to the sandbox's log rings, and credit is
 * returned in steps of time, so that a flood costs brigd at most LOGRING_MAX bytes per
 * EXEC_GRANT_MS; the agent drops what does not fit (BRIG_EXEC_DROP). When it ends with bytes still
 * in the agent's ring, these are asked for once more, so the last words are never lost.
 */
#include "daemon/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "daemon/egress.h"
#include "daemon/freeze.h"
#include "daemon/info.h"
#include "daemon/journal.h"
#include "daemon/logs.h"
#include "daemon/network.h"
#include "daemon/payload.h"
#include "daemon/publish.h"
#include "daemon/rejoin.h"
#include "daemon/sandbox_io.h"

#define CREDIT_WINDOW BRIG_CLIENT_CREDIT
#define DISCARD_RING 4096u

static const struct conn_role exec_role;

static void exec_free(void *ctx)
{
	struct exec *x = ctx;
	if (x->jail_refs)
		return; /* the last answer frees it */
	ledger_exec_free(&x->sb->d->ledger, x->kept);
	cmd_done(&x->cmd);
	free(x);
}

static void exec_go(struct exec *x, enum exec_phase to)
{
	x->sb->d->nstarting -= x->phase == EXEC_ASKED;
	x->phase = to;
}

static void answer_done(struct exec *x)
{
	x->jail_refs--;
	if (x->jail_refs == 0 && x->phase == EXEC_SETTLED)
		ev_task_queue(&x->sb->d->ev, &x->grave);
}

/* ---- the end ---- */

static void figures_answered(void *ctx, const union jail_answer *a)
{
	struct exec *x = ctx;
	/* Without a jaild the next one is asked. */
	x->figures_asked = x->sb->d->jail.fd >= 0;
	if (x->phase == EXEC_ENDING && !x->sb->destroying && x->sb->d->jail.fd >= 0)
		exec_settle(x, a->h.verb == JAIL_STATS_IS ? &a->stats : NULL);
	answer_done(x);
}

static void before_answered(void *ctx, const union jail_answer *a)
{
	struct exec *x = ctx;
	if (a->h.verb == JAIL_STATS_IS)
		x->facts.before = a->stats;
	answer_done(x);
}

static int figures_ask(struct exec *x, jail_answer_fn fn)
{
	struct jail_ref m = { .h = { .verb = JAIL_STATS } };
	memcpy(m.id, x->sb->id, sizeof(m.id));
	int r = jail_call(&x->sb->d->jail, &m, sizeof(m), NULL, 0, fn, x);
	if (r == 0)
		x->jail_refs++;
	return r;
}

void exec_figures(struct exec *x)
{
	struct brigd *d = x->sb->d;
	if (x->phase != EXEC_ENDING || x->figures_asked || x->sb->destroying)
		return;
	int r = figures_ask(x, figures_answered);
	x->figures_asked = r == 0;
	if (r < 0 && !(r == -EPIPE && rejoin_possible(d)))
		brigd_fail(d, "brig-jaild takes no requests");
}

static void stream_close(struct exec *x)
{
	struct sandbox *sb = x->sb;
	if (!x->stream)
		return;
	struct chan_stream *s = x->stream;
	x->stream = NULL;
	s->owner = NULL;
	if (x->facts.end == ENDED_NOT_STARTED)
		chan_release(&sb->chan, s);
	else
		chan_close(&sb->chan, s);
	sandbox_sent(sb, 0);
}

/* The channel is still read for the last output, but nothing of it may reach a freed command. */
static void stream_orphan(struct exec *x)
{
	if (!x->stream)
		return;
	x->stream->owner = NULL;
	x->stream->kind = STREAM_CLOSING;
	x->sb->chan.nopen--;
	x->stream = NULL;
}

void exec_stop(struct exec *x, enum stop_cause cause, const char *fault)
{
	struct sandbox *sb = x->sb;
	struct brigd *d = sb->d;
	if (x->phase >= EXEC_ENDING)
		return;
	uint64_t now = clock_now();
	exec_go(x, EXEC_ENDING);
	x->facts.cause = cause;
	x->facts.fault = fault;
	if (sb->state == SB_PAUSED)
		x->stood_ns += now - sb->frozen_ns;
	x->facts.wall_ns = now - x->asked_ns;
	x->facts.run_ns = x->started_ns ? now - x->started_ns : 0;
	x->facts.run_ns -= x->stood_ns < x->facts.run_ns ? x->stood_ns : x->facts.run_ns;
	ev_timer_stop(&d->ev, &x->timer);
	ev_timer_stop(&d->ev, &x->grant_timer);
	if (sb->destroying)
		return; /* the answer to DESTROY settles it */
	bool exited = cause == CAUSE_NONE && x->facts.end == ENDED_EXIT;
	if (x->facts.end == ENDED_NOT_STARTED && x->is_main)
		sb->keep = false; /* there is nothing to look at later */
	if (x->is_main && (!exited || !x->detach || sb->auto_rm)) {
		sandbox_destroy(sb, cause == CAUSE_NONE ? CAUSE_KILL : cause);
		return;
	}
	(void)FAILPOINT("exec.ending");
	exec_figures(x);
	stream_close(x);
}

/* What it met goes to the journal, beside what was refused to it. */
static void journal_verdict(struct exec *x, const struct stop_verdict *v)
{
	struct sandbox *sb = x->sb;
	const struct brig_limits *l = &sb->spec.limits;
	const struct {
		unsigned bit;
		const char *name, *flag;
		uint64_t figure;
	} rows[] = {
		{ HIT_MEMORY, "memory", "memory", l->memory_bytes },
		{ HIT_PIDS, "pids", "pids", l->pids },
		{ HIT_DISK, "disk", "disk", l->disk_bytes },
		{ HIT_INODES, "inodes", "inodes", l->inodes },
		{ HIT_NOFILE, "descriptors", "nofile", l->nofile },
		{ HIT_OUTPUT, "output", "max-output", x->facts.max_output_bytes },
		{ HIT_WALL, "wall_time", "timeout", x->facts.timeout_ms },
		{ HIT_CPU, "cpu_time", "cpu-time", x->facts.cpu_time_ms },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (v->hits & rows[i].bit)
			journal_limit(&sb->journal, rows[i].name, rows[i].flag, rows[i].figure);
	if (v->reason == STOP_SYSCALL_DENIED)
		journal_syscall(&sb->journal, "a system call that the filter denies ended the command");
}

/* In the status stand the last few; `brig why` has the rest while the sandbox is there. */
#define DENIALS_SHOWN 8u

static json_t *refused_meanwhile(struct exec *x)
{
	struct sandbox *sb = x->sb;
	if (!sb->net)
		return NULL;
	egress_drain(sb->d);
	uint64_t n = sb->journal ? sb->journal->total - x->denied_before : 0;
	x->facts.over = &sb->net->over;
	x->facts.denied = n;
	return n ? journal_json(sb->journal, n < DENIALS_SHOWN ? (unsigned)n : DENIALS_SHOWN) : NULL;
}

void exec_settle(struct exec *x, const struct jail_stats *after)
{
	struct sandbox *sb = x->sb;
	struct stop_verdict verdict;
	if (x->phase != EXEC_ENDING)
		return;
	exec_go(x, EXEC_SETTLED);
	if (after)
		x->facts.after = *after;
	json_t *denials = refused_meanwhile(x);
	x->facts.denials = denials;
	stop_decide(&x->facts, &verdict);
	json_t *status = stop_status(sb->id, sandbox_tier(sb), &x->facts, &verdict);
	json_decref(denials);
	x->facts.denials = NULL;
	journal_verdict(x, &verdict);
	if (!x->is_main && status)
		json_object_set_new(status, "exec", json_string(x->id));
	log_line(&sb->d->log, LOG_DEBUG, sb->id, "command ended: %s, exit code %d",
		 stop_reason_name(verdict.reason), verdict.exit_code);
	(void)FAILPOINT("exec.settled");
	if (x->conn) {
		struct conn *c = x->conn;
		x->conn = NULL;
		c->role = NULL;
		conn_end(c, json_incref(status));
	}
	LIST_REMOVE(x, link);
	stream_orphan(x);
	if (x->is_main)
		sandbox_main_ended(sb, status);
	ledger_exec_free(&sb->d->ledger, x->kept);
	x->kept = NULL;
	json_decref(status);
	ev_task_queue(&sb->d->ev, &x->grave);
}

void exec_abort(struct exec *x, const struct brig_err *err)
{
	struct brigd *d = x->sb->d;
	ev_timer_stop(&d->ev, &x->timer);
	ev_timer_stop(&d->ev, &x->grant_timer);
	exec_go(x, EXEC_SETTLED);
	if (x->is_main)
		x->sb->main = NULL;
	LIST_REMOVE(x, link);
	stream_orphan(x);
	if (x->conn) {
		struct conn *c = x->conn;
		x->conn = NULL;
		c->role = NULL;
		if (x->answered)
			conn_end_error(c, err);
		else
			conn_error(c, err);
	}
	ev_task_queue(&d->ev, &x->grave);
}

static void exec_expired(void *ctx)
{
	struct exec *x = ctx;
	if (x->ended)
		exec_stop(x, CAUSE_NONE, NULL);
	else if (x->phase == EXEC_ASKED)
		exec_stop(x, CAUSE_FAULT, "the command did not start in time");
	else
		exec_stop(x, x->kill_sent ? CAUSE_KILL : CAUSE_WALL, NULL);
}

/* ---- from the agent ---- */

/* Bytes of an output that the agent was granted and that may not have reached the client. */
static uint64_t under_way(const struct exec *x, int out)
{
	uint64_t n = x->stream->credit[out];
	if (x->window == CREDIT_WINDOW)
		return n;
	/* Of the frame that is passing, whichever output it is of, and in the queue. */
	return n + framer_bulk_left(&x->sb->chan.in) + conn_queued(x->conn);
}

/* Passes held credit on, as far as the window and the client's queue allow. */
static void exec_topup(struct exec *x)
{
	struct sandbox *sb = x->sb;
	if (x->phase != EXEC_STARTED || !x->stream || !x->conn ||
	    conn_queued(x->conn) > CONN_QUEUE_HIGH)
		return;
	for (int out = 0; out < 2; out++) {
		uint64_t have = under_way(x, out);
		uint64_t room = have < x->window ? x->window - have : 0;
		uint64_t n = x->held[out] < room ? x->held[out] : room;
		/* Not for every line. */
		if (n == 0 || (room < x->window / 4 && x->window < CREDIT_WINDOW))
			continue;
		x->held[out] -= n;
		sandbox_sent(sb, chan_grant(&sb->chan, x->stream, out, (uint32_t)n));
		if (!x->stream)
			return;
	}
}

static void exec_send_credit(struct exec *x, uint32_t bytes)
{
	struct brig_credit m = { .chan = BRIG_CHAN_STDIN, .bytes = bytes };
	if (x->conn && bytes)
		conn_frame(x->conn, BRIG_CREDIT, 0, BRIG_CLIENT_STREAM, &m, sizeof(m));
}

void exec_answer(struct exec *x)
{
	struct sandbox *sb = x->sb;
	struct conn *c = x->conn;
	json_t *rep;
	x->answered = true;
	if (!c)
		return;
	if (x->is_main)
		rep = json_pack("{s:s,s:s,s:s,s:s,s:O,s:I,s:o}", "id", sb->id, "name", sb->name, "tier",
				sandbox_tier(sb), "image", sb->image_name, "warnings", sb->warnings,
				"pid", (json_int_t)x->facts.started.pid, "ports",
				publish_json(sb->publish));
	else
		rep = json_pack("{s:s,s:s,s:I}", "id", sb->id, "exec", x->id, "pid",
				(json_int_t)x->facts.started.pid);
	if (x->cmd.describe) {
		json_t *more = sandbox_created(sb);
		json_object_update_missing(rep, more);
		json_decref(more);
	}
	if (!x->detach) {
		conn_ok(c, rep);
		return;
	}
	x->conn = NULL;
	c->role = NULL;
	conn_ok_last(c, rep);
}

void exec_on_started(struct exec *x, const struct brig_started *m)
{
	struct sandbox *sb = x->sb;
	struct brigd *d = sb->d;
	if (x->phase != EXEC_ASKED)
		return;
	x->facts.started = *m;
	if (m->err) {
		x->facts.end = ENDED_NOT_STARTED;
		exec_stop(x, CAUSE_NONE, NULL);
		return;
	}
	(void)FAILPOINT("exec.started");
	exec_go(x, EXEC_STARTED);
	x->started_ns = clock_now();
	if (x->facts.timeout_ms == LIMIT_NONE)
		ev_timer_stop(&d->ev, &x->timer);
	else
		ev_timer_set(&d->ev, &x->timer, x->started_ns + x->facts.timeout_ms * MS_NS);
	if (sb->state == SB_PAUSED) { /* said before it stopped */
		x->left_ns = 0;
		freeze_clock_stop(x, x->started_ns);
	}
	exec_touch(x);
	if (x->is_main)
		sandbox_main_started(sb);
	exec_answer(x);
	exec_send_credit(x, m->stdin_credit);
	exec_topup(x);
	if (x->early_signal)
		exec_signal(x, x->early_signal);
}

static void exec_keep_output(struct exec *x, int out, uint64_t offset, const uint8_t *p, size_t n)
{
	struct sandbox *sb = x->sb;
	if (!x->is_main || !sb->ring[out])
		return;
	logring_add(sb->ring[out], offset, p, n);
	x->owed[out] += n;
	if (!ev_timer_armed(&x->grant_timer) && x->phase == EXEC_STARTED)
		ev_timer_set(&sb->d->ev, &x->grant_timer, clock_now() + EXEC_GRANT_MS * MS_NS);
	logs_pump(sb);
}

static void exec_grant_due(void *ctx)
{
	struct exec *x = ctx;
	struct sandbox *sb = x->sb;
	if (x->orphan) {
		exec_stop(x, CAUSE_CLIENT, NULL); /* it has not come back */
		return;
	}
	for (int out = 0; out < 2 && x->stream && x->phase == EXEC_STARTED; out++) {
		uint32_t n = (uint32_t)x->owed[out];
		x->owed[out] = 0;
		sandbox_sent(sb, chan_grant(&sb->chan, x->stream, out, n));
	}
}

void exec_on_output(struct exec *x, int out, uint64_t offset, const uint8_t *p, size_t n)
{
	if (x->phase == EXEC_SETTLED || x->facts.cause == CAUSE_OUTPUT)
		return;
	/* What a ring lost was produced all the same and counts. */
	uint64_t *mine = &x->facts.out_bytes[out];
	uint64_t total = x->detach ? offset + x->facts.out_bytes[!out]
				   : x->facts.out_bytes[0] + x->facts.out_bytes[1];
	uint64_t room = x->facts.max_output_bytes > total ? x->facts.max_output_bytes - total : 0;
	bool cut = n > room;
	if (cut)
		n = (size_t)room;
	*mine = (x->detach ? offset : *mine) + n;
	if (x->kept)
		x->kept->out_bytes[out] = *mine;
	if (x->conn && n)
		conn_bulk(x->conn, out ? BRIG_STDERR : BRIG_STDOUT, 0, BRIG_CLIENT_STREAM, &offset,
			  p, n);
	else if (x->detach)
		exec_keep_output(x, out, offset, p, n);
	if (!cut)
		return;
	if (x->phase == EXEC_ENDING)
		x->facts.cause = CAUSE_OUTPUT; /* the limit was met before it ended */
	else
		exec_stop(x, CAUSE_OUTPUT, NULL);
}

uint64_t exec_unseen_room(const struct exec *x)
{
	const struct stop_facts *f = &x->facts;
	uint64_t total = f->out_bytes[0] + f->out_bytes[1];
	if (x->phase == EXEC_SETTLED || f->cause == CAUSE_OUTPUT || x->detach || !x->conn)
		return 0;
	return f->max_output_bytes > total ? f->max_output_bytes - total : 0;
}

void exec_unseen(struct exec *x, int out, size_t n)
{
	x->facts.out_bytes[out] += n;
	if (x->kept)
		x->kept->out_bytes[out] = x->facts.out_bytes[out];
	exec_passed(x);
}

void exec_passed(struct exec *x)
{
	if (x->window < CREDIT_WINDOW)
		exec_topup(x);
}

void exec_on_credit(struct exec *x, uint32_t bytes)
{
	if (x->phase == EXEC_STARTED)
		exec_send_credit(x, bytes);
}

void exec_on_exited(struct exec *x, const struct brig_exit *m)
{
	struct sandbox *sb = x->sb;
	if (x->phase == EXEC_SETTLED)
		return;
	if (x->detach && x->is_main && !x->reattached && x->phase == EXEC_STARTED && x->stream &&
	    (m->stdout_bytes > x->stream->offset[0] || m->stderr_bytes > x->stream->offset[1])) {
		x->reattached = true;
		sandbox_sent(sb, chan_reattach(&sb->chan, x->stream, 2 * LOGRING_MAX));
		return;
	}
	(void)FAILPOINT("exec.exited");
	x->facts.exit = *m;
	x->facts.end = ENDED_EXIT;
	if (x->detach) {
		x->facts.out_bytes[0] = m->stdout_bytes;
		x->facts.out_bytes[1] = m->stderr_bytes;
	}
	if (x->orphan) {
		/* The agent says it again to who attaches. */
		x->ended = true;
		ev_timer_set(&sb->d->ev, &x->timer, clock_now() + EXEC_ORPHAN_MS * MS_NS);
		return;
	}
	exec_stop(x, CAUSE_NONE, NULL);
}

/* ---- from the client ---- */

void exec_signal(struct exec *x, int sig)
{
	struct sandbox *sb = x->sb;
	if (x->phase == EXEC_ASKED)
		x->early_signal = sig;
	if (x->phase != EXEC_STARTED || !x->stream)
		return;
	x->facts.signal_sent = sig;
	exec_touch(x);
	if (sig == SIGKILL && x->is_main) {
		/* Nothing that it left behind may stay, whatever the agent does. */
		x->kill_sent = true;
		ev_timer_set(&sb->d->ev, &x->timer, clock_now() + EXEC_KILL_MS * MS_NS);
	}
	sandbox_sent(sb, chan_signal(&sb->chan, x->stream, (uint32_t)sig));
}

static int role_shape(struct conn *c, const struct brig_frame_hdr *h, enum framer_shape *ret,
		      struct brig_err *err)
{
	(void)c;
	if (h->stream != BRIG_CLIENT_STREAM)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame on stream %u", h->stream);
	if (h->flags && h->type != BRIG_STDIN)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "frame type %u with flags", h->type);
	if (h->type == BRIG_STDIN)
		*ret = FRAMER_BULK;
	return 0;
}

static int role_credit(struct exec *x, const struct frame *f, struct brig_err *err)
{
	struct brig_credit m;
	if (!frame_struct(f, &m, sizeof(m)) || f->h.len != sizeof(m) ||
	    (m.chan != BRIG_CHAN_STDOUT && m.chan != BRIG_CHAN_STDERR))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "malformed CREDIT");
	int out = m.chan == BRIG_CHAN_STDERR;
	if (m.bytes > BRIG_CREDIT_MAX || x->held[out] > BRIG_CREDIT_MAX - m.bytes)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREDIT beyond the maximum");
	x->held[out] += m.bytes;
	exec_topup(x);
	return 0;
}

static int role_frame(struct conn *c, const struct frame *f, struct brig_err *err)
{
	struct exec *x = c->op;
	uint32_t sig;
	uint16_t size[2];
	switch (f->h.type) {
	case BRIG_CREDIT:
		return role_credit(x, f, err);
	case BRIG_SIGNAL:
		if (!frame_struct(f, &sig, sizeof(sig)) || f->h.len != sizeof(sig) || sig < 1 ||
		    sig > 64)
			return brig_fail(err, BRIG_E_PROTOCOL, 0, "malformed SIGNAL");
		exec_signal(x, (int)sig);
		return 0;
	case BRIG_RESIZE:
		if (!frame_struct(f, size, sizeof(size)) || f->h.len != sizeof(size) || !x->cmd.tty)
			return brig_fail(err, BRIG_E_PROTOCOL, 0,
					 "malformed RESIZE, or no terminal");
		if (x->stream && x->phase <= EXEC_STARTED)
			sandbox_sent(x->sb, chan_resize(&x->sb->chan, x->stream, size[0], size[1]));
		return 0;
	case BRIG_CLOSE:
		exec_stop(x, CAUSE_KILL, NULL);
		return 0;
	default:
		return brig_fail(err, BRIG_E_PROTOCOL, 0,
				 "frame type %u is not the client's to send", f->h.type);
	}
}

static int role_data(struct conn *c, const struct brig_frame_hdr *h, const uint8_t *p, size_t n,
		     bool last, struct brig_err *err)
{
	struct exec *x = c->op;
	bool eof = last && (h->flags & BRIG_FF_EOF);
	if (!x->cmd.stdin_open && !x->cmd.tty)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "STDIN for a command without one");
	if (x->stdin_eof)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "STDIN after its end");
	if (x->phase == EXEC_ASKED)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "STDIN before the command started");
	x->stdin_eof = eof;
	/* EXIT and a last STDIN may cross on the way. */
	if (x->phase != EXEC_STARTED || !x->stream || x->stream->phase != PHASE_STARTED)
		return 0;
	if (n == 0 && !eof)
		return 0;
	int r = chan_data(&x->sb->chan, x->stream, BRIG_STDIN, p, n, eof);
	if (r == -EAGAIN)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "STDIN beyond its credit");
	sandbox_sent(x->sb, r);
	return 0;
}

static void role_drained(struct conn *c)
{
	struct exec *x = c->op;
	exec_topup(x);
	sandbox_resume(x->sb);
}

static bool role_may_read(struct conn *c)
{
	const struct exec *x = c->op;
	return sandbox_has_room(x->sb);
}

static void role_gone(struct conn *c)
{
	struct exec *x = c->op;
	x->conn = NULL;
	sandbox_resume(x->sb);
	exec_stop(x, CAUSE_CLIENT, NULL);
}

static const struct conn_role exec_role = {
	.shape = role_shape,
	.frame = role_frame,
	.data = role_data,
	.drained = role_drained,
	.may_read = role_may_read,
	.gone = role_gone,
};

/* ---- the start ---- */

static void exec_limits(struct exec *x)
{
	const struct brig_limits *l = &x->sb->spec.limits;
	struct stop_facts *f = &x->facts;
	f->timeout_ms = x->cmd.timeout_ms ? x->cmd.timeout_ms : l->timeout_ms;
	f->max_output_bytes =
		x->cmd.max_output_bytes ? x->cmd.max_output_bytes : l->max_output_bytes;
	f->cpu_time_ms = l->cpu_time_ms;
	/* Nobody reads the output of a detached exec. */
	if (x->detach && !x->is_main)
		f->max_output_bytes = LIMIT_NONE;
}

static int exec_send(struct exec *x, struct brig_err *err)
{
	struct sandbox *sb = x->sb;
	struct buf payload = BUF_INIT(BRIG_FRAME_MAX);
	struct payload_exec req = {
		.image = &sb->image->store.config,
		.spec_env = sb->spec.env,
		.secret_env = sb->spec.secret_env,
		.cmd_env = x->cmd.env,
		.cmd_secret_env = x->cmd.secret_env,
		.argv = x->cmd.argv,
		.user = x->cmd.user ? x->cmd.user : sb->owner.user,
		.cwd = x->cmd.workdir	  ? x->cmd.workdir
		       : sb->spec.workdir ? sb->spec.workdir
					  : sb->image->store.config.workdir,
		.h = { .flags = (x->cmd.tty ? BRIG_EXEC_TTY : 0u) |
				(x->cmd.stdin_open ? BRIG_EXEC_STDIN : 0u) |
				(x->detach ? BRIG_EXEC_DROP : 0u) |
				(x->is_main ? BRIG_EXEC_LIFELINE : 0u),
		       .rows = x->cmd.rows,
		       .cols = x->cmd.cols },
	};
	if (!x->detach) {
		req.h.credit_stdout = req.h.credit_stderr = BRIG_CLIENT_CREDIT;
	} else if (x->is_main) {
		req.h.ring_bytes = LOGRING_MAX;
		req.h.credit_stdout = req.h.credit_stderr = LOGRING_MAX;
	} else {
		req.h.ring_bytes = DISCARD_RING;
	}
	if (!x->detach && sb->kept) {
		x->window = EXEC_KEPT_RING;
		req.h.flags |= BRIG_EXEC_KEEP;
		req.h.ring_bytes = req.h.credit_stdout = req.h.credit_stderr = EXEC_KEPT_RING;
		x->held[0] = x->held[1] = BRIG_CLIENT_CREDIT - EXEC_KEPT_RING;
	}
	int built = payload_exec_build(&req, &payload, err);
	/* Nobody needs them again, and the request may be kept for as long as the command runs. */
	secrets_wipe(x->cmd.secret_env);
	x->cmd.secret_env = NULL;
	if (built < 0) {
		buf_done(&payload);
		return -1;
	}
	int r = FAILPOINT("exec.send");
	if (r == 0)
		r = chan_exec(&sb->chan, x, buf_head(&payload), buf_len(&payload), &x->stream);
	(void)FAILPOINT("exec.sent");
	buf_done(&payload);
	if (r == -EMFILE)
		return brig_fail(err, BRIG_E_BUSY, 0, "%u streams are open in sandbox '%s'",
				 BRIG_STREAMS_MAX, sb->id);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "send the command to sandbox '%s'",
				 sb->id);
	sandbox_sent(sb, 0);
	sandbox_resume(sb); /* one slow reader may hold back itself alone */
	return 0;
}

struct exec *exec_new(struct sandbox *sb)
{
	struct exec *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->sb = sb;
	x->timer = (struct ev_timer){ .fn = exec_expired, .ctx = x };
	x->grant_timer = (struct ev_timer){ .fn = exec_grant_due, .ctx = x };
	x->grave = (struct ev_task){ .fn = exec_free, .ctx = x };
	x->facts.end = ENDED_LOST;
	x->window = CREDIT_WINDOW;
	return x;
}

void exec_serve(struct exec *x, struct conn *conn)
{
	x->conn = conn;
	conn_set_role(conn, CONN_STREAM, &exec_role, x);
}

int exec_start(struct sandbox *sb, struct cmd *cmd, bool is_main, struct conn *conn,
	       uint64_t asked_ns, struct exec **ret, struct brig_err *err)
{
	struct brigd *d = sb->d;
	struct exec *x = exec_new(sb);
	if (!x)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "start a command");
	x->cmd = *cmd;
	x->is_main = is_main;
	x->detach = cmd->detach;
	x->asked_ns = asked_ns;
	x->facts.guest = sb->spec.tier == BRIG_TIER_microvm;
	x->facts.argv0 = json_string_value(json_array_get(cmd->argv, 0));
	exec_limits(x);
	x->denied_before = sb->journal ? sb->journal->total : 0;
	if (is_main) /* a fresh sandbox: everything that it used is this command's */
		x->facts.before.valid = ~0u;
	else
		id_make(x->id);
	if (is_main && x->detach) {
		sb->ring[0] = logring_new();
		sb->ring[1] = logring_new();
	}
	/* Asked for before EXEC is sent, so that nothing of the command is in it. */
	if ((!is_main && figures_ask(x, before_answered) < 0) || exec_send(x, err) < 0) {
		if (err->code == BRIG_E_OK)
			brig_err_set(err, BRIG_E_BUSY, 0, "brig-jaild is busy");
		x->cmd = (struct cmd){ .root = NULL };
		x->phase = EXEC_SETTLED;
		if (x->jail_refs == 0)
			free(x);
		return -1;
	}
	*cmd = (struct cmd){ .root = NULL };
	d->nstarting++;
	ev_timer_set(&d->ev, &x->timer, clock_now() + sandbox_start_ms(sb) * MS_NS);
	LIST_INSERT_HEAD(&sb->execs, x, link);
	if (is_main) {
		sb->main = x;
		sb->main_argv = json_incref(x->cmd.argv);
	}
	if (conn)
		exec_serve(x, conn);
	if (sb->kept)
		exec_note(x);
	*ret = x;
	return 0;
}
