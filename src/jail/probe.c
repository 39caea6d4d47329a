/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.c: what works on this host.
 *
 * Theory of operation: kernels are asked, never compared by version. Each check that changes its
 * process (namespaces, mounts, filters) runs in a fork, which answers with an errno. An ordinary user's
 * checks run in a user namespace of their own, as brig itself would.
 */
#include "jail/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mountfd.h"
#include "base/path.h"
#include "engine/container/cgroup.h"
#include "engine/container/netns.h"
#include "engine/container/seccomp.h"
#include "engine/container/slot.h"
#include "engine/engine.h"
#include "engine/link/gateway.h"
#include "engine/microvm/probe.h"
#include "jail/json_out.h"
#include "jail/rootless.h"
#include "jail/serve.h"

struct probe {
	int failed;
};

static void say(struct probe *p, const char *tier, const char *check, int ok, int required,
		const char *detail, const char *remedy)
{
	if (!ok && required && strcmp(tier, "container") == 0)
		p->failed = 1;
	json_line("check", check, "ok", ok ? JSON_TRUE : JSON_FALSE, "required",
		  required ? JSON_TRUE : JSON_FALSE, "tier", tier, "detail", detail, "remedy",
		  ok ? "" : remedy, NULL);
}

/* Runs fn in a child; 0 or the errno that it returned. */
static int in_child(int (*fn)(void))
{
	int status = 0;
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0)
		return errno;
	if (pid == 0) {
		if (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0)
			_exit(errno & 0xff);
		_exit(fn() & 0xff);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EFAULT;
}

static int try_namespaces(void)
{
	return unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET |
		       CLONE_NEWCGROUP) < 0
		       ? errno
		       : 0;
}

static int try_userns(void)
{
	/* One more level for the sandbox itself. */
	return unshare(CLONE_NEWUSER) < 0 ? errno : 0;
}

static int try_timens(void)
{
	return unshare(0x80 /* CLONE_NEWTIME */) < 0 ? errno : 0;
}

/* An overlay on tmpfs above /usr, made the way a sandbox is made. */
static int try_overlay(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/tmp", "tmpfs", 0, "size=1m") < 0 || chdir("/tmp") < 0 ||
	    mkdir("u", 0755) < 0 || mkdir("o", 0755) < 0 || mkdir("r", 0755) < 0)
		return errno;
	return mount("overlay", "r", "overlay", 0,
		     geteuid() == 0 && getuid() == 0 ? "lowerdir=/usr,upperdir=u,workdir=o"
						     : "lowerdir=/usr,upperdir=u,workdir=o,userxattr") < 0
		       ? errno
		       : 0;
}

static int try_mount_api(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return errno;
	AUTO_FD t = mntfd_clone(AT_FDCWD, "/usr", 0);
	struct mntfd_attr a = { .set = MNTFD_ATTR_RDONLY };
	int r = t < 0 ? t : mntfd_setattr(t, 0, &a);
	return -r;
}

/* Linux 5.19: overlay accepts an id-mapped lower layer. */
static int try_idmap(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return errno;
	AUTO_FD ns = userns_make("0 1879048193 1\n", "0 1879048193 1\n");
	AUTO_FD t = ns < 0 ? -1 : mntfd_clone(AT_FDCWD, "/usr", 0);
	struct mntfd_attr a = { .set = MNTFD_ATTR_IDMAP | MNTFD_ATTR_RDONLY,
				.userns_fd = (uint64_t)ns };
	int r = t < 0 ? -EINVAL : mntfd_setattr(t, 0, &a);
	if (r < 0)
		return -r;
	if (mount("tmpfs", "/tmp", "tmpfs", 0, "size=1m") < 0 || chdir("/tmp") < 0 ||
	    mkdir("l", 0755) < 0 || mkdir("u", 0755) < 0 || mkdir("o", 0755) < 0 ||
	    mkdir("r", 0755) < 0)
		return errno;
	AUTO_FD l = open("l", O_PATH | O_CLOEXEC);
	r = mntfd_attach(t, l);
	if (r < 0)
		return -r;
	return mount("overlay", "r", "overlay", 0, "lowerdir=l,upperdir=u,workdir=o") < 0 ? errno : 0;
}

static int try_seccomp(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return errno;
	return -seccomp_install_payload(false);
}

static int try_openat2(void)
{
	AUTO_FD root = open("/", O_PATH | O_CLOEXEC);
	AUTO_FD fd = path_open_beneath(root, "usr", O_PATH | O_DIRECTORY, 0);
	return fd < 0 ? -fd : 0;
}

static void check(struct probe *p, const char *name, int (*fn)(void), int required, const char *good,
		  const char *remedy)
{
	int e = in_child(fn);
	say(p, "container", name, e == 0, required, e ? strerror(e) : good, remedy);
}

static void check_cgroups(struct probe *p, const char *delegated)
{
	static const struct {
		uint32_t bit;
		const char *name, *lost;
	} rows[] = {
#define X(bit, name, lost) { 1u << bit, #name, lost },
		BRIG_ENFORCE(X)
#undef X
	};
	const uint32_t cgroup_bits = JAIL_ENF_memory | JAIL_ENF_cpu | JAIL_ENF_pids | JAIL_ENF_swap |
				     JAIL_ENF_accounting | JAIL_ENF_io | JAIL_ENF_freezer;
	struct cgroup_host h;
	char text[128], name[32];
	snprintf(name, sizeof(name), "probe%d", (int)getpid());
	cgroup_host_open(&h, name, delegated, 0);
	snprintf(text, sizeof(text), "%s",
		 h.version == 0	  ? "no cgroup hierarchy is mounted"
		 : h.version == 1 ? "version 1 or hybrid"
				  : "version 2");
	say(p, "container", "cgroups", h.version != 0, geteuid() == 0, text,
	    "mount cgroup2 at /sys/fs/cgroup");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!(rows[i].bit & cgroup_bits))
			continue;
		int ok = (h.enforced & rows[i].bit) != 0;
		snprintf(text, sizeof(text), "%s%s",
			 rows[i].bit == JAIL_ENF_freezer ? "" : "limit: ", rows[i].name);
		say(p, "container", text, ok, geteuid() == 0 && !(rows[i].bit & JAIL_ENF_OPTIONAL),
		    rows[i].lost,
		    geteuid() ? "start brig in a delegated group: systemd-run --user --scope -p Delegate=yes brig .."
			      : "enable the controller (cgroup.subtree_control, or the kernel's command line)");
	}
	cgroup_host_close(&h);
}

static void check_ids(struct probe *p)
{
	char text[96];
	if (geteuid() == 0) {
		say(p, "container", "range of host ids", 1, 1, "own ids for every sandbox", "");
		return;
	}
	uint32_t n = rootless_sub_ids();
	int tools = access("/usr/bin/newuidmap", X_OK) == 0 && access("/usr/bin/newgidmap", X_OK) == 0;
	snprintf(text, sizeof(text), "%u subordinate ids%s", n, tools ? "" : ", but no newuidmap");
	say(p, "container", "range of host ids", n >= 1024 && tools, 1, text,
	    "apt-get install uidmap, and usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER");
}

static void check_kvm(struct probe *p)
{
	static const char other[] = "a host, or a cloud's instance type, with hardware virtualisation for its guests";
	char text[96];
	uint64_t us = 0;
	AUTO_FD kvm = kvm_open();
	say(p, "microvm", "/dev/kvm", kvm >= 0, 0, kvm < 0 ? strerror(-kvm) : "API version 12",
	    kvm == -EACCES ? "add the user to the group of /dev/kvm" :
			     "modprobe kvm_intel or kvm_amd; in a virtual machine, allow nested virtualisation");
	if (kvm < 0)
		return;
	int r = kvm_probe_loop(kvm, &us);
	if (r < 0)
		snprintf(text, sizeof(text), "a guest of a few bytes does not run: %s", strerror(-r));
	else
		snprintf(text, sizeof(text), "%u turns of a loop in a guest took %.2f ms of CPU time",
			 KVM_PROBE_TURNS, (double)us / 1000);
	bool is_native = r == 0 && us < KVM_PROBE_SLOW_US;
	say(p, "microvm", "guests run on the processor", is_native, 0, text, other);
}

/* The word of the engines themselves, which is also what a server tells its clients. */
static void check_engines(struct probe *p)
{
	const struct serve_options o = { .tiers = ~0u, .rootless = geteuid() != 0 };
	struct jail_tier tier[BRIG_TIER__N];
	engine_probe(&o, 1, tier);
	for (uint32_t t = 0; t < BRIG_TIER__N; t++)
		say(p, brig_tier_name(t), "engine", tier[t].offered != 0, t == BRIG_TIER_container,
		    tier[t].text, tier[t].remedy);
}

/* Makes a gateway and a link as a server would, in namespaces that end with this process, and says what there is,
 * or what failed and what helps: two lines. */
static int try_network(int out)
{
	struct brig_err err = BRIG_ERR_INIT;
	struct gateway g = GATEWAY_NONE;
	AUTO_FD home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0 || gateway_make(&g, home, "probe", &err) < 0) {
		dprintf(out, "%s\n%s\n", home < 0 ? strerror(errno) : err.msg, err.remedy);
		return 1;
	}
	AUTO_FD linked = netns_make(home, &g, 1);
	int r = linked < 0 ? linked : 0;
	if (r < 0)
		dprintf(out, "a link cannot be made: %s\nmodprobe veth\n", strerror(-r));
	else
		dprintf(out, "links (veth), packet rules (nf_tables, tproxy, reject, limit, log)%s\n\n",
			g.six ? ", IPv6" : "; no IPv6");
	gateway_done(&g);
	return r < 0;
}

/* For --net, --allow, --network. Sandboxes without a network need none of it. */
static void check_network(struct probe *p)
{
	char text[1024] = "\n\n", *detail = text, *remedy;
	int status = 0, ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0)
			_exit(1);
		_exit(try_network(ends[1]));
	}
	fd_close(&ends[1]);
	ssize_t n = pid < 0 ? 0 : fd_read_full(ends[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	fd_close(&ends[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	remedy = detail + strcspn(detail, "\n");
	if (*remedy)
		*remedy++ = '\0';
	remedy[strcspn(remedy, "\n")] = '\0';
	int ok = pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	say(p, "host", "networks", ok, 0, detail[0] ? detail : "no process, or no user namespace",
	    remedy[0] ? remedy : "run as root; without it sandboxes have loopback only");
}

/* What makes the kernel that all containers share a smaller target. Nothing here is required. */
static void check_hygiene(struct probe *p)
{
	static const struct {
		const char *file, *bad, *name, *remedy;
	} rows[] = {
		{ "/sys/kernel/mm/ksm/run", "1", "KSM is off", "echo 0 > /sys/kernel/mm/ksm/run" },
		{ "/proc/sys/kernel/unprivileged_bpf_disabled", "0", "bpf is closed to users",
		  "sysctl kernel.unprivileged_bpf_disabled=2" },
		{ "/proc/sys/kernel/kptr_restrict", "0", "kernel addresses are hidden",
		  "sysctl kernel.kptr_restrict=2" },
		{ "/proc/sys/dev/tty/legacy_tiocsti", "1", "TIOCSTI is off",
		  "sysctl dev.tty.legacy_tiocsti=0" },
	};
	char text[256];
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (fd_slurp_at(AT_FDCWD, rows[i].file, text, sizeof(text)) < 0)
			continue;
		say(p, "host", rows[i].name, strcmp(text, rows[i].bad) != 0, 0, rows[i].file,
		    rows[i].remedy);
	}
	if (fd_slurp_at(AT_FDCWD, "/proc/sys/kernel/core_pattern", text, sizeof(text)) > 0)
		say(p, "host", "core dumps start no program", text[0] != '|', 0,
		    "brig sets the core limit to 0 in every sandbox", "sysctl kernel.core_pattern=core");
	struct sysinfo si;
	if (sysinfo(&si) == 0)
		say(p, "host", "no swap", si.totalswap == 0, 0, "pages of a sandbox may reach a disk",
		    "swapoff -a, or encrypt the swap space");
}

int probe_report(const char *delegated)
{
	struct probe p = { 0 };
	struct utsname u;
	char text[200];
	uname(&u);
	snprintf(text, sizeof(text), "%.60s %.60s", u.release, u.machine);
	say(&p, "host", "kernel", 1, 0, text, "");
	check(&p, "user namespaces", try_userns, 1, "nested once", "raise user.max_user_namespaces");
	check(&p, "namespaces", try_namespaces, 1, "pid, mount, net, ipc, uts, cgroup",
	      "run as root, or allow user namespaces to ordinary users");
	check(&p, "time namespace", try_timens, 0, "own uptime", "Linux 5.6 or newer");
	check(&p, "mount descriptors", try_mount_api, 1, "open_tree, mount_setattr",
	      "Linux 5.12 or newer");
	check(&p, "overlay", try_overlay, 1, "overlay on tmpfs", "modprobe overlay");
	check(&p, "safe paths", try_openat2, 1, "openat2", "Linux 5.6 or newer");
	check(&p, "system call filter", try_seccomp, 1, "seccomp with the payload filter",
	      "a kernel with CONFIG_SECCOMP_FILTER");
	if (geteuid() == 0)
		check(&p, "id-mapped images", try_idmap, 0, "file owners inside are the image's",
		      "Linux 5.19 or newer; without it files of images belong to nobody");
	check_ids(&p);
	check_cgroups(&p, delegated);
	check_network(&p);
	check_kvm(&p);
	check_engines(&p);
	check_hygiene(&p);
	fflush(stdout);
	return p.failed;
}
