/* SPDX-License-Identifier: Apache-2.0 */
/*
 * birth.c: what jaild and the stage say to each other about a child; stage.h has the theory.
 *
 * A child belongs to a slot until a request takes the slot, then to the box. Its number towards the
 * stage finds it in either place.
 */
#include "jail/jaild.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "engine/container/stage.h"
#include "jail/keep.h"

/* For a child that is already on its way; a host that takes longer is in trouble. */
#define PREPARED_MS 2000
/* Looks at a child that does not get confined; its request waits for it, or finds out why. */
#define LOOKS_MAX 250

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int birth_clone(struct serve *j, struct slot *s, const struct cgroup_join *join, uint32_t kind,
		struct brig_err *err)
{
	int sv[2], fds[FD_MSG_MAX];
	unsigned n = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a socket pair");
	AUTO_FD theirs = sv[1];
	struct stage_clone m = { .h = { STAGE_CLONE, ++j->spawns },
				 .flags = (j->slots.range ? STAGE_F_RANGE : 0) |
					  (j->o->rootless ? 0 : STAGE_F_IDMAP) |
					  (s->timens >= 0 ? STAGE_F_TIME : 0) |
					  (keep_on(j) && kind != STAGE_F_GVISOR ? STAGE_F_OUTLIVE : 0) |
					  kind,
				 .cgroup_version = (uint32_t)j->cg.version,
				 .n_join = join->n,
				 .host_uid = s->host_uid,
				 .host_gid = s->host_gid };
	fds[n++] = theirs;
	fds[n++] = s->userns;
	fds[n++] = s->netns;
	if (s->timens >= 0)
		fds[n++] = s->timens;
	for (unsigned i = 0; i < join->n; i++)
		fds[n++] = join->fd[i];
	int e = fd_send(j->stage, &m, sizeof(m), fds, n);
	if (e < 0) {
		close(sv[0]);
		brig_fail(err, BRIG_E_UNAVAILABLE, -e, "the stage, which starts sandboxes, has ended");
		return brig_fix(err, "run it again; if it persists, run `brig doctor`");
	}
	s->ctl = sv[0];
	s->ahead = kind == STAGE_F_AHEAD;
	s->spawn = m.h.seq;
	return 0;
}

/* The namespaces of a child born ahead. It has told them long ago, or is about to: a birth takes 2 ms, and
 * the request needs this child. */
static int prepared_take(const struct slot *s, int ret_ns[2], struct brig_err *err)
{
	struct stage_prepared m;
	struct pollfd p = { .fd = s->ctl, .events = POLLIN };
	unsigned n = 2;
	if (poll(&p, 1, PREPARED_MS) != 1 || !(p.revents & POLLIN))
		return brig_fail(err, BRIG_E_EXHAUSTED, p.revents ? EPIPE : ETIMEDOUT,
				 "wait for the sandbox's first process to be prepared");
	ssize_t got = fd_recv(s->ctl, &m, sizeof(m), ret_ns, &n, MSG_DONTWAIT);
	if (got == sizeof(m) && m.h.verb == STAGE_PREPARED && n == 2)
		return 0;
	if (got <= 0)
		n = 0;
	while (n)
		fd_close(&ret_ns[--n]);
	if (got == -EMSGSIZE) {
		brig_fail(err, BRIG_E_EXHAUSTED, EMFILE, "take the namespaces of the sandbox's first process");
		return brig_fix(err, "raise the limit of open files (ulimit -n) of the server");
	}
	brig_fail(err, BRIG_E_INTERNAL, 0, "the sandbox's first process ended in its set-up");
	return brig_fix(err, "run it again; the log of brig-jaild may say more");
}

/* Detached mounts of the trees of an image (none of the host image), behind all[*n]. */
static int image_clone(const struct jail_trees *t, int *all, unsigned *n, struct brig_err *err)
{
	for (unsigned i = 0; i < t->n; i++) {
		int fd = mntfd_clone(t->fd[i], "", MNTFD_AT_EMPTY_PATH);
		if (fd < 0)
			return brig_fail(err, BRIG_E_INTERNAL, -fd, "clone the image's mount");
		all[(*n)++] = fd;
	}
	return 0;
}

int birth_enter(struct serve *j, const struct slot *s, const struct jail_spec *p, const int *fds,
		int deny_suid, const int *more, struct brig_err *err)
{
	int all[FD_MSG_MAX], ns[2] = { -1, -1 };
	unsigned n = 0;
	struct stage_enter m;
	const size_t size = stage_enter_size(p->nvolumes);
	m.h = (struct stage_hdr){ STAGE_ENTER, s->spawn };
	m.deny_suid = (uint32_t)deny_suid;
	m.flags = (j->slots.range ? STAGE_F_RANGE : 0) | (j->o->rootless ? 0 : STAGE_F_IDMAP);
	m.host_uid = s->host_uid;
	m.host_gid = s->host_gid;
	memcpy(&m.spec, p, size - offsetof(struct stage_enter, spec));
	if (s->ahead && prepared_take(s, ns, err) < 0)
		return -1;
	AUTO_FD mntns = ns[0];
	AUTO_FD utsns = ns[1];
	if (s->ahead) {
		all[n++] = s->ctl;
		all[n++] = mntns;
		all[n++] = utsns;
		all[n++] = s->userns;
	}
	all[n++] = fds[0];
	const unsigned first = n;
	int e = image_clone(&j->image[p->image], all, &n, err);
	m.layers = n - first;
	for (unsigned i = 0; i < p->nvolumes; i++)
		all[n++] = fds[1 + i];
	for (unsigned i = 0; more && i < 2; i++)
		all[n++] = more[i];
	if (e == 0)
		e = fd_send(s->ahead ? j->stage : s->ctl, &m, size, all, n);
	for (unsigned i = 0; i < m.layers; i++)
		fd_close(&all[first + i]);
	if (e == -1)
		return -1;
	if (e == -EPIPE || e == -ECONNRESET)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "the process that sets the sandbox up has ended");
	return e < 0 ? brig_fail(err, BRIG_E_INTERNAL, -e, "hand the request to the sandbox") : 0;
}

void birth_ahead(struct serve *j)
{
	struct brig_err err;
	/* As in refill(): beside a birth only if the next one would find nothing ready. */
	if (j->births && j->slots.n_ready && j->slots.ready[0].ctl >= 0)
		return;
	/* Rootless, the stage could not come back from a child's namespaces: its own UTS namespace is the
	 * host's. */
	for (unsigned i = 0; i < j->slots.n_ready && !j->no_ahead && !j->o->rootless; i++) {
		struct slot *s = &j->slots.ready[i];
		/* Without groups of its own (v2) a child would be charged to somebody else. */
		if (s->ctl < 0 && s->groups.name[0] &&
		    birth_clone(j, s, &s->groups.join, j->o->once ? 0 : STAGE_F_AHEAD, &err) < 0)
			j->no_ahead = 1;
	}
}

static struct slot *find(struct serve *j, uint32_t spawn, struct box **ret_box)
{
	*ret_box = box_by_spawn(j, spawn);
	if (*ret_box)
		return &(*ret_box)->slot;
	for (unsigned i = 0; i < j->slots.n_ready; i++)
		if (j->slots.ready[i].spawn == spawn && spawn)
			return &j->slots.ready[i];
	return NULL;
}

/* A child born ahead that came to nothing: its slot goes, and requests meet the reason themselves. */
static void drop_ahead(struct serve *j, struct slot *s, const char *why)
{
	fprintf(stderr, "brig-jaild: a sandbox could not be prepared: %s\n", why);
	j->no_ahead = 1;
	slot_done(&j->slots, s);
	size_t at = (size_t)(s - j->slots.ready);
	j->slots.n_ready--;
	memmove(s, s + 1, (j->slots.n_ready - at) * sizeof(*s));
}

/* It is our child, and nobody else will reap it. */
static void orphan_end(int pidfd)
{
	if (pidfd < 0)
		return;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){ 0 }, WEXITED);
}

/* The child is confined and serves its channel, but executes nothing before the word on its socket (agent.h).
 * It is measured now, while it prepares its first command. */
static void born(struct serve *j, struct box *b)
{
	box_born(j, b);
	if (b->state == BOX_LIVE)
		fd_close(&b->slot.ctl);
}

int birth_look(struct serve *j)
{
	struct brig_err err = BRIG_ERR_INIT;
	int more = 0;
	for (unsigned i = 0; i < j->slots.n_ready && !j->births; i++) {
		struct slot *s = &j->slots.ready[i];
		if (receipt_slot(j, s, &err) < 0) {
			drop_ahead(j, s, err.msg);
			return 0;
		}
		more |= s->ahead && !s->seen && s->looks++ < LOOKS_MAX;
	}
	return more;
}

static void on_cloned(struct serve *j, const struct stage_cloned *c, int *pidfd)
{
	struct box *b;
	struct slot *s = find(j, c->h.seq, &b);
	if (!s) {
		/* Its slot was given up before the stage told of it. */
		orphan_end(*pidfd);
		return;
	}
	if (s->pidfd >= 0)
		return;
	if (c->err || *pidfd < 0) {
		struct brig_err e = BRIG_ERR_INIT;
		brig_fail(&e, BRIG_E_EXHAUSTED, c->err, "clone the sandbox's first process");
		brig_fix(&e, "run `brig doctor`; raise user.max_*_namespaces or kernel.pid_max");
		if (!b) {
			drop_ahead(j, s, e.msg);
			return;
		}
		box_refuse(j, b, &e);
		b->state = BOX_DYING;
		box_undo(j, b, 0);
		return;
	}
	s->pid = (int)c->pid;
	s->pidfd = fd_steal(pidfd);
	if (b)
		box_watch(j, b);
	if (b && b->ready && b->unborn)
		born(j, b);
}

static void on_ready(struct serve *j, const struct stage_ready *m)
{
	struct box *b;
	struct slot *s = find(j, m->h.seq, &b);
	if (s && !b) {
		drop_ahead(j, s, m->step);
		return;
	}
	if (!b || !b->unborn)
		return;
	if (m->err == 0) {
		b->ready = 1;
		/* The stage may not have told yet who it is. */
		if (b->slot.pidfd >= 0)
			born(j, b);
		return;
	}
	struct brig_err e = BRIG_ERR_INIT;
	brig_fail(&e, (enum brig_code)m->code, -m->err, "create sandbox '%s': %.180s", b->id, m->step);
	brig_fix(&e, "run `brig doctor`");
	box_refuse(j, b, &e);
	/* It exits by itself, unless it was the stage that failed for it. */
	box_kill(j, b);
}

void birth_stage_lost(struct serve *j)
{
	if (!j->quit)
		serve_abandon(j, "the stage is gone");
}

void birth_on_stage(struct serve *j)
{
	union {
		struct stage_hdr h;
		struct stage_cloned cloned;
		struct stage_ready ready;
	} m;
	int fd[1] = { -1 };
	unsigned n_fd = 1;
	ssize_t n = fd_recv(j->stage, &m, sizeof(m), fd, &n_fd, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return;
	if (n == -EMSGSIZE && m.h.verb == STAGE_CLONED) {
		/* There was no room for the descriptor of our new child, whose number holds until we reap it. */
		if (m.cloned.err == 0 && kill((pid_t)m.cloned.pid, SIGKILL) == 0)
			waitpid((pid_t)m.cloned.pid, NULL, 0);
		m.cloned.err = EMFILE;
		n = sizeof(m.cloned);
	}
	if (n <= 0) {
		birth_stage_lost(j);
		return;
	}
	if (m.h.verb == STAGE_CLONED && n == sizeof(m.cloned))
		on_cloned(j, &m.cloned, &fd[0]);
	else if (m.h.verb == STAGE_READY && n == sizeof(m.ready)) {
		m.ready.step[sizeof(m.ready.step) - 1] = '\0';
		on_ready(j, &m.ready);
	}
	if (n_fd)
		fd_close(&fd[0]);
}
