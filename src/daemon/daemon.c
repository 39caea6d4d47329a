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
 * brigd keeps nothing on disk: when it ends, jaild sees end of file and removes every sandbox; when
 * jaild ends, brigd tells its clients and exits 1, and its supervisor starts both again. It opens
 * no file but the image store's, resolves no path of a tenant, and has no thread and no child.
 *
 * Private mode serves one connection and ends with it; listening mode serves many and ends on
 * SIGTERM, or when it has been idle for long enough.
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
#include "daemon/exec.h"
#include "daemon/pool.h"
#include "daemon/sandbox.h"

#define DRAIN_MS 5000u
/* Connections accepted in one round. */
#define ACCEPTS 16

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

static void hello_answered(void *ctx, const union jail_answer *a)
{
	struct brigd *d = ctx;
	struct conn *c, *next;
	if (a->h.verb != JAIL_HELLO_OK || a->hello.version != BRIG_JAIL_PROTO_VERSION) {
		struct brig_err err = BRIG_ERR_INIT;
		jail_error_to(a, &err);
		brigd_fail(d, a->h.verb == JAIL_ERROR ? err.msg : "brig-jaild has another version");
		return;
	}
	d->host = a->hello;
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

static void jail_lost(void *ctx, const char *why)
{
	struct brigd *d = ctx;
	if (!d->quit && !(d->draining && d->nlive == 0))
		brigd_fail(d, why);
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

static void idle_check(struct brigd *d)
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

void brigd_conn_left(struct brigd *d)
{
	if (d->private_mode)
		brigd_drain(d, "the client is gone");
	idle_check(d);
	maybe_quit(d);
}

void brigd_conn_told(struct brigd *d)
{
	maybe_quit(d);
}

void brigd_sandbox_left(struct brigd *d)
{
	idle_check(d);
	maybe_quit(d);
}

static void drain_expired(void *ctx)
{
	struct brigd *d = ctx;
	log_line(&d->log, LOG_WARN, NULL, "%u sandboxes and %u clients remain, ending all the same",
		 d->nlive, d->nconns);
	d->quit = true;
}

static void door_close(struct brigd *d)
{
	if (d->door_fd < 0)
		return;
	ev_io_del(&d->ev, &d->door_io);
	fd_close(&d->door_fd);
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
	if (d->listen_fd >= 0) {
		ev_io_del(&d->ev, &d->listen_io);
		fd_close(&d->listen_fd);
	}
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

/* ---- clients ---- */

static bool peer_allowed(const struct brigd *d, int fd)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return false;
	return cred.uid == 0 || cred.uid == d->start_uid;
}

static void refuse(const struct brigd *d, int fd, enum brig_code code, const char *text)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct buf out = BUF_INIT(4096);
	brig_err_set(&err, code, 0, "%s", text);
	log_line(&d->log, LOG_WARN, NULL, "client refused: %s", text);
	json_t *o = json_pack("{s:o}", "error", err_json(&err));
	char *s = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (s && frame_add(&out, BRIG_CL_REP, 0, 0, s, strlen(s), NULL, 0) == 0) {
		/* A fresh socket has room for it; if not, the client sees an end without a reason.
		 */
		ssize_t ignored =
			send(fd, buf_head(&out), buf_len(&out), MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)ignored;
	}
	free(s);
	json_decref(o);
	buf_done(&out);
	fd_close(&fd);
}

static void listen_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	(void)events;
	for (int i = 0; i < ACCEPTS && d->listen_fd >= 0; i++) {
		int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				log_line(&d->log, LOG_WARN, NULL, "accept: %s, ignoring",
					 strerror(errno));
			return;
		}
		if (!peer_allowed(d, fd)) {
			refuse(d, fd, BRIG_E_DENIED,
			       "only root and the user that runs brigd may connect");
			continue;
		}
		if (d->nconns >= CONNS_MAX) {
			refuse(d, fd, BRIG_E_BUSY, "too many connections");
			continue;
		}
		struct conn *c = conn_new(d, fd);
		ev_timer_stop(&d->ev, &d->idle_timer);
		if (c && d->host_known)
			conn_poll(c); /* the request has often come with the connection */
	}
}

/* What comes through the door must be the end of a connected unix stream: anything else could
 * behave in ways that the framer and the loop do not expect of a client. */
static bool is_client(int fd)
{
	int domain = 0, type = 0, listening = 0;
	socklen_t n = sizeof(int);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && !listening;
}

static void door_event(void *ctx, uint32_t events)
{
	struct brigd *d = ctx;
	(void)events;
	for (int i = 0; i < ACCEPTS && d->door_fd >= 0; i++) {
		int fds[1];
		unsigned nfds = 1;
		uint8_t byte[2];
		ssize_t n = fd_recv(d->door_fd, byte, sizeof(byte), fds, &nfds, MSG_DONTWAIT);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n == 0) {
			log_line(&d->log, LOG_INFO, NULL, "the door was closed from outside");
			door_close(d);
			return;
		}
		if (n < 0 && n != -EMSGSIZE) {
			log_line(&d->log, LOG_WARN, NULL, "door: %s, closing it",
				 strerror((int)-n));
			door_close(d);
			return;
		}
		/* brig-api sees the end of the other end in each of these. */
		if (n != 1 || nfds != 1 || !is_client(fds[0])) {
			log_line(&d->log, LOG_WARN, NULL, "no client in a message of the door");
			if (n > 0 && nfds == 1)
				fd_close(&fds[0]);
			continue;
		}
		if (d->nconns >= CONNS_DOOR_MAX) {
			refuse(d, fds[0], BRIG_E_BUSY, "too many connections");
			continue;
		}
		struct conn *c = conn_new(d, fds[0]);
		ev_timer_stop(&d->ev, &d->idle_timer);
		if (c && d->host_known)
			conn_poll(c);
	}
}

int brigd_door(struct brigd *d, int fd)
{
	int r = fd_set_nonblock(fd, 1);
	if (r == 0)
		r = ev_io_add(&d->ev, fd, EPOLLIN, door_event, d, &d->door_io);
	if (r == 0)
		d->door_fd = fd;
	return r;
}

int brigd_listen(struct brigd *d, int fd)
{
	d->listen_fd = fd;
	int r = fd_set_nonblock(fd, 1);
	if (r == 0)
		r = ev_io_add(&d->ev, fd, EPOLLIN, listen_event, d, &d->listen_io);
	idle_check(d);
	return r;
}

int brigd_serve_client(struct brigd *d, int fd)
{
	d->private_mode = true;
	return conn_new(d, fd) ? 0 : -ENOMEM;
}

/* ---- life ---- */

int brigd_init(struct brigd *d, int jail_fd, const char *data_dir, struct brig_err *err)
{
	int r = ev_init(&d->ev);
	if (r < 0) {
		fd_close(&jail_fd);
		return brig_fail(err, BRIG_E_INTERNAL, -r, "make the event loop");
	}
	LIST_INIT(&d->all);
	LIST_INIT(&d->conns);
	d->listen_fd = d->door_fd = -1;
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
	jail_link_done(&d->jail);
	while (d->ev.tasks)
		ev_round(&d->ev, 0);
	images_done(&d->images);
	ev_done(&d->ev);
	relay_done(&d->relay);
	free(d->scratch);
	free(d->pools);
	d->scratch = NULL;
	d->pools = NULL;
}
