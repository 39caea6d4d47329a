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

struct stage {
	int jaild;
	int rootless;
};

/* One received CLONE with its descriptors, and in the child the ENTER that follows. */
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
	*f = (struct stage_fds){ .chan = -1, .image = -1, .timens = -1 };
	f->own = *fd++;
	f->userns = *fd++;
	f->netns = *fd++;
	if (has_time)
		f->timens = *fd++;
	f->n_join = b->c.n_join;
	memcpy(f->join, fd, b->c.n_join * sizeof(int));
	return 0;
}

/* Waits for ENTER. -ECANCELED: jaild has no use for this child any more. */
static int enter_take(struct birth *b, struct stage_step *st)
{
	struct stage_fds *f = &b->f;
	int fd[FD_MSG_MAX];
	unsigned n = FD_MSG_MAX;
	ssize_t got = fd_recv(f->own, &b->e, sizeof(b->e), fd, &n, 0);
	if (got <= 0)
		return -ECANCELED;
	unsigned has_image = b->e.spec.image != 0;
	if (got != sizeof(b->e) || b->e.h.verb != STAGE_ENTER ||
	    b->e.spec.nvolumes > JAIL_VOLUMES_MAX || n != 1 + has_image + b->e.spec.nvolumes)
		return stage_fail(st, -EPROTO, "read the specification");
	f->chan = fd[0];
	if (has_image)
		f->image = fd[1];
	f->n_volumes = b->e.spec.nvolumes;
	memcpy(f->volume, fd + 1 + has_image, f->n_volumes * sizeof(int));
	return 0;
}

/*
 * Leaves exactly these descriptors open: 0-2 null, 3 the channel, 4 jaild, 5 the user namespace (the
 * last two are closed before the agent runs). All are first copied out of the way, because any of
 * them may sit in another's place.
 */
static int place_fds(struct stage_fds *f, int null, int *jaild, struct stage_step *st)
{
	enum { AWAY = 64 };
	const int from[6] = { null, null, null, f->chan, *jaild, f->userns };
	int away[6];
	for (int i = 0; i < 6; i++) {
		away[i] = fcntl(from[i], F_DUPFD_CLOEXEC, AWAY);
		if (away[i] < 0)
			return stage_fail(st, -errno, "copy descriptor %d", i);
	}
	for (int i = 0; i < 6; i++)
		if (dup3(away[i], i, i < 3 ? 0 : O_CLOEXEC) < 0)
			return stage_fail(st, -errno, "place descriptor %d", i);
	f->chan = 3;
	*jaild = 4;
	f->userns = 5;
	int r = fd_close_from(6);
	return r < 0 ? stage_fail(st, r, "close all other descriptors") : 0;
}

/* From root of the outer namespace to the confined agent. */
static int child_birth(const struct stage *g, struct birth *b, int *jaild, struct stage_step *st)
{
	/* jaild is the parent (CLONE_PARENT). It is set again in confine_user, which clears it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	int r = confine_join(&b->c, &b->f, st);
	(void)FAILPOINT("stage.joined");
	if (r < 0 || (r = rootfs_prepare(&b->c, g->rootless, st)) < 0 ||
	    (r = enter_take(b, st)) < 0 ||
	    (r = rootfs_enter(&b->c, &b->e, &b->f, g->rootless, st)) < 0)
		return r;
	(void)FAILPOINT("stage.rooted");
	/* The standard descriptors of every later process are this sandbox's own /dev/null. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return stage_fail(st, -errno, "open /dev/null inside");
	if ((r = place_fds(&b->f, null, jaild, st)) < 0 ||
	    (r = confine_user(&b->c, &b->e, &b->f, st)) < 0)
		return r;
	fd_close(&b->f.userns);
	r = confine_syscalls(&b->e, st);
	(void)FAILPOINT("stage.confined");
	return r;
}

static void __attribute__((noreturn)) child_main(const struct stage *g, struct birth *b)
{
	struct stage_step st = { "" };
	int jaild = g->jaild;
	int r = child_birth(g, b, &jaild, &st);
	if (r == -ECANCELED)
		_exit(0);
	struct stage_ready ready = { .h = { STAGE_READY, b->c.h.seq },
				     .err = r,
				     .code = r == -ENOSPC || r == -ENOMEM ? BRIG_E_EXHAUSTED
									  : BRIG_E_UNSUPPORTED };
	snprintf(ready.step, sizeof(ready.step), "%s", st.text);
	if (fd_send(jaild, &ready, sizeof(ready), NULL, 0) < 0 || r != 0)
		_exit(1);
	close(jaild);
	_exit(agent_main(3));
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
	if (!b)
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
	int r = rootfs_template(g.rootless, &st);
	if (r < 0) {
		fprintf(stderr, "brig-agent: stage: %s: %s\n", st.text, strerror(-r));
		return 1;
	}
	for (;;) {
		b->n_all = FD_MSG_MAX;
		ssize_t n = fd_recv(jaild, &b->c, sizeof(b->c), b->all, &b->n_all, 0);
		if (n <= 0)
			return n < 0; /* jaild is gone */
		if (n != sizeof(b->c) || b->c.h.verb != STAGE_CLONE || clone_take(b) < 0)
			answer_cloned(&g, n >= (ssize_t)sizeof(b->c.h) ? b->c.h.seq : 0, 0, -1, EPROTO);
		else
			op_clone(&g, b);
		birth_done(b);
	}
}
