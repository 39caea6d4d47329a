/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor.h: what the cases of the floor benchmark share: named series of samples in memory that
 * forked children can write too, a clock, and a child to be spoiled and thrown away.
 */
#ifndef BRIG_BENCH_FLOOR_H
#define BRIG_BENCH_FLOOR_H

#include <linux/sched.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define FLOOR_SERIES_MAX 320u
#define FLOOR_SAMPLES_MAX 5000u
#define FLOOR_NAME_MAX 80u

struct floor_series {
	char name[FLOOR_NAME_MAX];
	unsigned n;
	unsigned misses; /* attempts that failed; not among the samples */
	int miss_errno;  /* of the first miss */
	uint64_t ns[FLOOR_SAMPLES_MAX];
};

/* Lives in a shared mapping: a child that has left half of its privileges still records. Only one
 * process writes at a time. */
struct floor_shared {
	unsigned nseries;
	unsigned round;
	unsigned warming; /* samples of warm-up rounds are dropped */
	volatile uint64_t mark; /* a child's "I run now" */
	struct floor_series series[FLOOR_SERIES_MAX];
};

struct floor {
	struct floor_shared *sh;
	const char *hi;    /* static program that prints */
	const char *work;  /* an empty directory on a private tmpfs */
	unsigned rounds, warm;
};

/* One kind of primitive. `once` is called warm + rounds times, each time in a fresh child of the
 * benchmark, which may do to itself what it likes. */
struct floor_case {
	const char *group;
	void (*once)(struct floor *f);
};

extern const struct floor_case floor_proc_cases[];
extern const struct floor_case floor_mount_cases[];
extern const struct floor_case floor_kernel_cases[];

void floor_add(struct floor *f, const char *name, uint64_t ns);
void floor_miss(struct floor *f, const char *name, int err);
/* Records now - t0 if ok, a miss with errno otherwise; returns ok. */
int floor_take(struct floor *f, const char *name, uint64_t t0, int ok);

/* clone3 without a stack: a fork with namespaces. cgroup_fd < 0 = stay. */
pid_t floor_clone(uint64_t flags, int cgroup_fd);
/* A process that owns fresh namespaces (clone flags) and waits; 0 or -errno. With CLONE_NEWUSER ids
 * 0..65535 inside are mapped to 0x70010000 outside. It dies with its parent; floor_holder_end kills and
 * reaps it sooner. */
int floor_holder_start(uint64_t flags, pid_t *ret_pid);
void floor_holder_end(pid_t pid);
int floor_ns_open(pid_t pid, const char *ns);
int floor_map_write(pid_t pid);
/* Leaves a mount namespace whose only mount is an empty tmpfs: what a prepared template costs to
 * copy. 0 or -errno. */
int floor_mounts_minimal(void);

static inline uint64_t floor_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
