/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brigd: the unprivileged owner of every record.
 *
 * Theory of operation
 * -------------------
 * One process, one thread, one loop, no privilege: uid BRIG_DAEMON_UID on a root host, the user's
 * own on a rootless one, with no_new_privs and a system-call filter (confine.c). Everything that
 * comes from outside is parsed here: requests of clients (conn.c, ops.c, spec.c) and the frames of
 * agents (chan.c, chan_rx.c), which may be tenants' own. What needs privilege is asked of
 * brig-jaild (jail.c) in fixed messages with descriptors. Names, limits, states, verdicts and pools
 * are decided here; namespaces, cgroups, mounts and processes are made and removed there.
 *
 * brigd keeps nothing on disk. When a private one ends, jaild sees end of file and removes every sandbox.
 * A resident one notes in the ledger (ledger.h) what its successor must know, which takes over what
 * lives (adopt.c). When the jaild of a resident server ends, brigd waits for the next (rejoin.c); that of a
 * private one is missed by nobody: brigd tells its client and exits 1. It opens no file but the image store's, resolves no path of a tenant, and has no thread and no child.
 *
 * Private mode serves one connection and ends with it; listening mode serves many and ends on
 * SIGTERM, or when it has been idle for long enough. Before SIGTERM the supervisor says SIGUSR1: no
 * new clients, and the end comes by itself when those that are there have been served.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "daemon/adopt.h"
#include "daemon/exec.h"
#include "daemon/listen.h"
#include "daemon/pool.h"
#include "daemon/rejoin.h"
#include "daemon/sandbox.h"

#define DRAIN_MS 5000u

void id_make(char ret[BRIG_ID_LEN + 8])
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t raw[4 * BRIG_ID_LEN];
	size_t n = 0;
	memset(ret, 0, BRIG_ID_LEN + 8);
	while (n < BRIG_ID_LEN) {
		/* Cannot fail for so few bytes once the kernel's pool is ready (random(7)). */
		ssize_t got = getrandom(raw, sizeof(raw), 0);
		for (ssize_t i = 0; i < got && n < BRIG_ID_LEN; i++)
			if (raw[i] < 36 * 7) /* no character is likelier than another */
				ret[n++] = digits[raw[i] % 36];
	}
}

struct tier_offer brigd_tiers(const struct brigd *d)
{
	return (struct tier_offer){ .host = d->host.tier, .refused = d->refused, .usual = d->usual_tier };
}

static void hello_answered(void *ctx, const union jail_answer *a)
{
	struct brigd *d = ctx;
	if (a->h.verb != JAIL_HELLO_OK || a->hello.version != BRIG_JAIL_PROTO_VERSION) {
		struct brig_err err = BRIG_ERR_INIT;
		jail_error_to(a, &err);
		brigd_fail(d, a->h.verb == JAIL_ERROR ? err.msg : "brig-jaild has another version");
		return;
	}
	d->host = a->hello;
	for (unsigned t = 0; t < BRIG_TIER__N; t++) {
		struct jail_tier *h = &d->host.tier[t];
		h->text[sizeof(h->text) - 1] = h->remedy[sizeof(h->remedy) - 1] = '\0';
	}
	if (d->egress.fd < 0)
		d->host.net = 0;
	adopt_begin(d);
}

void brigd_ready(struct brigd *d)
{
	struct conn *c, *next;
	d->host_known = true;
	pool_schedule(d);
	/* Requests that came first have waited in their sockets. */
	for (c = LIST_FIRST(&d->conns); c; c = next) {
		next = LIST_NEXT(c, all);
		conn_update(c);
		conn_poll(c);
	}
}

static void jail_gone(void *ctx, const struct jail_gone *g)
{
	struct sandbox *sb = sandbox_by_id(ctx, g->id);
	if (sb)
		sandbox_lost(sb, "its first process ended by itself");
}

static void jail_figures(void *ctx, const struct jail_stats *st)
{
	struct sandbox *sb = sandbox_by_id(ctx, st->id);
	if (sb) {
		sb->figures = *st;
		sb->have_figures = true;
	}
}

static void jail_packets(void *ctx, int fd)
{
	struct brigd *d = ctx;
	int r = egress_packets(d, fd);
	if (r < 0)
		log_line(&d->log, LOG_WARN, NULL, "watch refused packets: %s, ignoring", strerror(-r));
}

static void jail_lost(void *ctx, const char *why)
{
	struct brigd *d = ctx;
	bool waiting = !d->host_known && !d->rejoining;
	if (d->quit || (d->draining && d->nlive == 0))
		return;
	if (rejoin_possible(d) && !d->draining && !waiting) {
		rejoin_await(d, why);
		return;
	}
	brigd_fail(d, why);
	/* It was not what was found that ended this one. */
	if (waiting && d->rejoin_fd >= 0)
		d->exit_code = BRIGD_JAILD_LOST;
}

void brigd_fail(struct brigd *d, const char *why)
{
	struct sandbox *sb;
	struct exec *x;
	struct conn *c, *next;
	struct brig_err err = BRIG_ERR_INIT;
	if (d->quit)
		return;
	/* A private server whose client has gone often sees jaild killed along with it. */
	log_line(&d->log, d->private_mode && d->draining ? LOG_INFO : LOG_ERROR, NULL, "%s; ending",
		 why);
	d->quit = true;
	d->draining = true;
	d->exit_code = 1;
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all)) {
		while ((x = LIST_FIRST(&sb->execs))) {
			sb->destroying = true; /* jaild does it by itself, seeing our end */
			exec_stop(x, CAUSE_FAULT, why);
			exec_settle(x, NULL);
		}
	}
	brig_err_set(&err, BRIG_E_UNAVAILABLE, 0, "the server is ending: %s", why);
	brig_err_remedy(&err, "run it again; if it persists, run `brig doctor`");
	for (c = LIST_FIRST(&d->conns); c; c = next) {
		next = LIST_NEXT(c, all);
		conn_abort(c, &err);
	}
}

static void maybe_quit(struct brigd *d)
{
	const struct conn *c;
	if (!d->draining || d->quit || d->nlive)
		return;
	/* A client that has been told everything need not have closed; the private one has. */
	for (c = LIST_FIRST(&d->conns); c; c = LIST_NEXT(c, all))
		if (!c->shut && !d->private_mode)
			return;
	d->quit = true;
}

static void idle_due(void *ctx)
{
	struct brigd *d = ctx;
	log_line(&d->log, LOG_INFO, NULL, "idle, ending");
	brigd_drain(d, "idle");
}

void brigd_idle_check(struct brigd *d)
{
	const struct sandbox *sb = LIST_FIRST(&d->all);
	if (d->idle_exit_ns == 0 || d->draining)
		return;
	/* Pooled sandboxes are nobody's yet. */
	while (sb && sb->pool)
		sb = LIST_NEXT(sb, all);
	bool idle = d->nconns == 0 && !sb;
	if (!idle)
		ev_timer_stop(&d->ev, &d->idle_timer);
	else if (!ev_timer_armed(&d->idle_timer))
		ev_timer_set(&d->ev, &d->idle_timer, clock_now() + d->idle_exit_ns);
}

/* Every client has been served, and no more come. */
static void quiet_check(struct brigd *d)
{
	if (d->quiet && !d->handover_since && d->door_fd < 0 && d->nconns == 0)
		brigd_drain(d, "all clients were served");
}

void brigd_quiesce(struct brigd *d)
{
	if (d->quiet || d->draining)
		return;
	log_line(&d->log, LOG_INFO, NULL, "taking no more clients: asked to by a signal");
	d->quiet = true;
	pool_stop(d);
	listen_stop(d);
	quiet_check(d);
}

void brigd_door_closed(struct brigd *d)
{
	quiet_check(d);
}

void brigd_conn_left(struct brigd *d)
{
	if (d->private_mode)
		brigd_drain(d, "the client is gone");
	brigd_idle_check(d);
	quiet_check(d);
	maybe_quit(d);
}

void brigd_conn_told(struct brigd *d)
{
	maybe_quit(d);
}

void brigd_sandbox_left(struct brigd *d)
{
	brigd_idle_check(d);
	maybe_quit(d);
}

static void drain_expired(void *ctx)
{
	struct brigd *d = ctx;
	log_line(&d->log, LOG_WARN, NULL, "%u sandboxes and %u clients remain, ending all the same",
		 d->nlive, d->nconns);
	d->quit = true;
}

void brigd_drain(struct brigd *d, const char *why)
{
	struct sandbox *sb, *next;
	struct conn *c, *cnext;
	if (d->draining)
		return;
	log_line(&d->log, LOG_INFO, NULL, "ending: %s", why);
	d->draining = true;
	pool_stop(d);
	ev_timer_stop(&d->ev, &d->idle_timer);
	listen_stop(d);
	door_close(d);
	ev_timer_set(&d->ev, &d->drain_timer, clock_now() + DRAIN_MS * MS_NS);
	for (sb = LIST_FIRST(&d->all); sb; sb = next) {
		next = LIST_NEXT(sb, all);
		sb->keep = false;
		if (sb->state == SB_STOPPED)
			sandbox_forget(sb);
		else
			sandbox_destroy(sb, CAUSE_SHUTDOWN);
	}
	for (c = LIST_FIRST(&d->conns); c; c = cnext) {
		cnext = LIST_NEXT(c, all);
		if (c->phase == CONN_REQUEST)
			conn_drop(c);
	}
	maybe_quit(d);
}

/* ---- life ---- */

int brigd_serve_client(struct brigd *d, int fd)
{
	d->private_mode = true;
	brigd_look_ahead(d, fd);
	return conn_new(d, fd) ? 0 : -ENOMEM;
}

int brigd_init(struct brigd *d, int jail_fd, const char *data_dir, struct brig_err *err)
{
	int r = ev_init(&d->ev);
	if (r < 0) {
		fd_close(&jail_fd);
		return brig_fail(err, BRIG_E_INTERNAL, -r, "make the event loop");
	}
	LIST_INIT(&d->all);
	LIST_INIT(&d->conns);
	d->listen_fd = d->door_fd = d->spare_fd = d->rejoin_fd = -1;
	d->egress.fd = d->egress.packets = -1;
	d->idle_timer = (struct ev_timer){ .fn = idle_due, .ctx = d };
	d->drain_timer = (struct ev_timer){ .fn = drain_expired, .ctx = d };
	d->start_uid = getuid();
	id_make(d->instance);
	d->scratch = malloc(SCRATCH_SIZE);
	if (!d->scratch) {
		fd_close(&jail_fd);
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "start brigd");
	}
	r = jail_link_init(&d->jail, &d->ev, jail_fd);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "use the link to brig-jaild");
	d->jail.gone = jail_gone;
	d->jail.figures = jail_figures;
	d->jail.packets = jail_packets;
	d->jail.lost = jail_lost;
	d->jail.ctx = d;
	r = images_init(&d->images, data_dir, &d->jail);
	if (r < 0)
		return brig_fail(err, BRIG_E_INVALID, -r, "use data directory '%s'", data_dir);
	struct jail_hello m = { .h = { .verb = JAIL_HELLO }, .version = BRIG_JAIL_PROTO_VERSION };
	r = jail_call(&d->jail, &m, sizeof(m), NULL, 0, hello_answered, d);
	if (r < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, -r, "greet brig-jaild");
	return 0;
}

int brigd_keep(struct brigd *d, int fd, struct brig_err *err)
{
	bool lost = false;
	int r = ledger_open(&d->ledger, fd, &lost);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "map the ledger");
	if (lost)
		log_line(&d->log, LOG_WARN, NULL, "the ledger is of another version: what it holds is lost");
	return 0;
}

int brigd_run(struct brigd *d)
{
	while (!d->quit) {
		int r = ev_round(&d->ev, -1);
		if (r < 0) {
			log_line(&d->log, LOG_ERROR, NULL, "event loop: %s", strerror(-r));
			return 1;
		}
	}
	/* Last answers on their way to slow clients: a second at most. */
	uint64_t until = clock_now() + SEC_NS;
	for (;;) {
		const struct conn *c;
		bool queued = false;
		for (c = LIST_FIRST(&d->conns); c; c = LIST_NEXT(c, all))
			queued = queued || conn_queued(c);
		if (!queued || clock_now() >= until || ev_round(&d->ev, 100) < 0)
			return d->exit_code;
	}
}

void brigd_done(struct brigd *d)
{
	struct conn *c;
	struct sandbox *sb;
	struct exec *x;
	d->quit = d->draining = true;
	for (sb = LIST_FIRST(&d->all); sb; sb = LIST_NEXT(sb, all)) {
		while ((x = LIST_FIRST(&sb->execs))) {
			sb->destroying = true;
			exec_stop(x, CAUSE_SHUTDOWN, NULL);
			exec_settle(x, NULL);
		}
	}
	while ((c = LIST_FIRST(&d->conns)))
		conn_drop(c);
	while ((sb = LIST_FIRST(&d->all))) {
		sb->jail_refs = 0;
		if (sb->state != SB_REMOVING && sb->state != SB_STOPPED)
			sandbox_go(sb, SB_REMOVING);
		sandbox_forget(sb);
	}
	d->jail.lost = NULL;
	rejoin_done(d);
	jail_link_done(&d->jail);
	egress_done(d);
	while (d->ev.tasks)
		ev_round(&d->ev, 0);
	images_done(&d->images);
	ev_done(&d->ev);
	relay_done(&d->relay);
	ledger_close(&d->ledger);
	free(d->adopted);
	d->adopted = NULL;
	free(d->scratch);
	free(d->pools);
	d->scratch = NULL;
	d->pools = NULL;
}
