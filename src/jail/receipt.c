/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receipt.c: whether a sandbox is what was specified, and what it is; engine/container/measure.h has the
 * theory.
 *
 * At its birth a sandbox is measured while its first process prepares the first command and waits for our
 * word to execute it; the word is not given to one that differs, which is killed instead. Only what is
 * cheap is read then. A process that was confined ahead of the request is measured while it waits for
 * one (or while its root is built, if the request came first), and the stage, which builds that, looks at the mounts before it lets the process go on: there the
 * word is on its way before anybody can wait for it. A RECEIPT reads everything, the first part anew; one that differs by then is killed
 * too, and its namespaces must be those of its birth.
 *
 * Reading the filters back means to trace the first process. That is done by a child of ours, which does
 * nothing else and ends after READER_S at the latest: jaild waits for nobody, and if the child is killed
 * the kernel lets the traced process go on.
 */
#include "jail/jaild.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "engine/container/measure.h"
#include "engine/container/seccomp.h"

/* The first process of a sandbox stops within microseconds, unless its host is in trouble. */
#define READER_S 2

int receipt_keep(struct box *b, const struct jail_spec *p, int deny_suid)
{
	size_t n = offsetof(struct jail_spec, volumes) + p->nvolumes * sizeof(p->volumes[0]);
	b->spec = malloc(n);
	if (!b->spec)
		return -ENOMEM;
	memcpy(b->spec, p, n);
	b->deny_suid = deny_suid;
	return 0;
}

/* ---- what is expected ---- */

static uint64_t inode_of(int fd)
{
	struct stat st;
	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* spec: room for a copy of which fault tests change a limit. */
static void expected(struct serve *j, const struct box *b, struct measure_want *w,
		     struct jail_spec *spec)
{
	memset(w, 0, sizeof(*w));
	w->spec = b->spec;
	w->uid_first = b->slot.host_uid;
	w->gid_first = b->slot.host_gid;
	w->ids = j->slots.size;
	w->range = j->slots.range;
	w->rootless = j->o->rootless;
	w->writable_volume = b->deny_suid;
	struct cgroup_limits lim = { .pids = b->spec->pids };
	if (b->engine->limits)
		b->engine->limits(b->spec, &lim);
	w->pids = lim.pids;
	w->caps = b->engine->caps;
	w->may_drop = b->engine->may_drop && b->state == BOX_LIVE;
	w->no_new_privs = 1;
	w->seccomp_mode = 2; /* SECCOMP_MODE_FILTER */
	w->groups = cgroup_trees(&j->cg);
	memcpy(w->ns_host, j->ns_own, sizeof(w->ns_host));
	memcpy(w->ns_own, b->ns, sizeof(w->ns_own));
	if (b->slot.userns >= 0) {
		w->ns_own[JAIL_NS_user] = inode_of(b->slot.userns);
		w->ns_own[JAIL_NS_net] = inode_of(b->slot.netns);
		w->ns_own[JAIL_NS_time] = inode_of(b->slot.timens);
	}
	/* Without one of its own it stays in ours, which HELLO_OK told. */
	if (!w->ns_own[JAIL_NS_time])
		w->ns_own[JAIL_NS_time] = j->ns_own[JAIL_NS_time];
	(void)spec;
#ifdef BRIG_FAILPOINTS
	memcpy(spec, b->spec, offsetof(struct jail_spec, volumes));
	memcpy(spec->volumes, b->spec->volumes, b->spec->nvolumes * sizeof(spec->volumes[0]));
	w->spec = spec;
	w->ns_own[JAIL_NS_ipc] += FAILPOINT_IS("mutate.namespaces");
	w->uid_first += (uint32_t)FAILPOINT_IS("mutate.uid_map");
	w->gid_first += (uint32_t)FAILPOINT_IS("mutate.gid_map");
	w->caps ^= FAILPOINT_IS("mutate.capabilities") ? 1u : 0u;
	w->no_new_privs ^= (uint32_t)FAILPOINT_IS("mutate.no_new_privs");
	w->seccomp_mode ^= (uint32_t)FAILPOINT_IS("mutate.seccomp");
	w->groups += (uint32_t)FAILPOINT_IS("mutate.cgroup");
	spec->memory_bytes += FAILPOINT_IS("mutate.memory") ? 4096u : 0u;
	w->pids += (uint32_t)FAILPOINT_IS("mutate.pids");
	spec->cpu_milli += FAILPOINT_IS("mutate.cpu") ? 10u : 0u;
	spec->disk_bytes += FAILPOINT_IS("mutate.disk") ? 4096u : 0u;
	spec->image ^= (uint32_t)FAILPOINT_IS("mutate.mounts");
#endif
}

int receipt_differs(const struct box *b, const struct measure_diff *d, struct brig_err *err)
{
	brig_fail(err, BRIG_E_MISMATCH, 0, "sandbox '%s' is not what was specified: %s: %s", b->id,
		  d->item, d->text);
	return brig_fix(err, "it was destroyed; install all programs of brig from one build, and run "
			     "`brig doctor`");
}

static int unread(const struct box *b, int r, const char *what, struct brig_err *err)
{
	brig_fail(err, BRIG_E_INTERNAL, -r, "measure sandbox '%s': read %s", b->id, what);
	return brig_fix(err, "run `brig doctor`; the log of brig-jaild may say more");
}

/* The first process is our child and not reaped while its pidfd tells no end: so the number is its own. */
static int open_first(const struct box *b)
{
	char path[32];
	struct pollfd p = { .fd = b->slot.pidfd, .events = POLLIN };
	snprintf(path, sizeof(path), "/proc/%d", b->slot.pid);
	int fd = b->slot.pid > 0 ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd >= 0 && (p.fd < 0 || poll(&p, 1, 0) != 0))
		fd_close(&fd);
	return fd < 0 ? -ESRCH : fd;
}

/* What is compared before the first command: the process, and its root. */
static int measure_first(struct serve *j, struct box *b, int proc, const struct measure_want *w,
			 struct jail_receipt *m, struct measure_diff *d, struct brig_err *err)
{
	int r = measure_process(proc, m);
	if (r < 0)
		return unread(b, r, "its first process", err);
	if ((r = cgroup_limits_read(&j->cg, b->id, m)) < 0)
		return unread(b, r, "its limits", err);
	return measure_compare(w, m, d) ? receipt_differs(b, d, err) : 0;
}

static int measure_root(const struct box *b, int proc, const struct measure_want *w,
			struct jail_receipt *m, struct measure_diff *d, struct brig_err *err)
{
	int r = measure_mounts(proc, w, m, d);
	if (r < 0)
		return unread(b, r, "its mounts", err);
	return r ? receipt_differs(b, d, err) : 0;
}

/* The texts are not cleared: 12 KiB on the way of every birth. */
static void begin(const struct box *b, struct jail_receipt *m)
{
	memset(m, 0, offsetof(struct jail_receipt, mounts));
	m->mounts[0] = '\0';
	memcpy(m->id, b->id, sizeof(m->id));
}

/* first, root: which of the two parts. */
static int look(struct serve *j, struct box *b, int first, int root, struct brig_err *err)
{
	static struct jail_receipt m; /* not cleared as a whole each time */
	static struct jail_spec spec;
	struct measure_want w;
	struct measure_diff d;
	begin(b, &m);
	if (!j->ns_own[JAIL_NS_pid]) {
		AUTO_FD self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
		int r = self < 0 ? -errno : measure_namespaces(self, j->ns_own);
		if (r < 0)
			return unread(b, r, "the host's namespaces", err);
	}
	AUTO_FD proc = open_first(b);
	if (proc < 0)
		return unread(b, proc, "its first process", err);
	expected(j, b, &w, &spec);
	if (first && measure_first(j, b, proc, &w, &m, &d, err) < 0)
		return -1;
	if (first)
		memcpy(b->ns, m.ns, sizeof(b->ns));
	return root ? measure_root(b, proc, &w, &m, &d, err) : 0;
}

int receipt_first(struct serve *j, struct box *b, struct brig_err *err)
{
	return look(j, b, 1, 0, err);
}

void receipt_open(struct box *b)
{
	const char word = 1;
	/* If it cannot be sent, the child has ended, and its end is told. */
	(void)fd_send(b->slot.ctl, &word, 1, NULL, 0);
}

/* Only what the request changed: the rest was read when the child waited (receipt_slot). */
static int look_at_limits(struct serve *j, struct box *b, struct brig_err *err)
{
	static struct jail_receipt m;
	static struct jail_spec spec;
	struct measure_want w;
	struct measure_diff d;
	const struct cgroup_limits was = slot_limits();
	if (b->spec->memory_bytes == was.memory_bytes && b->spec->cpu_milli == was.cpu_milli &&
	    b->spec->pids == was.pids)
		return 0;
	begin(b, &m);
	expected(j, b, &w, &spec);
	int r = cgroup_limits_read(&j->cg, b->id, &m);
	if (r < 0)
		return unread(b, r, "its limits", err);
	return measure_limits(&w, &m, &d) ? receipt_differs(b, &d, err) : 0;
}

int receipt_slot(struct serve *j, struct slot *s, struct brig_err *err)
{
	static struct jail_spec spec;
	static struct box b;
	const struct cgroup_limits lim = slot_limits();
	struct pollfd told = { .fd = s->ctl, .events = POLLIN };
	if (s->seen || !s->ahead || s->pidfd < 0 || !s->groups.name[0] || poll(&told, 1, 0) != 1 ||
	    !(told.revents & POLLIN))
		return 0;
	spec.memory_bytes = lim.memory_bytes;
	spec.cpu_milli = lim.cpu_milli;
	spec.pids = lim.pids;
	memset(&b, 0, sizeof(b));
	b.engine = &engine_container;
	b.spec = &spec;
	b.slot = *s;
	snprintf(b.id, sizeof(b.id), "%.23s", s->groups.name);
	if (look(j, &b, 1, 0, err) < 0)
		return -1;
	memcpy(s->ns, b.ns, sizeof(s->ns));
	s->seen = 1;
	return 0;
}

int receipt_ahead(struct serve *j, struct box *b, struct brig_err *err)
{
	/* It is confined, for it has told its namespaces (birth_enter). Only a filter is still to come, where
	 * a writable volume is attached. */
	if (!b->slot.ahead || b->deny_suid || b->slot.pidfd < 0)
		return 0;
	if (b->slot.seen)
		memcpy(b->ns, b->slot.ns, sizeof(b->ns));
	if (b->slot.seen ? look_at_limits(j, b, err) < 0 : look(j, b, 1, 0, err) < 0)
		return -1;
	b->looked_at = 1;
	receipt_open(b);
	return 0;
}

int receipt_at_birth(struct serve *j, struct box *b, struct brig_err *err)
{
	if (b->looked_at)
		return 0;
	if (look(j, b, 1, 1, err) < 0)
		return -1;
	receipt_open(b);
	return 0;
}

/* ---- receipts ---- */

struct reading {
	int err; /* -errno, 0 = read and compared, 1 = differs */
	struct measure_diff diff;
};

/* Of its first process: 1 << SECCOMP_*. */
static unsigned filters_of(const struct box *b)
{
	return 1u << b->engine->filter | (b->deny_suid ? 1u << SECCOMP_SUID : 0u);
}

static void __attribute__((noreturn)) reader_main(const struct serve *j, const struct box *b, int out)
{
	struct reading r = { .err = 0 };
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* A copy of one of these held here would hide its end from both sides. */
	close(j->broker);
	if (j->control >= 0)
		close(j->control);
	alarm(READER_S);
	r.err = measure_filters(b->slot.pid, filters_of(b), &r.diff);
	_exit(fd_send(out, &r, sizeof(r), NULL, 0) < 0);
}

int receipt_begin(struct serve *j, struct box *b, uint32_t seq, struct brig_err *err)
{
	int sv[2];
	if (b->state != BOX_LIVE || b->receipt_seq || b->frozen) {
		brig_fail(err, BRIG_E_STATE, 0, "sandbox '%s' is %s", b->id,
			  b->frozen	   ? "paused, and cannot be measured"
			  : b->receipt_seq ? "being measured"
					   : "not running");
		return brig_fix(err, b->frozen ? "let it go on (`brig unpause`), and ask again" :
						 "ask again");
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a socket pair");
	AUTO_FD out = sv[1];
	struct epoll_event ev = { .events = EPOLLIN,
				  .data.u64 = (uint64_t)EV_READER << 32 | (uint32_t)(b - j->box) };
	pid_t pid = epoll_ctl(j->epoll, EPOLL_CTL_ADD, sv[0], &ev) < 0 ? -1 : fork();
	if (pid < 0) {
		int e = errno;
		close(sv[0]);
		return brig_fail(err, BRIG_E_EXHAUSTED, e, "start a reader of filters");
	}
	if (pid == 0)
		reader_main(j, b, out);
	b->reader = sv[0];
	b->reader_pid = pid;
	b->receipt_seq = seq;
	return 0;
}

static void reader_done(struct box *b)
{
	fd_close(&b->reader);
	if (b->reader_pid > 0) {
		kill(b->reader_pid, SIGKILL);
		while (waitpid(b->reader_pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	b->reader_pid = 0;
}

void receipt_end(struct serve *j, struct box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	reader_done(b);
	if (!b->receipt_seq)
		return;
	uint32_t seq = b->receipt_seq;
	b->receipt_seq = 0;
	brig_fail(&err, BRIG_E_STATE, 0, "sandbox '%s' ended while it was measured", b->id);
	answer_err(j, seq, &err);
}

void receipt_unasked(struct box *b)
{
	reader_done(b);
	b->receipt_seq = 0;
}

/* No other sandbox of ours is in one of its namespaces. */
static int compare_others(const struct serve *j, const struct box *b, struct measure_diff *d)
{
	for (int i = 0; i < j->n_boxes; i++) {
		const struct box *o = &j->box[i];
		if (o == b || o->state != BOX_LIVE)
			continue;
		for (unsigned k = 0; k < JAIL_NS__N; k++)
			if (b->ns[k] && b->ns[k] == o->ns[k] && b->ns[k] != j->ns_own[k]) {
				snprintf(d->item, sizeof(d->item), "namespaces");
				snprintf(d->text, sizeof(d->text), "it shares one with sandbox %s",
					 o->id);
				return 1;
			}
	}
	return 0;
}

static void image_digest(const struct serve *j, const struct box *b, char ret[sizeof(b->image)])
{
	if (!b->spec || b->spec->image == 0)
		return;
	memcpy(ret, b->image[0] ? b->image : j->image[b->spec->image].digest, sizeof(b->image));
}

void receipt_keep_image(const struct serve *j, struct box *b)
{
	char digest[sizeof(b->image)] = "";
	image_digest(j, b, digest);
	memcpy(b->image, digest, sizeof(b->image));
}

static int measure_all(struct serve *j, struct box *b, const struct reading *read,
		       struct jail_receipt *m, struct brig_err *err)
{
	struct measure_want w;
	struct measure_diff d;
	struct jail_spec spec;
	struct utsname u;
	AUTO_FD proc = open_first(b);
	if (proc < 0)
		return unread(b, proc, "its first process", err);
	expected(j, b, &w, &spec);
	m->mounts_len = 1; /* asks for the list */
	if (measure_first(j, b, proc, &w, m, &d, err) < 0)
		return -1;
	int r = b->engine->look(j, b, proc, &w, m, &d);
	if (r)
		return r < 0 ? unread(b, r, "its root and its processes", err) : receipt_differs(b, &d, err);
	if (read->err == 1)
		return receipt_differs(b, &read->diff, err);
	m->filters_read = read->err == 0;
	m->filters = 0;
	for (int i = 0; i < SECCOMP__N; i++) {
		if (!(filters_of(b) & 1u << i))
			continue;
		unsigned n = m->filters++;
		snprintf(m->filter_digest[n], sizeof(m->filter_digest[n]), "%s", seccomp_digest(i));
		snprintf(m->filter_name[n], sizeof(m->filter_name[n]), "%s", seccomp_name(i));
	}
	if (measure_network(proc, b->slot.net, m, &d) || compare_others(j, b, &d))
		return receipt_differs(b, &d, err);
	image_digest(j, b, m->image);
	memcpy(m->ns_host, j->ns_own, sizeof(m->ns_host));
	if (uname(&u) == 0)
		snprintf(m->kernel, sizeof(m->kernel), "%.64s %.64s", u.release, u.version);
	return 0;
}

void receipt_on_reader(struct serve *j, struct box *b)
{
	struct reading read = { .err = -ETIMEDOUT };
	struct jail_receipt m;
	struct brig_err err = BRIG_ERR_INIT;
	if (b->state == BOX_FREE || b->reader < 0)
		return;
	/* End of file without a word: the alarm. */
	if (fd_recv(b->reader, &read, sizeof(read), NULL, NULL, MSG_DONTWAIT) != sizeof(read))
		read.err = -ETIMEDOUT;
	read.diff.item[sizeof(read.diff.item) - 1] = '\0';
	read.diff.text[sizeof(read.diff.text) - 1] = '\0';
	reader_done(b);
	uint32_t seq = b->receipt_seq;
	b->receipt_seq = 0;
	begin(b, &m);
	if (b->state != BOX_LIVE) {
		brig_fail(&err, BRIG_E_STATE, 0, "sandbox '%s' is not running", b->id);
		answer_err(j, seq, &err);
		return;
	}
	if (measure_all(j, b, &read, &m, &err) == 0) {
		m.h = (struct jail_hdr){ JAIL_RECEIPT_IS, seq };
		memset(m.mounts + m.mounts_len, 0, sizeof(m.mounts) - m.mounts_len);
		answer(j, &m, sizeof(m));
		return;
	}
	answer_err(j, seq, &err);
	if (err.code != BRIG_E_MISMATCH)
		return;
	fprintf(stderr, "brig-jaild: %s\n", err.msg);
	box_kill(j, b);
}
