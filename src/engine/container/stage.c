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

/* One received SPAWN with its descriptors; closed by spawn_done in the parent. */
struct spawn {
	struct stage_spawn s;
	struct stage_fds f;
	int all[FD_MSG_MAX];
	unsigned n_all;
};

static void spawn_done(struct spawn *sp)
{
	for (unsigned i = 0; i < sp->n_all; i++)
		fd_close(&sp->all[i]);
	sp->n_all = 0;
}

/* Sorts the descriptors of a message into their places; -EPROTO if the count does not fit. */
static int spawn_take(struct spawn *sp)
{
	struct stage_fds *f = &sp->f;
	const struct stage_spawn *s = &sp->s;
	unsigned has_time = (s->flags & STAGE_F_TIME) != 0;
	if (s->n_join > sizeof(f->join) / sizeof(f->join[0]) ||
	    s->spec.nvolumes > JAIL_VOLUMES_MAX ||
	    sp->n_all != 3 + has_time + s->n_join + s->spec.nvolumes)
		return -EPROTO;
	const int *fd = sp->all;
	f->chan = *fd++;
	f->userns = *fd++;
	f->netns = *fd++;
	f->timens = has_time ? *fd++ : -1;
	f->n_join = s->n_join;
	memcpy(f->join, fd, s->n_join * sizeof(int));
	f->n_volumes = s->spec.nvolumes;
	memcpy(f->volume, fd + s->n_join, f->n_volumes * sizeof(int));
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

/* The child: from root of the outer namespace to the agent. Never returns. */
static void __attribute__((noreturn)) child_main(const struct stage *g, struct spawn *sp)
{
	struct stage_step st = { "" };
	const struct stage_spawn *s = &sp->s;
	int r = confine_join(s, &sp->f, &st);
	(void)FAILPOINT("stage.joined");
	if (r == 0)
		r = rootfs_enter(s, &sp->f, g->rootless, &st);
	(void)FAILPOINT("stage.rooted");
	/* The standard descriptors of every later process are this sandbox's own /dev/null. */
	int null = r == 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	if (r == 0 && null < 0)
		r = stage_fail(&st, -errno, "open /dev/null inside");
	int jaild = g->jaild;
	if (r == 0)
		r = place_fds(&sp->f, null, &jaild, &st);
	if (r == 0)
		r = confine_user(s, &sp->f, &st);
	if (r == 0) {
		fd_close(&sp->f.userns);
		r = confine_syscalls(s, &st);
	}
	(void)FAILPOINT("stage.confined");
	struct stage_ready ready = { .h = { STAGE_READY, s->h.seq },
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

static void op_spawn(const struct stage *g, struct spawn *sp)
{
	const struct stage_spawn *s = &sp->s;
	AUTO_FD pidfd = -1;
	struct clone_args a = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD |
			 CLONE_PARENT,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
	};
	if (s->cgroup_version == 2 && s->n_join) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)sp->f.join[0];
	}
	(void)FAILPOINT("stage.clone");
	/* clone3 without a stack is fork: musl's and glibc's own state is as after fork(), except for
	 * the cached thread id, which nothing here uses. */
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0)
		child_main(g, sp);
	answer_cloned(g, s->h.seq, (int)pid, pidfd, pid < 0 ? errno : 0);
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
	struct spawn *sp = malloc(sizeof(*sp));
	if (!sp)
		return 1;
	/* Dies with jaild even if the socket is still held by somebody. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* Dispositions stay as agent_prepare() left them: what is ignored here would be ignored by every
	 * command. Keyboard signals do not come here, jaild's session has no terminal. */
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
		union {
			struct stage_hdr h;
			struct stage_image image;
			struct stage_spawn spawn;
		} m;
		sp->n_all = FD_MSG_MAX;
		ssize_t n = fd_recv(jaild, &m, sizeof(m), sp->all, &sp->n_all, 0);
		if (n <= 0)
			return n < 0; /* jaild is gone */
		if (m.h.verb == STAGE_IMAGE && n == sizeof(m.image)) {
			rootfs_image(m.image.id, sp->n_all ? sp->all[0] : -1);
		} else if (m.h.verb == STAGE_SPAWN && n == sizeof(m.spawn)) {
			sp->s = m.spawn;
			if (spawn_take(sp) < 0)
				answer_cloned(&g, m.h.seq, 0, -1, EPROTO);
			else
				op_spawn(&g, sp);
		}
		spawn_done(sp);
	}
}
