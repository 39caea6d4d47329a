/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.c: see cgroup.h.
 *
 * Theory of operation: all files are reached relative to directory descriptors that were opened
 * before any tenant code ran; a sandbox's id is checked to be [a-z0-9] before it becomes a name. On
 * v1 every controller is its own tree and a (single-threaded) process joins each by writing "0" to its
 * `tasks` file: for the calling thread alone the kernel skips the host-wide cgroup_threadgroup_rwsem,
 * whose first writer waits for an RCU grace period (10 to 40 ms here; kernel/cgroup/cgroup.c,
 * cgroup_procs_write_start). On v2 the kernel places the new process at clone time.
 *
 * Swap: "no swap escape" means that a sandbox at its memory limit may not continue on disk. v2:
 * memory.swap.max = 0. v1: memory.memsw.limit_in_bytes equal to the memory limit (it counts both);
 * it must be written after the memory limit when growing from "unlimited" downwards.
 */
#include "engine/container/cgroup.h"
#include "engine/container/cgroup_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/fd.h"

/* Where a jaild in a delegated group lives with everything else that was in it. */
#define LEAF "brig-daemons"

static const char *const ctl_names[] = { "memory", "pids", "cpu", "cpuacct", "blkio",
					 "freezer" };
_Static_assert(sizeof(ctl_names) / sizeof(ctl_names[0]) == CG__N_CTL, "one name per controller");

/* 100 ms: the kernel's own default period (Documentation/scheduler/sched-bwc). */
#define CFS_PERIOD_US 100000u
/* The kernel's least quota is 1 ms per period (kernel/sched/core.c, min_cfs_quota_period). */
#define CFS_QUOTA_MIN_US 1000u

uint64_t cgroup_quota_us(uint32_t cpu_milli, uint64_t period_us)
{
	uint64_t quota = cpu_milli * period_us / 1000;
	return quota < CFS_QUOTA_MIN_US ? CFS_QUOTA_MIN_US : quota;
}

/* Does a comma-separated list hold a word? */
static int list_has(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; *p;) {
		size_t k = strcspn(p, ",");
		if (k == n && memcmp(p, word, n) == 0)
			return 1;
		p += k + (p[k] == ',');
	}
	return 0;
}

static void add_tree(struct cgroup_host *h, unsigned ctls, const char *path)
{
	if (h->ntrees >= CG_TREES_MAX || strlen(path) >= sizeof(h->tree[0].path))
		return;
	h->tree[h->ntrees].ctls = ctls;
	h->tree[h->ntrees].fd = -1;
	h->tree[h->ntrees].top = -1;
	snprintf(h->tree[h->ntrees].path, sizeof(h->tree[0].path), "%s", path);
	h->ntrees++;
}

/* Reads /proc/self/mountinfo: v1 controllers first; a v2 tree counts only if it has controllers. */
static void find_trees(struct cgroup_host *h, int all)
{
	char v2[256] = "";
	AUTO_FREE char *line = NULL;
	size_t cap = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return;
	while (getline(&line, &cap, f) > 0) {
		char mnt[256], type[32], opts[256];
		const char *tail = strstr(line, " - ");
		if (!tail || sscanf(line, "%*s %*s %*s %*s %255s", mnt) != 1 ||
		    sscanf(tail, " - %31s %*s %255s", type, opts) != 2)
			continue;
		if (strcmp(type, "cgroup2") == 0 && !v2[0])
			snprintf(v2, sizeof(v2), "%s", mnt);
		if (strcmp(type, "cgroup") != 0)
			continue;
		unsigned ctls = 0;
		for (unsigned c = 0; c < CG__N_CTL; c++)
			if (list_has(opts, ctl_names[c]))
				ctls |= 1u << c;
		for (unsigned t = 0; t < h->ntrees; t++)
			ctls &= ~h->tree[t].ctls; /* the same tree mounted twice */
		if (ctls)
			add_tree(h, ctls, mnt);
	}
	fclose(f);
	if (h->ntrees) {
		h->version = 1;
		/* No controller is there, but a sweep looks everywhere. */
		if (all && v2[0])
			add_tree(h, 0, v2);
		return;
	}
	if (!v2[0])
		return;
	h->version = 2;
	add_tree(h, (1u << CG__N_CTL) - 1, v2);
}

/* v2: makes `names` available below dirfd as far as the host allows; returns the resulting mask. */
static unsigned enable_v2(int dirfd)
{
	static const struct {
		const char *name;
		unsigned ctls;
	} map[] = { { "memory", 1u << CG_MEMORY },
		    { "pids", 1u << CG_PIDS },
		    { "cpu", 1u << CG_CPU | 1u << CG_CPUACCT },
		    { "io", 1u << CG_BLKIO } };
	unsigned got = 0;
	char have[512];
	for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		char word[16];
		snprintf(word, sizeof(word), "+%s", map[i].name);
		fd_spew_at(dirfd, "cgroup.subtree_control", word); /* the read below decides */
	}
	if (fd_slurp_at(dirfd, "cgroup.subtree_control", have, sizeof(have)) < 0)
		return 0;
	for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		const char *p = have;
		size_t n = strlen(map[i].name);
		while (*p) {
			size_t k = strcspn(p, " ");
			if (k == n && memcmp(p, map[i].name, n) == 0)
				got |= map[i].ctls;
			p += k + (p[k] == ' ');
		}
	}
	/* No controller: every group but the root has it since Linux 5.2. */
	return got ? got | 1u << CG_FREEZER : 0;
}

int cgroup_own(char *ret, size_t cap)
{
	struct cgroup_host h = { 0 };
	char text[4096];
	find_trees(&h, 0);
	if (h.version != 2 || fd_slurp_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)) < 0)
		return -ENOENT;
	const char *p = strstr(text, "0::");
	if (!p || (p != text && p[-1] != '\n'))
		return -ENOENT;
	size_t n = strcspn(p += 3, "\n"), leaf = sizeof("/" LEAF) - 1;
	/* The shell that calls was moved to the leaf by its first run: the group above is the delegated. */
	if (n >= leaf && memcmp(p + n - leaf, "/" LEAF, leaf) == 0)
		n -= leaf;
	snprintf(ret, cap, "%s%.*s", h.tree[0].path, (int)n, p);
	return 0;
}

static int open_dir(int at, const char *name, int make)
{
	if (make && mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* An unprivileged jaild in a delegated group: processes may not live in a group that has controllers
 * for its children, so jaild first moves to a leaf of its own. */
static void leave_inner(int topfd)
{
	AUTO_FD leaf = open_dir(topfd, LEAF, 1);
	if (leaf < 0)
		return;
	char text[4096];
	if (fd_slurp_at(topfd, "cgroup.procs", text, sizeof(text)) < 0)
		return;
	for (char *p = text, *save = NULL, *tok; (tok = strtok_r(p, "\n", &save)); p = NULL)
		fd_spew_at(leaf, "cgroup.procs", tok);
}

/*
 * A limit far above any host on the instance's own directory. The kernel patches its own code when
 * the first group of the host gets a CPU quota and again when the last one loses it (static key
 * cfs_bandwidth_used), which interrupts every CPU; with this it happens once per instance, not once
 * per sandbox.
 */
static void hold_bandwidth(int version, int dir)
{
	if (version == 2)
		fd_spew_at(dir, "cpu.max", "1000000000 100000");
	else
		fd_spew_at(dir, "cpu.cfs_quota_us", "1000000000");
}

/* The top group of v2 has no limit files; any child has them. On v1 the top has its own. */
static int has_swap_control(int version, int dir)
{
	if (version == 1)
		return faccessat(dir, "memory.memsw.limit_in_bytes", F_OK, 0) == 0;
	if (faccessat(dir, "memory.swap.max", F_OK, 0) == 0)
		return 1;
	/* Flat in the root group: /proc/swaps exists exactly when the kernel has swap, and then its
	 * memory controller has the file (CONFIG_SWAP guards both). */
	return faccessat(dir, "cgroup.type", F_OK, 0) < 0 && access("/proc/swaps", F_OK) == 0;
}

/* Opens one tree for use by this instance; leaves fd -1 if that is not possible. */
static void open_tree_for(struct cgroup_host *h, unsigned t)
{
	AUTO_FD brig = -1;
	if (h->version == 2)
		enable_v2(h->tree[t].top);
	if (h->flat) {
		h->tree[t].fd = fcntl(h->tree[t].top, F_DUPFD_CLOEXEC, 0);
		return;
	}
	brig = open_dir(h->tree[t].top, CGROUP_DIR, 1);
	if (brig < 0)
		return;
	if (h->version == 2)
		enable_v2(brig);
	int fd = open_dir(brig, h->instance, 1);
	if (fd < 0)
		return;
	if (h->version == 2)
		h->tree[t].ctls = enable_v2(fd);
	if (h->tree[t].ctls & 1u << CG_CPU)
		hold_bandwidth(h->version, fd);
	h->tree[t].fd = fd;
}

void cgroup_host_open(struct cgroup_host *h, const char *instance, const char *delegated, int flat)
{
	memset(h, 0, sizeof(*h));
	h->flat = flat;
	find_trees(h, instance == NULL);
	if (instance) {
		snprintf(h->instance, sizeof(h->instance), "%s", instance);
		if (flat)
			snprintf(h->prefix, sizeof(h->prefix), CGROUP_FLAT_PREFIX "%s-", instance);
	}
	unsigned usable = 0;
	int has_swap = 0;
	for (unsigned t = 0; t < h->ntrees; t++) {
		const char *top = h->version == 2 && delegated ? delegated : h->tree[t].path;
		h->tree[t].top = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (h->tree[t].top < 0 || !instance)
			continue;
		if (flat && h->tree[t].ctls == 1u << CG_FREEZER) {
			if (faccessat(h->tree[t].top, ".", W_OK, AT_EACCESS) == 0)
				usable |= h->tree[t].ctls; /* the host could */
			continue;
		}
		if (h->version == 2 && delegated)
			leave_inner(h->tree[t].top);
		open_tree_for(h, t);
		int fd = h->tree[t].fd;
		if (fd < 0 || faccessat(fd, ".", W_OK, AT_EACCESS) < 0) {
			fd_close(&h->tree[t].fd);
			continue;
		}
		if (h->version == 2 && flat)
			h->tree[t].ctls = enable_v2(fd);
		usable |= h->tree[t].ctls;
		if (h->tree[t].ctls & 1u << CG_MEMORY)
			has_swap = has_swap_control(h->version, fd);
	}
	h->swap = has_swap;
	static const struct {
		unsigned ctl;
		uint32_t bit;
	} map[] = { { CG_MEMORY, JAIL_ENF_memory },
		    { CG_PIDS, JAIL_ENF_pids },
		    { CG_CPU, JAIL_ENF_cpu },
		    { CG_CPUACCT, JAIL_ENF_accounting },
		    { CG_BLKIO, JAIL_ENF_io },
		    { CG_FREEZER, JAIL_ENF_freezer } };
	for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (usable & 1u << map[i].ctl)
			h->enforced |= map[i].bit;
	/* A host without any swap keeps the promise without help. */
	struct sysinfo si;
	if (has_swap || (sysinfo(&si) == 0 && si.totalswap == 0))
		h->enforced |= JAIL_ENF_swap;
}

void cgroup_host_close(struct cgroup_host *h)
{
	for (unsigned t = 0; t < h->ntrees; t++) {
		char dir[64];
		snprintf(dir, sizeof(dir), CGROUP_DIR "/%s", h->instance);
		if (h->tree[t].fd >= 0 && !h->flat && h->instance[0])
			unlinkat(h->tree[t].top, dir, AT_REMOVEDIR);
		/* Fails with EBUSY or ENOTEMPTY while another instance lives: intended. */
		if (h->tree[t].top >= 0)
			unlinkat(h->tree[t].top, CGROUP_DIR, AT_REMOVEDIR);
		fd_close(&h->tree[t].fd);
		fd_close(&h->tree[t].top);
	}
	h->ntrees = 0;
}

void cgroup_join_close(struct cgroup_join *j)
{
	for (unsigned i = 0; i < j->n; i++)
		fd_close(&j->fd[i]);
	j->n = 0;
}

/* Writes one limit; on failure says which file refused which value. */
static int put(int dir, const char *file, const char *value, struct brig_err *err)
{
	int r = fd_spew_at(dir, file, value);
	if (r < 0)
		return brig_fail(err, r == -EINVAL ? BRIG_E_LIMIT : BRIG_E_EXHAUSTED, -r,
				 "write '%s' to cgroup file %s", value, file);
	return 0;
}

static int put_u64(int dir, const char *file, uint64_t v, struct brig_err *err)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, v);
	return put(dir, file, text, err);
}

/* Writes what differs from `have` (NULL: a new group, everything). */
static int set_limits(const struct cgroup_host *h, unsigned ctls, int dir,
		      const struct cgroup_limits *have, const struct cgroup_limits *lim,
		      struct brig_err *err)
{
	static const struct cgroup_limits none = { 0 };
	char text[64];
	uint64_t quota = cgroup_quota_us(lim->cpu_milli, CFS_PERIOD_US);
	if (!have)
		have = &none;
	if (ctls & 1u << CG_MEMORY && lim->memory_bytes != have->memory_bytes) {
		uint64_t v = lim->memory_bytes;
		if (h->version == 2) {
			if (put_u64(dir, "memory.max", v, err) < 0 ||
			    (h->swap && put(dir, "memory.swap.max", "0", err) < 0))
				return -1;
		} else {
			/* memsw may never be below the limit: the order depends on the direction. */
			int grow = have->memory_bytes && v > have->memory_bytes;
			if ((h->swap && grow &&
			     put_u64(dir, "memory.memsw.limit_in_bytes", v, err) < 0) ||
			    put_u64(dir, "memory.limit_in_bytes", v, err) < 0 ||
			    (h->swap && !grow &&
			     put_u64(dir, "memory.memsw.limit_in_bytes", v, err) < 0))
				return -1;
		}
	}
	/* One more than asked for: the agent is a process too and is not the tenant's. */
	if (ctls & 1u << CG_PIDS && lim->pids != have->pids && !FAILPOINT_IS("weaken.pids") &&
	    put_u64(dir, "pids.max", (uint64_t)lim->pids + 1, err) < 0)
		return -1;
	if (ctls & 1u << CG_CPU && lim->cpu_milli != have->cpu_milli) {
		if (h->version == 2) {
			snprintf(text, sizeof(text), "%" PRIu64 " %u", quota, CFS_PERIOD_US);
			return put(dir, "cpu.max", text, err);
		}
		/* The period of a new group is CFS_PERIOD_US already. */
		return put_u64(dir, "cpu.cfs_quota_us", quota, err);
	}
	return 0;
}

/* One tree of a sandbox: its directory with limits written, and the descriptor to join it by. */
static int make_in_tree(const struct cgroup_host *h, unsigned t, const char *id,
			const struct cgroup_limits *lim, struct cgroup_join *j,
			struct brig_err *err)
{
	struct cgroup_path gp;
	if (mkdirat(h->tree[t].fd, cgroup_path(h, id, "", &gp), 0755) < 0)
		return brig_fail(err, errno == EEXIST ? BRIG_E_EXISTS : BRIG_E_EXHAUSTED, errno,
				 "make cgroup '%s' in %s", id, h->tree[t].path);
	AUTO_FD dir = openat(h->tree[t].fd, gp.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "open cgroup '%s'", id);
	if (set_limits(h, h->tree[t].ctls, dir, NULL, lim, err) < 0)
		return -1;
	int fd = h->version == 2 ? fd_steal(&dir) : openat(dir, "tasks", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "open the task file of '%s'", id);
	j->fd[j->n++] = fd;
	return 0;
}

static int make_new(const struct cgroup_host *h, const char *id, const struct cgroup_limits *lim,
		    struct cgroup_join *ret, struct brig_err *err)
{
	struct cgroup_join j = { 0 };
	for (unsigned t = 0; t < h->ntrees; t++)
		if (h->tree[t].fd >= 0 && h->tree[t].ctls &&
		    make_in_tree(h, t, id, lim, &j, err) < 0) {
			cgroup_join_close(&j);
			cgroup_remove(h, id);
			return -1;
		}
	*ret = j;
	return 0;
}

int cgroup_make_ahead(const struct cgroup_host *h, const char *name, const struct cgroup_limits *lim,
		      struct cgroup_ahead *ret)
{
	struct brig_err err;
	memset(ret, 0, sizeof(*ret));
	if (h->version != 1)
		return 0;
	if (make_new(h, name, lim, &ret->join, &err) < 0)
		return err.sys ? -err.sys : -EIO;
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	ret->limits = *lim;
	return 0;
}

int cgroup_make(const struct cgroup_host *h, const char *id, struct cgroup_ahead *ahead,
		const struct cgroup_limits *lim, struct cgroup_join *ret, struct brig_err *err)
{
	if (!ahead || !ahead->name[0])
		return make_new(h, id, lim, ret, err);
	for (unsigned t = 0; t < h->ntrees && memcmp(lim, &ahead->limits, sizeof(*lim)) != 0; t++) {
		int at = h->tree[t].fd;
		struct cgroup_path gp;
		if (at < 0 || !h->tree[t].ctls)
			continue;
		AUTO_FD dir = openat(at, cgroup_path(h, ahead->name, "", &gp),
				     O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, errno, "open the cgroup of '%s'", id);
		if (set_limits(h, h->tree[t].ctls, dir, &ahead->limits, lim, err) < 0)
			return -1;
	}
	*ret = ahead->join;
	ahead->join.n = 0;
	return 0;
}

int cgroup_name(const struct cgroup_host *h, const char *id, struct cgroup_ahead *ahead,
		struct brig_err *err)
{
	for (unsigned t = 0; t < h->ntrees && ahead->name[0]; t++) {
		int at = h->tree[t].fd;
		struct cgroup_path from, to;
		if (at < 0 || !h->tree[t].ctls)
			continue;
		if (renameat(at, cgroup_path(h, ahead->name, "", &from), at, cgroup_path(h, id, "", &to)) < 0)
			return brig_fail(err, BRIG_E_EXHAUSTED, errno, "name cgroup '%s' in %s", id,
					 h->tree[t].path);
	}
	ahead->name[0] = '\0';
	return 0;
}

void cgroup_kill(const struct cgroup_host *h, const char *id)
{
	for (unsigned t = 0; t < h->ntrees; t++) {
		char text[8192];
		struct cgroup_path gp;
		if (h->tree[t].fd < 0)
			continue;
		if (h->version == 2 && /* Linux 5.14 */
		    fd_spew_at(h->tree[t].fd, cgroup_path(h, id, "cgroup.kill", &gp), "1") == 0)
			continue;
		if (fd_slurp_at(h->tree[t].fd, cgroup_path(h, id, "cgroup.procs", &gp), text,
				sizeof(text)) < 0)
			continue;
		for (char *p = text, *save = NULL, *tok; (tok = strtok_r(p, "\n", &save)); p = NULL) {
			long pid = strtol(tok, NULL, 10);
			if (pid > 1)
				kill((pid_t)pid, SIGKILL);
		}
	}
}

int cgroup_remove(const struct cgroup_host *h, const char *id)
{
	int r = 0;
	struct cgroup_path gp;
	cgroup_path(h, id, "", &gp);
	for (unsigned t = 0; t < h->ntrees; t++)
		if (h->tree[t].fd >= 0 && unlinkat(h->tree[t].fd, gp.text, AT_REMOVEDIR) < 0 &&
		    errno != ENOENT)
			r = -errno;
	return r;
}
