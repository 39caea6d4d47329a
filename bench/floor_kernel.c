/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_kernel.c: cost of cgroups, seccomp filters, credentials and wake-ups.
 *
 * Theory of operation
 * -------------------
 * cgroup version 1: a group per controller is made below the one that the benchmark is in itself, a
 * child writes "0" to its cgroup.procs, and again to the tasks file of another group: the first
 * takes the lock over all thread groups of the machine, for which the kernel may wait for a grace
 * period if nobody held it lately; the second, which moves only the calling thread, does not
 * (kernel/cgroup/cgroup.c, cgroup_procs_write_start). Hence a series back to back and one after a
 * pause. Filters: the kernel evaluates a new filter for every system call number to learn which ones
 * it always allows, so the price of installing goes with the length of the path and not the size.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "floor.h"

/* The directory of this process's own group in a v1 hierarchy, or the v2 one for "unified". */
static int group_dir(const char *controller, char *path, size_t cap)
{
	char text[4096], *save = NULL;

	if (fd_slurp_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)) < 0)
		return -1;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *name = strchr(l, ':'), *at = name ? strchr(name + 1, ':') : NULL;
		if (!at)
			continue;
		*at++ = '\0';
		const char *want = strcmp(controller, "unified") ? controller : "";
		if (!strcmp(name + 1, want)) {
			snprintf(path, cap, "/sys/fs/cgroup/%s%s", controller,
				 strcmp(at, "/") ? at : "");
			return 0;
		}
	}
	errno = ENOENT;
	return -1;
}

static void group_time(struct floor *f, const char *ctl, unsigned idle_ms)
{
	char name[FLOOR_NAME_MAX], own[512], dir[600], file[700];
	const char *idle = idle_ms ? " after 50 ms of rest" : "";

	snprintf(name, sizeof(name), "cgroup %s: mkdir%s", ctl, idle);
	if (group_dir(ctl, own, sizeof(own)))
		return floor_miss(f, name, errno);
	snprintf(dir, sizeof(dir), "%s/brig-floor-%d", own, (int)getpid());
	uint64_t t0 = floor_now();
	if (!floor_take(f, name, t0, mkdir(dir, 0755) == 0))
		return;
	if (!strcmp(ctl, "cpuset")) {
		/* An empty set takes nobody in. */
		static const char *const sets[] = { "cpuset.cpus", "cpuset.mems" };
		AUTO_FD from = open(own, O_PATH | O_DIRECTORY | O_CLOEXEC);
		AUTO_FD to = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		for (unsigned i = 0; i < 2; i++)
			if (fd_slurp_at(from, sets[i], file, sizeof(file)) > 0)
				(void)fd_spew_at(to, sets[i], file);
	}
	nanosleep(&(struct timespec){ .tv_nsec = (long)idle_ms * 1000000 }, NULL);
	pid_t pid = fork();
	if (pid == 0) {
		static const char *const files[] = { "tasks", "cgroup.procs" };
		for (unsigned i = strcmp(ctl, "unified") ? 0 : 1; i < 2; i++) {
			snprintf(file, sizeof(file), "%s/%s", dir, files[i]);
			AUTO_FD fd = open(file, O_WRONLY | O_CLOEXEC);
			snprintf(name, sizeof(name), "cgroup %s: attach self by %s%s", ctl, files[i], idle);
			t0 = floor_now();
			floor_take(f, name, t0, write(fd, "0", 1) == 1);
			snprintf(file, sizeof(file), "%s/cgroup.procs", own);
			(void)fd_spew_at(AT_FDCWD, file, "0");
			nanosleep(&(struct timespec){ .tv_nsec = (long)idle_ms * 1000000 }, NULL);
		}
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	if (!strcmp(ctl, "unified")) {
		AUTO_FD fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		t0 = floor_now();
		pid = floor_clone(0, fd);
		if (pid == 0) {
			f->sh->mark = floor_now();
			_exit(0);
		}
		int ok = pid > 0 && waitpid(pid, NULL, 0) == pid;
		snprintf(name, sizeof(name), "clone3 INTO_CGROUP: child runs%s", idle);
		if (ok)
			floor_add(f, name, f->sh->mark - t0);
		else
			floor_miss(f, name, errno);
	}
	snprintf(name, sizeof(name), "cgroup %s: rmdir%s", ctl, idle);
	t0 = floor_now();
	floor_take(f, name, t0, rmdir(dir) == 0);
}

static const char *const controllers[] = { "unified", "memory",  "pids",    "cpu", "cpuacct",
					   "cpuset",  "freezer", "devices", "blkio" };

static void groups(struct floor *f)
{
	for (unsigned i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
		group_time(f, controllers[i], 0);
}

static void groups_rested(struct floor *f)
{
	if (f->sh->warming || f->sh->round % 10)
		return; /* a round of this takes a fifth of a second */
	group_time(f, "unified", 50);
	group_time(f, "memory", 50);
}

static void group_limits(struct floor *f)
{
	static const struct {
		const char *ctl, *file, *value;
	} set[] = { { "memory", "memory.limit_in_bytes", "536870912" },
		    { "memory", "memory.swappiness", "0" },
		    { "pids", "pids.max", "256" },
		    { "cpu", "cpu.cfs_period_us", "100000" },
		    { "cpu", "cpu.cfs_quota_us", "100000" } };

	for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		char name[FLOOR_NAME_MAX], own[512], dir[600];
		snprintf(name, sizeof(name), "cgroup set %s", set[i].file);
		if (group_dir(set[i].ctl, own, sizeof(own))) {
			floor_miss(f, name, errno);
			continue;
		}
		snprintf(dir, sizeof(dir), "%s/brig-floor-%d", own, (int)getpid());
		if (mkdir(dir, 0755)) {
			floor_miss(f, name, errno);
			continue;
		}
		AUTO_FD d = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		uint64_t t0 = floor_now();
		errno = -fd_spew_at(d, set[i].file, set[i].value);
		floor_take(f, name, t0, errno == 0);
		rmdir(dir);
	}
}

#define INSNS_MAX 1024u
#define INSN(c, tt, ff, kk) \
	((struct sock_filter){ .code = (uint16_t)(c), .jt = (tt), .jf = (ff), .k = (kk) })

/* A filter that compares the number with n values one after the other, then allows. */
static unsigned linear_make(struct sock_filter *p, unsigned n)
{
	unsigned at = 0;

	p[at++] = INSN(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < n; i++)
		p[at++] = INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1000 + i);
	p[at++] = INSN(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	return at;
}

/* Leaves lo .. hi as a balanced tree; each leaf allows. Built forward, jumps by offset of the right
 * half, which is known once the left one is laid down; a far one goes through BPF_JA. */
static unsigned tree_make(struct sock_filter *p, unsigned at, unsigned lo, unsigned hi)
{
	if (lo == hi) {
		p[at++] = INSN(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
		return at;
	}
	unsigned mid = lo + (hi - lo + 1) / 2, test = at++, far = at++;
	unsigned right = tree_make(p, at, lo, mid - 1);
	p[test] = INSN(BPF_JMP | BPF_JGE | BPF_K, 0, 1, mid);
	p[far] = INSN(BPF_JMP | BPF_JA, 0, 0, right - far - 1);
	return tree_make(p, right, mid, hi);
}

static void filter_time(struct floor *f, const char *what, struct sock_filter *insn, unsigned n)
{
	char name[FLOOR_NAME_MAX];
	struct sock_fprog prog = { .len = (uint16_t)n, .filter = insn };
	pid_t pid = fork();

	if (pid == 0) {
		snprintf(name, sizeof(name), "seccomp install %s", what);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		uint64_t t0 = floor_now();
		int ok = n == 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0;
		if (n)
			floor_take(f, name, t0, ok);
		snprintf(name, sizeof(name), "1000 getppid under %s", what);
		t0 = floor_now();
		for (int i = 0; ok && i < 1000; i++)
			syscall(SYS_getppid);
		floor_take(f, name, t0, ok);
		snprintf(name, sizeof(name), "fork, exit, reap under %s", what);
		t0 = floor_now();
		pid_t grand = fork();
		if (grand == 0)
			_exit(0);
		floor_take(f, name, t0, waitpid(grand, NULL, 0) == grand);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void filters(struct floor *f)
{
	static struct sock_filter insn[4 * INSNS_MAX];
	static const unsigned linear[] = { 1, 16, 64, 256 }, leaves[] = { 64, 128, 256, 512 };
	char what[32];

	filter_time(f, "no filter", insn, 0);
	for (unsigned i = 0; i < sizeof(linear) / sizeof(linear[0]); i++) {
		snprintf(what, sizeof(what), "linear filter of %u", linear[i]);
		filter_time(f, what, insn, linear_make(insn, linear[i]));
	}
	for (unsigned i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		snprintf(what, sizeof(what), "tree filter of %u", leaves[i]);
		filter_time(f, what, insn, tree_make(insn, 0, 0, leaves[i] - 1));
	}
}

static void privileges(struct floor *f)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	uint64_t t0 = floor_now();
	int ok = 1;

	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		ok = prctl(PR_CAPBSET_DROP, c, 0, 0, 0) == 0 && ok;
	floor_take(f, "drop the whole bounding set", t0, ok);
	t0 = floor_now();
	floor_take(f, "setgroups, setresgid, setresuid", t0,
		   syscall(SYS_setgroups, 0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
			   setresuid(65534, 65534, 65534) == 0);
	memset(d, 0, sizeof(d));
	t0 = floor_now();
	floor_take(f, "capset to nothing", t0, syscall(SYS_capset, &h, d) == 0);
	t0 = floor_now();
	floor_take(f, "no_new_privs and dumpable", t0,
		   prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
			   prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
	t0 = floor_now();
	floor_take(f, "close_range 3..", t0, syscall(SYS_close_range, 3, ~0u, 0) == 0);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* One byte there and back, the peer on CPU b (or anywhere if negative). */
static void ping(struct floor *f, const char *what, int type, int a, int b)
{
	char name[FLOOR_NAME_MAX], byte = 'p';
	int sv[2];

	snprintf(name, sizeof(name), "round trip, %s", what);
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sv))
		return floor_miss(f, name, errno);
	pid_t pid = fork();
	if (pid == 0) {
		close(sv[0]);
		if (b >= 0)
			pin(b);
		while (read(sv[1], &byte, 1) == 1 && write(sv[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	close(sv[1]);
	if (a >= 0)
		pin(a);
	for (int i = 0; i < 12; i++) {
		uint64_t t0 = floor_now();
		int ok = write(sv[0], &byte, 1) == 1 && read(sv[0], &byte, 1) == 1;
		if (i >= 2)
			floor_take(f, name, t0, ok);
	}
	close(sv[0]);
	waitpid(pid, NULL, 0);
}

static void wakeups(struct floor *f)
{
	ping(f, "stream socketpair, not pinned", SOCK_STREAM, -1, -1);
	ping(f, "seqpacket socketpair, not pinned", SOCK_SEQPACKET, -1, -1);
	ping(f, "stream socketpair, same CPU", SOCK_STREAM, 0, 0);
	ping(f, "seqpacket socketpair, same CPU", SOCK_SEQPACKET, 0, 0);
	ping(f, "stream socketpair, other CPU", SOCK_STREAM, 0, 1);
}

static void descriptors(struct floor *f)
{
	char byte = 'f';
	int sv[2], got[1];
	unsigned ngot = 1;
	uint64_t t0 = floor_now();

	if (!floor_take(f, "socketpair", t0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0))
		return;
	t0 = floor_now();
	floor_take(f, "send and receive one descriptor", t0,
		   fd_send(sv[0], &byte, 1, &sv[0], 1) == 0 &&
			   fd_recv(sv[1], &byte, 1, got, &ngot, 0) == 1);
	t0 = floor_now();
	AUTO_FD pfd = pidfd_open(getpid(), 0);
	floor_take(f, "pidfd_open", t0, pfd >= 0);
	AUTO_FD ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN };
	t0 = floor_now();
	floor_take(f, "epoll_ctl add", t0, epoll_ctl(ep, EPOLL_CTL_ADD, pfd, &ev) == 0);
	int p[2];
	t0 = floor_now();
	floor_take(f, "pipe2", t0, pipe2(p, O_CLOEXEC) == 0);
}

static void faults(struct floor *f)
{
	const size_t n = 256, page = 4096;
	uint8_t *m = mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		return floor_miss(f, "first touch of 256 pages", errno);
	madvise(m, n * page, MADV_NOHUGEPAGE);
	uint64_t t0 = floor_now();
	for (size_t i = 0; i < n; i++)
		m[i * page] = 1;
	floor_take(f, "first touch of 256 pages", t0, 1);
	pid_t pid = fork();
	if (pid == 0) {
		t0 = floor_now();
		for (size_t i = 0; i < n; i++)
			m[i * page] = 2;
		floor_take(f, "copy on write of 256 pages", t0, 1);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	munmap(m, n * page);
}

const struct floor_case floor_kernel_cases[] = {
	{ "cgroups", groups },
	{ "cgroup limits", group_limits },
	{ "cgroups after a pause", groups_rested },
	{ "seccomp filters", filters },
	{ "privileges", privileges },
	{ "wake-ups", wakeups },
	{ "descriptors", descriptors },
	{ "page faults", faults },
	{ NULL, NULL },
};
