/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_proc.c: cost of making, entering and ending processes and namespaces.
 *
 * Theory of operation
 * -------------------
 * For a clone three moments are taken: the call returns in the parent, the child executes its first
 * instruction (it leaves a time stamp in shared memory), the parent has reaped the child that exited
 * at once. The first and second differ by the scheduler's choice of who runs first and where.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "floor.h"

#define NS_REST (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static void clone_time(struct floor *f, const char *what, uint64_t flags)
{
	char name[FLOOR_NAME_MAX];
	uint64_t t0 = floor_now();
	pid_t pid = floor_clone(flags, -1);

	if (pid == 0) {
		f->sh->mark = floor_now();
		_exit(0);
	}
	uint64_t t1 = floor_now();
	snprintf(name, sizeof(name), "clone3 %s: returned", what);
	if (pid < 0) {
		floor_miss(f, name, errno);
		return;
	}
	waitpid(pid, NULL, 0);
	uint64_t t2 = floor_now();
	floor_add(f, name, t1 - t0);
	snprintf(name, sizeof(name), "clone3 %s: child runs", what);
	floor_add(f, name, f->sh->mark - t0);
	snprintf(name, sizeof(name), "clone3 %s: exited, reaped", what);
	floor_add(f, name, t2 - t0);
}

static void clone_plain(struct floor *f)
{
	clone_time(f, "plain", 0);
}

static void clone_each(struct floor *f)
{
	static const struct {
		const char *name;
		uint64_t flag;
	} ns[] = { { "NEWUSER", CLONE_NEWUSER }, { "NEWPID", CLONE_NEWPID },
		   { "NEWNS (host table)", CLONE_NEWNS }, { "NEWIPC", CLONE_NEWIPC },
		   { "NEWUTS", CLONE_NEWUTS }, { "NEWCGROUP", CLONE_NEWCGROUP },
		   { "NEWTIME", CLONE_NEWTIME } };

	for (unsigned i = 0; i < sizeof(ns) / sizeof(ns[0]); i++)
		clone_time(f, ns[i].name, ns[i].flag);
}

static void clone_net(struct floor *f)
{
	clone_time(f, "NEWNET", CLONE_NEWNET);
}

static void clone_most(struct floor *f)
{
	clone_time(f, "ns,pid,ipc,uts,cgroup", NS_REST);
	clone_time(f, "user,ns,pid,ipc,uts,cgroup", NS_REST | CLONE_NEWUSER);
	clone_time(f, "user,ns,pid,ipc,uts,cgroup,time", NS_REST | CLONE_NEWUSER | CLONE_NEWTIME);
}

static void clone_all(struct floor *f)
{
	clone_time(f, "all with net", NS_REST | CLONE_NEWUSER | CLONE_NEWTIME | CLONE_NEWNET);
}

static void clone_minimal(struct floor *f)
{
	int r = floor_mounts_minimal();

	if (r) {
		floor_miss(f, "clone3 NEWNS (1 mount): returned", -r);
		return;
	}
	clone_time(f, "NEWNS (1 mount)", CLONE_NEWNS);
	clone_time(f, "ns(1 mount),pid,ipc,uts,cgroup", NS_REST);
	clone_time(f, "user,ns(1 mount),pid,ipc,uts,cgroup", NS_REST | CLONE_NEWUSER);
}

/* Forking from a process whose memory has been touched: a zygote of 1 and 16 MiB. */
static void clone_touched(struct floor *f)
{
	static char mem[16 << 20];

	memset(mem, 1, 1 << 20);
	clone_time(f, "plain, 1 MiB touched", 0);
	memset(mem, 1, sizeof(mem));
	clone_time(f, "plain, 16 MiB touched", 0);
}

struct vm_child {
	struct floor *f;
};

static int vm_main(void *arg)
{
	struct vm_child *c = arg;

	c->f->sh->mark = floor_now();
	_exit(0);
}

/* CLONE_VM: no page tables are copied; the child runs on a stack of its own. */
static void vm_time(struct floor *f, const char *what, int flags)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	char name[FLOOR_NAME_MAX];
	struct vm_child c = { f };
	uint64_t t0 = floor_now();
	pid_t pid = clone(vm_main, stack + sizeof(stack), CLONE_VM | SIGCHLD | flags, &c);

	snprintf(name, sizeof(name), "clone VM %s: child runs", what);
	if (pid < 0) {
		floor_miss(f, name, errno);
		return;
	}
	waitpid(pid, NULL, 0);
	floor_add(f, name, f->sh->mark - t0);
	snprintf(name, sizeof(name), "clone VM %s: exited, reaped", what);
	floor_take(f, name, t0, 1);
}

static void clone_vm(struct floor *f)
{
	vm_time(f, "plain", 0);
	vm_time(f, "vfork", CLONE_VFORK);
	vm_time(f, "vfork ns,pid,ipc,uts,cgroup", CLONE_VFORK | NS_REST);
	vm_time(f, "vfork user,ns,pid,ipc,uts,cgroup", CLONE_VFORK | NS_REST | CLONE_NEWUSER);
}

static void spawn_time(struct floor *f, const char *what, const char *path)
{
	extern char **environ;
	char name[FLOOR_NAME_MAX], arg0[] = "x", *argv[] = { arg0, NULL }, byte;
	posix_spawn_file_actions_t fa;
	int p[2];
	pid_t pid;

	snprintf(name, sizeof(name), "posix_spawn %s: reaped", what);
	if (!path || pipe2(p, O_CLOEXEC)) {
		floor_miss(f, name, path ? errno : ENOENT);
		return;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], 1);
	uint64_t t0 = floor_now();
	int r = posix_spawn(&pid, path, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(p[1]);
	if (r) {
		floor_miss(f, name, r);
		close(p[0]);
		return;
	}
	ssize_t n = read(p[0], &byte, 1);
	uint64_t t1 = floor_now();
	waitpid(pid, NULL, 0);
	floor_take(f, name, t0, 1);
	close(p[0]);
	if (n == 1) {
		snprintf(name, sizeof(name), "posix_spawn %s: first byte", what);
		floor_add(f, name, t1 - t0);
	}
}

static void spawn_programs(struct floor *f)
{
	spawn_time(f, "static hi", f->hi);
	spawn_time(f, "/bin/true (dynamic)", "/bin/true");
}

/* What remains of the way from a waiting process to the first byte: execve alone. */
static void exec_waiting(struct floor *f)
{
	static const char name[] = "execve of static hi by a waiting child: first byte";
	char arg0[] = "hi", *argv[] = { arg0, NULL }, *envp[] = { NULL }, byte;
	int go[2], out[2];

	if (!f->hi || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go) || pipe2(out, O_CLOEXEC)) {
		floor_miss(f, name, f->hi ? errno : ENOENT);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		int hi = open(f->hi, O_PATH | O_CLOEXEC);
		dup2(out[1], 1);
		if (write(go[1], "r", 1) == 1 && read(go[1], &byte, 1) == 1)
			syscall(SYS_execveat, hi, "", argv, envp, AT_EMPTY_PATH);
		_exit(1);
	}
	close(out[1]);
	if (pid > 0 && read(go[0], &byte, 1) == 1) {
		/* The child goes to sleep between its byte and its read. */
		nanosleep(&(struct timespec){ .tv_nsec = 300000 }, NULL);
		uint64_t t0 = floor_now();
		int ok = write(go[0], "g", 1) == 1 && read(out[0], &byte, 1) == 1;
		floor_take(f, name, t0, ok);
	}
	waitpid(pid, NULL, 0);
}

static void userns_map(struct floor *f)
{
	pid_t pid = floor_clone(CLONE_NEWUSER, -1);

	if (pid == 0) {
		for (;;)
			pause();
	}
	if (pid < 0) {
		floor_miss(f, "write uid_map and gid_map", errno);
		return;
	}
	uint64_t t0 = floor_now();
	errno = -floor_map_write(pid);
	floor_take(f, "write uid_map and gid_map", t0, errno == 0);
	floor_holder_end(pid);
}

static void enter_user(struct floor *f)
{
	pid_t pid;
	int r = floor_holder_start(CLONE_NEWUSER, &pid);

	if (r) {
		floor_miss(f, "setns prepared user ns", -r);
		return;
	}
	int fd = floor_ns_open(pid, "user");
	uint64_t t0 = floor_now();
	if (floor_take(f, "setns prepared user ns", t0, setns(fd, CLONE_NEWUSER) == 0)) {
		t0 = floor_now();
		floor_take(f, "setresgid, setgroups, setresuid to 0 inside", t0,
			   setresgid(0, 0, 0) == 0 && syscall(SYS_setgroups, 0, NULL) == 0 &&
				   setresuid(0, 0, 0) == 0);
		clone_time(f, "ns,pid,ipc,uts,cgroup from inside a prepared user ns", NS_REST);
	}
	close(fd);
	floor_holder_end(pid);
}

static void enter_net(struct floor *f)
{
	pid_t pid, user;
	int r = floor_holder_start(CLONE_NEWNET, &pid);

	if (r) {
		floor_miss(f, "setns prepared net ns", -r);
		return;
	}
	int fd = floor_ns_open(pid, "net");
	uint64_t t0 = floor_now();
	floor_take(f, "setns prepared net ns", t0, setns(fd, CLONE_NEWNET) == 0);
	close(fd);
	floor_holder_end(pid);
	r = floor_holder_start(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, &user);
	if (r)
		return;
	int pidfd = pidfd_open(user, 0);
	t0 = floor_now();
	floor_take(f, "setns by pidfd: user,net,ipc,uts", t0,
		   setns(pidfd, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0);
	close(pidfd);
	floor_holder_end(user);
}

static void unshare_time(struct floor *f, const char *what, int flags)
{
	uint64_t t0 = floor_now();
	floor_take(f, what, t0, unshare(flags) == 0);
}

static void unshare_net(struct floor *f)
{
	unshare_time(f, "unshare net", CLONE_NEWNET);
	AUTO_FD s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	uint64_t t0 = floor_now();
	floor_take(f, "lo up", t0, ioctl(s, SIOCSIFFLAGS, &ifr) == 0);
}

static void unshare_rest(struct floor *f)
{
	unshare_time(f, "unshare ipc", CLONE_NEWIPC);
	unshare_time(f, "unshare uts", CLONE_NEWUTS);
	unshare_time(f, "unshare cgroup", CLONE_NEWCGROUP);
	unshare_time(f, "unshare ns (host table)", CLONE_NEWNS);
}

static void kill_tree(struct floor *f)
{
	pid_t pid = floor_clone(CLONE_NEWPID, -1);

	if (pid == 0) {
		for (int i = 0; i < 8; i++)
			if (fork() == 0)
				for (;;)
					pause();
		f->sh->mark = 1;
		for (;;)
			pause();
	}
	f->sh->mark = 0;
	if (pid < 0) {
		floor_miss(f, "SIGKILL to pid 1 of 9 processes: reaped", errno);
		return;
	}
	while (!f->sh->mark)
		sched_yield();
	uint64_t t0 = floor_now();
	floor_holder_end(pid);
	floor_take(f, "SIGKILL to pid 1 of 9 processes: reaped", t0, 1);
}

const struct floor_case floor_proc_cases[] = {
	{ "clone plain", clone_plain },
	{ "clone per namespace", clone_each },
	{ "clone most namespaces", clone_most },
	{ "clone from a minimal mount table", clone_minimal },
	{ "clone of a touched process", clone_touched },
	{ "clone with shared memory", clone_vm },
	{ "spawn", spawn_programs },
	{ "exec by a waiting child", exec_waiting },
	{ "user namespace maps", userns_map },
	{ "enter a prepared user namespace", enter_user },
	{ "unshare", unshare_rest },
	{ "kill", kill_tree },
	{ "clone with a network", clone_net },
	{ "clone everything", clone_all },
	{ "unshare network", unshare_net },
	{ "enter a prepared network namespace", enter_net },
	{ NULL, NULL },
};
