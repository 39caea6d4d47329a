/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot.c: see slot.h.
 *
 * Theory of operation: leases are byte-range locks of an open file description (F_OFD_SETLK), so
 * they are host-wide across several instances of jaild and vanish with the last descriptor, whatever
 * kills the holder. A user namespace needs a process to be born; a short-lived child that only sleeps
 * is cloned into it, its maps are written, and the namespace lives on through our descriptor.
 * A busy jaild has a second process, the maker, which does this work ahead of requests. It also gets
 * the network namespaces of sandboxes that have ended, and uses those again that nobody can tell
 * from new ones (netns.c).
 */
#include "engine/container/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/limits.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Rootless: subordinate ids are few (65536 by default), so a slot is small: ids 0 to 1022 and 65534
 * inside. Debian gives users ids from 1000, packages below. */
#define SMALL_SLOT 1024u

/* How long nothing is made ahead after that has failed. */
#define RETRY_NS (100 * MS_NS)

/* Groups of a slot that nobody has taken yet, by its lease. */
#define GROUP_READY "ready-%u"

static int lease_lock(const struct slot_host *h, uint32_t n, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = n, .l_len = 1 };
	return fcntl(h->lock, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

int slot_host_open(struct slot_host *h, struct cgroup_host *cg, int run, int rootless,
		   uint32_t sub_ids, struct brig_err *err)
{
	memset(h, 0, sizeof(*h));
	h->home_netns = h->maker = -1;
	h->rootless = rootless;
	h->cg = h->groups_in = cg;
	h->lock = openat(run, "leases", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (h->lock < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the lease file");
	h->home_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (h->home_netns < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the own network namespace");
	h->range = !rootless || sub_ids >= SMALL_SLOT;
	if (!rootless) {
		h->uid_base = BRIG_ID_BASE;
		h->size = BRIG_ID_SLOT;
		h->n = BRIG_ID_SLOTS;
	} else if (h->range) {
		/* Inside jaild's user namespace: 0 is the user, 1 .. are the subordinate ids. Slot 0
		 * does not exist there; numbering stays the same for simplicity. */
		h->size = SMALL_SLOT;
		h->uid_base = 1 - SMALL_SLOT;
		h->n = 1 + sub_ids / SMALL_SLOT;
	} else {
		h->size = 1;
		h->n = BRIG_ID_SLOTS;
	}
	if (h->n > BRIG_ID_SLOTS)
		h->n = BRIG_ID_SLOTS;
	/* Start somewhere else each time: a fresh instance does not reuse the ids of the last one. */
	h->next = 1 + (uint32_t)getpid() % (h->n > 1 ? h->n - 1 : 1);
	return 0;
}

void slot_resume(struct slot_host *h, int leases)
{
	fd_close(&h->lock);
	h->lock = leases;
}

int slot_is_free(const struct slot_host *h, uint32_t lease)
{
	return lease >= 1 && lease < h->n && !(h->taken[lease / 8] & 1u << (lease % 8));
}

int slot_adopt(struct slot_host *h, uint32_t lease)
{
	/* Locked already, by the open file; to lock it again asks whether that is so. */
	int r = lease_lock(h, lease, F_WRLCK);
	if (r == 0)
		h->taken[lease / 8] |= (uint8_t)(1u << (lease % 8));
	return r;
}

void slot_settle(struct slot_host *h)
{
	for (uint32_t n = 1; n < h->n; n++)
		if (slot_is_free(h, n))
			(void)lease_lock(h, n, F_UNLCK);
}

uint32_t slot_first_id(const struct slot_host *h, uint32_t lease)
{
	return h->range ? h->uid_base + lease * h->size : 0;
}

void slot_host_close(struct slot_host *h)
{
	while (h->n_ready)
		slot_done(h, &h->ready[--h->n_ready]);
	cgroup_join_close(&h->spare.join);
	if (h->spare.name[0])
		cgroup_remove(h->groups_in, h->spare.name);
	h->spare.name[0] = '\0';
	fd_close(&h->maker);
	if (h->maker_pid > 0) {
		kill(h->maker_pid, SIGKILL);
		while (waitpid(h->maker_pid, NULL, 0) < 0 && errno == EINTR)
			;
		h->maker_pid = 0;
	}
	/* What the maker was asked for and nobody has received: leases that are still taken. */
	for (uint32_t n = 1; n < h->n && h->cg; n++)
		if (h->taken[n / 8] & 1u << (n % 8)) {
			char group[32];
			snprintf(group, sizeof(group), GROUP_READY, n);
			cgroup_remove(h->cg, group);
		}
	fd_close(&h->lock);
	fd_close(&h->home_netns);
}

/* What the child of userns_make does until it is killed. No library state is touched. */
static void __attribute__((noreturn)) sleep_forever(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* It may have died before that call; nobody else would end us then. */
	while (getppid() == parent)
		syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	_exit(0);
}

static int spew_pid(int pid, const char *file, const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	return fd_spew_at(AT_FDCWD, path, text);
}

int userns_make(const char *uid_map, const char *gid_map)
{
	struct clone_args a = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	pid_t self = getpid();
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid < 0)
		return -errno;
	if (pid == 0)
		sleep_forever(self);
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/ns/user", pid);
	int r = open(path, O_RDONLY | O_CLOEXEC);
	if (r < 0)
		r = -errno;
	int e = r < 0 ? r : spew_pid((int)pid, "uid_map", uid_map);
	if (e == 0)
		e = spew_pid((int)pid, "gid_map", gid_map);
	kill((pid_t)pid, SIGKILL);
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (e < 0 && r >= 0) {
		close(r);
		r = e;
	}
	return r;
}

int timens_make(void)
{
	char text[128];
	struct timespec mono, boot;
	if (unshare(0x80 /* CLONE_NEWTIME: for children; we stay where we are */) < 0)
		return -errno;
	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	snprintf(text, sizeof(text), "monotonic -%lld 0\nboottime -%lld 0\n", (long long)mono.tv_sec,
		 (long long)boot.tv_sec);
	/* How long the host has been up is its own business. */
	int r = fd_spew_at(AT_FDCWD, "/proc/self/timens_offsets", text);
	if (r < 0)
		return r;
	r = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

static int take_lease(struct slot_host *h, uint32_t *ret)
{
	for (uint32_t k = 1; k < h->n; k++) {
		uint32_t n = h->next;
		h->next = h->next + 1 < h->n ? h->next + 1 : 1;
		if (h->taken[n / 8] & 1u << (n % 8) || lease_lock(h, n, F_WRLCK) < 0)
			continue;
		h->taken[n / 8] |= (uint8_t)(1u << (n % 8));
		*ret = n;
		return 0;
	}
	return -EBUSY;
}

struct cgroup_limits slot_limits(void)
{
	static const struct brig_limits all = {
#define X(field, flag, kind, def, min, max, none, what) .field = (def),
		BRIG_LIMITS(X)
#undef X
	};
	return (struct cgroup_limits){ .memory_bytes = all.memory_bytes,
				       .cpu_milli = (uint32_t)all.cpu_milli,
				       .pids = (uint32_t)all.pids };
}

/* A used one that is as new, or a new one. Only the maker keeps any. */
static int netns_get(struct slot_host *h)
{
	if (h->n_clean)
		return h->clean[--h->n_clean];
	int ns = netns_make(h->home_netns, NULL, 0);
	/* Without the look of a new one no used one is ever as new. */
	if (ns >= 0 && h->face && !h->face->n)
		(void)netns_face(h->home_netns, ns, h->face);
	return ns;
}

/* Takes over ns. */
static void netns_put(struct slot_host *h, int ns)
{
	if (h->n_clean < SLOTS_READY_MAX && h->face && netns_unused(h->home_netns, ns, h->face))
		h->clean[h->n_clean++] = ns;
	else
		close(ns);
}

/* The part that takes time; the lease is already in *s. 0 or -errno, *ret_step names what failed. */
static int fill_slot(struct slot_host *h, struct slot *s, const char **ret_step)
{
	char map[96];
	s->host_uid = s->host_gid = slot_first_id(h, s->lease);
	if (!h->range)
		snprintf(map, sizeof(map), "0 0 1\n");
	else if (h->rootless)
		snprintf(map, sizeof(map), "0 %u %u\n65534 %u 1\n", s->host_uid, h->size - 1,
			 s->host_uid + h->size - 1);
	else
		snprintf(map, sizeof(map), "0 %u %u\n", s->host_uid, h->size);
	*ret_step = "user";
	s->userns = userns_make(map, map);
	if (s->userns < 0)
		return s->userns;
	*ret_step = "network";
	s->netns = s->net ? netns_make(h->home_netns, h->gateway, s->lease) : netns_get(h);
	if (s->netns < 0)
		return s->netns;
	if (s->net)
		(void)rules_counts(h->gateway->nft, s->lease, &s->counts);
	s->timens = timens_make(); /* -1: this kernel has none */
	if (s->timens < 0)
		s->timens = -1;
	if (!h->cg)
		return 0;
	char group[32];
	snprintf(group, sizeof(group), GROUP_READY, s->lease);
	struct cgroup_limits defaults = slot_limits();
	*ret_step = "cgroup";
	return cgroup_make_ahead(h->cg, group, &defaults, &s->groups);
}

void slot_groups_ahead(struct slot_host *h, const struct cgroup_host *cg)
{
	struct cgroup_limits defaults = slot_limits();
	if (cgroup_make_ahead(cg, "ready", &defaults, &h->spare) < 0)
		h->spare.name[0] = '\0'; /* the request that needs them says why */
}

static int fail_slot(struct brig_err *err, int e, const char *step)
{
	if (step[0] == 'c') {
		brig_fail(err, BRIG_E_EXHAUSTED, -e, "make cgroups ahead");
		return brig_fix(err, "run `brig doctor`");
	}
	if (step[0] == 'd') {
		brig_fail(err, BRIG_E_EXHAUSTED, -e, "take the namespaces of a sandbox");
		return brig_fix(err, "raise the limit of open files (ulimit -n) of the server");
	}
	brig_fail(err, BRIG_E_EXHAUSTED, -e, "make a %s namespace", step);
	return brig_fix(err, "raise user.max_%s_namespaces, or run `brig doctor`",
			step[0] == 'n' ? "net" : "user");
}

/* ---- the maker ---- */

struct maker_msg {
	uint32_t lease; /* 0: a network namespace that its sandbox has left */
	int32_t err;
	uint32_t host_uid, host_gid, has_timens, net;
	struct rules_counts counts;
	struct cgroup_ahead groups; /* its descriptors ride behind the namespaces */
	char step[16];
};

static void __attribute__((noreturn)) maker_main(struct slot_host *h, int sock)
{
	static struct netns_face face;
	struct maker_msg m;
	int left;
	unsigned n_left;
	h->face = &face;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_NAME, "brig-slots", 0, 0, 0);
	int linked = h->gateway ? gateway_reopen(h->gateway, h->home_netns) : 0;
	while ((void)(n_left = 1), fd_recv(sock, &m, sizeof(m), &left, &n_left, 0) == sizeof(m)) {
		if (n_left) {
			netns_put(h, left);
			continue;
		}
		struct slot s = { .lease = m.lease, .net = (int)m.net, .userns = -1, .netns = -1, .timens = -1, .ctl = -1, .pidfd = -1 };
		const char *step = "network";
		m.err = m.net && linked < 0 ? linked : fill_slot(h, &s, &step);
		m.counts = s.counts;
		m.host_uid = s.host_uid;
		m.host_gid = s.host_gid;
		snprintf(m.step, sizeof(m.step), "%s", step);
		m.groups = s.groups;
		m.has_timens = s.timens >= 0;
		int fds[3 + CG_TREES_MAX], n = 0;
		fds[n++] = s.userns;
		fds[n++] = s.netns;
		if (s.timens >= 0)
			fds[n++] = s.timens;
		for (unsigned i = 0; i < s.groups.join.n; i++)
			fds[n++] = s.groups.join.fd[i];
		if (fd_send(sock, &m, sizeof(m), fds, m.err ? 0 : (unsigned)n) < 0)
			break;
		fd_close(&s.userns);
		fd_close(&s.netns);
		fd_close(&s.timens);
		cgroup_join_close(&s.groups.join);
	}
	_exit(0);
}

int slot_maker_start(struct slot_host *h, int broker, int control)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* A copy of one of these held here would hide its end from both sides. */
		close(broker);
		if (control >= 0)
			close(control);
		close(sv[0]);
		maker_main(h, sv[1]);
	}
	close(sv[1]);
	h->maker = sv[0];
	h->maker_pid = pid;
	return 0;
}

unsigned slot_ready(const struct slot_host *h, int net)
{
	unsigned n = 0;
	for (unsigned i = 0; i < h->n_ready; i++)
		n += h->ready[i].net == net;
	return n;
}

unsigned slot_coming(const struct slot_host *h, int net)
{
	return slot_ready(h, net) + h->n_asked[net];
}

void slot_prefetch(struct slot_host *h, int net, unsigned most)
{
	struct maker_msg m = { .net = (uint32_t)net };
	if (h->maker < 0 || slot_coming(h, net) >= most || clock_now() < h->not_before ||
	    h->n_ready + h->n_asked[0] + h->n_asked[1] >= SLOTS_READY_MAX || take_lease(h, &m.lease) < 0)
		return;
	if (fd_send(h->maker, &m, sizeof(m), NULL, 0) < 0) {
		struct slot s = { .lease = m.lease, .userns = -1, .netns = -1, .timens = -1, .ctl = -1, .pidfd = -1 };
		slot_done(h, &s);
		fd_close(&h->maker); /* dead: slots are made inline from now on */
		h->n_asked[0] = h->n_asked[1] = 0;
		return;
	}
	h->n_asked[net]++;
}

/* One answer of the maker, waiting for it if asked to. 0 = a slot in *ret. */
static int receive_slot(struct slot_host *h, int flags, struct slot *ret, struct brig_err *err)
{
	struct maker_msg m;
	int fd[3 + CG_TREES_MAX];
	unsigned n = 3 + CG_TREES_MAX;
	ssize_t r = fd_recv(h->maker, &m, sizeof(m), fd, &n, flags);
	if (r == -EAGAIN)
		return -1;
	/* The message is whole, as both ends are this program; there was no room for its descriptors. */
	if (r == -EMSGSIZE) {
		m.err = -EMFILE;
		snprintf(m.step, sizeof(m.step), "descriptors");
		n = 0;
	} else if (r != sizeof(m)) {
		fd_close(&h->maker);
		h->n_asked[0] = h->n_asked[1] = 0;
		return brig_fail(err, BRIG_E_INTERNAL, 0, "the maker of slots is gone");
	}
	h->n_asked[m.net != 0]--;
	*ret = (struct slot){ .lease = m.lease,
			      .net = m.net != 0,
			      .counts = m.counts,
			      .host_uid = m.host_uid,
			      .host_gid = m.host_gid,
			      .userns = -1,
			      .netns = -1,
			      .timens = -1,
			      .ctl = -1,
			      .pidfd = -1,
			      .groups = m.groups };
	unsigned k = 0;
	if (m.err == 0 && n == 2 + m.has_timens + m.groups.join.n) {
		ret->userns = fd[k++];
		ret->netns = fd[k++];
		if (m.has_timens)
			ret->timens = fd[k++];
		for (unsigned i = 0; i < ret->groups.join.n; i++)
			ret->groups.join.fd[i] = fd[k++];
		return 0;
	}
	while (k < n)
		fd_close(&fd[k++]);
	ret->groups.join.n = 0;
	m.step[sizeof(m.step) - 1] = '\0';
	/* What fails fails again at once; a request that comes makes its own. */
	h->not_before = clock_now() + RETRY_NS;
	slot_done(h, ret);
	return fail_slot(err, m.err, m.step);
}

static void take_spare(struct slot_host *h, struct slot *s)
{
	if (s->groups.name[0])
		return;
	s->groups = h->spare;
	memset(&h->spare, 0, sizeof(h->spare));
}

void slot_collect(struct slot_host *h)
{
	struct slot s = { .net = 0 };
	if (h->maker < 0 || h->n_ready >= SLOTS_READY_MAX)
		return;
	if (receive_slot(h, MSG_DONTWAIT, &s, NULL) < 0) {
		h->no_net_ahead |= s.net;
		return;
	}
	take_spare(h, &s);
	h->ready[h->n_ready++] = s;
}

void slot_wait(struct slot_host *h)
{
	struct pollfd p = { .fd = h->maker, .events = POLLIN };
	if (!h->n_ready && h->maker >= 0 && h->n_asked[0] + h->n_asked[1] && poll(&p, 1, 1000) == 1)
		slot_collect(h);
}

/* A child born ahead that is gone (killed, out of memory) has closed its end of ctl. */
static int child_lost(const struct slot *s)
{
	struct pollfd p = { .fd = s->ctl };
	return s->ctl >= 0 && poll(&p, 1, 0) == 1;
}

/* If the stage has not told yet who it is, it ends by itself and is reaped when it does (birth.c). */
static void child_end(struct slot *s)
{
	fd_close(&s->ctl);
	if (s->pidfd >= 0) {
		syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
		waitid(P_PIDFD, (id_t)s->pidfd, &(siginfo_t){ 0 }, WEXITED);
	}
	fd_close(&s->pidfd);
	s->pid = s->ahead = s->seen = s->looks = 0;
	s->spawn = 0;
}

/* The oldest ready one of a kind: a child born ahead has had the most time. childless: only one without. */
static int take_ready(struct slot_host *h, int net, int childless, struct slot *ret)
{
	for (unsigned i = 0; i < h->n_ready;) {
		if (h->ready[i].net != net || (childless && h->ready[i].ctl >= 0)) {
			i++;
			continue;
		}
		*ret = h->ready[i];
		memmove(h->ready + i, h->ready + i + 1, (--h->n_ready - i) * sizeof(h->ready[0]));
		if (!child_lost(ret))
			return 1;
		slot_done(h, ret);
	}
	return 0;
}

static int take(struct slot_host *h, int net, int childless, struct slot *ret, struct brig_err *err)
{
	if ((childless && take_ready(h, net, 1, ret)) || take_ready(h, net, 0, ret))
		return 0;
	slot_prefetch(h, net, 1);
	while (h->maker >= 0 && h->n_asked[net]) {
		int r = receive_slot(h, 0, ret, err);
		if (h->maker < 0 || (r < 0 && ret->net == net))
			return -1;
		if (r < 0) {
			h->no_net_ahead |= ret->net;
			continue;
		}
		if (ret->net == net)
			return 0;
		/* There is room: it was asked for. */
		take_spare(h, ret);
		h->ready[h->n_ready++] = *ret;
	}
	struct slot s = { .net = net, .userns = -1, .netns = -1, .timens = -1, .ctl = -1, .pidfd = -1 };
	const char *step = "";
	if (take_lease(h, &s.lease) < 0) {
		brig_fail(err, BRIG_E_EXHAUSTED, 0, "all %u ranges of host ids are in use", h->n - 1);
		return brig_fix(err, "remove sandboxes (`brig ls`, `brig rm`)");
	}
	int e = fill_slot(h, &s, &step);
	if (e < 0) {
		slot_done(h, &s);
		return fail_slot(err, e, step);
	}
	*ret = s;
	return 0;
}

int slot_take(struct slot_host *h, int net, int child, struct slot *ret, struct brig_err *err)
{
	if (take(h, net, !child, ret, err) < 0)
		return -1;
	if (!child)
		child_end(ret);
	take_spare(h, ret);
	return 0;
}

/* Groups made ahead; a child born ahead may take a moment to leave them. */
static void remove_groups(struct slot_host *h, const char *name)
{
	for (int tries = 0; cgroup_remove(h->groups_in, name) == -EBUSY && tries < 500; tries++) {
		cgroup_kill(h->groups_in, name);
		usleep(1000);
	}
}

void slot_left(struct slot_host *h, struct slot *s)
{
	struct maker_msg m = { 0 };
	struct pollfd p = { .fd = h->maker, .events = POLLOUT };
	/* A maker that is behind has enough of them, and nobody waits for it here. */
	if (s->netns >= 0 && !s->net && h->maker >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
		(void)fd_send(h->maker, &m, sizeof(m), &s->netns, 1);
	fd_close(&s->netns);
}

void slot_done(struct slot_host *h, struct slot *s)
{
	/* It ends when its socket does; and it is our child. */
	child_end(s);
	fd_close(&s->userns);
	fd_close(&s->netns);
	fd_close(&s->timens);
	if (s->lease) {
		cgroup_join_close(&s->groups.join);
		if (s->groups.name[0])
			remove_groups(h, s->groups.name);
		h->taken[s->lease / 8] &= (uint8_t) ~(1u << (s->lease % 8));
		lease_lock(h, s->lease, F_UNLCK);
	}
	s->lease = 0;
}
