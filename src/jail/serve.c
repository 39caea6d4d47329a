/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c: the privileged side of brig.
 *
 * Theory of operation
 * -------------------
 * One thread, one epoll. Three kinds of events: a request of brigd (fixed size, checked by check.c),
 * an answer of the stage, the end of a sandbox's first process (its pidfd). A sandbox ("box") goes
 *
 *     free -> BORN (groups made, stage asked) -> LIVE (child said READY) -> free
 *                \________________ DYING (killed, waiting for its pidfd) ___/
 *
 * and owns, in the order in which they were made: a slot (ids, user and network namespace), cgroups,
 * a process. They are undone in reverse when its first process has been reaped; with it, the kernel
 * has ended every process of its pid namespace, and with the last of these its mounts. There is
 * nothing else: no directory, file, link, rule or mount of a sandbox exists on the host.
 *
 * No byte of a tenant is parsed here. brigd is not trusted: every field is checked again, and above
 * each verb stands what an attacker who owns brigd could try with it.
 */
#include "jail/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "brig/limits.h"
#include "engine/container/cgroup.h"
#include "engine/container/slot.h"
#include "engine/container/stage.h"
#include "jail/check.h"
#include "jail/gc.h"
#include "jail/instance.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum box_state { BOX_FREE, BOX_BORN, BOX_LIVE, BOX_DYING };

struct box {
	enum box_state state;
	int next; /* hash chain or free list; -1 = end */
	uint32_t spawn;       /* our number of it towards the stage */
	uint32_t birth_seq;   /* of the CREATE still to be answered, if `unborn` */
	uint32_t destroy_seq; /* of the DESTROY to answer with GONE, 0 = none */
	int unborn;           /* CREATE has not been answered yet */
	int known;            /* CREATE was answered with OK: its end is told */
	struct slot slot;
	int pid, pidfd;
	int removing; /* process reaped, group still busy */
	char id[BRIG_ID_LEN + 8];
};

enum ev_kind { EV_BROKER, EV_STAGE, EV_MAKER, EV_BOX };

struct serve {
	const struct serve_options *o;
	struct instance in;
	struct cgroup_host cg;
	struct slot_host slots;
	int epoll, stage, stage_pid, store;
	struct box *box;
	int n_boxes, free_box, live, busy_groups;
	uint32_t spawns;
	struct jail_facts facts; /* capacity is read again about once a second */
	uint64_t capacity_at;
	int head_start; /* without a maker: make one slot before the first request comes */
#define HASH 1024
	int hash[HASH];
	int quit;
};

/* ---- boxes ---- */

static unsigned hash_id(const char *id)
{
	unsigned h = 2166136261u; /* FNV-1a; ids are random, the spread does not matter */
	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h % HASH;
}

static struct box *box_find(struct serve *j, const char *id)
{
	for (int i = j->hash[hash_id(id)]; i >= 0; i = j->box[i].next)
		if (strcmp(j->box[i].id, id) == 0)
			return &j->box[i];
	return NULL;
}

static struct box *box_new(struct serve *j, const char *id)
{
	if (j->free_box < 0) {
		int n = j->n_boxes ? j->n_boxes * 2 : 16;
		struct box *mem = realloc(j->box, (size_t)n * sizeof(*mem));
		if (!mem)
			return NULL;
		j->box = mem;
		for (int i = n - 1; i >= j->n_boxes; i--) {
			memset(&mem[i], 0, sizeof(mem[i]));
			mem[i].next = j->free_box;
			j->free_box = i;
		}
		j->n_boxes = n;
	}
	int i = j->free_box;
	struct box *b = &j->box[i];
	j->free_box = b->next;
	memset(b, 0, sizeof(*b));
	b->slot.userns = b->slot.netns = b->slot.timens = b->pidfd = -1;
	memcpy(b->id, id, sizeof(b->id));
	unsigned h = hash_id(id);
	b->next = j->hash[h];
	j->hash[h] = i;
	j->live++;
	return b;
}

static void box_free(struct serve *j, struct box *b)
{
	int *at = &j->hash[hash_id(b->id)];
	int i = (int)(b - j->box);
	while (*at != i)
		at = &j->box[*at].next;
	*at = b->next;
	slot_done(&j->slots, &b->slot);
	fd_close(&b->pidfd);
	memset(b, 0, sizeof(*b));
	b->next = j->free_box;
	j->free_box = i;
	j->live--;
}

/* ---- answers ---- */

static void answer(struct serve *j, const void *msg, size_t n)
{
	/* A broker that does not read its answers, or is gone, is noticed by the main loop. */
	if (fd_send(j->o->broker, msg, n, NULL, 0) < 0)
		j->quit = 1;
}

static void answer_ok(struct serve *j, uint32_t seq, const char *id)
{
	struct jail_ref ok = { .h = { JAIL_OK, seq } };
	if (id)
		memcpy(ok.id, id, sizeof(ok.id));
	answer(j, &ok, sizeof(ok));
}

static void answer_err(struct serve *j, uint32_t seq, const struct brig_err *err)
{
	struct jail_error e = { .h = { JAIL_ERROR, seq },
				.code = (uint32_t)err->code,
				.sys = err->sys };
	snprintf(e.msg, sizeof(e.msg), "%.*s", (int)sizeof(e.msg) - 1, err->msg);
	snprintf(e.remedy, sizeof(e.remedy), "%s", err->remedy);
	answer(j, &e, sizeof(e));
}

static void answer_stats(struct serve *j, uint32_t seq, const struct box *b)
{
	struct jail_stats st = { .h = { JAIL_STATS_IS, seq },
				 .host_uid = b->slot.host_uid,
				 .init_pid = (uint64_t)b->pid };
	memcpy(st.id, b->id, sizeof(st.id));
	cgroup_read(&j->cg, b->id, &st);
	answer(j, &st, sizeof(st));
}

/* Answers a CREATE that came to nothing. */
static void refuse_birth(struct serve *j, struct box *b, const struct brig_err *err)
{
	if (b->unborn)
		answer_err(j, b->birth_seq, err);
	b->unborn = 0;
}

/* ---- the end of a box ---- */

/* The process is reaped: undo the rest in reverse order. Retried while the group is still busy. */
static void box_undo(struct serve *j, struct box *b, int status)
{
	(void)FAILPOINT("jail.undo");
	int r = cgroup_remove(&j->cg, b->id);
	if (r == -EBUSY) {
		cgroup_kill(&j->cg, b->id);
		j->busy_groups += !b->removing;
		b->removing = 1;
		return;
	}
	j->busy_groups -= b->removing;
	struct jail_gone g = { .h = { JAIL_GONE, b->destroy_seq }, .wait_status = (uint32_t)status };
	memcpy(g.id, b->id, sizeof(g.id));
	int told = b->known || b->destroy_seq;
	box_free(j, b);
	(void)FAILPOINT("jail.undone");
	if (told)
		answer(j, &g, sizeof(g));
}

static void box_ended(struct serve *j, struct box *b)
{
	siginfo_t si = { 0 };
	int status = 0;
	if (waitid(P_PIDFD, (id_t)b->pidfd, &si, WEXITED | WNOHANG) == 0) {
		if (si.si_pid == 0)
			return;
		status = si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status;
	}
	epoll_ctl(j->epoll, EPOLL_CTL_DEL, b->pidfd, NULL);
	fd_close(&b->pidfd);
	b->pid = 0;
	if (b->unborn) {
		struct brig_err e = BRIG_ERR_INIT;
		brig_fail(&e, BRIG_E_INTERNAL, 0, "the sandbox's first process ended in its set-up");
		brig_fix(&e, "raise --memory; the kernel log may say more");
		refuse_birth(j, b, &e);
	}
	b->state = BOX_DYING;
	box_undo(j, b, status);
}

static void box_kill(struct box *b)
{
	(void)FAILPOINT("jail.kill");
	b->state = BOX_DYING;
	if (b->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, b->pidfd, SIGKILL, NULL, 0);
}

/* ---- verbs ---- */

struct request {
	union {
		struct jail_hdr h;
		struct jail_hello hello;
		struct jail_image image;
		struct jail_spec spec;
		struct jail_ref ref;
	} m;
	int fd[FD_MSG_MAX]; /* handlers steal what they keep; the rest is closed */
	unsigned n_fd;
};

static uint32_t slot_count(const struct serve *j)
{
	return j->slots.n - 1;
}

/* A dozen files are read for this: too dear for every CREATE. */
static void refresh_capacity(struct serve *j)
{
	uint64_t now = clock_now();
	if (j->capacity_at && now - j->capacity_at < SEC_NS)
		return;
	j->capacity_at = now;
	cgroup_capacity(&j->cg, &j->facts.mem_total, &j->facts.pids_total);
}

/* HELLO tells about the host only what any local user could find out. */
static int op_hello(struct serve *j, struct request *r, struct brig_err *err)
{
	if (r->m.hello.version != BRIG_JAIL_PROTO_VERSION) {
		brig_fail(err, BRIG_E_PROTOCOL, 0, "brigd speaks jail protocol %u, brig-jaild %u",
			  r->m.hello.version, BRIG_JAIL_PROTO_VERSION);
		return brig_fix(err, "install brigd and brig-jaild of the same version");
	}
	struct jail_hello a = { .h = { JAIL_HELLO_OK, r->m.h.seq },
				.version = BRIG_JAIL_PROTO_VERSION,
				.enforced = j->facts.enforced,
				.cgroup = (uint32_t)j->cg.version,
				.rootless = (uint32_t)j->o->rootless,
				.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
				.slots = slot_count(j) };
	refresh_capacity(j);
	a.mem_total = j->facts.mem_total;
	a.pids_max = j->facts.pids_total;
	answer(j, &a, sizeof(a));
	return 0;
}

/*
 * IMAGE. A hostile brigd could offer "/" or /root as an image and have its owners mapped to a
 * sandbox, which would show it files that only root may read. So the directory must be exactly
 * <store>/images/<digest>/rootfs, compared by device and inode on the way up: what lies there was put
 * there by the importer as a tenant's image.
 */
static int image_in_store(const struct serve *j, int fd)
{
	struct stat up, store;
	AUTO_FD images = openat(fd, "../..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD want = j->store < 0 ? -1 : openat(j->store, "images", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return images >= 0 && want >= 0 && fstat(images, &up) == 0 && fstat(want, &store) == 0 &&
	       up.st_dev == store.st_dev && up.st_ino == store.st_ino;
}

static int op_image(struct serve *j, struct request *r, struct brig_err *err)
{
	const struct jail_image *m = &r->m.image;
	struct stage_image s = { .h = { STAGE_IMAGE, m->h.seq }, .id = m->id };
	if (jail_check_image(m, &j->facts, r->n_fd, err) < 0)
		return -1;
	AUTO_FD tree = -1;
	if (!m->drop) {
		if (!image_in_store(j, r->fd[0])) {
			brig_fail(err, BRIG_E_DENIED, 0, "the directory is no image of the store");
			return brig_fix(err, "start brig-jaild with the --data that brigd uses");
		}
		if (j->o->rootless) {
			/* The descriptor's mount is of another mount namespace than ours and cannot be
			 * cloned; by name, with the user's own rights, it can. */
			char link[64], path[4096];
			snprintf(link, sizeof(link), "/proc/self/fd/%d", r->fd[0]);
			ssize_t n = readlink(link, path, sizeof(path) - 1);
			path[n > 0 ? n : 0] = '\0';
			tree = mntfd_clone(AT_FDCWD, path, 0);
		} else
			tree = mntfd_clone(r->fd[0], "", MNTFD_AT_EMPTY_PATH);
		struct mntfd_attr ro = { .set = MNTFD_ATTR_RDONLY | MNTFD_ATTR_NOSUID |
						MNTFD_ATTR_NODEV };
		int e = tree < 0 ? tree : mntfd_setattr(tree, 0, &ro);
		if (e < 0)
			return brig_fail(err, BRIG_E_INTERNAL, -e, "clone the image's mount");
	}
	int e = fd_send(j->stage, &s, sizeof(s), &tree, m->drop ? 0 : 1);
	if (e < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -e, "hand the image to the stage");
	j->facts.image[m->id] = !m->drop;
	answer_ok(j, m->h.seq, NULL);
	return 0;
}

/* The channel must be what the agent expects; the kernel says what a descriptor is. */
static int check_channel(int fd, struct brig_err *err)
{
	int type = 0, domain = 0;
	socklen_t len = sizeof(type);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM ||
	    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREATE carries no channel");
	return 0;
}

/*
 * Makes a volume ready to attach. A hostile brigd could open "/etc" and have its owner mapped to a
 * sandbox user; therefore a volume must be a detached mount, which only a process with
 * CAP_SYS_ADMIN can make: the client that names a host path as root, not brigd. Owners are mapped one
 * to one: what belongs to the owner of the volume's root appears as the sandbox's user, and
 * everything else as nobody.
 */
static int volume_prepare(const struct serve *j, const struct jail_spec *p, unsigned i,
			  const struct slot *slot, int *fd, struct brig_err *err)
{
	const struct jail_volume *v = &p->volumes[i];
	struct stat st;
	if (j->o->rootless) {
		if (!v->readonly) {
			brig_fail(err, BRIG_E_UNSUPPORTED, 0,
				  "a writable volume needs id-mapped mounts, which need root");
			return brig_fix(err, "attach it read-only (%s:ro), or use `brig cp`", v->path);
		}
		char link[64], path[4096];
		snprintf(link, sizeof(link), "/proc/self/fd/%d", *fd);
		ssize_t n = readlink(link, path, sizeof(path) - 1);
		path[n > 0 ? n : 0] = '\0';
		int tree = mntfd_clone(AT_FDCWD, path, 0);
		if (tree < 0)
			return brig_fail(err, BRIG_E_DENIED, -tree, "open the volume for %s", v->path);
		fd_close(fd);
		*fd = tree;
	}
	struct mntfd_attr a = { .set = MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV |
				       (v->readonly ? MNTFD_ATTR_RDONLY : 0) };
	int r = mntfd_setattr(*fd, 0, &a);
	if (r < 0) {
		brig_fail(err, BRIG_E_DENIED, -r, "volume %s is not a detached mount", v->path);
		return brig_fix(err, "attach volumes with the brig client, as root");
	}
	if (j->o->rootless)
		return 0;
	if (fstat(*fd, &st) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "look at volume %s", v->path);
	char um[64], gm[64];
	snprintf(um, sizeof(um), "%u %u 1\n", st.st_uid, slot->host_uid + p->uid);
	snprintf(gm, sizeof(gm), "%u %u 1\n", st.st_gid, slot->host_gid + p->gid);
	AUTO_FD ns = userns_make(um, gm);
	a = (struct mntfd_attr){ .set = MNTFD_ATTR_IDMAP, .userns_fd = (uint64_t)ns };
	r = ns < 0 ? ns : mntfd_setattr(*fd, 0, &a);
	/* Without mapping, a read-only volume still shows what everybody may read. */
	if (r < 0 && !v->readonly) {
		brig_fail(err, BRIG_E_UNSUPPORTED, -r, "map the owner of volume %s", v->path);
		return brig_fix(err, "attach it read-only (%s:ro), or put it on ext4, xfs or btrfs",
				v->path);
	}
	return 0;
}

/*
 * CREATE. A hostile brigd chooses the limits, the image and the channel of a new sandbox, all within
 * what jail_check_spec allows: it can make sandboxes, which is its trade, and exhaust slots, which costs
 * only itself. It cannot leave a boundary out: none is optional in the message.
 */
static int op_create(struct serve *j, struct request *r, struct brig_err *err)
{
	const struct jail_spec *p = &r->m.spec;
	struct cgroup_join join = { 0 };
	refresh_capacity(j);
	if (jail_check_spec(p, &j->facts, err) < 0)
		return -1;
	if (r->n_fd != 1 + p->nvolumes)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREATE with %u descriptors", r->n_fd);
	if (check_channel(r->fd[0], err) < 0)
		return -1;
	if (box_find(j, p->id))
		return brig_fail(err, BRIG_E_EXISTS, 0, "sandbox '%s' exists already", p->id);
	struct box *b = box_new(j, p->id);
	if (b)
		b->state = BOX_BORN;
	if (!b)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember sandbox '%s'", p->id);
	if (slot_take(&j->slots, &b->slot, err) < 0) {
		box_free(j, b);
		return brig_ctx(err, "create sandbox '%s'", p->id);
	}
	(void)FAILPOINT("jail.slot");
	b->spawn = ++j->spawns;
	struct stage_spawn s = { .h = { STAGE_SPAWN, b->spawn },
				 .flags = (j->slots.range ? STAGE_F_RANGE : 0),
				 .cgroup_version = (uint32_t)j->cg.version,
				 .host_uid = b->slot.host_uid,
				 .host_gid = b->slot.host_gid };
	/* For the host image this maps the skeleton only: the host's /usr keeps its owners (nobody
	 * inside), so that a root inside gains nothing over it. */
	if (j->facts.enforced & JAIL_ENF_idmap)
		s.flags |= STAGE_F_IDMAP;
	s.spec = *p;
	for (unsigned i = 0; i < p->nvolumes; i++) {
		if (volume_prepare(j, p, i, &b->slot, &r->fd[1 + i], err) < 0)
			goto fail;
		s.deny_suid |= !p->volumes[i].readonly;
	}
	struct cgroup_limits lim = { .memory_bytes = p->memory_bytes,
				     .cpu_milli = p->cpu_milli,
				     .pids = p->pids };
	if (cgroup_make(&j->cg, p->id, &b->slot.groups, &lim, &join, err) < 0)
		goto fail;
	(void)FAILPOINT("jail.cgroup");
	s.n_join = join.n;
	int fds[FD_MSG_MAX];
	unsigned n = 0;
	fds[n++] = r->fd[0];
	fds[n++] = b->slot.userns;
	fds[n++] = b->slot.netns;
	if (b->slot.timens >= 0) {
		s.flags |= STAGE_F_TIME;
		fds[n++] = b->slot.timens;
	}
	for (unsigned i = 0; i < join.n; i++)
		fds[n++] = join.fd[i];
	for (unsigned i = 0; i < p->nvolumes; i++)
		fds[n++] = r->fd[1 + i];
	int e = fd_send(j->stage, &s, sizeof(s), fds, n);
	cgroup_join_close(&join);
	if (e < 0) {
		brig_fail(err, BRIG_E_INTERNAL, -e, "ask the stage");
		cgroup_remove(&j->cg, p->id);
		goto fail;
	}
	(void)FAILPOINT("jail.spawn");
	b->birth_seq = r->m.h.seq;
	b->unborn = 1;
	/* The namespaces live on by the sandbox's processes; only the lease is kept. */
	return 0;
fail:
	box_free(j, b);
	return brig_ctx(err, "create sandbox '%s'", p->id);
}

/* STATS and DESTROY act on sandboxes of this jaild only, named by id; their worst use is to end one. */
static int op_stats(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = jail_check_id(r->m.ref.id) ? box_find(j, r->m.ref.id) : NULL;
	if (!b)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox");
	answer_stats(j, r->m.h.seq, b);
	return 0;
}

static int op_destroy(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = jail_check_id(r->m.ref.id) ? box_find(j, r->m.ref.id) : NULL;
	if (!b)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox");
	answer_stats(j, r->m.h.seq, b);
	b->destroy_seq = r->m.h.seq;
	struct brig_err gone = BRIG_ERR_INIT;
	brig_fail(&gone, BRIG_E_STATE, 0, "sandbox '%s' was destroyed before it was ready", b->id);
	refuse_birth(j, b, &gone);
	box_kill(b);
	return 0;
}

static void on_broker(struct serve *j)
{
	struct request r;
	struct brig_err err = BRIG_ERR_INIT;
	r.n_fd = FD_MSG_MAX;
	memset(&r.m.h, 0, sizeof(r.m.h));
	ssize_t n = fd_recv(j->o->broker, &r.m, sizeof(r.m), r.fd, &r.n_fd, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EMSGSIZE)
		return;
	if (n <= 0) {
		j->quit = 1;
		return;
	}
	int e = -1;
	switch (jail_check_message(&r.m, (size_t)n, r.n_fd, &err)) {
	case JAIL_HELLO:
		e = op_hello(j, &r, &err);
		break;
	case JAIL_IMAGE:
		e = op_image(j, &r, &err);
		break;
	case JAIL_CREATE:
		e = op_create(j, &r, &err);
		break;
	case JAIL_STATS:
		e = op_stats(j, &r, &err);
		break;
	case JAIL_DESTROY:
		e = op_destroy(j, &r, &err);
		break;
	default:
		break;
	}
	if (e < 0)
		answer_err(j, (size_t)n < sizeof(r.m.h) ? 0 : r.m.h.seq, &err);
	for (unsigned i = 0; i < r.n_fd; i++)
		fd_close(&r.fd[i]);
}

/* ---- the stage's side ---- */

static struct box *box_by_spawn(struct serve *j, uint32_t spawn)
{
	/* The youngest are asked for; a table is scanned in 10 us at its fullest. */
	for (int i = 0; i < j->n_boxes; i++)
		if (j->box[i].state != BOX_FREE && j->box[i].spawn == spawn)
			return &j->box[i];
	return NULL;
}

static void on_cloned(struct serve *j, const struct stage_cloned *c, int *pidfd)
{
	struct box *b = box_by_spawn(j, c->h.seq);
	if (!b || b->pidfd >= 0)
		return;
	if (c->err || *pidfd < 0) {
		struct brig_err e = BRIG_ERR_INIT;
		brig_fail(&e, BRIG_E_EXHAUSTED, c->err, "clone the sandbox's first process");
		brig_fix(&e, "run `brig doctor`; raise user.max_*_namespaces or kernel.pid_max");
		refuse_birth(j, b, &e);
		b->state = BOX_DYING;
		box_undo(j, b, 0);
		return;
	}
	b->pid = (int)c->pid;
	b->pidfd = fd_steal(pidfd);
	struct epoll_event ev = { .events = EPOLLIN,
				  .data.u64 = (uint64_t)EV_BOX << 32 | (uint32_t)(b - j->box) };
	epoll_ctl(j->epoll, EPOLL_CTL_ADD, b->pidfd, &ev);
	if (b->state == BOX_DYING)
		box_kill(b);
}

static void on_ready(struct serve *j, const struct stage_ready *m)
{
	struct box *b = box_by_spawn(j, m->h.seq);
	if (!b || !b->unborn)
		return;
	if (m->err == 0) {
		b->unborn = 0;
		b->known = 1;
		b->state = BOX_LIVE;
		/* Held by the sandbox's own processes from here on. */
		fd_close(&b->slot.userns);
		fd_close(&b->slot.netns);
		fd_close(&b->slot.timens);
		answer_ok(j, b->birth_seq, b->id);
		return;
	}
	struct brig_err e = BRIG_ERR_INIT;
	brig_fail(&e, (enum brig_code)m->code, -m->err, "create sandbox '%s': %.180s", b->id, m->step);
	brig_fix(&e, "run `brig doctor`");
	refuse_birth(j, b, &e);
	/* It exits by itself and is reaped then. */
	b->state = BOX_DYING;
}

static void on_stage(struct serve *j)
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
	if (n <= 0) {
		fprintf(stderr, "brig-jaild: the stage is gone; ending\n");
		j->quit = 1;
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

/* ---- start and end ---- */

static int start_stage(struct serve *j)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		char *argv[] = { (char[]){ "brig-agent" },
				 j->o->rootless ? (char[]){ "--stage-rootless" } : (char[]){ "--stage" },
				 NULL };
		char *envp[] = { NULL };
		int s = fcntl(sv[1], F_DUPFD, 16);
		if (s < 0 || dup2(s, 3) < 0 || fd_close_from(4) < 0)
			_exit(126);
		execve(j->o->agent, argv, envp);
		fprintf(stderr, "brig-jaild: start '%s': %s\n", j->o->agent, strerror(errno));
		_exit(127);
	}
	close(sv[1]);
	j->stage = sv[0];
	j->stage_pid = pid;
	return 0;
}

/* Can a detached copy of /usr be id-mapped, and does overlay accept that? The second is true from
 * Linux 5.19; the overlay itself is tried by `brig doctor`. */
static int probe_idmap(void)
{
	AUTO_FD ns = userns_make("0 1879048193 1\n", "0 1879048193 1\n");
	AUTO_FD tree = ns < 0 ? -1 : mntfd_clone(AT_FDCWD, "/", 0);
	struct mntfd_attr a = { .set = MNTFD_ATTR_IDMAP, .userns_fd = (uint64_t)ns };
	return tree >= 0 && mntfd_setattr(tree, 0, &a) == 0;
}

static void measure_host(struct serve *j)
{
	j->facts.range = j->slots.range;
	j->facts.ids = j->slots.size;
	j->facts.enforced = j->cg.enforced;
	if (j->slots.range)
		j->facts.enforced |= JAIL_ENF_uidrange;
	if (!j->o->rootless && probe_idmap())
		j->facts.enforced |= JAIL_ENF_idmap;
	if (access("/proc/self/timens_offsets", F_OK) == 0)
		j->facts.enforced |= JAIL_ENF_timens;
}

/* What waits until there is nothing else to do. Returns 1 to be called again soon. */
static int idle_work(struct serve *j)
{
	for (int i = 0; j->busy_groups && i < j->n_boxes; i++)
		if (j->box[i].state == BOX_DYING && j->box[i].removing)
			box_undo(j, &j->box[i], 0);
	if (j->head_start && !j->slots.n_ready) {
		struct brig_err err;
		j->head_start = 0;
		/* If it fails, the request that needs it says why. */
		if (slot_take(&j->slots, &j->slots.ready[0], &err) == 0)
			j->slots.n_ready = 1;
	}
	return j->busy_groups != 0;
}

static void destroy_all(struct serve *j)
{
	for (int i = 0; i < j->n_boxes; i++)
		if (j->box[i].state != BOX_FREE)
			box_kill(&j->box[i]);
	/* The stage may be in the middle of a clone: it goes first, then PDEATHSIG and the groups get
	 * whatever it made. */
	fd_close(&j->stage);
	if (j->stage_pid > 0) {
		kill(j->stage_pid, SIGKILL);
		while (waitpid(j->stage_pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	uint64_t deadline = clock_now() + 2 * SEC_NS;
	for (int i = 0; i < j->n_boxes; i++) {
		struct box *b = &j->box[i];
		while (b->state != BOX_FREE && clock_now() < deadline) {
			if (b->pidfd >= 0)
				waitid(P_PIDFD, (id_t)b->pidfd, &(siginfo_t){ 0 }, WEXITED);
			cgroup_kill(&j->cg, b->id);
			if (cgroup_remove(&j->cg, b->id) == 0)
				box_free(j, b);
			else
				usleep(1000);
		}
	}
	slot_host_close(&j->slots);
	cgroup_host_close(&j->cg);
	instance_end(&j->in);
	free(j->box);
}

static int serve_start(struct serve *j)
{
	struct brig_err err = BRIG_ERR_INIT;
	if (instance_begin(&j->in, &err) < 0)
		goto fail;
	gc_sweep_dead(j->in.run, j->o->delegated);
	cgroup_host_open(&j->cg, j->in.name, j->o->delegated);
	if (slot_host_open(&j->slots, &j->cg, j->in.run, j->o->rootless, j->o->sub_ids, &err) < 0)
		goto fail;
	if (!j->o->once && j->o->ready > 0 && slot_maker_start(&j->slots, j->o->broker) < 0)
		j->slots.maker = -1; /* slots are made inline then */
	for (int i = 0; i < j->o->ready; i++)
		slot_prefetch(&j->slots, (unsigned)j->o->ready);
	if (j->o->data)
		j->store = open(j->o->data, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int e = start_stage(j);
	if (e < 0) {
		brig_fail(&err, BRIG_E_INTERNAL, -e, "start the stage");
		goto fail;
	}
	measure_host(j);
	j->facts.image[0] = 1;
	j->epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event a = { .events = EPOLLIN, .data.u64 = (uint64_t)EV_BROKER << 32 };
	struct epoll_event b = { .events = EPOLLIN, .data.u64 = (uint64_t)EV_STAGE << 32 };
	struct epoll_event c = { .events = EPOLLIN, .data.u64 = (uint64_t)EV_MAKER << 32 };
	if (j->epoll < 0 || epoll_ctl(j->epoll, EPOLL_CTL_ADD, j->o->broker, &a) < 0 ||
	    epoll_ctl(j->epoll, EPOLL_CTL_ADD, j->stage, &b) < 0 ||
	    (j->slots.maker >= 0 && epoll_ctl(j->epoll, EPOLL_CTL_ADD, j->slots.maker, &c) < 0)) {
		brig_fail(&err, BRIG_E_EXHAUSTED, errno, "watch the sockets");
		goto fail;
	}
	return 0;
fail:
	fprintf(stderr, "brig-jaild: %s\n", err.msg);
	if (err.remedy[0])
		fprintf(stderr, "  remedy: %s\n", err.remedy);
	return -1;
}

int serve_run(const struct serve_options *o)
{
	static struct serve j;
	j.o = o;
	j.epoll = j.stage = j.store = -1;
	j.free_box = -1;
	j.head_start = o->once;
	j.in.run = j.in.lock = -1;
	for (int i = 0; i < HASH; i++)
		j.hash[i] = -1;
	signal(SIGPIPE, SIG_IGN);
	/* A terminal's Ctrl-C is for the command; brigd decides when jaild ends. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
		j.facts.nofile_hard = files.rlim_max;
	}
	int failed = serve_start(&j) < 0;
	while (!failed && !j.quit) {
		struct epoll_event ev[64];
		int busy = 0;
		int n = epoll_wait(j.epoll, ev, 64, 0);
		if (n == 0) {
			busy = idle_work(&j);
			n = epoll_wait(j.epoll, ev, 64, busy ? 1 : -1);
		}
		if (!o->once)
			slot_prefetch(&j.slots, (unsigned)o->ready);
		for (int i = 0; i < n; i++) {
			uint32_t kind = (uint32_t)(ev[i].data.u64 >> 32), at = (uint32_t)ev[i].data.u64;
			if (kind == EV_BROKER)
				on_broker(&j);
			else if (kind == EV_STAGE)
				on_stage(&j);
			else if (kind == EV_MAKER)
				slot_collect(&j.slots);
			else if (j.box[at].pidfd >= 0)
				box_ended(&j, &j.box[at]);
		}
	}
	destroy_all(&j);
	return failed;
}
