/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.c: the template process and the birth of a sandbox; stage.h has the theory of operation.
 *
 * Privilege: root of the outer user namespace (the host's, or jaild's own when rootless), with
 * nothing of the host in sight. No tenant byte is ever read here; the child that becomes the agent
 * reads its first one after confine_syscalls().
 */
#include "engine/container/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/err.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "engine/container/measure.h"
#include "engine/gvisor/keeper.h"

struct stage {
	int jaild;
	int rootless;
	int mntns, utsns; /* our own, to come back to */
	int proc;	  /* the host's; of our own process, as it moves from namespace to namespace */
};

union stage_msg {
	struct stage_hdr h;
	struct stage_clone clone;
	struct stage_enter enter;
};

/* One received CLONE with its descriptors, and in the child what follows it. */
struct birth {
	struct stage_clone c;
	struct stage_enter e;
	struct stage_fds f;
	int all[FD_MSG_MAX];
	unsigned n_all;
};

static void birth_done(struct birth *b)
{
	for (unsigned i = 0; i < b->n_all; i++)
		fd_close(&b->all[i]);
	b->n_all = 0;
}

/* Sorts the descriptors of a CLONE into their places; -EPROTO if the count does not fit. */
static int clone_take(struct birth *b)
{
	struct stage_fds *f = &b->f;
	unsigned has_time = (b->c.flags & STAGE_F_TIME) != 0;
	if (b->c.n_join > sizeof(f->join) / sizeof(f->join[0]) ||
	    b->n_all != 3 + has_time + b->c.n_join)
		return -EPROTO;
	const int *fd = b->all;
	*f = (struct stage_fds){ .mntns = -1, .utsns = -1, .chan = -1, .layer = -1, .base = -1, .timens = -1 };
	f->own = *fd++;
	f->userns = *fd++;
	f->netns = *fd++;
	if (has_time)
		f->timens = *fd++;
	f->n_join = b->c.n_join;
	memcpy(f->join, fd, b->c.n_join * sizeof(int));
	return 0;
}

/* Is this a whole ENTER, and do the descriptors from fd[0] = channel on fit it? Sorts them in. */
static int enter_take(const struct stage_enter *e, size_t got, const int *fd, unsigned n,
		      struct stage_fds *f)
{
	unsigned own = e->spec.tier == BRIG_TIER_gvisor ? 2 : 0;
	if (got < stage_enter_size(0) || e->h.verb != STAGE_ENTER ||
	    e->spec.nvolumes > JAIL_VOLUMES_MAX || got != stage_enter_size(e->spec.nvolumes) ||
	    e->layers > JAIL_LAYERS_MAX || (e->layers != 0) != (e->spec.image != 0) ||
	    n != 1 + e->layers + e->spec.nvolumes + own)
		return -EPROTO;
	f->chan = fd[0];
	f->n_layers = e->layers;
	memcpy(f->layer_tree, fd + 1, f->n_layers * sizeof(int));
	f->n_volumes = e->spec.nvolumes;
	memcpy(f->volume, fd + 1 + f->n_layers, f->n_volumes * sizeof(int));
	f->runsc = own ? fd[n - 2] : -1;
	f->agent = own ? fd[n - 1] : -1;
	return 0;
}

/* A child waits for ENTER. -ECANCELED: jaild has no use for it any more. */
static int enter_wait(struct birth *b, struct stage_step *st)
{
	int fd[FD_MSG_MAX];
	unsigned n = FD_MSG_MAX;
	ssize_t got = fd_recv(b->f.own, &b->e, sizeof(b->e), fd, &n, 0);
	if (got <= 0)
		return -ECANCELED;
	return enter_take(&b->e, (size_t)got, fd, n, &b->f) < 0
		       ? stage_fail(st, -EPROTO, "read the specification")
		       : 0;
}

/* Puts fd[i] on descriptor i; the first three survive an exec. All are first copied out of the way,
 * because any of them may sit in another's place. Everything else is closed. */
static int place_fds(int *fd, int n, struct stage_step *st)
{
	enum { AWAY = 64, MOST = 9 };
	int away[MOST];
	for (int i = 0; i < n; i++) {
		away[i] = fcntl(fd[i], F_DUPFD_CLOEXEC, AWAY);
		if (away[i] < 0)
			return stage_fail(st, -errno, "copy descriptor %d", i);
	}
	for (int i = 0; i < n; i++) {
		if (dup3(away[i], i, i < 3 ? 0 : O_CLOEXEC) < 0)
			return stage_fail(st, -errno, "place descriptor %d", i);
		fd[i] = i;
	}
	int r = fd_close_from(n);
	return r < 0 ? stage_fail(st, r, "close all other descriptors") : 0;
}

/* From root of the outer namespace to the confined agent, with its own hands. *jaild: the socket for the
 * last message; afterwards 0-2 are null, 3 is the channel, 4 the writable layer, 5 jaild,
 * 6 its own socket, 7 the image if there is a view of it. */
static int born_whole(const struct stage *g, struct birth *b, int *jaild, struct stage_step *st)
{
	int r = enter_wait(b, st);
	if (r < 0 || (r = rootfs_build(&b->e, &b->f, g->rootless, st)) < 0 ||
	    (r = rootfs_root(st)) < 0)
		return r;
	(void)FAILPOINT("stage.rooted");
	/* The standard descriptors of every later process are this sandbox's own /dev/null. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return stage_fail(st, -errno, "open /dev/null inside");
	int fd[9] = { null, null, null, b->f.chan, b->f.layer, *jaild, b->f.own, b->f.userns, b->f.base };
	if ((r = place_fds(fd, b->f.base < 0 ? 8 : 9, st)) < 0)
		return r;
	b->f.chan = fd[3];
	b->f.layer = fd[4];
	*jaild = fd[5];
	b->f.own = fd[6];
	b->f.userns = fd[7];
	b->f.base = fd[8];
	if ((r = confine_hostname(&b->e.spec, st)) < 0 ||
	    (r = confine_files(b->e.spec.nofile, st)) < 0 || (r = confine_user(&b->c, &b->f, st)) < 0)
		return r;
	fd_close(&b->f.userns);
	r = confine_syscalls(b->e.deny_suid != 0, st);
	(void)FAILPOINT("stage.confined");
	return r;
}

/* The same for a keeper of runsc, which has made the sandbox when this returns: it waits to be started. */
static int born_gvisor(const struct stage *g, struct birth *b, int *jaild, struct stage_step *st)
{
	int r = enter_wait(b, st);
	if (r < 0 || (r = rootfs_build(&b->e, &b->f, g->rootless, st)) < 0 ||
	    (r = keeper_bundle(&b->e, &b->f, st)) < 0)
		return r;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return stage_fail(st, -errno, "open /dev/null");
	int fd[8] = { null, null, null, b->f.chan, b->f.runsc, *jaild, b->f.own, b->f.userns };
	if ((r = place_fds(fd, 8, st)) < 0)
		return r;
	b->f.chan = fd[3];
	b->f.runsc = fd[4];
	*jaild = fd[5];
	b->f.own = fd[6];
	b->f.userns = fd[7];
	if ((r = confine_user(&b->c, &b->f, st)) < 0)
		return r;
	fd_close(&b->f.userns);
	if ((r = confine_runsc(b->e.deny_suid != 0, st)) < 0)
		return r;
	(void)FAILPOINT("stage.confined");
	r = keeper_create(&b->f, b->e.spec.net != 0, st);
	fd_close(&b->f.chan);
	return r;
}

/* Tells jaild that we are confined, and how our namespaces can be entered: ns = mount and UTS namespace,
 * which are closed. */
static int prepared_tell(uint32_t seq, int own, int ns[2], struct stage_step *st)
{
	struct stage_prepared m = { .h = { STAGE_PREPARED, seq } };
	int r = fd_send(own, &m, sizeof(m), ns, 2);
	fd_close(&ns[0]);
	fd_close(&ns[1]);
	return r < 0 ? stage_fail(st, r, "tell that it is prepared") : 0;
}

/* The same for a child that is confined before its request is known; the stage builds its root. */
static int born_ahead(struct birth *b, int *jaild, struct stage_step *st)
{
	int null = open("/d/null", O_RDWR | O_CLOEXEC), r;
	if (null < 0)
		return stage_fail(st, -errno, "open its null device");
	/* /p is our own proc mount. */
	int mnt = open("/p/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int uts = open("/p/self/ns/uts", O_RDONLY | O_CLOEXEC);
	if (mnt < 0 || uts < 0)
		return stage_fail(st, -errno, "open the namespaces");
	int fd[9] = { null, null, null, b->f.own, b->f.layer, *jaild, b->f.userns, mnt, uts };
	if ((r = place_fds(fd, 9, st)) < 0)
		return r;
	int own = fd[3], ns[2] = { fd[7], fd[8] };
	b->f.layer = fd[4];
	*jaild = fd[5];
	b->f.userns = fd[6];
	if ((r = confine_user(&b->c, &b->f, st)) < 0)
		return r;
	fd_close(&b->f.userns);
	r = confine_syscalls(0, st);
	(void)FAILPOINT("stage.confined");
	/* Who is confined is what jaild measures when it has read this. */
	if (r < 0 || (r = prepared_tell(b->c.h.seq, own, ns, st)) < 0)
		return r;
	/* For whoever looks at the host: nobody's sandbox yet. */
	prctl(PR_SET_NAME, "brig-ready", 0, 0, 0);
	struct stage_go go;
	int got[3];
	unsigned n = 3;
	ssize_t len = fd_recv(own, &go, sizeof(go), got, &n, 0);
	/* jaild's word, which may come before that of the stage. */
	bool may_start = len == 1 && n == 0;
	if (may_start) {
		n = 3;
		len = fd_recv(own, &go, sizeof(go), got, &n, 0);
	}
	if (len <= 0)
		return -ECANCELED;
	if (len != sizeof(go) || go.h.verb != STAGE_GO || n < 2)
		return stage_fail(st, -EPROTO, "read the word to go");
	prctl(PR_SET_NAME, "brig-agent", 0, 0, 0);
	if (fchdir(got[1]) < 0)
		return stage_fail(st, -errno, "go to the root");
	if ((r = rootfs_root(st)) < 0)
		return r;
	(void)FAILPOINT("stage.rooted");
	close(got[1]);
	b->f.chan = got[0];
	b->f.base = n == 3 ? got[2] : -1;
	b->f.own = own;
	if (may_start)
		fd_close(&b->f.own);
	if ((r = confine_files(go.nofile, st)) < 0)
		return r;
	return go.deny_suid ? confine_suid(st) : 0;
}

static int child_birth(const struct stage *g, struct birth *b, int *jaild, struct stage_step *st)
{
	/* jaild is the parent (CLONE_PARENT). It is set again in confine_user, which clears it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	int r = confine_join(&b->c, &b->f, st);
	(void)FAILPOINT("stage.joined");
	if (r < 0 || (r = rootfs_prepare(&b->c, &b->f, g->rootless, st)) < 0)
		return r;
	if (b->c.flags & STAGE_F_GVISOR)
		return born_gvisor(g, b, jaild, st);
	return b->c.flags & STAGE_F_AHEAD ? born_ahead(b, jaild, st) : born_whole(g, b, jaild, st);
}

static int answer_ready(int jaild, uint32_t seq, int r, const struct stage_step *st)
{
	struct stage_ready ready = { .h = { STAGE_READY, seq },
				     .err = r,
				     .code = r == -EBADE		  ? BRIG_E_MISMATCH
					     : r == -ENOSPC || r == -ENOMEM ? BRIG_E_EXHAUSTED
									    : BRIG_E_UNSUPPORTED };
	snprintf(ready.step, sizeof(ready.step), "%s", st->text);
	return fd_send(jaild, &ready, sizeof(ready), NULL, 0);
}

static void __attribute__((noreturn)) child_main(const struct stage *g, struct birth *b)
{
	struct stage_step st = { "" };
	int jaild = g->jaild;
	int r = child_birth(g, b, &jaild, &st);
	if (r == -ECANCELED)
		_exit(0);
	if (answer_ready(jaild, b->c.h.seq, r, &st) < 0 || r != 0)
		_exit(1);
	close(jaild);
	if (b->c.flags & STAGE_F_GVISOR)
		_exit(keeper_main(&b->f, b->e.spec.net != 0));
	/* jaild's last word on the child's own socket is that it may start commands. */
	_exit(agent_main(b->f.chan, b->f.layer, b->f.base, b->f.own, NULL));
}

static void answer_cloned(const struct stage *g, uint32_t seq, int pid, int pidfd, int err)
{
	struct stage_cloned c = { .h = { STAGE_CLONED, seq }, .pid = (uint32_t)pid, .err = err };
	fd_send(g->jaild, &c, sizeof(c), &pidfd, err ? 0 : 1);
}

static void op_clone(const struct stage *g, struct birth *b)
{
	AUTO_FD pidfd = -1;
	struct clone_args a = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD |
			 CLONE_PARENT,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
	};
	if (b->c.cgroup_version == 2 && b->c.n_join) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)b->f.join[0];
	}
	(void)FAILPOINT("stage.clone");
	/* clone3 without a stack is fork: musl's and glibc's own state is as after fork(), except for
	 * the cached thread id, which nothing here uses. */
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0)
		child_main(g, b);
	answer_cloned(g, b->c.h.seq, (int)pid, pidfd, pid < 0 ? errno : 0);
}

/* Looks at the root that was built as the child will see it: in its mount namespace, with its root, by the
 * host's proc, through a descriptor that was opened before any sandbox was. Here and not in jaild, which
 * nobody has to wait for then. */
static int root_measure(const struct stage *g, const struct stage_enter *e, struct stage_step *st)
{
	static struct jail_receipt m;
	struct measure_diff d;
	const struct measure_want w = { .spec = &e->spec, .rootless = g->rootless };
	if (chroot(".") < 0)
		return stage_fail(st, -errno, "look at the root");
	m.mounts_len = 0;
	int r = FAILPOINT_IS("mutate.mounts") ? 1 : measure_mounts(g->proc, &w, &m, &d);
	if (FAILPOINT_IS("mutate.mounts"))
		d = (struct measure_diff){ "mounts", "changed by a test" };
	if (r < 0)
		return stage_fail(st, r, "look at its mounts");
	return r ? stage_fail(st, -EBADE, "it is not what was specified: %s: %.130s", d.item, d.text) : 0;
}

/* In the mount namespace of a prepared child: builds its root. The child is confined and waits; no
 * process of a tenant has run there, and the names that are opened are checked as in the child. */
static int child_root(const struct stage *g, const struct stage_enter *e, struct stage_fds *f,
		      int *ret_root, struct stage_step *st)
{
	int r;
	if (setns(f->utsns, CLONE_NEWUTS) < 0)
		return stage_fail(st, -errno, "enter the child's UTS namespace");
	if ((r = confine_hostname(&e->spec, st)) < 0)
		return r;
	if (setns(f->mntns, CLONE_NEWNS) < 0)
		return stage_fail(st, -errno, "enter the child's mount namespace");
	if ((r = rootfs_build(e, f, g->rootless, st)) < 0)
		return r;
	*ret_root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *ret_root < 0 ? stage_fail(st, -errno, "open the root") : root_measure(g, e, st);
}

/* Exits if the way home is lost: everything the stage made afterwards would land in a sandbox. */
static void go_home(const struct stage *g)
{
	if (setns(g->mntns, CLONE_NEWNS) < 0 || setns(g->utsns, CLONE_NEWUTS) < 0) {
		fprintf(stderr, "brig-agent: stage: return to its namespaces: %s\n", strerror(errno));
		_exit(1);
	}
}

static void op_enter(const struct stage *g, const struct stage_enter *e, size_t got, const int *fd,
		     unsigned n)
{
	struct stage_step st = { "" };
	struct stage_fds f = { .chan = -1, .base = -1 };
	AUTO_FD root = -1;
	int r = -EPROTO;
	if (n < STAGE_N_CHILD ||
	    enter_take(e, got, fd + STAGE_N_CHILD, n - STAGE_N_CHILD, &f) < 0) {
		(void)stage_fail(&st, r, "read the specification");
	} else {
		f.own = fd[0];
		f.mntns = fd[1];
		f.utsns = fd[2];
		f.userns = fd[3];
		r = child_root(g, e, &f, &root, &st);
		go_home(g);
	}
	if (r == 0) {
		struct stage_go go = { .h = { STAGE_GO, e->h.seq },
				       .deny_suid = e->deny_suid,
				       .nofile = e->spec.nofile };
		const int fds[3] = { f.chan, root, f.base };
		r = fd_send(f.own, &go, sizeof(go), fds, f.base < 0 ? 2 : 3);
		fd_close(&f.base);
		if (r == 0)
			return;
		(void)stage_fail(&st, r, "hand the root to the sandbox's first process");
	}
	fd_close(&f.base);
	answer_ready(g->jaild, e->h.seq, r, &st);
}

/* Leaves the keyring of whoever started brig: keyctl is denied inside, but a key need not even be
 * within reach. */
static void leave_keyring(void)
{
	syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL, 0, 0, 0);
}

int stage_main(int jaild, int rootless)
{
	struct stage g = { .jaild = jaild, .rootless = rootless };
	struct stage_step st = { "" };
	struct birth *b = malloc(sizeof(*b));
	union stage_msg *m = malloc(sizeof(*m));
	if (!b || !m)
		return 1;
	/* Dies with jaild even if the socket is still held by somebody. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* Dispositions stay as agent_prepare() left them: what is ignored here would be ignored by every
	 * command. Keyboard signals do not come here, jaild's session has no terminal. */
	(void)FAILPOINT("stage.start");
	clearenv();
	umask(0); /* modes in rootfs.c are meant as written; the agent sets its own */
	leave_keyring();
	if (unshare(CLONE_NEWNS) < 0) {
		fprintf(stderr, "brig-agent: stage: unshare the mount namespace: %s\n",
			strerror(errno));
		return 1;
	}
	/* While the host's /proc is still there. */
	g.mntns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	g.utsns = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	g.proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = rootfs_template(g.rootless, &st);
	if (r < 0) {
		fprintf(stderr, "brig-agent: stage: %s: %s\n", st.text, strerror(-r));
		return 1;
	}
	for (;;) {
		b->n_all = FD_MSG_MAX;
		ssize_t n = fd_recv(jaild, m, sizeof(*m), b->all, &b->n_all, 0);
		if (n <= 0)
			return n < 0; /* jaild is gone */
		uint32_t seq = n >= (ssize_t)sizeof(m->h) ? m->h.seq : 0;
		if (seq && m->h.verb == STAGE_ENTER) {
			op_enter(&g, &m->enter, (size_t)n, b->all, b->n_all);
		} else if (n == sizeof(m->clone) && m->h.verb == STAGE_CLONE) {
			b->c = m->clone;
			if (clone_take(b) == 0)
				op_clone(&g, b);
			else
				answer_cloned(&g, seq, 0, -1, EPROTO);
		} else {
			answer_cloned(&g, seq, 0, -1, EPROTO);
		}
		birth_done(b);
	}
}
