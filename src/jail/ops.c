/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.c: what brigd may ask of brig-jaild. Above each verb stands what an attacker who owns brigd could
 * try with it, and why that fails. The shape and content of messages are checked in check.c.
 */
#include "jail/jaild.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "volume/work.h"
#include "engine/engine.h"
#include "jail/keep.h"

/* The error for an operation of engine.h that a tier does not have. */
#define CANNOT(e, op, what, err)                                                                    \
	engine_cannot(e, what,                                                                      \
		      (const int[BRIG_TIER__N]){ engine_container.op != NULL, engine_gvisor.op != NULL, \
						 engine_microvm.op != NULL },                       \
		      err)

struct request {
	union {
		struct jail_hdr h;
		struct jail_hello hello;
		struct jail_image image;
		struct jail_spec spec;
		struct jail_ref ref;
		struct jail_list list;
		struct jail_volume_ask volume;
		struct jail_peer peer;
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

/* HELLO tells about the host only what any local user could find out. The log of packets that comes along
 * has heads of packets that sandboxes sent and the rules refused; it takes no commands of an unprivileged
 * reader. */
static int op_hello(struct serve *j, struct request *r, struct brig_err *err)
{
	if (r->m.hello.version != BRIG_JAIL_PROTO_VERSION) {
		brig_fail(err, BRIG_E_PROTOCOL, 0, "brigd speaks jail protocol %u, brig-jaild %u",
			  r->m.hello.version, BRIG_JAIL_PROTO_VERSION);
		return brig_fix(err, "install brigd and brig-jaild of the same version");
	}
	/* A private server's one request must not wait for a figure that nobody asks it for. */
	if (!j->o->once)
		slot_wait(&j->slots);
	serve_learn_idmap(j);
	struct jail_hello a = { .h = { JAIL_HELLO_OK, r->m.h.seq },
				.version = BRIG_JAIL_PROTO_VERSION,
				.enforced = j->facts.enforced,
				.cgroup = (uint32_t)j->cg.version,
				.rootless = (uint32_t)j->o->rootless,
				.outlive = (uint32_t)keep_on(j),
				.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
				.slots = slot_count(j) };
	refresh_capacity(j);
	a.mem_total = j->facts.mem_total;
	a.pids_max = j->facts.pids_total;
	a.net = (uint32_t)j->facts.net;
	memcpy(a.tier, j->tier, sizeof(a.tier));
	if (fd_send(j->broker, &a, sizeof(a), &j->gateway.packets, a.net ? 1 : 0) < 0)
		j->quit = 1;
	return 0;
}

/* The directory or file of a descriptor, opened once more by its name. */
static int open_by_name(int fd)
{
	char link[64], path[4096];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return -ENOENT;
	path[n] = '\0';
	int r = open(path, O_PATH | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

/*
 * IMAGE. A hostile brigd could offer "/" or /root as an image and have its owners mapped to a
 * sandbox, which would show it files that only root may read. So the directory must be exactly
 * <store>/images/<digest>, compared by device and inode, and the trees are those that the importer
 * put there or named there: brigd chooses which image, not what is in it.
 */
static int op_image(struct serve *j, struct request *r, struct brig_err *err)
{
	const struct jail_image *m = &r->m.image;
	if (jail_check_image(m, &j->facts, r->n_fd, err) < 0)
		return -1;
	if (!m->drop) {
		/* In the rootless case the descriptor's mount is of another mount namespace than ours and
		 * cannot be cloned; the same directory by name, with the user's own rights, can. */
		AUTO_FD dir = j->o->rootless ? open_by_name(r->fd[0]) : fd_steal(&r->fd[0]);
		if (dir < 0)
			return brig_fail(err, BRIG_E_INTERNAL, -dir, "open the image");
		if (jail_trees_open(j->store, dir, &j->image[m->id], err) < 0)
			return -1;
		AUTO_FD tree = mntfd_clone(j->image[m->id].fd[0], "", MNTFD_AT_EMPTY_PATH);
		if (tree < 0) {
			jail_trees_close(&j->image[m->id]);
			return brig_fail(err, BRIG_E_INTERNAL, -tree, "clone the image's mount");
		}
	} else
		jail_trees_close(&j->image[m->id]);
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

/* 1 if the mount of fd is not part of our mount namespace: then nothing done to it can change the
 * host's own mounts. (A mount of yet another namespace is refused by the kernel.) */
static int is_detached(int fd)
{
	char path[64], text[512], want[32];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return 0;
	const char *p = strstr(text, "mnt_id:");
	if (!p)
		return 0;
	snprintf(want, sizeof(want), "%lu ", strtoul(p + strlen("mnt_id:"), NULL, 10));
	AUTO_FREE char *line = NULL;
	size_t cap = 0;
	int found = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return 0;
	while (!found && getline(&line, &cap, f) > 0)
		found = strncmp(line, want, strlen(want)) == 0;
	fclose(f);
	return !found;
}

/*
 * Makes a volume ready to attach. A hostile brigd could open "/etc" and have its owner mapped to a
 * sandbox user; therefore a volume must be a detached mount, which only a process with
 * CAP_SYS_ADMIN can make: the client that names a host path as root, not brigd. Owners are mapped one
 * to one: what belongs to the owner of the volume's root appears as the sandbox's user, and
 * everything else as nobody.
 */
static int host_volume_prepare(const struct serve *j, const struct jail_spec *p, unsigned i,
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
		AUTO_FD dir = open_by_name(*fd);
		int tree = dir < 0 ? dir : mntfd_clone(dir, "", MNTFD_AT_EMPTY_PATH);
		if (tree < 0)
			return brig_fail(err, BRIG_E_DENIED, -tree, "open the volume for %s", v->path);
		fd_close(fd);
		*fd = tree;
	} else if (!is_detached(*fd)) {
		brig_fail(err, BRIG_E_DENIED, 0, "volume %s is not a detached mount", v->path);
		return brig_fix(err, "attach volumes with the brig client, as root");
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
 * A volume of the store, by its id: its mount was made here and has never been anywhere else. A hostile brigd
 * could name the volume of another tenant, as it could put a command into another tenant's sandbox; it cannot
 * have one written by two sandboxes, nor reach it in any other way than from inside a sandbox. The ids of the sandbox are the ids on the disk, 0 to
 * 65535, whatever range it has today. Set-user-id bits mean nothing on any mount of a volume.
 */
static int store_volume_prepare(struct serve *j, const struct jail_spec *p, unsigned i,
				const struct slot *slot, int *ret_fd, struct brig_err *err)
{
	AUTO_FD tree = volumes_open(j, p, i, err);
	if (tree < 0)
		return -1;
	/* Overlay makes files in the writable layer as root of the host, which has an id there, too. */
	AUTO_FD layer = -1;
	if (!p->volumes[i].path[1]) {
		char um[64], gm[64];
		snprintf(um, sizeof(um), "0 %u %u\n%u 0 1\n", slot->host_uid, BRIG_ID_SLOT, VOLUME_UNGIVEN);
		snprintf(gm, sizeof(gm), "0 %u %u\n%u 0 1\n", slot->host_gid, BRIG_ID_SLOT, VOLUME_UNGIVEN);
		layer = userns_make(um, gm);
		if (layer < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, -layer, "map the owners of the writable layer");
	}
	struct mntfd_attr a = { .set = MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV | MNTFD_ATTR_IDMAP |
				       (p->volumes[i].readonly ? MNTFD_ATTR_RDONLY : 0),
				.userns_fd = (uint64_t)(layer >= 0 ? layer : slot->userns) };
	int r = mntfd_setattr(tree, 0, &a);
	if (r < 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, -r, "map the owners of volume %s", p->volumes[i].path);
		return brig_fix(err, "volumes need id-mapped mounts of ext4: Linux 5.15 or newer");
	}
	*ret_fd = fd_steal(&tree);
	return 0;
}

/* Early, so that the gateway knows its policy when the command starts. */
static void answer_link(struct serve *j, uint32_t seq, const struct box *b)
{
	struct jail_link_is m = { .h = { JAIL_LINK, seq }, .lease = b->slot.lease };
	if (!b->slot.net)
		return;
	memcpy(m.id, b->id, sizeof(m.id));
	answer(j, &m, sizeof(m));
}

/*
 * CREATE. A hostile brigd chooses the limits, the image and the channel of a new sandbox, all within
 * what jail_check_spec allows: it can make sandboxes, which is its trade, and exhaust slots, which costs
 * only itself. It chooses the tier among those that this host offers, and cannot leave a boundary of it
 * out: none is optional in the message. With a network a sandbox gets a link to the gateway and nothing
 * else; what the gateway lets through is not decided here.
 */
static int op_create(struct serve *j, struct request *r, struct brig_err *err)
{
	const struct jail_spec *p = &r->m.spec;
	struct cgroup_join join = { 0 };
	refresh_capacity(j);
	if (jail_check_spec(p, &j->facts, err) < 0)
		return -1;
	if (r->n_fd != jail_spec_fds(p))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "CREATE with %u descriptors", r->n_fd);
	if (check_channel(r->fd[0], err) < 0 || (p->keep && check_channel(r->fd[r->n_fd - 1], err) < 0))
		return -1;
	if (box_find(j, p->id))
		return brig_fail(err, BRIG_E_EXISTS, 0, "sandbox '%s' exists already", p->id);
	const struct engine *engine = engine_of(p->tier);
	if (engine->check && engine->check(j, p, err) < 0)
		return brig_ctx(err, "create sandbox '%s'", p->id);
	struct box *b = box_new(j, p->id, engine);
	if (!b)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember sandbox '%s'", p->id);
	if (slot_take(&j->slots, (int)p->net, engine->born_ahead, &b->slot, err) < 0) {
		box_free(j, b);
		return brig_ctx(err, "create sandbox '%s'", p->id);
	}
	(void)FAILPOINT("jail.slot");
	answer_link(j, r->m.h.seq, b);
	/* The channel, and what becomes of each volume: what came along, or what the store gives. */
	int deny_suid = 0, have_group = 0, fds[1 + JAIL_VOLUMES_MAX] = { fd_steal(&r->fd[0]) };
	unsigned nfds = 1, at = 1;
	for (unsigned i = 0; i < p->nvolumes; i++, nfds++) {
		fds[nfds] = p->volumes[i].id[0] ? -1 : fd_steal(&r->fd[at++]);
		deny_suid |= fds[nfds] >= 0 && !p->volumes[i].readonly;
		if ((fds[nfds] < 0 ? store_volume_prepare(j, p, i, &b->slot, &fds[nfds], err)
				   : host_volume_prepare(j, p, i, &b->slot, &fds[nfds], err)) < 0) {
			nfds++;
			goto fail;
		}
	}
	struct cgroup_limits lim = { .memory_bytes = p->memory_bytes,
				     .cpu_milli = p->cpu_milli,
				     .pids = p->pids };
	if (engine->limits)
		engine->limits(p, &lim);
	if (cgroup_make(&j->cg, p->id, &b->slot.groups, &lim, &join, err) < 0)
		goto fail;
	have_group = 1;
	(void)FAILPOINT("jail.cgroup");
	const struct engine_order order = { .spec = p, .fds = fds, .join = &join, .deny_suid = deny_suid };
	if (engine->create(j, b, &order, err) < 0 ||
	    cgroup_name(&j->cg, p->id, &b->slot.groups, err) < 0)
		goto fail;
	cgroup_join_close(&join);
	if (receipt_keep(b, p, deny_suid) < 0) {
		brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember what was asked for");
		goto fail;
	}
	if (receipt_ahead(j, b, err) < 0)
		goto fail;
	if (p->keep)
		b->chan = fd_steal(&r->fd[r->n_fd - 1]);
	while (nfds)
		fd_close(&fds[--nfds]);
	(void)FAILPOINT("jail.spawn");
	b->birth_seq = r->m.h.seq;
	b->unborn = 1;
	j->births++;
	if (b->slot.pidfd >= 0)
		box_watch(j, b);
	return 0;
fail:
	while (nfds)
		fd_close(&fds[--nfds]);
	cgroup_join_close(&join);
	box_free(j, b); /* its child, too */
	for (int tries = 0; have_group && cgroup_remove(&j->cg, p->id) == -EBUSY && tries < 500; tries++) {
		cgroup_kill(&j->cg, p->id);
		usleep(1000);
	}
	return brig_ctx(err, "create sandbox '%s'", p->id);
}

/* STATS, MEASURE and DESTROY act on sandboxes of this jaild only, named by id; their worst use is to end one. */
static int op_stats(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = jail_check_id(r->m.ref.id) ? box_find(j, r->m.ref.id) : NULL;
	if (!b)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox");
	answer_stats(j, r->m.h.seq, b, r->m.h.verb == JAIL_MEASURE);
	return 0;
}

/*
 * RECEIPT reads, and tells what was read; the one thing that it does to the sandbox is to stop its first
 * process for the moment in which the kernel copies its filters out. A hostile brigd that asks without end
 * makes that sandbox slow, and one reader at a time is all that it gets per sandbox.
 */
static int op_receipt(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = jail_check_id(r->m.ref.id) ? box_find(j, r->m.ref.id) : NULL;
	if (!b)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox");
	if (!b->engine->receipt)
		return CANNOT(b->engine, receipt, "be measured", err);
	return b->engine->receipt(j, b, r->m.h.seq, err);
}

/*
 * LIST. A new brigd learns what the former one left, and gets the host's end of each agent channel. A
 * hostile brigd could ask at any time and gets what it has already: channels of its own sandboxes.
 */
static int op_list(struct serve *j, struct request *r, struct brig_err *err)
{
	struct jail_box a = { .h = { JAIL_BOX_IS, r->m.h.seq } };
	int at = r->m.list.at < (uint32_t)j->n_boxes ? (int)r->m.list.at : j->n_boxes;
	if (r->m.list.reserved)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "LIST is malformed");
	/* What dies is as good as gone. */
	while (at < j->n_boxes && (j->box[at].state == BOX_FREE || j->box[at].state == BOX_DYING))
		at++;
	const struct box *b = at < j->n_boxes ? &j->box[at] : NULL;
	a.next = (uint32_t)at + 1;
	if (b) {
		memcpy(a.id, b->id, sizeof(a.id));
		a.frozen = (uint32_t)b->frozen;
		a.lease = b->slot.net ? b->slot.lease : 0;
		a.init_pid = (uint64_t)b->slot.pid;
		a.tier = b->engine->tier;
	}
	if (fd_send(j->broker, &a, sizeof(a), b ? &b->chan : NULL, b && b->chan >= 0) < 0)
		serve_broker_lost(j);
	return 0;
}

/*
 * PEER. A hostile brigd can let any two of its sandboxes reach each other, and it decides who may: tenants are
 * its to keep apart. It cannot make a link reach the host, or a link of another server: only leases of
 * sandboxes of this jaild get into the rules, and they are taken out before a lease is another's.
 */
static int op_peer(struct serve *j, struct request *r, struct brig_err *err)
{
	const struct jail_peer *m = &r->m.peer;
	static const char none[sizeof(m->other)];
	int all = memcmp(m->other, none, sizeof(none)) == 0;
	if (m->reserved || m->on > 1 || !jail_check_id(m->id) || (all ? m->on : !jail_check_id(m->other)) ||
	    strcmp(m->id, m->other) == 0)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "PEER is malformed");
	const struct box *a = box_find(j, m->id), *b = all ? a : box_find(j, m->other);
	/* What dies reaches nobody in a moment, and must not be let in again. */
	if (!a || !b || a->state == BOX_DYING || b->state == BOX_DYING || !a->slot.net || !b->slot.net)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox with a link");
	int e = all ? peers_forget(&j->peers, j->gateway.nft, a->slot.lease)
		    : peers_set(&j->peers, j->gateway.nft, a->slot.lease, b->slot.lease, (int)m->on);
	if (e == -ENOSPC) {
		brig_fail(err, BRIG_E_EXHAUSTED, 0, "there are %u pairs of sandboxes in private networks",
			  RULES_PEERS_MAX);
		return brig_fix(err, "use more and smaller networks");
	}
	if (e < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -e, "change the rules of a private network");
	answer_ok(j, m->h.seq, m->id);
	return 0;
}

#define LAST_WORDS_MS 3
static int op_destroy(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = jail_check_id(r->m.ref.id) ? box_find(j, r->m.ref.id) : NULL;
	if (!b)
		return brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox");
	answer_stats(j, r->m.h.seq, b, 0);
	b->destroy_seq = r->m.h.seq;
	/* Whoever waits for these figures ends with them: let it go first, for the death of a tree of processes
	 * and of its namespaces takes a CPU for a while. The end of the link ends the wait. */
	if (j->o->once)
		(void)poll(&(struct pollfd){ .fd = j->broker, .events = POLLIN }, 1, LAST_WORDS_MS);
	struct brig_err gone = BRIG_ERR_INIT;
	brig_fail(&gone, BRIG_E_STATE, 0, "sandbox '%s' was destroyed before it was ready", b->id);
	box_refuse(j, b, &gone);
	box_kill(j, b);
	return 0;
}

/* A group stops at the next return of its processes to user space: microseconds. Only what waits for a
 * device or a volume's server takes longer, and may take for ever. */
#define PAUSE_NS (2 * SEC_NS)

/*
 * PAUSE and RESUME act on the group of one sandbox of this jaild, named by id. A hostile brigd can stop a
 * sandbox and never let it go on: it keeps what it has, memory above all, which is no more than a
 * sandbox keeps that sleeps; its limits stay in force, and DESTROY ends it, because box_kill() lets a
 * stopped group go on to its death. Nothing else can be in the group: the tasks in it are those that
 * jaild put there and their children, so no process of the host can be stopped.
 */
static struct box *pausable(struct serve *j, const struct request *r, struct brig_err *err)
{
	struct box *b = jail_check_id(r->m.ref.id) ? box_find(j, r->m.ref.id) : NULL;
	if (!b)
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "no such sandbox");
	else if (b->state != BOX_LIVE || b->pause_seq)
		brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is %s", b->id,
			  b->pause_seq ? "being paused" : "not running");
	else
		return b;
	return NULL;
}

static int op_pause(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = pausable(j, r, err);
	if (!b)
		return -1;
	if (b->frozen)
		return brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is paused already", b->id);
	int e = b->engine->pause(j, b);
	if (e < 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, -e,
			  "pause sandbox '%s': this host has no cgroup freezer for brig", b->id);
		return brig_fix(err, j->cg.version == 1 ?
					     "mount the freezer controller (cgroup version 1), or use "
					     "cgroup version 2; `brig doctor` shows what is there" :
					     "run `brig doctor`: control groups are missing");
	}
	b->frozen = 1;
	b->pause_seq = r->m.h.seq;
	b->pause_until = clock_now() + PAUSE_NS;
	j->pauses++;
	box_pauses_poll(j); /* the most are there at once */
	return 0;
}

static int op_resume(struct serve *j, struct request *r, struct brig_err *err)
{
	struct box *b = pausable(j, r, err);
	if (!b)
		return -1;
	if (!b->frozen)
		return brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is not paused", b->id);
	int e = b->engine->resume(j, b);
	if (e < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -e, "let sandbox '%s' go on", b->id);
	b->frozen = 0;
	answer_ok(j, r->m.h.seq, b->id);
	return 0;
}

/*
 * VOLUME makes, copies and removes volumes of the store, named by id. A hostile brigd can do that with any
 * volume, as it can remove any sandbox: what tenants may is decided above it. It cannot have one removed that
 * a sandbox has, nor written to by two; it gets no descriptor of one, and no path is made of its words but an
 * id of sixteen letters and digits in a folder that is root's alone. Work is bounded by VOLUME_JOBS_MAX.
 */
static int op_volume(struct serve *j, struct request *r, struct brig_err *err)
{
	return jail_check_volume(&r->m.volume, err) < 0 ? -1 : volumes_ask(j, &r->m.volume, err);
}

void ops_on_broker(struct serve *j)
{
	struct request r;
	struct brig_err err = BRIG_ERR_INIT;
	r.n_fd = FD_MSG_MAX;
	memset(&r.m.h, 0, sizeof(r.m.h));
	ssize_t n = fd_recv(j->broker, &r.m, sizeof(r.m), r.fd, &r.n_fd, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return;
	if (n == -EMSGSIZE) {
		/* Too large or with too many descriptors, or we have no room for them: the bytes are there,
		 * and who asked waits for an answer. */
		brig_fail(&err, BRIG_E_EXHAUSTED, EMFILE, "take the descriptors of a request");
		brig_fix(&err, "raise the limit of open files (ulimit -n), or remove sandboxes");
		answer_err(j, r.m.h.seq, &err);
		return;
	}
	if (n <= 0) {
		serve_broker_lost(j);
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
	case JAIL_MEASURE:
		e = op_stats(j, &r, &err);
		break;
	case JAIL_RECEIPT:
		e = op_receipt(j, &r, &err);
		break;
	case JAIL_DESTROY:
		e = op_destroy(j, &r, &err);
		break;
	case JAIL_PAUSE:
		e = op_pause(j, &r, &err);
		break;
	case JAIL_RESUME:
		e = op_resume(j, &r, &err);
		break;
	case JAIL_VOLUME:
		e = op_volume(j, &r, &err);
		break;
	case JAIL_LIST:
		e = op_list(j, &r, &err);
		break;
	case JAIL_PEER:
		e = op_peer(j, &r, &err);
		break;
	default:
		break;
	}
	if (e < 0)
		answer_err(j, (size_t)n < sizeof(r.m.h) ? 0 : r.m.h.seq, &err);
	for (unsigned i = 0; i < r.n_fd; i++)
		fd_close(&r.fd[i]);
}
