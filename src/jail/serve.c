/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c: the privileged side of brig.
 *
 * Theory of operation
 * -------------------
 * One thread, one epoll. Three kinds of events: a request of brigd (fixed size, checked by check.c),
 * an answer of the stage, the end of a sandbox's first process (its pidfd). A sandbox ("box") goes
 *
 *     free -> BORN (groups made, child told what to be) -> LIVE (child said READY) -> free
 *                \________________ DYING (killed, waiting for its pidfd) ___/
 *
 * and owns, in the order in which they were made: a slot (ids, user and network namespace with its link, if
 * it has one), cgroups, a process. They are undone in reverse when its first process has been reaped; with it, the kernel
 * has ended every process of its pid namespace, and with the last of these its mounts. There is
 * nothing else: no directory, file, link, rule or mount of a sandbox exists on the host. Links end in a
 * namespace of this jaild (gateway.h), which ends with it and with brig-egress.
 *
 * A private server ends with its brigd. A resident one outlives it: the supervisor's control socket
 * brings the link to the next brigd, which is told of the boxes by LIST. Only when neither is there any
 * more everything is removed.
 *
 * No byte of a tenant is parsed here. brigd is not trusted: every field is checked again
 * (check.c), and ops.c says above each verb what an attacker who owns brigd could try with it.
 */
#include "jail/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "jail/gc.h"
#include "jail/jaild.h"
#include "jail/keep.h"

/* Below this many ready slots the maker works beside births. */
#define SLOTS_LOW 4u
/* How long after a birth its command has started: 2 ms, with a margin. */
#define QUIET_NS (4 * MS_NS)
/* A child born ahead is confined after 2 ms. */
#define LOOK_MS 2

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Moves the caller away from the CPU of its parent, if it is there and may run on another one, and lets it
 * go everywhere again. A private server starts four processes at once, and the scheduler leaves a forked
 * one queued behind its busy parent even when another CPU falls idle: 1 ms of 6 here. */
static void move_aside(int busy)
{
	cpu_set_t all, others;
	if (busy < 0 || sched_getcpu() != busy || sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	others = all;
	CPU_CLR((unsigned)busy, &others);
	if (CPU_COUNT(&others) && sched_setaffinity(0, sizeof(others), &others) == 0)
		sched_setaffinity(0, sizeof(all), &all);
}

static int start_stage(struct serve *j)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	int cpu = sched_getcpu();
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		char *argv[] = { (char[]){ "brig-agent" },
				 j->o->rootless ? (char[]){ "--stage-rootless" } : (char[]){ "--stage" },
				 NULL };
		char *envp[] = { FAILPOINT_ENV, NULL };
		if (j->o->once)
			move_aside(cpu);
		int s = fcntl(sv[1], F_DUPFD, 16);
		if (s < 0 || dup2(s, 3) < 0 || fd_close_from(4) < 0)
			_exit(126);
		execve(j->o->agent, argv, envp);
		fprintf(stderr,
			"brig-jaild: start '%s': %s\n"
			"  remedy: install brig completely, or set BRIG_LIBEXEC to the folder of brigd\n",
			j->o->agent, strerror(errno));
		_exit(127);
	}
	close(sv[1]);
	j->stage = sv[0];
	j->stage_pid = pid;
	return 0;
}

/* Can a detached copy of a mount be id-mapped? (That overlay accepts it, from Linux 5.19, is tried by
 * `brig doctor`.) It takes a user namespace with a map to find out: that of the first slot. */
void serve_learn_idmap(struct serve *j)
{
	if (j->idmap_known || j->o->rootless || !j->slots.n_ready)
		return;
	AUTO_FD tree = mntfd_clone(AT_FDCWD, "/", 0);
	struct mntfd_attr a = { .set = MNTFD_ATTR_IDMAP,
				.userns_fd = (uint64_t)j->slots.ready[0].userns };
	if (tree >= 0 && mntfd_setattr(tree, 0, &a) == 0)
		j->facts.enforced |= JAIL_ENF_idmap;
	j->idmap_known = 1;
}

static void measure_host(struct serve *j)
{
	j->facts.range = j->slots.range;
	j->facts.ids = j->slots.size;
	j->facts.enforced = j->cg.enforced;
	if (j->slots.range)
		j->facts.enforced |= JAIL_ENF_uidrange;
	if (access("/proc/self/timens_offsets", F_OK) == 0)
		j->facts.enforced |= JAIL_ENF_timens;
	engine_probe(j->o, !j->o->once, j->tier);
	for (uint32_t t = 0; t < BRIG_TIER__N; t++)
		j->facts.tiers |= (uint32_t)(j->tier[t].offered != 0) << t;
	/* Nobody would take a child that is born ahead. */
	j->no_ahead |= j->o->once && !(j->o->tiers & 1u << BRIG_TIER_container);
}

/* What waits until there is nothing else to do. Returns 1 to be called again soon. */
static int idle_work(struct serve *j)
{
	for (int i = 0; j->busy_groups && i < j->n_boxes; i++)
		if (j->box[i].state == BOX_DYING && j->box[i].removing)
			box_undo(j, &j->box[i], 0);
	keep_retry(j);
	return j->busy_groups != 0 || j->unkept || j->host_unkept;
}

/*
 * Nothing waits: time for what no request asked for. Making a slot contends with a command that starts for
 * the kernel's own locks (cgroups, network) and for a CPU, so as long as enough are left it waits until
 * requests have been quiet for a moment. Returns how long to sleep at most, in ms.
 */
static int prepare(struct serve *j)
{
	uint64_t quiet = clock_now() - j->birth_at;
	/* What the maker had in hand it alone knew. */
	if (j->slots.maker < 0 && j->slots.maker_pid > 0 && keep_on(j) && !j->births)
		serve_abandon(j, "the maker of slots is gone");
	const unsigned most[2] = { (unsigned)j->o->ready,
				   j->gateway.netns < 0 || j->slots.no_net_ahead ? 0 : (unsigned)j->o->net_ready };
	/* Those without a link first; the others are fewer, and so is what is low for them. */
	int net = slot_coming(&j->slots, 0) >= most[0];
	if (j->o->once || (net && slot_coming(&j->slots, 1) >= most[1])) {
		birth_ahead(j);
		return birth_look(j) ? LOOK_MS : -1;
	}
	if (slot_coming(&j->slots, net) >= (net ? most[1] / 2 : SLOTS_LOW) && (j->births || quiet < QUIET_NS))
		return j->births ? -1 : (int)((QUIET_NS - quiet) / MS_NS) + 1;
	slot_prefetch(&j->slots, net, most[net]);
	birth_ahead(j);
	return birth_look(j) ? LOOK_MS : -1;
}

void serve_broker_lost(struct serve *j)
{
	if (j->broker < 0)
		return;
	epoll_ctl(j->epoll, EPOLL_CTL_DEL, j->broker, NULL);
	fd_close(&j->broker);
	if (j->control < 0) {
		j->quit = 1;
		return;
	}
	for (int i = 0; i < j->n_boxes; i++)
		if (j->box[i].state != BOX_FREE)
			box_unasked(j, &j->box[i]);
	volumes_unasked(j);
	/* The numbers were the former brigd's. What lives keeps its image. */
	for (unsigned i = 1; i < JAIL_IMAGES_MAX; i++) {
		jail_trees_close(&j->image[i]);
		j->facts.image[i] = 0;
	}
}

void serve_abandon(struct serve *j, const char *why)
{
	fprintf(stderr, "brig-jaild: %s; %s\n", why, keep_on(j) ? "another brig-jaild takes over" : "ending");
	if (keep_on(j))
		_exit(125);
	j->quit = 1;
}

static int watch(struct serve *j, int fd, enum ev_kind kind)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 };
	return epoll_ctl(j->epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* The socket to another brigd, from the supervisor, or its end. */
static void control_event(struct serve *j)
{
	struct keep_hdr m;
	int fd = -1;
	unsigned n = 1;
	ssize_t r = fd_recv(j->control, &m, sizeof(m), &fd, &n, MSG_DONTWAIT);
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r <= 0) {
		epoll_ctl(j->epoll, EPOLL_CTL_DEL, j->control, NULL);
		fd_close(&j->control);
		if (j->broker < 0)
			j->quit = 1;
		return;
	}
	if (n != 1)
		return;
	if (r != sizeof(m) || m.verb != KEEP_LINK) {
		fd_close(&fd);
		return;
	}
	serve_broker_lost(j); /* if it has not been noticed yet */
	j->broker = fd;
	if (watch(j, fd, EV_BROKER) < 0)
		serve_broker_lost(j);
}

/* Tells the supervisor, who starts brig-egress, what there is. Without a gateway the server serves
 * sandboxes without a network all the same. */
static void make_gateway(struct serve *j)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct jail_net m = { .version = BRIG_JAIL_PROTO_VERSION };
	int fds[BRIG_NET_SOCKETS];
	unsigned n = 0;
	if (j->o->net < 0)
		return;
	if (gateway_make(&j->gateway, j->slots.home_netns, j->in.name, &err) < 0) {
		snprintf(m.msg, sizeof(m.msg), "%.*s", (int)sizeof(m.msg) - 1, err.msg);
		snprintf(m.remedy, sizeof(m.remedy), "%s", err.remedy);
	} else {
		j->slots.gateway = &j->gateway;
		j->facts.net = 1;
	}
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++) {
		if (j->gateway.sock[i] < 0)
			continue;
		fds[n++] = j->gateway.sock[i];
		m.sockets |= 1u << i;
	}
	(void)fd_send(j->o->net, &m, sizeof(m), fds, n);
	/* brig-egress has them now; the rules give packets to nobody else. */
	for (unsigned i = 0; i < BRIG_NET_SOCKETS; i++)
		fd_close(&j->gateway.sock[i]);
}

/* That of a former jaild, which brig-egress serves: nobody need be told. */
static void resume_gateway(struct serve *j, struct recovery *r)
{
	int e = gateway_resume(&j->gateway, j->slots.home_netns, fd_steal(&r->fd[2]), fd_steal(&r->fd[3]),
			       (int)r->host.six);
	if (e < 0) {
		fprintf(stderr, "brig-jaild: return to the gateway: %s; sandboxes have no network\n", strerror(-e));
		return;
	}
	j->slots.gateway = &j->gateway;
	j->facts.net = 1;
}

static void destroy_all(struct serve *j)
{
	for (int i = 0; i < j->n_boxes; i++)
		if (j->box[i].state != BOX_FREE)
			box_kill(j, &j->box[i]);
	for (unsigned i = 0; i < JAIL_IMAGES_MAX; i++)
		jail_trees_close(&j->image[i]);
	/* The stage may be in the middle of a clone: it goes first, then PDEATHSIG and the groups get
	 * whatever it made. */
	fd_close(&j->stage);
	fd_close(&j->stage_pidfd);
	if (j->stage_pid > 0) {
		kill(j->stage_pid, SIGKILL);
		while (waitpid(j->stage_pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	uint64_t deadline = clock_now() + 2 * SEC_NS;
	for (int i = 0; i < j->n_boxes; i++) {
		struct box *b = &j->box[i];
		while (b->state != BOX_FREE && clock_now() < deadline) {
			if (b->slot.pidfd >= 0)
				waitid(P_PIDFD, (id_t)b->slot.pidfd, &(siginfo_t){ 0 }, WEXITED);
			cgroup_kill(&j->cg, b->id);
			if (cgroup_remove(&j->cg, b->id) == 0)
				box_free(j, b);
			else
				usleep(1000);
		}
	}
	volumes_done(j);
	slot_host_close(&j->slots);
	gateway_done(&j->gateway);
	peers_done(&j->peers);
	cgroup_host_close(&j->cg);
	if (j->o->once && j->in.run >= 0)
		gc_sweep_dead(j->in.run, j->o->delegated);
	instance_end(&j->in);
	free(j->box);
}

static int serve_start(struct serve *j)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct recovery former = RECOVERY_NONE;
	/* First, because it takes as long as everything below and runs beside it. */
	int e = start_stage(j);
	if (e < 0) {
		brig_fail(&err, BRIG_E_INTERNAL, -e, "start the stage");
		goto fail;
	}
	if (j->o->resume && recovery_host(j->control, &former, &err) < 0)
		goto fail;
	if (j->o->resume ? instance_resume(&j->in, former.host.instance, fd_steal(&former.fd[0]), &err) < 0 :
			   instance_begin(&j->in, &err) < 0)
		goto fail;
	/* What crashed instances left. A private server, whose one request waits, does it at its end. */
	if (!j->o->once)
		gc_sweep_dead(j->in.run, j->o->delegated);
	cgroup_host_open(&j->cg, j->in.name, j->o->delegated, j->o->once);
	if (slot_host_open(&j->slots, &j->cg, j->in.run, j->o->rootless, j->o->sub_ids, &err) < 0)
		goto fail;
	if (j->o->resume)
		slot_resume(&j->slots, fd_steal(&former.fd[1]));
	/* One sandbox: its groups are made here, beside the maker. */
	if (j->o->once)
		j->slots.cg = NULL;
	j->volumes_lock = fd_steal(&former.fd[4]);
	if (former.host.net)
		resume_gateway(j, &former);
	else
		make_gateway(j);
	if (j->o->ready > 0 && slot_maker_start(&j->slots, j->broker, j->control) < 0)
		j->slots.maker = -1; /* slots are made inline then */
	j->epoll = epoll_create1(EPOLL_CLOEXEC);
	/* Behind the fork of the maker, which needs none of it; before anything new is made, for which what
	 * is left may have taken the name. */
	if (j->o->resume && recovery_boxes(j, &former, &err) < 0)
		goto fail;
	for (int i = 0; i < j->o->ready; i++)
		slot_prefetch(&j->slots, j->o->once && j->facts.net, (unsigned)j->o->ready);
	if (j->o->once)
		slot_groups_ahead(&j->slots, &j->cg);
	if (j->o->data)
		j->store = open(j->o->data, O_PATH | O_DIRECTORY | O_CLOEXEC);
	measure_host(j);
	j->facts.image[0] = 1;
	j->stage_pidfd = (int)syscall(SYS_pidfd_open, j->stage_pid, 0u);
	if (j->epoll < 0 || watch(j, j->broker, EV_BROKER) < 0 || watch(j, j->stage, EV_STAGE) < 0 ||
	    j->stage_pidfd < 0 || watch(j, j->stage_pidfd, EV_STAGE_END) < 0 ||
	    (j->control >= 0 && watch(j, j->control, EV_CONTROL) < 0) ||
	    (j->slots.maker >= 0 && watch(j, j->slots.maker, EV_MAKER) < 0)) {
		brig_fail(&err, BRIG_E_EXHAUSTED, errno, "watch the sockets");
		goto fail;
	}
	recovery_done(&former);
	if (j->control >= 0 && fd_set_nonblock(j->control, 1) == 0) {
		keep_host(j);
		keep_ready(j);
	}
	return 0;
fail:
	recovery_done(&former);
	fprintf(stderr, "brig-jaild: %s\n", err.msg);
	if (err.remedy[0])
		fprintf(stderr, "  remedy: %s\n", err.remedy);
	return -1;
}

int serve_run(const struct serve_options *o)
{
	static struct serve j;
	j.o = o;
	j.broker = o->broker;
	j.control = o->control;
	j.epoll = j.stage = j.stage_pidfd = j.store = j.slots.lock = j.slots.home_netns = j.slots.maker = -1;
	j.gateway = (struct gateway)GATEWAY_NONE;
	box_table_init(&j);
	j.in.run = j.in.lock = -1;
	volumes_init(&j);
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
		box_pauses_poll(&j);
		int n = epoll_wait(j.epoll, ev, 64, 0);
		if (n == 0) {
			int ms = prepare(&j);
			busy = idle_work(&j) || j.pauses;
			n = epoll_wait(j.epoll, ev, 64, busy ? 1 : ms);
		}
		for (int i = 0; i < n; i++) {
			uint32_t kind = (uint32_t)(ev[i].data.u64 >> 32), at = (uint32_t)ev[i].data.u64;
			if (kind == EV_BROKER && j.broker >= 0)
				ops_on_broker(&j);
			else if (kind == EV_CONTROL && j.control >= 0)
				control_event(&j);
			else if (kind == EV_STAGE)
				birth_on_stage(&j);
			else if (kind == EV_STAGE_END)
				birth_stage_lost(&j);
			else if (kind == EV_MAKER)
				slot_collect(&j.slots);
			else if (kind == EV_VOLUME)
				volumes_on_job(&j, &j.job[at]);
			else if (kind == EV_READER)
				receipt_on_reader(&j, &j.box[at]);
			else if (kind == EV_ENGINE && j.box[at].slot.ctl >= 0)
				j.box[at].engine->event(&j, &j.box[at]);
			else if (kind == EV_BOX && j.box[at].state != BOX_FREE && j.box[at].slot.pidfd >= 0)
				box_ended(&j, &j.box[at]);
		}
	}
	destroy_all(&j);
	return failed;
}
