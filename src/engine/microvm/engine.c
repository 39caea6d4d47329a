/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c: the microvm tier behind the seam (engine.h).
 *
 * Theory of operation
 * -------------------
 * The first process of a sandbox is a child of jaild that becomes brig-vmm, under the id of the slot's lease
 * and in the sandbox's group, whose limits are those of the guest and room for the VMM:
 *
 *     jaild --clone3--> child: RAM disk, image's disk (tier/prepare.h), groups --exec--> brig-vmm
 *     jaild <-VMM_STARTED (control.h)--------------- it: the machine is made, every right given away
 *
 * Until that word no instruction of the guest has run; what it says if something failed is what the client
 * gets. Then jaild looks at the process from outside, as it does at a container's, and answers. The socket
 * stays open: snapshots are asked for on it.
 *
 * Nothing of a tenant is interpreted here but numbers that were checked, and two texts of the specification,
 * which the guest gets on its kernel's command line: its host name (letters, digits, '-', '.') and the path
 * of its home (in hexadecimal).
 */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "brig/limits.h"
#include "engine/microvm/control.h"
#include "engine/microvm/guest_mem.h"
#include "engine/microvm/layout.h"
#include "engine/microvm/tier/host.h"
#include "engine/microvm/tier/prepare.h"
#include "engine/microvm/tier/watch.h"
#include "jail/jaild.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Of the group, beside the guest's memory: the VMM itself and KVM's tables for the guest's (two levels of eight
 * bytes for each page, and what it keeps of each). */
#define VMM_BYTES (24ull * MIB)
#define VMM_SHARE 64u
/* Threads: the VMM's, one per virtual CPU, and those that KVM adds. */
#define VMM_THREADS 8u

static struct microvm_host host; /* of this jaild, filled in by the probe */

static void microvm_probe(const struct serve_options *o, int thorough, struct jail_tier *ret)
{
	struct brig_err err = BRIG_ERR_INIT;
	int r;
	(void)thorough; /* a processor takes 0.1 ms for what it is asked */
	if (o->rootless) {
		r = brig_fail(&err, BRIG_E_UNSUPPORTED, 0, "microVMs are started by root");
		brig_fix(&err, "run brig as root (sudo), or ask its server");
	} else {
		r = microvm_host_find(o->guest_kernel, o->agent, &host, &err);
		if (r == 0)
			r = microvm_kvm_check(&err);
	}
	ret->offered = r == 0;
	if (r == 0)
		snprintf(ret->text, sizeof(ret->text), "Linux %.60s under KVM", host.release);
	else
		snprintf(ret->text, sizeof(ret->text), "%.*s", (int)sizeof(ret->text) - 1, err.msg);
	snprintf(ret->remedy, sizeof(ret->remedy), "%.*s", (int)sizeof(ret->remedy) - 1, err.remedy);
}

static uint32_t vcpus_of(const struct jail_spec *p)
{
	return p->cpu_milli / 1000 + (p->cpu_milli % 1000 != 0);
}

static void microvm_limits(const struct jail_spec *p, struct cgroup_limits *lim)
{
	lim->memory_bytes = p->memory_bytes + p->memory_bytes / VMM_SHARE + VMM_BYTES;
	lim->pids = vcpus_of(p) + VMM_THREADS;
}

/* What this tier cannot give; before anything is started. */
static int microvm_check(const struct serve *j, const struct jail_spec *p, struct brig_err *err)
{
	if (p->image == 0) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "a microVM cannot have the image 'host', which is the host's own files");
		return brig_fix(err, "name an image of the store (brig image ls), or ask for another --tier");
	}
	if (p->nvolumes) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "a microVM has no volumes");
		return brig_fix(err, "copy the files in and out (brig cp), or ask for another --tier");
	}
	if (p->net) {
		brig_fail(err, BRIG_E_UNSUPPORTED, 0, "a microVM has no network");
		return brig_fix(err, "leave --net and --allow out, or ask for another --tier");
	}
	if (p->memory_bytes % MIB || p->memory_bytes < GUEST_MEM_MIN) {
		brig_fail(err, BRIG_E_LIMIT, 0, "a microVM has whole MiB of memory, and at least %llu",
			  (unsigned long long)(GUEST_MEM_MIN / MIB));
		return brig_fix(err, "round --memory up; the kernel inside needs 128m");
	}
	if (vcpus_of(p) > VCPUS_MAX) {
		brig_fail(err, BRIG_E_LIMIT, 0, "a microVM has at most %u CPUs", VCPUS_MAX);
		return brig_fix(err, "lower --cpus");
	}
	if (j->store < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "this server has no data folder, in which disks of images are kept");
	return 0;
}

/* ---- in the child ---- */

static void hex(char *to, const char *from)
{
	static const char digits[] = "0123456789abcdef";
	for (; *from; from++) {
		*to++ = digits[(uint8_t)*from >> 4];
		*to++ = digits[(uint8_t)*from & 15];
	}
	*to = '\0';
}

static void cmdline_make(const struct jail_spec *p, char *to, size_t cap)
{
	char home[2 * JAIL_PATH_MAX + 1];
	hex(home, p->home);
	/* No firmware, bus or serial port is there to be looked for. `panic` and `reboot`: a guest that cannot go
	 * on ends its machine at once. */
	snprintf(to, cap,
		 "cmdline=quiet loglevel=3 panic=-1 reboot=t pci=off 8250.nr_uarts=0 random.trust_cpu=on "
		 "brig.root=ext4 brig.port=1 brig.host=%s brig.layer=%llu brig.inodes=%llu brig.pids=%u brig.nofile=%u "
		 "brig.home=%u:%u:%s",
		 p->hostname, (unsigned long long)p->disk_bytes, (unsigned long long)p->inodes, p->pids, p->nofile, p->uid,
		 p->gid, home);
}

/* Version 1: the slot's `tasks` files; version 2: the group's directory. */
static int groups_join(const struct serve *j, const struct cgroup_join *join)
{
	for (unsigned i = 0; i < join->n; i++) {
		int r = 0;
		if (j->cg.version == 2)
			r = openat(join->fd[i], "cgroup.procs", O_WRONLY | O_CLOEXEC);
		int fd = j->cg.version == 2 ? r : join->fd[i];
		if (fd < 0 || write(fd, "0", 1) != 1)
			return -errno;
	}
	return 0;
}

static int become_vmm(struct serve *j, const struct box *b, const struct engine_order *o, int control,
		      struct brig_err *err)
{
	const struct jail_spec *p = o->spec;
	const uint32_t uid = b->slot.host_uid;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "open /dev/kvm");
	int kernel = open(host.kernel, O_RDONLY | O_CLOEXEC);
	if (kernel < 0)
		return brig_fail(err, BRIG_E_NOT_FOUND, errno, "open the guest kernel '%.200s'", host.kernel);
	int data = openat(j->store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int initrd = data < 0 ? -1 : prepare_initrd(&host, data, err);
	const struct jail_trees *of = &j->image[p->image];
	const struct image_trees trees = { .digest = of->digest, .n = of->n, .fd = of->fd };
	int disk = initrd < 0 ? -1 : prepare_disk(&host, data, &trees, uid, err);
	if (data < 0)
		brig_fail(err, BRIG_E_INTERNAL, errno, "open the data folder");
	if (disk < 0)
		return -1;
	int r = groups_join(j, o->join);
	if (r < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, -r, "join the sandbox's cgroup");
	char text[8][40], cmdline[CMDLINE_MAX + 16];
	const struct {
		const char *name;
		int fd;
	} fds[] = { { "kvm", kvm }, { "kernel", kernel }, { "initrd", initrd }, { "disk", disk }, { "chan", o->fds[0] },
		    { "control", control } };
	char *argv[16] = { host.vmm };
	unsigned n = 1;
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		snprintf(text[i], sizeof(text[i]), "%s=%d", fds[i].name, fds[i].fd);
		argv[n++] = text[i];
		fd_set_cloexec(fds[i].fd, 0);
	}
	char memory[40], vcpus[24], uids[2][24];
	snprintf(memory, sizeof(memory), "memory=%llu", (unsigned long long)(p->memory_bytes / MIB));
	snprintf(vcpus, sizeof(vcpus), "vcpus=%u", vcpus_of(p));
	snprintf(uids[0], sizeof(uids[0]), "uid=%u", uid);
	snprintf(uids[1], sizeof(uids[1]), "gid=%u", b->slot.host_gid);
	cmdline_make(p, cmdline, sizeof(cmdline));
	char *const rest[] = { memory, vcpus, uids[0], uids[1], cmdline };
	for (unsigned i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
		argv[n++] = rest[i];
	char *const env[] = { NULL };
	execve(host.vmm, argv, env);
	return brig_fail(err, BRIG_E_INTERNAL, errno, "execute '%.200s'", host.vmm);
}

static void child(struct serve *j, const struct box *b, const struct engine_order *o, int control, pid_t parent)
	__attribute__((noreturn));
static void child(struct serve *j, const struct box *b, const struct engine_order *o, int control, pid_t parent)
{
	struct brig_err err = BRIG_ERR_INIT;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	/* Whoever looks at the host sees whose it is; brig-vmm asks for its death signal again. */
	prctl(PR_SET_NAME, "brig-vmm", 0, 0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
		become_vmm(j, b, o, control, &err);
	struct vmm_answer a = { .verb = VMM_STARTED, .code = (uint32_t)err.code };
	snprintf(a.msg, sizeof(a.msg), "%.383s", err.msg);
	snprintf(a.remedy, sizeof(a.remedy), "%.255s", err.remedy);
	(void)!write(control, &a, sizeof(a));
	_exit(1);
}

/* ---- in jaild ---- */

static int microvm_create(struct serve *j, struct box *b, const struct engine_order *o, struct brig_err *err)
{
	int sv[2], pidfd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a socket pair");
	struct clone_args c = { .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD };
	pid_t self = getpid();
	long pid = syscall(SYS_clone3, &c, sizeof(c));
	if (pid == 0)
		child(j, b, o, sv[1], self);
	close(sv[1]);
	if (pid < 0) {
		close(sv[0]);
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start the VMM");
	}
	b->slot.pid = (int)pid;
	b->slot.pidfd = pidfd;
	b->slot.ctl = sv[0];
	int r = engine_watch(j, b);
	return r < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, -r, "wait for the VMM") : 0;
}

static void ctl_end(struct serve *j, struct box *b)
{
	epoll_ctl(j->epoll, EPOLL_CTL_DEL, b->slot.ctl, NULL);
	fd_close(&b->slot.ctl);
}

static void microvm_event(struct serve *j, struct box *b)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct vmm_answer a;
	ssize_t n = recv(b->slot.ctl, &a, sizeof(a), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Its end tells the rest (box_ended). */
	if (n <= 0) {
		ctl_end(j, b);
		return;
	}
	if (n != sizeof(a) || a.verb != VMM_STARTED || !b->unborn)
		return;
	if (a.code == 0) {
		box_born(j, b);
		return;
	}
	a.msg[sizeof(a.msg) - 1] = a.remedy[sizeof(a.remedy) - 1] = '\0';
	brig_fail(&err, a.code < BRIG_E__N_CODES ? (enum brig_code)a.code : BRIG_E_INTERNAL, 0, "create sandbox '%s': %.300s", b->id,
		  a.msg);
	brig_fix(&err, "%s", a.remedy[0] ? a.remedy : "run `brig doctor`");
	box_refuse(j, b, &err);
	box_kill(j, b);
}

static int microvm_measure(struct serve *j, struct box *b, struct brig_err *err)
{
	char why[160];
	const struct microvm_want w = { .uid = b->slot.host_uid, .gid = b->slot.host_gid,
					.threads = 1 + vcpus_of(b->spec) };
	(void)j;
	int r = microvm_watch(b->slot.pid, &w, why, sizeof(why));
	if (r == 0)
		return 0;
	brig_fail(err, BRIG_E_MISMATCH, r < 0 ? -r : 0, "sandbox '%s' is not what was specified: %s", b->id, why);
	return brig_fix(err, "it was destroyed; install all programs of brig from one build, and run `brig doctor`");
}

/*
 * By signal: the VMM is one process, and a stopped one can neither catch that nor undo it. The freezer of control
 * groups version 2 would never be done, because KVM puts a thread of the kernel into the group, which does not
 * freeze (until Linux 6.13).
 */
static int signal_vmm(const struct box *b, int sig)
{
	return syscall(SYS_pidfd_send_signal, b->slot.pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

static int microvm_pause(struct serve *j, struct box *b)
{
	(void)j;
	return signal_vmm(b, SIGSTOP);
}

static int microvm_resume(struct serve *j, struct box *b)
{
	(void)j;
	return signal_vmm(b, SIGCONT);
}

/* It is our child: the kernel tells us when the last of its threads has stopped. */
static int microvm_paused(struct serve *j, struct box *b)
{
	siginfo_t si = { 0 };
	(void)j;
	if (waitid(P_PIDFD, (id_t)b->slot.pidfd, &si, WSTOPPED | WNOHANG | WNOWAIT) < 0)
		return -errno;
	return si.si_pid != 0;
}

const struct engine engine_microvm = {
	.tier = BRIG_TIER_microvm,
	.probe = microvm_probe,
	.check = microvm_check,
	.limits = microvm_limits,
	.create = microvm_create,
	.event = microvm_event,
	.measure = microvm_measure,
	.pause = microvm_pause,
	.resume = microvm_resume,
	.paused = microvm_paused,
	.destroy = engine_first_kill,
};
