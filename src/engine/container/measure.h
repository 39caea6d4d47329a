/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h: what really holds for a sandbox, asked of the host's kernel, and whether it is what was
 * specified.
 *
 * Theory of operation
 * -------------------
 * The sandbox is asked for nothing: everything comes from the host's own /proc and cgroup files, about
 * a process whose number jaild has from the clone itself. A descriptor of /proc/PID belongs to one
 * process for ever (reads answer ESRCH once it is gone); that it is the right one is certain while the
 * pidfd of the clone is open and tells no end after the descriptor was opened.
 *
 * Two depths. What measure_compare() needs is read before the sandbox's first command may start: a dozen
 * small files. The rest (the filter's program, interfaces and routes, every process) takes longer and is
 * read when a receipt is asked for; then the former is read anew as well.
 */
#ifndef BRIG_CONTAINER_MEASURE_H
#define BRIG_CONTAINER_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brig/jail_proto.h"
#include "engine/container/cgroup.h"

/* What was specified, and what jaild itself gave it. */
struct measure_want {
	const struct jail_spec *spec;
	uint64_t ns_own[JAIL_NS__N];  /* of its slot, to be met exactly; 0 = any but the host's */
	uint64_t ns_host[JAIL_NS__N]; /* never to be met */
	uint32_t uid_first, gid_first, ids; /* ids: how many are mapped; with 65534 apart when rootless */
	bool range;	/* a range is mapped, not one id */
	bool rootless;
	bool writable_volume; /* a second filter is installed */
	uint32_t pids;	/* tasks, besides the first process */
	uint64_t caps;	/* of the first process */
	bool may_drop;	/* it may have given them up, but for the bounding set */
	uint32_t no_new_privs, seccomp_mode;
	uint32_t groups; /* hierarchies in which it has one */
};

/* What is wrong: the item, and what was measured and specified, for people. */
struct measure_diff {
	char item[24];
	char text[200];
};

/* ---- measure.c: one process ---- */

/* The inode numbers of a process's namespaces; proc = descriptor of its /proc/PID. 0 or -errno. */
int measure_namespaces(int proc, uint64_t ret[JAIL_NS__N]);
/* Its namespaces, ids, capabilities, filters' number: into m. 0 or -errno. */
int measure_process(int proc, struct jail_receipt *m);
/* 0, or 1 with the first difference in *d. Needs what measure_process() and cgroup_limits_read() read. */
int measure_compare(const struct measure_want *w, const struct jail_receipt *m,
		    struct measure_diff *d);
/* The limits alone. */
int measure_limits(const struct measure_want *w, const struct jail_receipt *m,
		   struct measure_diff *d);
/* Every process of a group (host's numbers in `pids`, one a line): none may have more than commands get,
 * and all are behind the filter. 0, or 1 with the difference. */
int measure_commands(char *pids, int first, struct jail_receipt *m, struct measure_diff *d);
/* Interfaces and routes of its network namespace: loopback, and nothing else; with net the link to the
 * gateway besides. */
int measure_network(int proc, int net, struct jail_receipt *m, struct measure_diff *d);

/* ---- measure_mounts.c ---- */

/* Its mounts against what the specification makes; the size of the writable layer into m, and their
 * normalized list too if m->mounts_len is not 0 before. 0; 1 with the difference; -errno. */
int measure_mounts(int proc, const struct measure_want *w, struct jail_receipt *m,
		   struct measure_diff *d);
/* The same for a text of mountinfo, which is cut up. */
int measure_mounts_text(char *text, const struct measure_want *w, struct jail_receipt *m,
			struct measure_diff *d);

/* ---- measure_filter.c ---- */

/*
 * Reads the filters of a process back from the kernel (PTRACE_SECCOMP_GET_FILTER) and compares them, byte
 * by byte, with the programs of this build: they must be those of `wanted` (1 << SECCOMP_*), once each. The process stands still for some 50 us. Called in a process
 * that has nothing else to wait for: it becomes the tracer. 0; 1 with the difference; -errno if this kernel
 * or this jaild may not (then nothing is known beyond the number of filters).
 */
int measure_filters(int pid, unsigned wanted, struct measure_diff *d);

#endif
