/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Nobody who was answered loses anything, and who was not waits in the listening socket, which is the
 * supervisor's. So brigd stops accepting, and goes on until no client waits for an answer and nothing is
 * half made. Commands in the foreground get a moment to end; those that stay are noted like the rest, and
 * their clients attach to the next brigd (cli/stream_again.c). Streams of files and of ports end: their
 * clients see the connection close. What has not come to rest in time is left to the takeover, which copes
 * with a death at any instruction.
 */
#include "daemon/handover.h"

#include "base/clock.h"
#include "daemon/exec.h"
#include "daemon/listen.h"
#include "daemon/pool.h"
#include "daemon/record.h"
#include "daemon/sandbox.h"

#define LOOK_MS 5u
/* Most commands are short. */
#define FOREGROUND_MS 1000u

static bool waits(const struct brigd *d, bool patient)
{
	const struct conn *c;
	const struct sandbox *sb;
	const struct exec *x;
	for (c = LIST_FIRST(&d->conns); c; c = LIST_NEXT(c, all))
		if (c->phase == CONN_REQUEST || c->phase == CONN_WAIT ||
		    (c->phase == CONN_CLOSING && conn_queued(c)))
			return true;
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all)) {
		if (sb->freezing || (sb->state == SB_CREATING && !sb->pool))
			return true;
		for (x = LIST_FIRST(&sb->execs); x; x = LIST_NEXT(x, link))
			if (x->phase != EXEC_STARTED || (patient && x->is_main && !x->detach))
				return true;
	}
	return false;
}

static void look(void *ctx)
{
	struct brigd *d = ctx;
	struct sandbox *sb;
	uint64_t now = clock_now(), since = now - d->handover_since;
	if (!d->host_known || (waits(d, since < FOREGROUND_MS * MS_NS) && since < HANDOVER_MS * MS_NS)) {
		ev_timer_set(&d->ev, &d->handover_timer, now + LOOK_MS * MS_NS);
		return;
	}
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all))
		if (!sb->kept && (sb->state == SB_RUNNING || sb->state == SB_PAUSED))
			record_sandbox(sb);
	log_line(&d->log, LOG_INFO, NULL, "handed over");
	d->exit_code = BRIGD_HANDED_OVER;
	d->quit = true;
}

void handover_begin(struct brigd *d)
{
	if (d->draining || d->handover_since || !ledger_on(&d->ledger))
		return;
	log_line(&d->log, LOG_INFO, NULL, "handing over: asked to by a signal");
	d->handover_since = clock_now();
	d->handover_timer = (struct ev_timer){ .fn = look, .ctx = d };
	d->quiet = true; /* no refills */
	pool_stop(d);
	listen_stop(d);
	look(d);
}
