/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volumes.c: who has which volume of the store, and the processes that work on one.
 *
 * Theory of operation
 * -------------------
 * A volume is had by any number of sandboxes that read it, or by one that writes to it. jaild makes every
 * sandbox, has one thread, and forgets a sandbox when its last process, and with it the last of its mounts,
 * is gone; so its table of sandboxes is the record of who has what, and nothing of it can be left over: not by
 * two requests at once, not by kill -9 of brigd; and the next jaild makes the same table of the sandboxes that it
 * takes over before it serves (recover.c). Work that is under way
 * counts, too: a volume that is being made or removed is nobody's, one that is copied has a reader.
 *
 * Making, copying and removing take as long as mkfs and the disk do. Each is a child of jaild that answers on
 * a socket of its own (volume/work.h), and whose end without an answer is an error. A sandbox waits for the mount of its
 * volumes as it waits for its groups: that takes milliseconds, and a journal that must be replayed is bounded
 * by OPEN_MS.
 *
 * The lock in the folder of volumes, held as long as a jaild of this server lives, keeps a second server from
 * mounting them.
 */
#include "jail/jaild.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "jail/keep.h"
#include "volume/work.h"

_Static_assert(VOLUME_ID == sizeof(((struct jail_ref *)0)->id), "ids of volumes are as those of sandboxes");

#define OPEN_MS 10000
#define DYING_MS 2000

/* ---- the folder ---- */

static int folder_open(struct serve *j, struct brig_err *err)
{
	struct stat st;
	if (j->o->rootless) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "volumes are file systems of their own, which needs root");
		return brig_fix(err, "start the server as root, or use a folder: --volume /DIR:GUEST:ro");
	}
	if (j->o->once || j->store < 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "volumes are kept by a server that stays");
		return brig_fix(err, "start one: brig serve");
	}
	if (j->volumes >= 0)
		return 0;
	if (mkdirat(j->store, VOLUME_FOLDER, 0700) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the folder of volumes");
	AUTO_FD dir = openat(j->store, VOLUME_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the folder of volumes");
	if (st.st_uid != geteuid() || (st.st_mode & 077)) {
		brig_fail(err, BRIG_E_DENIED, 0, "the folder " VOLUME_FOLDER " of the data folder is not root's alone");
		return brig_fix(err, "chown root and chmod 700, if what is in it is yours");
	}
	/* That of a former jaild is held still. */
	AUTO_FD lock = fd_steal(&j->volumes_lock);
	if (lock < 0)
		lock = openat(dir, VOLUME_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the lock of the volumes");
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		brig_fail(err, BRIG_E_BUSY, 0, "the volumes of this data folder are used by another server");
		return brig_fix(err, "end that one, or give this one another --data");
	}
	volume_sweep(dir);
	j->volumes = fd_steal(&dir);
	j->volumes_lock = fd_steal(&lock);
	keep_host(j);
	return 0;
}

/* ---- work ---- */

static void job_end(struct serve *j, struct volume_job *w)
{
	if (w->sock >= 0)
		epoll_ctl(j->epoll, EPOLL_CTL_DEL, w->sock, NULL);
	fd_close(&w->sock);
	if (w->pid > 0) {
		kill(w->pid, SIGKILL);
		while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	*w = (struct volume_job){ .sock = -1 };
}

void volumes_init(struct serve *j)
{
	j->volumes = j->volumes_lock = -1;
	for (unsigned i = 0; i < VOLUME_JOBS_MAX; i++)
		j->job[i].sock = -1;
}

void volumes_done(struct serve *j)
{
	for (unsigned i = 0; i < VOLUME_JOBS_MAX; i++)
		job_end(j, &j->job[i]);
	fd_close(&j->volumes);
	fd_close(&j->volumes_lock);
}

void volumes_unasked(struct serve *j)
{
	for (unsigned i = 0; i < VOLUME_JOBS_MAX; i++)
		j->job[i].seq = 0;
}

/* What the work takes: devices, mounts, and the root directory of a new volume. */
static void shed(void)
{
	const uint64_t keep = 1ull << CAP_SYS_ADMIN | 1ull << CAP_CHOWN | 1ull << CAP_FOWNER |
			      1ull << CAP_DAC_OVERRIDE;
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	if (syscall(SYS_capget, &h, d) < 0)
		_exit(1);
	for (unsigned i = 0; i < 2; i++) {
		d[i].permitted &= (uint32_t)(keep >> (32 * i));
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	/* mkfs.ext4, which is executed as root, gets no more than these either. */
	for (int c = 0; c < 64; c++)
		if (!(keep >> c & 1))
			(void)prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	if (syscall(SYS_capset, &h, d) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(1);
}

static void __attribute__((noreturn)) job_run(const struct serve *j, const struct volume_ask *a, int sock,
					      pid_t parent)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct volume_told t = { .code = BRIG_E_OK };
	char instance[INSTANCE_NAME_LEN + 1];
	int tree = -1;
	prctl(PR_SET_NAME, "brig-volume", 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	memcpy(instance, j->in.name, sizeof(instance));
	int away[2] = { fcntl(sock, F_DUPFD_CLOEXEC, 16), fcntl(j->volumes, F_DUPFD_CLOEXEC, 16) };
	if (away[0] < 0 || away[1] < 0 || dup3(away[0], 3, O_CLOEXEC) < 0 || dup3(away[1], 4, O_CLOEXEC) < 0 ||
	    fd_close_from(5) < 0)
		_exit(1);
	umask(077);
	shed();
	(void)FAILPOINT("volume.work");
	if (volume_work(4, instance, a, &t, &tree, &err) < 0) {
		t.code = (uint32_t)err.code;
		t.sys = err.sys;
		snprintf(t.msg, sizeof(t.msg), "%.*s", (int)sizeof(t.msg) - 1, err.msg);
		snprintf(t.remedy, sizeof(t.remedy), "%s", err.remedy);
	}
	(void)FAILPOINT("volume.done");
	_exit(fd_send(3, &t, sizeof(t), &tree, tree >= 0) < 0);
}

static struct volume_job *job_start(struct serve *j, const struct volume_ask *a, struct brig_err *err)
{
	struct volume_job *w = NULL;
	int sv[2];
	for (unsigned i = 0; i < VOLUME_JOBS_MAX && !w; i++)
		if (j->job[i].pid == 0)
			w = &j->job[i];
	if (!w) {
		brig_fail(err, BRIG_E_BUSY, 0, "%u volumes are being worked on already", VOLUME_JOBS_MAX);
		brig_fix(err, "try again in a moment");
		return NULL;
	}
	if (folder_open(j, err) < 0)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
		brig_fail(err, BRIG_E_EXHAUSTED, errno, "work on a volume");
		return NULL;
	}
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		job_run(j, a, sv[1], parent);
	close(sv[1]);
	if (pid < 0) {
		close(sv[0]);
		brig_fail(err, BRIG_E_EXHAUSTED, errno, "work on a volume");
		return NULL;
	}
	*w = (struct volume_job){ .sock = sv[0], .pid = pid };
	memcpy(w->id, a->id, sizeof(w->id));
	memcpy(w->from, a->from, sizeof(w->from));
	return w;
}

/* How it ended; its mount, if there is one, in *ret_tree. */
static int job_take(struct serve *j, struct volume_job *w, struct volume_told *t, int *ret_tree,
		    struct brig_err *err)
{
	unsigned n = 1;
	*ret_tree = -1;
	ssize_t got = fd_recv(w->sock, t, sizeof(*t), ret_tree, &n, MSG_DONTWAIT);
	job_end(j, w);
	if (got != sizeof(*t)) {
		brig_fail(err, BRIG_E_UNAVAILABLE, 0, "what worked on the volume has ended before it was done");
		return brig_fix(err, "try again; the server's log may say why");
	}
	if (t->code == BRIG_E_OK)
		return 0;
	t->msg[sizeof(t->msg) - 1] = t->remedy[sizeof(t->remedy) - 1] = '\0';
	brig_err_set(err, (enum brig_code)t->code, 0, "%s", t->msg);
	err->sys = t->sys;
	if (t->remedy[0])
		brig_err_remedy(err, "%s", t->remedy);
	return -1;
}

/* ---- who has what ---- */

struct use {
	unsigned readers, writers;
	int changing;	 /* it is being made or removed */
	const char *who; /* one that has it */
};

static struct use use_of(const struct serve *j, const char *id)
{
	struct use u = { .who = "" };
	for (int i = 0; i < j->n_boxes; i++) {
		const struct box *b = &j->box[i];
		for (unsigned v = 0; b->state != BOX_FREE && b->spec && v < b->spec->nvolumes; v++) {
			if (strcmp(b->spec->volumes[v].id, id) != 0)
				continue;
			u.readers += b->spec->volumes[v].readonly;
			u.writers += !b->spec->volumes[v].readonly;
			u.who = b->id;
		}
	}
	for (unsigned i = 0; i < VOLUME_JOBS_MAX; i++) {
		const struct volume_job *w = &j->job[i];
		u.changing |= w->changes && strcmp(w->id, id) == 0;
		u.readers += w->pid && strcmp(w->from, id) == 0;
	}
	return u;
}

static int changing(const char *id, struct brig_err *err)
{
	brig_fail(err, BRIG_E_BUSY, 0, "volume '%s' is being made or removed", id);
	return brig_fix(err, "try again in a moment");
}

static int has(const struct box *b, const char *id)
{
	for (unsigned v = 0; b->state != BOX_FREE && b->spec && v < b->spec->nvolumes; v++)
		if (strcmp(b->spec->volumes[v].id, id) == 0)
			return 1;
	return 0;
}

/* A sandbox is removed behind the answer to whoever used it, who may ask for its volume at once. Waits for
 * those that are killed already, which takes milliseconds. */
static void await_dying(struct serve *j, const char *id)
{
	uint64_t deadline = clock_now() + DYING_MS * MS_NS;
	for (int i = 0; i < j->n_boxes; i++) {
		struct box *b = &j->box[i];
		while (b->state == BOX_DYING && has(b, id) && clock_now() < deadline) {
			struct pollfd p = { .fd = b->slot.pidfd, .events = POLLIN };
			if (b->slot.pidfd >= 0 && poll(&p, 1, 100) > 0)
				box_ended(j, b);
			else if (b->removing) {
				usleep(500);
				box_undo(j, b, 0);
			} else if (b->slot.pidfd < 0)
				break; /* the stage has not told yet who it is */
		}
	}
}

static int may_attach(const struct serve *j, const struct jail_spec *p, unsigned i, struct brig_err *err)
{
	const struct jail_volume *v = &p->volumes[i];
	struct use u = use_of(j, v->id);
	for (unsigned k = 0; k < i; k++)
		if (strcmp(p->volumes[k].id, v->id) == 0)
			return brig_fail(err, BRIG_E_INVALID, 0, "a volume is named twice, for %s and for %s",
					 p->volumes[k].path, v->path);
	if (u.changing)
		return changing(v->id, err);
	if (u.writers == 0 && (v->readonly || u.readers == 0))
		return 0;
	brig_fail(err, BRIG_E_STATE, 0, "the volume for %s is %s by %s%s", v->path,
		  u.writers ? "written to" : "read", u.who[0] ? "sandbox " : "a copy that is being made", u.who);
	return brig_fix(err, "one sandbox may write to a volume, or any number may read it (:ro); remove that one "
			     "first, or use a clone: brig volume clone");
}

/* ---- what brigd asks for ---- */

int volumes_ask(struct serve *j, const struct jail_volume_ask *m, struct brig_err *err)
{
	static const enum volume_verb verbs[JAIL_VOLUME__N] = { [JAIL_VOLUME_MAKE] = VOLUME_MAKE,
								[JAIL_VOLUME_CLONE] = VOLUME_CLONE,
								[JAIL_VOLUME_REMOVE] = VOLUME_REMOVE,
								[JAIL_VOLUME_STAT] = VOLUME_STAT };
	if (m->op != JAIL_VOLUME_STAT)
		await_dying(j, m->op == JAIL_VOLUME_CLONE ? m->from : m->id);
	struct use u = use_of(j, m->id), from = use_of(j, m->from);
	struct volume_ask a = { .verb = verbs[m->op], .bytes = m->bytes, .inodes = m->inodes, .seal = (int)m->seal };
	memcpy(a.id, m->id, sizeof(a.id));
	memcpy(a.from, m->from, sizeof(a.from));
	a.writable = m->op == JAIL_VOLUME_CLONE ? from.writers > 0 : u.writers > 0;
	if (u.changing || (m->op == JAIL_VOLUME_CLONE && from.changing))
		return changing(u.changing ? m->id : m->from, err);
	if (m->op == JAIL_VOLUME_REMOVE && (u.readers || u.writers)) {
		brig_fail(err, BRIG_E_STATE, 0, "the volume is in use by %s%s",
			  u.who[0] ? "sandbox " : "a copy that is being made", u.who);
		return brig_fix(err, u.who[0] ? "remove that sandbox first" : "try again when it is done");
	}
	struct volume_job *w = job_start(j, &a, err);
	if (!w)
		return -1;
	w->seq = m->h.seq;
	w->changes = m->op != JAIL_VOLUME_STAT;
	struct epoll_event ev = { .events = EPOLLIN,
				  .data.u64 = (uint64_t)EV_VOLUME << 32 | (uint32_t)(w - j->job) };
	if (epoll_ctl(j->epoll, EPOLL_CTL_ADD, w->sock, &ev) < 0) {
		brig_fail(err, BRIG_E_EXHAUSTED, errno, "work on a volume");
		job_end(j, w);
		return -1;
	}
	(void)FAILPOINT("jail.volume");
	return 0;
}

void volumes_on_job(struct serve *j, struct volume_job *w)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct volume_told t;
	struct jail_volume_is m = { .h = { JAIL_VOLUME_IS, w->seq } };
	int tree;
	if (w->pid == 0)
		return;
	memcpy(m.id, w->id, sizeof(m.id));
	int r = job_take(j, w, &t, &tree, &err);
	fd_close(&tree);
	if (m.h.seq == 0)
		return;
	if (r < 0) {
		answer_err(j, m.h.seq, &err);
		return;
	}
	struct use u = use_of(j, m.id);
	m.bytes = t.bytes;
	m.inodes = t.inodes;
	m.used_bytes = t.used_bytes;
	m.used_inodes = t.used_inodes;
	m.readers = u.readers;
	m.writers = u.writers;
	answer(j, &m, sizeof(m));
}

int volumes_open(struct serve *j, const struct jail_spec *p, unsigned i, struct brig_err *err)
{
	const struct jail_volume *v = &p->volumes[i];
	struct volume_ask a = { .verb = VOLUME_OPEN, .uid = p->uid, .gid = p->gid, .writable = !v->readonly,
				.root = !v->path[1] };
	struct volume_told t;
	int tree = -1;
	memcpy(a.id, v->id, sizeof(a.id));
	await_dying(j, a.id);
	if (may_attach(j, p, i, err) < 0)
		return -1;
	struct volume_job *w = job_start(j, &a, err);
	if (!w)
		return -1;
	struct pollfd f = { .fd = w->sock, .events = POLLIN };
	while (poll(&f, 1, OPEN_MS) < 0 && errno == EINTR)
		;
	if (job_take(j, w, &t, &tree, err) < 0)
		return -1;
	return tree >= 0 ? tree : brig_fail(err, BRIG_E_INTERNAL, 0, "there is no mount of volume %s", v->path);
}
