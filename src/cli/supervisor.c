/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * One process without privilege of its own making, between two things that must not share a fate:
 * the socket, which clients find by its name, and the daemons, which may die. It holds
 *
 *   the lock     flock on server.lock for its whole life: one supervisor per folder. Whoever has
 *                it may remove a stale socket; nobody else touches its name. The file also says
 *                which daemons are ours, for the case that we are killed (leftover.h).
 *   the socket   stays open across restarts, so that clients that connect meanwhile wait, not fail.
 *   the daemons  when one dies it is started again and the other keeps the sandboxes for it. For the
 *                next brigd we hold the ledger, a file in memory in which one brigd notes what the
 *                next must know; for the next brig-jaild what it left with us (vault.h), and for that
 *                reason the orphans of brig-jaild come to this process, which reaps them. When one did
 *                not get as far as to take over, everything goes: what they left is removed by
 *                brig-jaild --gc, then both are started again. Each time more slowly; five deaths
 *                within a minute are too many.
 *
 *   brig-egress  the same, if sandboxes may have a network (egressproc.h).
 *
 *   brig-api     dies alone: it is started again and brigd does not notice (apiproc.h). When brigd
 *                dies it goes, too, because its door leads nowhere.
 *
 * SIGHUP starts brigd and brig-api anew, as they are on the disk now: brig-api finishes its requests,
 * brigd answers those who wait and hands over what it has (daemon/handover.h); who comes meanwhile waits
 * in the sockets. The SIGHUP of a terminal that went away is not that, but an end.
 *
 * The end is asked for by a signal. The socket's name and our copies of all listening sockets go
 * first, so that who comes is refused; brig-api is told to finish, and brigd that no more clients
 * come. When brig-api has ended its door is closed, and brigd ends by itself once its own clients
 * are served. After the time of grace, or at a second signal, brigd is told to end everything; what
 * streams wait for is then the end of the sandboxes, and brig-api passes it on.
 *
 * A socket of a service manager is nobody's here: its name stays, and the next one that is started
 * for it serves who waits.
 *
 * brigd ends with 0 when it has been idle for long enough. A client may connect in that very
 * moment: the name is taken away first, and if somebody is waiting then it is put back and brigd
 * started again.
 */
#include "cli/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/ledger.h"
#include "cli/cli.h"
#include "cli/leftover.h"
#include "cli/spawn.h"
#include "cli/vault.h"

#define LOCK_NAME "server.lock"
#define LOCK_WAIT_NS (3 * SEC_NS) /* the former holder may be about to end */
#define DRAIN_NS (6 * SEC_NS)	  /* brigd promises to end within 5 s of SIGTERM */
#define DIE_NS (3 * SEC_NS)
#define HANDOVER_NS (8 * SEC_NS)   /* brigd promises 5 s */
#define API_REST_NS (2 * SEC_NS)   /* for requests of brig-api, before brigd leaves them */
#define HANDED_OVER 75		   /* daemon/handover.h */
#define JAILD_LOST 76		   /* daemon/rejoin.h */
#define DEATHS_MAX 5u
#define DEATHS_NS (60 * SEC_NS)

struct supervisor {
	const struct supervisor_opts *o;
	struct brig_err *err;
	int lock, listener, sigfd, chldfd;
	struct server daemons;
	struct vault vault; /* ends with the life of the sandboxes, as does the ledger */
	int ledger;
	int rejoin; /* our end of the socket over which brigd gets the link to another jaild */
	uint64_t taken_over; /* as the ledger had it when the last brigd was started */
	struct apiproc api;
	struct egressproc egress;
	bool told; /* that it is ready */
	bool handed; /* the last brigd has handed over */
	uint64_t deaths[DEATHS_MAX]; /* times of the last ones, in a ring */
	unsigned ndeaths;
};

static int lock_take(struct supervisor *s, int dir)
{
	uint64_t deadline = clock_now() + LOCK_WAIT_NS;
	s->lock = openat(dir, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return brig_fail(s->err, BRIG_E_UNAVAILABLE, errno,
				 "open " LOCK_NAME " beside '%s'", s->o->socket);
	while (flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
		struct timespec ts = { .tv_nsec = 20 * 1000000 };
		if (errno != EWOULDBLOCK && errno != EINTR)
			return brig_fail(s->err, BRIG_E_UNAVAILABLE, errno,
					 "lock " LOCK_NAME " beside '%s'", s->o->socket);
		if (clock_now() > deadline) {
			brig_err_set(s->err, BRIG_E_EXISTS, 0,
				     "a server runs in the folder of '%s' already", s->o->socket);
			return brig_fix(s->err,
					"use it, end it, or name a socket in another folder with "
					"--socket");
		}
		nanosleep(&ts, NULL);
	}
	return 0;
}

/* Where the socket's name is kept for the moment in which client_waits() looks. */
#define ASIDE_MAX (SERVER_PATH_MAX + 8)
static void aside_path(const struct supervisor *s, char ret[ASIDE_MAX])
{
	snprintf(ret, ASIDE_MAX, "%s.end", s->o->socket);
}

static bool is_passed(const struct supervisor *s)
{
	return s->o->activation && s->o->activation->socket >= 0;
}

/* Its name belongs to the server, too, unless the service manager made it. */
static void name_remove(const struct supervisor *s)
{
	if (!is_passed(s))
		unlink(s->o->socket);
}

static void tell(const struct supervisor *s, const char *state)
{
	if (s->o->activation)
		activation_notify(s->o->activation, state);
}

static int listen_open(struct supervisor *s)
{
	if (is_passed(s)) {
		s->listener = s->o->activation->socket;
		return 0;
	}
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char aside[ASIDE_MAX];
	strcpy(addr.sun_path, s->o->socket);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listener < 0)
		return brig_fail(s->err, BRIG_E_EXHAUSTED, errno, "open a socket");
	/* We hold the lock: nobody listens there any more. */
	aside_path(s, aside);
	unlink(aside);
	if (unlink(s->o->socket) < 0 && errno != ENOENT)
		return brig_fail(s->err, BRIG_E_UNAVAILABLE, errno, "remove the stale socket '%s'",
				 s->o->socket);
	mode_t old = umask(0177);
	int r = bind(s->listener, (struct sockaddr *)&addr, sizeof(addr));
	int sys = errno;
	umask(old);
	if (r < 0 || listen(s->listener, SOMAXCONN) < 0)
		return brig_fail(s->err, BRIG_E_UNAVAILABLE, r < 0 ? sys : errno, "listen on '%s'",
				 s->o->socket);
	return 0;
}

static int signals_open(struct supervisor *s)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	s->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->sigfd >= 0 && sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		fd_close(&s->sigfd);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	s->chldfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->sigfd < 0 || s->chldfd < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return brig_fail(s->err, BRIG_E_EXHAUSTED, errno, "prepare for signals");
	return 0;
}

/* Which processes are ours, for who comes after us. */
static void record(struct supervisor *s)
{
	pid_t pids[4] = { s->daemons.brigd, s->daemons.jaild };
	size_t n = 2;
	if (s->api.pid)
		pids[n++] = s->api.pid;
	if (s->egress.pid)
		pids[n++] = s->egress.pid;
	(void)leftover_record(s->lock, pids, n);
}

static int ledger_make(struct supervisor *s)
{
	AUTO_FD fd = memfd_create("brig-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)LEDGER_SIZE) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		brig_fail(s->err, BRIG_E_EXHAUSTED, errno, "make the ledger of sandboxes");
		return brig_fix(s->err, "allow larger files: `ulimit -f unlimited`");
	}
	s->ledger = fd_steal(&fd);
	return 0;
}

/* How often a brigd has taken over what its predecessor left. */
static uint64_t taken_over(const struct supervisor *s)
{
	uint64_t n;
	ssize_t got = pread(s->ledger, &n, sizeof(n), offsetof(struct ledger_head, taken_over));
	return got == sizeof(n) ? n : 0;
}

/* The life of everything that jaild keeps is over; a brigd that waits for another ends. */
static void keep_end(struct supervisor *s)
{
	vault_close(&s->vault);
	fd_close(&s->ledger);
	fd_close(&s->rejoin);
}

/* What is to be started: both, from nothing; one beside the other that lives; both, and they take over. */
enum start { DONE, BOTH, BRIGD, JAILD, EACH };

/* The ends of what the supervisor has with a brigd. */
struct brigd_ends {
	int door, egress, rejoin;
};

static int brigd_ends_make(struct supervisor *s, int *ret_jaild_net, struct brigd_ends *ret)
{
	int pair[2];
	if (!s->o->no_net && egressproc_open(&s->egress, &ret->egress, ret_jaild_net, s->err) < 0)
		return -1;
	if (s->o->api && apiproc_door(&s->api, &ret->door, s->err) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return brig_fail(s->err, BRIG_E_EXHAUSTED, errno, "prepare a server");
	fd_close(&s->rejoin);
	s->rejoin = pair[0];
	ret->rejoin = pair[1];
	return 0;
}

/* jaild first: its preparations are the longer ones. */
static int start_with(struct supervisor *s, enum start what, struct server_daemons *d, int link_brigd,
		      int link_jaild)
{
	AUTO_FD control = -1;
	int r;
	d->resume = what == JAILD || what == EACH;
	if (what == BRIGD) {
		r = vault_link(&s->vault, link_jaild, s->err);
	} else {
		r = vault_open(&s->vault, &control, s->err);
		d->control = control;
		r = r < 0 ? r : server_start_jaild(d, link_jaild, &s->daemons, s->err);
	}
	if (r < 0)
		return -1;
	fd_close(&control);
	if (what == JAILD)
		/* If it has gone meanwhile, so much is seen soon. */
		(void)fd_send(s->rejoin, "", 1, &link_brigd, 1);
	else if (server_start_brigd(d, link_brigd, &s->daemons, s->err) < 0)
		return -1;
	return d->resume ? vault_replay(&s->vault, s->err) : 0;
}

static int daemons_start(struct supervisor *s, enum start what)
{
	struct brigd_ends ends = { -1, -1, -1 };
	int link[2], net = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
		return brig_fail(s->err, BRIG_E_EXHAUSTED, errno, "prepare a server");
	AUTO_FD link_brigd = link[0];
	AUTO_FD link_jaild = link[1];
	int r = what == JAILD ? 0 : brigd_ends_make(s, what == BOTH ? &net : NULL, &ends);
	if (r == 0 && what == BOTH)
		r = ledger_make(s);
	struct server_daemons d = { .data = s->o->data,
				    .guest_kernel = s->o->guest_kernel,
				    .extra = s->o->extra,
				    .client = -1,
				    .listen = s->listener,
				    .log = 2,
				    .door = ends.door,
				    .control = -1,
				    .rejoin = ends.rejoin,
				    .ledger = s->ledger,
				    .egress = ends.egress,
				    .net = net };
	if (what != JAILD && r == 0) {
		s->taken_over = taken_over(s);
		s->handed = false;
	}
	if (r == 0)
		r = start_with(s, what, &d, link_brigd, link_jaild);
	/* brig-api must see the end of brigd's end: only brigd may hold it. */
	fd_close(&ends.door);
	fd_close(&ends.egress);
	fd_close(&ends.rejoin);
	fd_close(&net);
	if (r == 0 && s->o->api && what != JAILD)
		r = apiproc_start(&s->api, s->err);
	record(s);
	return r;
}

/* Those of a brig-jaild that died: whoever is dead and none of ours. */
static void orphans_reap(struct supervisor *s)
{
	struct signalfd_siginfo si;
	while (read(s->chldfd, &si, sizeof(si)) == sizeof(si))
		;
	for (;;) {
		siginfo_t dead = { .si_pid = 0 };
		if (waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) < 0 || dead.si_pid == 0)
			return;
		/* Ours first, where it is due; we come here again. */
		if (dead.si_pid == s->daemons.brigd || dead.si_pid == s->daemons.jaild ||
		    dead.si_pid == s->api.pid || dead.si_pid == s->egress.pid)
			return;
		(void)waitpid(dead.si_pid, NULL, 0);
	}
}

/* Waits for a daemon's end, kills it when the time is over, and returns its wait status. */
static int daemon_reap(pid_t *pid, uint64_t wait_ns)
{
	int status = 0;
	if (!*pid)
		return 0;
	if (spawn_wait(*pid, clock_now() + wait_ns, &status) != 1) {
		kill(*pid, SIGKILL);
		(void)spawn_wait(*pid, 0, &status);
	}
	*pid = 0;
	return status;
}

enum { DIED, END, ANEW };
/* ANEW or END: a signal asks us to; DIED: a daemon did; -1. */
static int wait_event(struct supervisor *s)
{
	AUTO_FD brigd = (int)syscall(SYS_pidfd_open, s->daemons.brigd, 0u);
	AUTO_FD jaild = (int)syscall(SYS_pidfd_open, s->daemons.jaild, 0u);
	if (brigd < 0 || jaild < 0)
		return brig_fail(s->err, BRIG_E_UNSUPPORTED, errno, "watch the daemons");
	for (;;) {
		struct signalfd_siginfo si;
		orphans_reap(s);
		if (!s->told && (!s->o->api || s->api.served)) {
			tell(s, "READY=1");
			s->told = true;
		}
		struct pollfd p[11] = { { .fd = s->sigfd, .events = POLLIN },
					{ .fd = brigd, .events = POLLIN },
					{ .fd = jaild, .events = POLLIN },
					[10] = { .fd = s->chldfd, .events = POLLIN } };
		int ms, ms2;
		apiproc_poll(&s->api, p + 3, &ms);
		egressproc_poll(&s->egress, p + 5, &ms2);
		vault_poll(&s->vault, p + 8);
		if (ms < 0 || (ms2 >= 0 && ms2 < ms))
			ms = ms2;
		if (poll(p, 11, ms) < 0 && errno != EINTR)
			return brig_fail(s->err, BRIG_E_INTERNAL, errno, "wait for events");
		if (p[0].revents && read(s->sigfd, &si, sizeof(si)) == sizeof(si))
			return si.ssi_signo == SIGHUP && si.ssi_code != SI_KERNEL ? ANEW : END;
		if (p[1].revents || p[2].revents)
			return DIED;
		if (p[8].revents || p[9].revents)
			vault_work(&s->vault);
		/* After them: when brigd has died brig-api follows, and that is no death of its
		 * own. */
		int r = apiproc_work(&s->api, s->err);
		if (r < 0)
			return -1;
		if (egressproc_work(&s->egress) || r > 0)
			record(s);
	}
}

static void describe(int status, const char *name, char *ret, size_t cap)
{
	if (WIFSIGNALED(status))
		snprintf(ret, cap, "%s was killed by signal %d", name, WTERMSIG(status));
	else
		snprintf(ret, cap, "%s ended with %d", name, WEXITSTATUS(status));
}

/* After an orderly end: is somebody waiting to be served? The name of the socket is gone
 * afterwards, unless so. */
static bool client_waits(struct supervisor *s)
{
	char aside[ASIDE_MAX];
	struct pollfd p = { .fd = s->listener, .events = POLLIN };
	if (is_passed(s)) /* the service manager sees who waits */
		return false;
	aside_path(s, aside);
	if (rename(s->o->socket, aside) < 0)
		return false;
	if (poll(&p, 1, 0) == 1 && rename(aside, s->o->socket) == 0)
		return true;
	unlink(aside);
	return false;
}

/* Notes a death; false if there were too many, else after a pause that grows with their number. */
static bool may_restart(struct supervisor *s)
{
	uint64_t now = clock_now(), *oldest = &s->deaths[s->ndeaths % DEATHS_MAX];
	unsigned recent = 0;
	if (s->ndeaths >= DEATHS_MAX && now - *oldest < DEATHS_NS)
		return false;
	*oldest = now;
	s->ndeaths++;
	for (unsigned i = 0; i < DEATHS_MAX && i < s->ndeaths; i++)
		recent += now - s->deaths[i] < DEATHS_NS;
	struct pollfd p = { .fd = s->sigfd, .events = POLLIN };
	/* 0.1, 0.2, 0.4 .. seconds; a signal ends the pause, and then everything. */
	(void)poll(&p, 1, 100 << (recent - 1));
	return true;
}

/* Both: what streams wait for is the end of the sandboxes. brig-api first, which would take an end of
 * brigd that nobody has announced for a death. */
static void end_now(struct supervisor *s)
{
	apiproc_term(&s->api);
	kill(s->daemons.brigd, SIGTERM);
}

/* Until brigd has ended, the time is over, or another signal comes. */
static void grace_wait(struct supervisor *s)
{
	uint64_t until = clock_now() + s->o->grace_ms * MS_NS;
	AUTO_FD brigd = (int)syscall(SYS_pidfd_open, s->daemons.brigd, 0u);
	apiproc_term(&s->api);
	kill(s->daemons.brigd, SIGUSR1);
	for (;;) {
		struct signalfd_siginfo si;
		struct pollfd p[4] = { { .fd = s->sigfd, .events = POLLIN },
				       { .fd = brigd, .events = POLLIN } };
		uint64_t now = clock_now();
		int ms;
		apiproc_poll(&s->api, p + 2, &ms);
		/* Whether it says that it is ready concerns nobody any more. */
		p[3].fd = -1;
		if (!s->api.pid)
			apiproc_leave(&s->api);
		if (now >= until || poll(p, 4, (int)((until - now) / MS_NS) + 1) < 0) {
			if (now < until && errno == EINTR)
				continue;
			break;
		}
		if (p[1].revents || (p[0].revents && read(s->sigfd, &si, sizeof(si)) == sizeof(si)))
			break;
		if (p[2].revents)
			apiproc_leave(&s->api);
	}
}

static void end_in_order(struct supervisor *s)
{
	tell(s, "STOPPING=1");
	name_remove(s);
	fd_close(&s->listener);
	apiproc_quiet(&s->api);
	if (s->o->grace_ms)
		grace_wait(s);
	end_now(s);
	apiproc_reap(&s->api, DRAIN_NS);
	int ended = daemon_reap(&s->daemons.brigd, DRAIN_NS);
	keep_end(s);
	ended |= daemon_reap(&s->daemons.jaild, DIE_NS);
	egressproc_reap(&s->egress);
	/* One of them had died, and nobody has cleaned up after it yet. */
	if (ended)
		spawn_gc(5000);
}

static bool has_ended(pid_t pid)
{
	siginfo_t si = { .si_pid = 0 };
	return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == pid;
}

static bool exited_with(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* True if brigd has handed over; else what follows is what follows any death. */
static bool hand_over(struct supervisor *s)
{
	int status;
	tell(s, "RELOADING=1");
	apiproc_term(&s->api);
	if (s->api.pid)
		apiproc_rest(&s->api, API_REST_NS);
	kill(s->daemons.brigd, SIGUSR2);
	if (spawn_wait(s->daemons.brigd, clock_now() + HANDOVER_NS, &status) != 1) {
		kill(s->daemons.brigd, SIGKILL);
		(void)spawn_wait(s->daemons.brigd, 0, &status);
	}
	s->daemons.brigd = 0;
	apiproc_reap(&s->api, DIE_NS);
	s->told = false;
	bool done = s->handed = exited_with(status, HANDED_OVER);
	cli_note(done ? "brigd has handed over; starting it anew" :
			"brigd did not hand over and was ended; starting it anew");
	return !has_ended(s->daemons.jaild);
}

/* brigd has ended, with this status. May another take over what it left? One that died of what it found must
 * not find it again. */
static bool brigd_left(const struct supervisor *s, int status)
{
	return exited_with(status, JAILD_LOST) || (status != 0 && taken_over(s) != s->taken_over);
}

/* Which of the daemons, of which one has died, are started again beside what the other keeps; BOTH: all that
 * they had must go. What has ended is reaped. */
static enum start judge(struct supervisor *s, int *ret_brigd, int *ret_jaild)
{
	bool brigd_lives = s->daemons.brigd && !has_ended(s->daemons.brigd);
	bool jaild_lives = !has_ended(s->daemons.jaild);
	enum start next = BOTH;
	*ret_brigd = *ret_jaild = 0;
	if (!brigd_lives)
		*ret_brigd = daemon_reap(&s->daemons.brigd, DIE_NS);
	if (!jaild_lives)
		*ret_jaild = daemon_reap(&s->daemons.jaild, DIE_NS);
	if (!jaild_lives && !vault_resumable(&s->vault))
		return BOTH;
	if (brigd_lives)
		next = JAILD;
	else if (s->handed || brigd_left(s, *ret_brigd))
		next = jaild_lives ? BRIGD : EACH;
	return next;
}

/* What is left of both, and all that they had. */
static void end_life(struct supervisor *s, int *brigd, int *jaild)
{
	keep_end(s); /* with it and the link neither has anything to stay for */
	if (s->daemons.brigd)
		*brigd = daemon_reap(&s->daemons.brigd, DIE_NS);
	apiproc_reap(&s->api, DIE_NS);
	egressproc_reap(&s->egress);
	if (s->daemons.jaild)
		*jaild = daemon_reap(&s->daemons.jaild, DIE_NS);
}

/* One life of the daemons; what to start again, or -1. */
static int serve_once(struct supervisor *s)
{
	char what[128];
	int r = wait_event(s), brigd, jaild;
	if (r < 0)
		return -1;
	if (r == END) {
		end_in_order(s);
		return DONE;
	}
	if (r == ANEW && hand_over(s)) {
		egressproc_end(&s->egress);
		return BRIGD;
	}
	bool brigd_first = !s->daemons.brigd || has_ended(s->daemons.brigd);
	enum start next = judge(s, &brigd, &jaild);
	if (next == BOTH) {
		end_life(s, &brigd, &jaild);
	} else if (next != JAILD) {
		apiproc_reap(&s->api, DIE_NS);
		/* Its end of the control socket led to that brigd; the sockets stay with jaild's gateway. */
		egressproc_end(&s->egress);
	}
	if (brigd_first && brigd == 0 && r != ANEW)
		return client_waits(s) ? BOTH : DONE;
	describe(brigd_first ? brigd : jaild, brigd_first ? "brigd" : "brig-jaild", what,
		 sizeof(what));
	if (next == BOTH)
		spawn_gc(5000);
	if (!may_restart(s)) {
		brig_err_set(s->err, BRIG_E_INTERNAL, 0, "%s, the sixth time within a minute",
			     what);
		return brig_fix(s->err, "read the lines above, and run `brig doctor`");
	}
	/* What killed the one may have taken a moment longer for the other. */
	if (next == BRIGD && has_ended(s->daemons.jaild)) {
		(void)daemon_reap(&s->daemons.jaild, DIE_NS);
		next = vault_resumable(&s->vault) ? EACH : BOTH;
		if (next == BOTH)
			end_life(s, &brigd, &jaild);
	}
	cli_note("%s; its sandboxes %s; starting again", what, next == BOTH ? "were removed" : "go on");
	return (int)next;
}

static int supervise(struct supervisor *s)
{
	int start = BOTH, brigd, jaild;
	for (unsigned life = 0;; life++) {
		if (start != BOTH && daemons_start(s, (enum start)start) < 0) {
			/* The other one has died as well, most likely. */
			cli_note("%s; its sandboxes are removed", s->err->msg);
			*s->err = (struct brig_err)BRIG_ERR_INIT;
			end_life(s, &brigd, &jaild);
			spawn_gc(5000);
			start = BOTH;
		} else if (start != BOTH) {
			start = DONE;
		}
		if (start == BOTH && daemons_start(s, BOTH) < 0)
			return -1;
		if (life == 0) {
			printf("brig: serving on %s (pid %d)\n", s->o->socket, (int)getpid());
			fflush(stdout);
			if (s->o->ready >= 0)
				(void)fd_write_full(s->o->ready, "\n", 1);
		}
		start = serve_once(s);
		if (start <= 0)
			return start;
	}
}

int supervisor_run(const struct supervisor_opts *o, struct brig_err *err)
{
	struct supervisor s = { .o = o,
				.err = err,
				.lock = -1,
				.listener = -1,
				.sigfd = -1,
				.chldfd = -1,
				.vault = VAULT_NONE,
				.rejoin = -1,
				.ledger = -1,
				.daemons = SERVER_NONE,
				.api = APIPROC_NONE,
				.egress = EGRESSPROC_NONE };
	AUTO_FD dir = server_open_dir(o->socket, true, err);
	if (dir < 0)
		return -1;
	int r = lock_take(&s, dir);
	if (r == 0) {
		if (leftover_kill(s.lock)) {
			cli_note("ended the daemons of a server that was killed");
			spawn_gc(5000);
		}
		r = signals_open(&s);
	}
	if (r == 0)
		r = listen_open(&s);
	if (r == 0 && o->api) {
		r = apiproc_open(&s.api, o->api, o->socket, o->data, err);
		if (r < 0)
			name_remove(&s);
	}
	if (r == 0) {
		r = supervise(&s);
		/* Only after a failure; an orderly end has reaped them all. */
		apiproc_reap(&s.api, 0);
		(void)daemon_reap(&s.daemons.brigd, 0);
		keep_end(&s);
		(void)daemon_reap(&s.daemons.jaild, DIE_NS);
		egressproc_reap(&s.egress);
		(void)leftover_record(s.lock, NULL, 0);
		name_remove(&s);
	}
	orphans_reap(&s);
	apiproc_done(&s.api);
	fd_close(&s.listener);
	fd_close(&s.sigfd);
	fd_close(&s.chldfd);
	fd_close(&s.lock);
	return r;
}
