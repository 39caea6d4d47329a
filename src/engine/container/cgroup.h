/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h: limits and figures of sandboxes, on cgroup v2 and on v1 or hybrid hosts.
 *
 * A host is opened once (which hierarchies exist, which can be written). Every sandbox gets one
 * group named by its id, in the directory of the jaild instance that made it:
 *     v2        <mount>/brig/<instance>/<id>
 *     v1        <mount of each controller>/brig/<instance>/<id>
 * so the directory itself is the crash record: whose it is, and whether its owner lives. An instance
 * that expects one sandbox only is flat, <mount>/brig-<instance>-<id>: on v1 that saves ten of the
 * fifteen directories that a private `brig run` would make. It has no freezer group either: the only
 * client of a private server waits for its command and cannot ask for a pause.
 */
#ifndef BRIG_CONTAINER_CGROUP_H
#define BRIG_CONTAINER_CGROUP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "brig/jail_proto.h"

/* v1 controllers that brig uses, in the order in which a process joins them. cpuset and devices are
 * left alone: nodes cannot be made inside, and CPUs are limited by bandwidth. */
enum cgroup_ctl { CG_MEMORY, CG_PIDS, CG_CPU, CG_CPUACCT, CG_BLKIO, CG_FREEZER, CG__N_CTL };

/* A hierarchy is one mounted tree; controllers mounted together share one. */
#define CG_TREES_MAX (CG__N_CTL + 1) /* v2 beside v1, for a sweep */
struct cgroup_host {
	int version; /* 0 none, 1, 2 */
	uint32_t enforced;
	unsigned ntrees;
	struct {
		unsigned ctls; /* mask of 1 << enum cgroup_ctl; all of them on v2 */
		int fd;        /* where groups are made; -1 = this tree cannot be used */
		int top;       /* the mount, or the delegated directory */
		char path[256];
	} tree[CG_TREES_MAX];
	int swap; /* v1: memory.memsw exists; v2: memory.swap.max exists */
	int flat;
	char instance[32];
	char prefix[48]; /* of the name of every group */
};
#define CGROUP_DIR "brig"
#define CGROUP_FLAT_PREFIX "brig-"

/* What a joining process needs: v2: the directory for CLONE_INTO_CGROUP; v1: one writable
 * `tasks` file per tree. The caller closes them. */
struct cgroup_join {
	unsigned n;
	int fd[CG_TREES_MAX];
};

struct cgroup_limits {
	uint64_t memory_bytes;
	uint32_t cpu_milli, pids;
};

/* Finds the hierarchies; never fails: without any, version is 0 and enforced is 0. instance NULL =
 * look only (probe, gc): nothing is created and tree[].fd stays -1. delegated is a directory that the
 * operator handed to brig; NULL: the top of the mount. */
void cgroup_host_open(struct cgroup_host *h, const char *instance, const char *delegated, int flat);
/* v2: the directory of the caller's own group, which is what an ordinary user may have been given.
 * 0 or -ENOENT. */
int cgroup_own(char *ret, size_t cap);
/* Removes the directory of the instance and, when nobody else uses it, <mount>/brig. */
void cgroup_host_close(struct cgroup_host *h);

/*
 * A sandbox's groups made before its name and limits are known. v1 only: groups can be renamed there,
 * and five hierarchies cost 0.3 ms. v2 cannot rename and needs one mkdir. They carry a provisional
 * name and the default limits.
 */
struct cgroup_ahead {
	char name[32]; /* "" = nothing was made */
	struct cgroup_limits limits;
	struct cgroup_join join;
};
/* 0 or -errno; the groups are removed by cgroup_remove(name) unless cgroup_make takes them over. */
int cgroup_make_ahead(const struct cgroup_host *h, const char *name, const struct cgroup_limits *lim,
		      struct cgroup_ahead *ret);

/* Makes the groups of a sandbox and writes its limits. With an `ahead` that holds something these are its
 * groups, still under their provisional name, and its join moves to ret. On failure nothing new stays. */
int cgroup_make(const struct cgroup_host *h, const char *id, struct cgroup_ahead *ahead,
		const struct cgroup_limits *lim, struct cgroup_join *ret, struct brig_err *err);
/* Gives groups made ahead the sandbox's name, under which everything below finds them; ahead->name becomes
 * "". Nothing to do for others. Five renames take 60 us, so it is done beside the birth. After a failure
 * some have the one name and some the other. */
int cgroup_name(const struct cgroup_host *h, const char *id, struct cgroup_ahead *ahead,
		struct brig_err *err);
/* Figures; groups that cannot be read leave their bit of valid clear. */
void cgroup_read(const struct cgroup_host *h, const char *id, struct jail_stats *st);
/* The limits in force, as the group's files say: into m. -errno if one that this host enforces cannot be
 * read. */
int cgroup_limits_read(const struct cgroup_host *h, const char *id, struct jail_receipt *m);
/* In how many hierarchies a sandbox of this instance has a group. */
unsigned cgroup_trees(const struct cgroup_host *h);
/* Microseconds of CPU per period for a limit. */
uint64_t cgroup_quota_us(uint32_t cpu_milli, uint64_t period_us);
/* The processes of a group, one number a line; -errno, -EFBIG for more than fit. */
int cgroup_procs(const struct cgroup_host *h, const char *id, char *ret, size_t cap);
/* memory_cache_bytes; apart, because the kernel adds up a great deal for it. */
void cgroup_read_cache(const struct cgroup_host *h, const char *id, struct jail_stats *st);
/* Kills whatever is left in it (v2: cgroup.kill; else SIGKILL to each listed process). */
void cgroup_kill(const struct cgroup_host *h, const char *id);
/* Stops every process of it, or lets them go on. Stopping takes a moment: see cgroup_frozen. On v1 a
 * stopped process does not even die: after SIGKILL it must be let go on. -EOPNOTSUPP: not in this
 * instance, or not on this host. */
int cgroup_freeze(const struct cgroup_host *h, const char *id, int on);
/* 1 when all of them stand still, 0 while some are on their way, -errno. For a group that was told to
 * stop: where the kernel needs it, the order is given again. */
int cgroup_frozen(const struct cgroup_host *h, const char *id);
/* 1 if it was told to stop and has not been let go on. */
int cgroup_told_to_stop(const struct cgroup_host *h, const char *id);
/* 0 when all groups are gone, -EBUSY while a process lingers, other -errno. */
int cgroup_remove(const struct cgroup_host *h, const char *id);
/* Kills and removes the groups of this instance for whose name keep() says 0, until they are gone or the
 * time is over; returns how many are left. Not of a flat instance. */
typedef int cgroup_keep_fn(void *ctx, const char *name);
unsigned cgroup_sweep(const struct cgroup_host *h, cgroup_keep_fn *keep, void *ctx, uint64_t deadline);
void cgroup_join_close(struct cgroup_join *j);
/* Bytes of memory and processes that this host (or the group that jaild lives in) really has. */
void cgroup_capacity(const struct cgroup_host *h, uint64_t *ret_mem, uint32_t *ret_pids);

#endif
