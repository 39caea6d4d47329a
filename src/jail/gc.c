/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c: see gc.h.
 *
 * Theory of operation: nothing keeps a list of what exists; the kernel's own state is the list. Every
 * group is named <instance>/<id>, every process of a sandbox has a host id of brig's own range and sits
 * in such a group, every instance has a locked file. So each thing found is either owned by a live
 * instance, or stale and removed here, or (in a proof) unexplained.
 */
#include "jail/gc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/ids.h"
#include "engine/container/cgroup.h"
#include "jail/instance.h"
#include "jail/json_out.h"
#include "volume/work.h"

struct gc {
	int run;
	int loud;  /* print */
	int prove; /* print what lives, too */
	int removed, bad, alive;
	struct cgroup_host cg;
};

static void say(struct gc *g, const char *kind, const char *name, const char *state,
		const char *detail)
{
	if (strcmp(state, "removed") == 0)
		g->removed++;
	else if (strcmp(state, "live") != 0)
		g->bad++;
	if (g->loud && (g->prove || strcmp(state, "live") != 0))
		json_line("kind", kind, "name", name, "state", state, "detail", detail, NULL);
}

/* Calls fn for each entry of the directory `name` below at ("." and ".." left out). */
static void each_entry(int at, const char *name, void (*fn)(void *, int, const struct dirent *),
		       void *arg)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		fd_close(&fd);
		return;
	}
	struct dirent *e;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			fn(arg, dirfd(d), e);
	closedir(d);
}

/* Kills what is in a group and removes it; its processes may take a moment to be gone. */
static int remove_group(int at, const char *name)
{
	uint64_t deadline = clock_now() + 2 * SEC_NS;
	for (;;) {
		if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY || clock_now() > deadline)
			return -errno;
		char path[300], text[8192];
		snprintf(path, sizeof(path), "%s/cgroup.procs", name);
		if (fd_slurp_at(at, path, text, sizeof(text)) > 0)
			for (char *p = text, *save = NULL, *tok; (tok = strtok_r(p, "\n", &save));
			     p = NULL)
				if (atoi(tok) > 1)
					kill(atoi(tok), SIGKILL);
		/* The group of a paused sandbox (version 1): what stands still does not die. */
		snprintf(path, sizeof(path), "%s/freezer.state", name);
		(void)fd_spew_at(at, path, "THAWED");
		usleep(2000);
	}
}

struct tree_walk {
	struct gc *g;
	const char *tree, *instance;
};

/* One group (or directory of an instance) that carries the name of an instance. */
static void judge_group(struct gc *g, const char *shown, int at, const char *name,
			const char *instance, const char *what)
{
	struct stat st;
	/* What another user's brig made is explained by that user's records, which are not ours to read. */
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (geteuid() != 0 && st.st_uid != geteuid()))
		return;
	if (instance_alive(g->run, instance)) {
		say(g, "cgroup", shown, "live", what);
		return;
	}
	int r = remove_group(at, name);
	say(g, "cgroup", shown, r ? "stale" : "removed", r ? strerror(-r) : "its instance is dead");
}

static void on_group(void *arg, int at, const struct dirent *e)
{
	struct tree_walk *w = arg;
	char shown[700];
	snprintf(shown, sizeof(shown), "%s/" CGROUP_DIR "/%s/%s", w->tree, w->instance, e->d_name);
	if (e->d_type == DT_DIR)
		judge_group(w->g, shown, at, e->d_name, w->instance, "of a running instance");
}

static void on_instance_dir(void *arg, int at, const struct dirent *e)
{
	struct tree_walk *w = arg;
	char shown[700];
	if (e->d_type != DT_DIR)
		return;
	/* The sweep at every start looks at each living server once, not at each of its sandboxes. */
	if (!w->g->loud && instance_alive(w->g->run, e->d_name))
		return;
	w->instance = e->d_name;
	each_entry(at, e->d_name, on_group, w);
	snprintf(shown, sizeof(shown), "%s/" CGROUP_DIR "/%s", w->tree, e->d_name);
	judge_group(w->g, shown, at, e->d_name, e->d_name, "a running instance");
}

static void on_flat_group(void *arg, int at, const struct dirent *e)
{
	struct tree_walk *w = arg;
	char shown[700], instance[INSTANCE_NAME_LEN + 1];
	const char *name = e->d_name + strlen(CGROUP_FLAT_PREFIX);
	if (e->d_type != DT_DIR ||
	    strncmp(e->d_name, CGROUP_FLAT_PREFIX, strlen(CGROUP_FLAT_PREFIX)) != 0 ||
	    strcspn(name, "-") != INSTANCE_NAME_LEN || name[INSTANCE_NAME_LEN] != '-')
		return;
	memcpy(instance, name, INSTANCE_NAME_LEN);
	instance[INSTANCE_NAME_LEN] = '\0';
	snprintf(shown, sizeof(shown), "%s/%s", w->tree, e->d_name);
	judge_group(w->g, shown, at, e->d_name, instance, "of a running private server");
}

static void sweep_tree(struct gc *g, unsigned t)
{
	struct tree_walk w = { .g = g, .tree = g->cg.tree[t].path };
	if (g->cg.tree[t].top < 0)
		return;
	each_entry(g->cg.tree[t].top, CGROUP_DIR, on_instance_dir, &w);
	each_entry(g->cg.tree[t].top, ".", on_flat_group, &w);
	/* Fails while an instance lives in it. */
	unlinkat(g->cg.tree[t].top, CGROUP_DIR, AT_REMOVEDIR);
}

/* The freezer first: in the other trees nothing can be removed as long as its processes stand still. */
static void sweep_groups(struct gc *g)
{
	for (unsigned t = 0; t < g->cg.ntrees; t++)
		if (g->cg.tree[t].ctls & 1u << CG_FREEZER)
			sweep_tree(g, t);
	for (unsigned t = 0; t < g->cg.ntrees; t++)
		if (!(g->cg.tree[t].ctls & 1u << CG_FREEZER))
			sweep_tree(g, t);
}

static void on_run_file(void *arg, int at, const struct dirent *e)
{
	struct gc *g = arg;
	static const char *const known[] = { "leases", "brigd.sock", "server.lock",
					     "brigd.log", "api.sock" };
	if (strncmp(e->d_name, INSTANCE_PREFIX, strlen(INSTANCE_PREFIX)) == 0) {
		AUTO_FD fd = openat(at, e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
			g->alive++;
			say(g, "instance", e->d_name, "live", "locked by its brig-jaild");
			return;
		}
		/* Its groups were removed before (sweep_groups), so its record may go. */
		int r = unlinkat(at, e->d_name, 0) < 0 && errno != ENOENT ? errno : 0;
		say(g, "instance", e->d_name, r ? "stale" : "removed",
		    r ? strerror(r) : "nobody holds its lock");
		return;
	}
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(e->d_name, known[i]) == 0) {
			say(g, "file", e->d_name, "live", "of the run directory");
			return;
		}
	say(g, "file", e->d_name, "unexplained", "in the run directory");
}

/* Real uid of a process, (uid_t)-1 if it is gone. */
static uid_t proc_uid(const char *pid)
{
	char path[300], text[4096];
	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return (uid_t)-1;
	/* A zombie holds nothing but its number; its parent will collect it. */
	if (strstr(text, "\nState:\tZ"))
		return (uid_t)-1;
	const char *p = strstr(text, "\nUid:");
	return p ? (uid_t)strtoul(p + 5, NULL, 10) : (uid_t)-1;
}

/* 1 if the process sits in a group of a live instance. */
static int proc_in_live_group(struct gc *g, const char *pid)
{
	char path[300], text[8192], name[64];
	snprintf(path, sizeof(path), "/proc/%s/cgroup", pid);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return 1; /* gone by now */
	static const char *const marks[] = { "/" CGROUP_DIR "/", "/" CGROUP_FLAT_PREFIX };
	for (unsigned i = 0; i < 2; i++)
		for (const char *p = text; (p = strstr(p, marks[i]));) {
			p += strlen(marks[i]);
			size_t n = strcspn(p, "/-\n");
			if (n && n < sizeof(name)) {
				memcpy(name, p, n);
				name[n] = '\0';
				if (instance_alive(g->run, name))
					return 1;
			}
		}
	return 0;
}

/* brig-api and brig-egress outlive brigd and brig-jaild: `brig serve`, their parent, is about to start them again. */
static int proc_has_supervisor(const char *pid)
{
	char path[300], text[4096];
	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return 1; /* gone by now */
	const char *p = strstr(text, "\nPPid:");
	snprintf(path, sizeof(path), "/proc/%lu/comm", p ? strtoul(p + 6, NULL, 10) : 0ul);
	return fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) > 0 && strcmp(text, "brig") == 0;
}

static void on_process(void *arg, int at, const struct dirent *e)
{
	struct gc *g = arg;
	(void)at;
	if (!isdigit((unsigned char)e->d_name[0]))
		return;
	uid_t uid = proc_uid(e->d_name);
	if (uid == (uid_t)-1 || uid < BRIG_ID_BASE ||
	    uid >= BRIG_ID_BASE + BRIG_ID_SLOT * BRIG_ID_SLOTS)
		return;
	char detail[96];
	snprintf(detail, sizeof(detail), "host uid %u", uid);
	int live = uid == BRIG_DAEMON_UID ? g->alive > 0
		   : uid == BRIG_API_UID || uid == BRIG_EGRESS_UID
			   ? g->alive > 0 || proc_has_supervisor(e->d_name)
					 : proc_in_live_group(g, e->d_name);
	if (live) {
		say(g, "process", e->d_name, "live", detail);
		return;
	}
	/* Ids of this range are brig's alone: whatever runs under one is ours to end. */
	uint64_t deadline = clock_now() + SEC_NS;
	while (kill(atoi(e->d_name), SIGKILL) == 0 && clock_now() < deadline &&
	       proc_uid(e->d_name) == uid)
		usleep(2000);
	say(g, "process", e->d_name, proc_uid(e->d_name) == uid ? "stale" : "removed", detail);
}

static void prove_leases(struct gc *g)
{
	AUTO_FD fd = openat(g->run, "leases", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	char name[32];
	for (uint32_t n = 1; fd >= 0 && n < BRIG_ID_SLOTS; n++) {
		struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = n, .l_len = 1 };
		/* One by one: the kernel joins neighbouring locks of one holder into one. */
		if (fcntl(fd, F_OFD_GETLK, &l) < 0 || l.l_type == F_UNLCK)
			continue;
		snprintf(name, sizeof(name), "range %u", n);
		say(g, "uid-lease", name, g->alive ? "live" : "unexplained",
		    g->alive ? "held by a running instance" : "locked, but no instance runs");
	}
}

/* No mount, link or loop device of brig exists on the host: whatever looks like one is unexplained. */
static void prove_mounts(struct gc *g, const char *run_path)
{
	AUTO_FREE char *line = NULL;
	size_t cap = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && getline(&line, &cap, f) > 0) {
		char mnt[512];
		size_t n = strlen(run_path);
		if (sscanf(line, "%*s %*s %*s %*s %511s", mnt) != 1)
			continue;
		if (strncmp(mnt, run_path, n) == 0 && mnt[n] == '/')
			say(g, "mount", mnt, "unexplained", "below the run directory");
		else if (strstr(line, "lowerdir=l,upperdir=w/u") || strstr(line, "lowerdir=usr:w/e"))
			say(g, "mount", mnt, "unexplained", "a sandbox's overlay on the host");
	}
	if (f)
		fclose(f);
}

static void on_link(void *arg, int at, const struct dirent *e)
{
	(void)at;
	if (strncmp(e->d_name, "brig", 4) == 0)
		say(arg, "link", e->d_name, "unexplained", "a network link named like brig's");
}

/* 1: it is a volume's, by its label, which names the instance. Nobody can detach what is mounted, and a device
 * that is not clears itself. */
static int judge_volume(struct gc *g, const char *name)
{
	struct loop_info64 info;
	const size_t head = strlen(VOLUME_LOOP_LABEL);
	char path[300], label[LO_NAME_SIZE + 1] = "";
	snprintf(path, sizeof(path), "/dev/%s", name);
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
		return 0;
	memcpy(label, info.lo_file_name, LO_NAME_SIZE);
	char *instance = label + head, *end = strchr(instance, ' ');
	if (strncmp(label, VOLUME_LOOP_LABEL, head) != 0 || !end || strchr(label, '/'))
		return 0;
	*end = '\0';
	if (instance_alive(g->run, instance))
		say(g, "loop", name, "live", "a volume of a running instance");
	else
		say(g, "loop", name, "unexplained", "a volume, but its instance does not run");
	return 1;
}

static void on_loop(void *arg, int at, const struct dirent *e)
{
	char path[300], text[1024];
	if (strncmp(e->d_name, "loop", 4) != 0)
		return;
	snprintf(path, sizeof(path), "%s/loop/backing_file", e->d_name);
	if (faccessat(at, path, F_OK, 0) < 0 || judge_volume(arg, e->d_name))
		return;
	if (fd_slurp_at(at, path, text, sizeof(text)) > 0 && strstr(text, "/brig/"))
		say(arg, "loop", e->d_name, "unexplained", text);
}

/* Namespaces that a process of brig's id range lives in, beyond those of live sandboxes, cannot exist
 * without the process, which on_process has judged; those held only by descriptors belong to a
 * brig-jaild, which is named here. */
static void on_holder(void *arg, int at, const struct dirent *e)
{
	struct gc *g = arg;
	char path[600], text[300];
	int ns = 0;
	if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == getpid())
		return;
	snprintf(path, sizeof(path), "%s/comm", e->d_name);
	if (fd_slurp_at(at, path, text, sizeof(text)) < 0 || strcmp(text, "brig-jaild") != 0)
		return;
	snprintf(path, sizeof(path), "/proc/%s/fd", e->d_name);
	DIR *d = opendir(path);
	struct dirent *f;
	while (d && (f = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), f->d_name, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		ns += strncmp(text, "net:[", 5) == 0 || strncmp(text, "user:[", 6) == 0;
	}
	if (d)
		closedir(d);
	if (ns == 0)
		return;
	snprintf(text, sizeof(text), "brig-jaild holds %d namespaces", ns);
	say(g, "namespace", e->d_name, g->alive ? "live" : "unexplained", text);
}

static void sweep(struct gc *g)
{
	sweep_groups(g);
	each_entry(g->run, ".", on_run_file, g);
}

int gc_sweep_dead(int run, const char *delegated)
{
	struct gc g = { .run = run };
	cgroup_host_open(&g.cg, NULL, delegated, 0);
	/* The own instance is locked already and so looks alive. */
	sweep(&g);
	cgroup_host_close(&g.cg);
	return g.removed;
}

int gc_report(const char *delegated, int prove)
{
	struct brig_err err = BRIG_ERR_INIT;
	char path[256];
	AUTO_FD run = instance_run_dir(path, sizeof(path), &err);
	if (run < 0) {
		fprintf(stderr, "brig-jaild: %s\n", err.msg);
		return -1;
	}
	struct gc g = { .run = run, .loud = 1, .prove = prove };
	cgroup_host_open(&g.cg, NULL, delegated, 0);
	sweep(&g);
	/* The range is root's; an ordinary user's sandboxes have subordinate ids. */
	if (geteuid() == 0)
		each_entry(AT_FDCWD, "/proc", on_process, &g);
	if (prove) {
		prove_leases(&g);
		prove_mounts(&g, path);
		each_entry(AT_FDCWD, "/sys/class/net", on_link, &g);
		each_entry(AT_FDCWD, "/sys/block", on_loop, &g);
		each_entry(AT_FDCWD, "/proc", on_holder, &g);
	}
	cgroup_host_close(&g.cg);
	fflush(stdout);
	return g.bad;
}
