/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup_read.c: what a group says, and whether it stands still; see cgroup.h.
 *
 * Freezing: v1 has a controller for it, v2 a file in every group. Both stop a process at its way back to
 * user space, so one that waits in the kernel for something that takes long is late.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/fd.h"
#include "engine/container/cgroup.h"
#include "engine/container/cgroup_path.h"

/* A number in a one-number file; 0 and clear *ok on any trouble. */
static uint64_t num(int dir, const char *id, const char *file, int *ok)
{
	char path[192], text[64];
	snprintf(path, sizeof(path), "%s/%s", id, file);
	if (fd_slurp_at(dir, path, text, sizeof(text)) < 0) {
		*ok = 0;
		return 0;
	}
	if (strcmp(text, "max") == 0)
		return UINT64_MAX;
	return strtoull(text, NULL, 10);
}

/* The value behind "key " in a flat-keyed file. */
static uint64_t keyed(int dir, const char *id, const char *file, const char *key, int *ok)
{
	char path[192], text[4096];
	snprintf(path, sizeof(path), "%s/%s", id, file);
	if (fd_slurp_at(dir, path, text, sizeof(text)) < 0) {
		*ok = 0;
		return 0;
	}
	size_t n = strlen(key);
	for (const char *p = text; *p;) {
		if (strncmp(p, key, n) == 0 && p[n] == ' ')
			return strtoull(p + n + 1, NULL, 10);
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	*ok = 0;
	return 0;
}

/* Sums the numbers behind each `key` ("rbytes=" on v2, "Total " lines on v1) of an I/O file. */
static uint64_t io_sum(int dir, const char *id, int version, int *ok)
{
	char path[192], text[8192];
	const char *file = version == 2 ? "io.stat" : "blkio.throttle.io_service_bytes_recursive";
	snprintf(path, sizeof(path), "%s/%s", id, file);
	if (fd_slurp_at(dir, path, text, sizeof(text)) < 0) {
		*ok = 0;
		return 0;
	}
	uint64_t sum = 0;
	if (version == 2) {
		static const char *const keys[] = { " rbytes=", " wbytes=" };
		for (unsigned k = 0; k < 2; k++)
			for (const char *p = text; (p = strstr(p, keys[k]));)
				sum += strtoull(p += strlen(keys[k]), NULL, 10);
		return sum;
	}
	/* The last line is "Total N" over all devices. */
	const char *p = strstr(text, "\nTotal ");
	if (p)
		p++;
	else if (strncmp(text, "Total ", 6) == 0)
		p = text;
	return p ? strtoull(p + 6, NULL, 10) : 0;
}

static void read_memory(int dir, const char *id, int version, struct jail_stats *st)
{
	int ok = 1, opt = 1;
	if (version == 2) {
		st->memory_bytes = num(dir, id, "memory.current", &ok);
		st->memory_limit_bytes = num(dir, id, "memory.max", &ok);
		st->oom_kills = keyed(dir, id, "memory.events", "oom_kill", &ok);
		st->memory_limit_hits = keyed(dir, id, "memory.events", "max", &opt);
		st->memory_peak_bytes = num(dir, id, "memory.peak", &opt); /* Linux 5.19 */
		if (st->memory_peak_bytes < st->memory_bytes)
			st->memory_peak_bytes = st->memory_bytes;
	} else {
		st->memory_bytes = num(dir, id, "memory.usage_in_bytes", &ok);
		st->memory_limit_bytes = num(dir, id, "memory.limit_in_bytes", &ok);
		st->memory_peak_bytes = num(dir, id, "memory.max_usage_in_bytes", &ok);
		st->memory_limit_hits = num(dir, id, "memory.failcnt", &opt);
		st->oom_kills = keyed(dir, id, "memory.oom_control", "oom_kill", &ok);
	}
	if (ok)
		st->valid |= JAIL_STAT_MEMORY;
}

void cgroup_read(const struct cgroup_host *h, const char *sandbox, struct jail_stats *st)
{
	struct cgroup_path gp;
	const char *id = cgroup_path(h, sandbox, "", &gp);
	for (unsigned t = 0; t < h->ntrees; t++) {
		int dir = h->tree[t].fd, ok;
		unsigned ctls = h->tree[t].ctls;
		if (dir < 0)
			continue;
		if (ctls & 1u << CG_MEMORY)
			read_memory(dir, id, h->version, st);
		if (ctls & 1u << CG_PIDS) {
			int opt = 1;
			ok = 1;
			st->pids = num(dir, id, "pids.current", &ok);
			st->pids_limit_hits = keyed(dir, id, "pids.events", "max", &opt);
			st->pids_peak = num(dir, id, "pids.peak", &opt); /* Linux 6.1 */
			if (st->pids_peak < st->pids)
				st->pids_peak = st->pids;
			/* The agent is not the tenant's process (see set_limits). */
			st->pids -= st->pids > 0;
			st->pids_peak -= st->pids_peak > 0;
			if (ok)
				st->valid |= JAIL_STAT_PIDS;
		}
		if (ctls & 1u << CG_CPUACCT) {
			ok = 1;
			st->cpu_us = h->version == 2
					     ? keyed(dir, id, "cpu.stat", "usage_usec", &ok)
					     : num(dir, id, "cpuacct.usage", &ok) / 1000;
			if (ok)
				st->valid |= JAIL_STAT_CPU;
		}
		if (ctls & 1u << CG_CPU) {
			int opt = 1;
			st->cpu_throttled_us =
				h->version == 2
					? keyed(dir, id, "cpu.stat", "throttled_usec", &opt)
					: keyed(dir, id, "cpu.stat", "throttled_time", &opt) / 1000;
		}
		if (ctls & 1u << CG_BLKIO) {
			ok = 1;
			st->io_bytes = io_sum(dir, id, h->version, &ok);
			if (ok)
				st->valid |= JAIL_STAT_IO;
		}
	}
}

/* "QUOTA PERIOD" or "max PERIOD" of v2. */
static void read_cpu_max(int dir, const char *id, struct jail_receipt *m, int *ok)
{
	char path[192], text[64], *end;
	snprintf(path, sizeof(path), "%s/cpu.max", id);
	if (fd_slurp_at(dir, path, text, sizeof(text)) < 0) {
		*ok = 0;
		return;
	}
	m->cpu_quota_us = strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
	end = strchr(text, ' ');
	m->cpu_period_us = end ? strtoull(end, NULL, 10) : 0;
}

int cgroup_limits_read(const struct cgroup_host *h, const char *sandbox, struct jail_receipt *m)
{
	struct cgroup_path gp;
	const char *id = cgroup_path(h, sandbox, "", &gp);
	int ok = 1, v2 = h->version == 2;
	m->cgroup_version = (uint32_t)h->version;
	for (unsigned t = 0; t < h->ntrees; t++) {
		int dir = h->tree[t].fd;
		unsigned ctls = h->tree[t].ctls;
		if (dir < 0)
			continue;
		if (ctls & 1u << CG_MEMORY) {
			m->memory_bytes = num(dir, id, v2 ? "memory.max" : "memory.limit_in_bytes", &ok);
			if (h->swap && v2)
				/* Beyond memory there; here as v1 counts. */
				m->memory_swap_bytes =
					m->memory_bytes + num(dir, id, "memory.swap.max", &ok);
			else if (h->swap)
				m->memory_swap_bytes = num(dir, id, "memory.memsw.limit_in_bytes", &ok);
		}
		if (ctls & 1u << CG_PIDS)
			m->pids = num(dir, id, "pids.max", &ok);
		if (ctls & 1u << CG_CPU && v2) {
			read_cpu_max(dir, id, m, &ok);
		} else if (ctls & 1u << CG_CPU) {
			/* "-1" = none, which becomes UINT64_MAX. */
			m->cpu_quota_us = num(dir, id, "cpu.cfs_quota_us", &ok);
			m->cpu_period_us = num(dir, id, "cpu.cfs_period_us", &ok);
		}
	}
	return ok ? 0 : -EIO;
}

unsigned cgroup_trees(const struct cgroup_host *h)
{
	unsigned n = 0;
	for (unsigned t = 0; t < h->ntrees; t++)
		n += h->tree[t].fd >= 0 && h->tree[t].ctls;
	return n;
}

int cgroup_procs(const struct cgroup_host *h, const char *sandbox, char *ret, size_t cap)
{
	struct cgroup_path gp;
	for (unsigned t = 0; t < h->ntrees; t++)
		if (h->tree[t].fd >= 0 && h->tree[t].ctls) {
			ssize_t n = fd_slurp_at(h->tree[t].fd,
						cgroup_path(h, sandbox, "cgroup.procs", &gp), ret, cap);
			return n < 0 ? (int)n : 0;
		}
	return -ENOENT;
}

void cgroup_read_cache(const struct cgroup_host *h, const char *sandbox, struct jail_stats *st)
{
	struct cgroup_path gp;
	const char *id = cgroup_path(h, sandbox, "", &gp);
	for (unsigned t = 0; t < h->ntrees; t++) {
		int ok = 1;
		if (h->tree[t].fd < 0 || !(h->tree[t].ctls & 1u << CG_MEMORY))
			continue;
		/* On v1 the plain keys leave out the groups below. */
		st->memory_cache_bytes = keyed(h->tree[t].fd, id, "memory.stat",
					       h->version == 2 ? "file" : "total_cache", &ok);
		if (ok)
			st->valid |= JAIL_STAT_CACHE;
	}
}

/* The directory in which the group is that can be frozen, or -1. */
static int freezer_dir(const struct cgroup_host *h)
{
	for (unsigned t = 0; t < h->ntrees; t++)
		if (h->tree[t].fd >= 0 && h->tree[t].ctls & 1u << CG_FREEZER)
			return h->tree[t].fd;
	return -1;
}

int cgroup_freeze(const struct cgroup_host *h, const char *id, int on)
{
	struct cgroup_path gp;
	int dir = freezer_dir(h);
	if (dir < 0)
		return -EOPNOTSUPP;
	if (h->version == 2)
		return fd_spew_at(dir, cgroup_path(h, id, "cgroup.freeze", &gp), on ? "1" : "0");
	return fd_spew_at(dir, cgroup_path(h, id, "freezer.state", &gp), on ? "FROZEN" : "THAWED");
}

int cgroup_told_to_stop(const struct cgroup_host *h, const char *id)
{
	struct cgroup_path gp;
	char text[64];
	int dir = freezer_dir(h);
	const char *file = h->version == 2 ? "cgroup.freeze" : "freezer.state";
	if (dir < 0 || fd_slurp_at(dir, cgroup_path(h, id, file, &gp), text, sizeof(text)) < 0)
		return 0;
	return strcmp(text, h->version == 2 ? "0" : "THAWED") != 0;
}

int cgroup_frozen(const struct cgroup_host *h, const char *id)
{
	struct cgroup_path gp;
	char text[64];
	int dir = freezer_dir(h), ok = 1;
	if (dir < 0)
		return -EOPNOTSUPP;
	if (h->version == 2) {
		uint64_t v = keyed(dir, cgroup_path(h, id, "", &gp), "cgroup.events", "frozen", &ok);
		return ok ? v == 1 : -EIO;
	}
	/* The order goes to the processes that are there when it is given. One that was on its way into
	 * the wait of vfork(2) is missed, and stays missed: only fatal signals wake it there. Given
	 * again, the order finds it asleep and stops it. Reading is what makes the kernel look whether
	 * all of them have stopped. */
	const char *name = cgroup_path(h, id, "freezer.state", &gp);
	int r = fd_spew_at(dir, name, "FROZEN");
	if (r < 0)
		return r;
	ssize_t n = fd_slurp_at(dir, name, text, sizeof(text));
	return n < 0 ? (int)n : strcmp(text, "FROZEN") == 0;
}

void cgroup_capacity(const struct cgroup_host *h, uint64_t *ret_mem, uint32_t *ret_pids)
{
	struct sysinfo si;
	char text[64];
	*ret_mem = sysinfo(&si) == 0 ? (uint64_t)si.totalram * si.mem_unit : 0;
	*ret_pids = 32768;
	if (fd_slurp_at(AT_FDCWD, "/proc/sys/kernel/pid_max", text, sizeof(text)) > 0)
		*ret_pids = (uint32_t)strtoul(text, NULL, 10);
	for (unsigned t = 0; t < h->ntrees; t++) {
		int up = h->tree[t].top;
		if (up < 0)
			continue;
		int ok = 1;
		if (h->tree[t].ctls & 1u << CG_MEMORY) {
			uint64_t v = num(up, ".", h->version == 2 ? "memory.max"
								  : "memory.limit_in_bytes",
					 &ok);
			if (ok && v && v < *ret_mem)
				*ret_mem = v;
		}
		ok = 1;
		if (h->tree[t].ctls & 1u << CG_PIDS) {
			uint64_t v = num(up, ".", "pids.max", &ok);
			if (ok && v && v < *ret_pids)
				*ret_pids = (uint32_t)v;
		}
	}
}
