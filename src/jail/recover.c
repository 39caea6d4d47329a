/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c: what a jaild that was killed left; see keep.h.
 *
 * Theory of operation
 * -------------------
 * The former jaild told the supervisor of each sandbox that it had answered for, with a pidfd of its first
 * process. A pidfd is that process for ever, whatever its number means by now; nothing else is trusted to
 * name one. What it is said to be is measured again, as for a receipt: its namespaces must be those of its
 * birth, its ids those of the lease, its groups, in every hierarchy, those of this instance under its id
 * and with its limits, its capabilities and its filter what they were. brigd has no say in any of this, so
 * an attacker who owns it cannot have a process of the host adopted, and killed later.
 *
 * Everything else below the instance's groups was being born or was dying, and nobody was told of it, or is
 * not what it was: it is killed and removed. Only then its range of ids is given back; the locks on them
 * are those of the former jaild's open file, which the supervisor has kept, so there is no moment in
 * which another server could take one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "jail/keep.h"

#define READ_NS (10 * SEC_NS)
#define SWEEP_NS (5 * SEC_NS)

/* ---- reading ---- */

static int keep_one(struct recovery *r, const void *msg, size_t n, int *fd, unsigned n_fd)
{
	if (n < offsetof(struct keep_box, spec) || n_fd != 2)
		return 0; /* of another version: not taken over */
	if (r->n == r->cap) {
		unsigned cap = r->cap ? r->cap * 2 : 64;
		struct kept *mem = reallocarray(r->box, cap, sizeof(*mem));
		if (!mem)
			return -ENOMEM;
		r->box = mem;
		r->cap = cap;
	}
	struct kept *k = &r->box[r->n];
	*k = (struct kept){ .m = malloc(n), .n = n, .pidfd = -1, .chan = -1 };
	if (!k->m)
		return -ENOMEM;
	memcpy(k->m, msg, n);
	k->pidfd = fd_steal(&fd[0]);
	k->chan = fd_steal(&fd[1]);
	r->n++;
	return 0;
}

/* 1: that was the end. */
static int take(struct recovery *r, const void *msg, size_t n, int *fd, unsigned n_fd)
{
	struct keep_hdr h;
	if (n < sizeof(h))
		return -EPROTO;
	memcpy(&h, msg, sizeof(h));
	if (h.verb == KEEP_END)
		return 1;
	if (h.verb == KEEP_BOX && h.version == BRIG_KEEP_VERSION)
		return keep_one(r, msg, n, fd, n_fd);
	if (h.verb != KEEP_HOST || h.version != BRIG_KEEP_VERSION || n != sizeof(r->host) || r->host.h.verb)
		return h.verb == KEEP_BOX ? 0 : -EPROTO;
	memcpy(&r->host, msg, n);
	r->host.instance[sizeof(r->host.instance) - 1] = '\0';
	const unsigned net = r->host.net ? 2 : 0, volumes = r->host.volumes ? 1 : 0;
	if (n_fd != 2 + net + volumes)
		return -EPROTO;
	for (unsigned i = 0; i < 2 + net; i++)
		r->fd[i] = fd_steal(&fd[i]);
	if (volumes)
		r->fd[KEEP_FDS_MAX - 1] = fd_steal(&fd[n_fd - 1]);
	return 0;
}

/* first: HOST alone, which is the first. */
static int read_some(int control, bool first, struct recovery *ret, struct brig_err *err)
{
	static union {
		char text[KEEP_MSG_MAX];
		struct keep_box box; /* for its alignment */
	} msg;
	uint64_t until = clock_now() + READ_NS;
	int r = 0;
	while (r == 0 && !(first && ret->host.h.verb)) {
		struct pollfd p = { .fd = control, .events = POLLIN };
		int fd[KEEP_FDS_MAX] = { -1, -1, -1, -1, -1 };
		unsigned n_fd = KEEP_FDS_MAX;
		uint64_t now = clock_now();
		if (now >= until || poll(&p, 1, (int)((until - now) / MS_NS) + 1) < 0) {
			r = now < until && errno == EINTR ? 0 : -ETIMEDOUT;
			continue;
		}
		ssize_t n = fd_recv(control, &msg, sizeof(msg), fd, &n_fd, MSG_DONTWAIT);
		if (n == -EAGAIN)
			continue;
		/* One that there are no descriptors for is not taken over. */
		r = n == -EMSGSIZE ? 0 : n <= 0 ? -EPIPE : take(ret, &msg, (size_t)n, fd, n_fd);
		for (unsigned i = 0; i < KEEP_FDS_MAX; i++)
			fd_close(&fd[i]);
	}
	if (r < 0 || !ret->host.h.verb) {
		brig_fail(err, BRIG_E_PROTOCOL, r < 0 ? -r : EPROTO, "learn what the former brig-jaild left");
		return brig_fix(err, "nothing to do: its sandboxes are removed, and the server starts anew");
	}
	return 0;
}

int recovery_host(int control, struct recovery *ret, struct brig_err *err)
{
	return read_some(control, true, ret, err);
}

void recovery_done(struct recovery *r)
{
	for (unsigned i = 0; i < r->n; i++) {
		free(r->box[i].m);
		fd_close(&r->box[i].pidfd);
		fd_close(&r->box[i].chan);
	}
	free(r->box);
	for (unsigned i = 0; i < KEEP_FDS_MAX; i++)
		fd_close(&r->fd[i]);
	*r = (struct recovery)RECOVERY_NONE;
}

/* ---- boxes ---- */

/* The number of its process; 0: it has ended, or is none. */
static int pid_of(int pidfd)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	const char *p = fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0 ? NULL : strstr(text, "\nPid:");
	int pid = p ? atoi(p + 5) : 0;
	return pid > 1 ? pid : 0;
}

static int message_ok(const struct kept *k, struct brig_err *err)
{
	const struct keep_box *m = k->m;
	const size_t fixed = offsetof(struct keep_box, spec) + offsetof(struct jail_spec, volumes);
	if (k->n < fixed || m->spec.nvolumes > JAIL_VOLUMES_MAX ||
	    k->n != fixed + m->spec.nvolumes * sizeof(struct jail_volume) || !jail_check_id(m->id) ||
	    memcmp(m->id, m->spec.id, sizeof(m->id)) != 0 ||
	    memchr(m->image, '\0', sizeof(m->image)) == NULL || m->spec.tier >= BRIG_TIER__N ||
	    !engine_of(m->spec.tier)->adopt)
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "what is known of it makes no sense");
	return 0;
}

/* The first process of a box is the one of the pidfd, and is what it was. */
static int box_fill(struct serve *j, struct box *b, struct kept *k, struct brig_err *err)
{
	const struct keep_box *m = k->m;
	b->slot.pid = pid_of(k->pidfd);
	b->slot.pidfd = fd_steal(&k->pidfd);
	if (!b->slot.pid)
		return brig_fail(err, BRIG_E_STATE, 0, "it has ended");
	if (!slot_is_free(&j->slots, m->lease))
		return brig_fail(err, BRIG_E_PROTOCOL, 0, "its range of ids is another one's");
	if (m->net && j->gateway.netns < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, 0, "the gateway of its network is gone");
	b->slot.host_uid = b->slot.host_gid = slot_first_id(&j->slots, m->lease);
	b->slot.net = (int)m->net;
	b->slot.counts = m->counts;
	if (receipt_keep(b, &m->spec, (int)m->deny_suid) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "remember what was asked for");
	memcpy(b->ns, m->ns, sizeof(b->ns));
	memcpy(b->image, m->image, sizeof(b->image));
	if (b->engine->adopt(j, b, err) < 0)
		return -1;
	/* From here on it is this box's. */
	b->slot.lease = m->lease;
	if (slot_adopt(&j->slots, m->lease) < 0)
		return brig_fail(err, BRIG_E_STATE, 0, "another server has its range of ids");
	b->chan = fd_steal(&k->chan);
	b->frozen = cgroup_told_to_stop(&j->cg, b->id);
	return 0;
}

static void box_take(struct serve *j, struct kept *k)
{
	struct brig_err err = BRIG_ERR_INIT;
	const char *id = "?";
	struct box *b = NULL;
	if (message_ok(k, &err) == 0) {
		id = k->m->id;
		if (box_find(j, id))
			return; /* told twice: the supervisor was busy, and then was not */
		b = box_new(j, id, engine_of(k->m->spec.tier));
		if (!b)
			brig_fail(&err, BRIG_E_EXHAUSTED, ENOMEM, "remember it");
	}
	if (!b || box_fill(j, b, k, &err) < 0) {
		fprintf(stderr, "brig-jaild: sandbox %s is not taken over but removed: %s\n", id, err.msg);
		if (b)
			box_free(j, b); /* and its first process */
		return;
	}
	b->known = b->ready = 1;
	b->state = BOX_LIVE;
	box_watch(j, b);
}

static int is_box(void *ctx, const char *name)
{
	return box_find(ctx, name) != NULL;
}

int recovery_boxes(struct serve *j, struct recovery *r, struct brig_err *err)
{
	if (read_some(j->control, false, r, err) < 0)
		return -1;
	for (unsigned i = 0; i < r->n; i++)
		box_take(j, &r->box[i]);
	(void)FAILPOINT("jail.recovered");
	cgroup_sweep(&j->cg, is_box, j, clock_now() + SWEEP_NS);
	slot_settle(&j->slots);
	fprintf(stderr, "brig-jaild: took over %d of %u sandboxes\n", j->live, r->n);
	return 0;
}
