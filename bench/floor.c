/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor.c: what the kernel primitives that a sandbox is made of cost on this machine.
 *
 * Theory of operation
 * -------------------
 * A design that promises a sandbox in so many microseconds is a sum of system calls; this program
 * prints the summands. It runs as root (cases that need it report a miss otherwise), in a mount
 * namespace of its own with a private tmpfs, and forks one child per case and round, so that a case
 * may unshare, pivot, drop privileges or install a filter without undoing it. Samples go to a shared
 * mapping. Cases run in blocks and not interleaved, with a pause in between: dismantling a network
 * namespace goes on in kernel threads long after its last process is gone and would be charged to
 * whatever comes next.
 *
 * Nothing is left behind: namespaces die with their processes, the tmpfs with the mount namespace,
 * and the cgroups that are made below the caller's own are removed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "floor.h"

static struct floor_series *series_get(struct floor *f, const char *name)
{
	struct floor_shared *sh = f->sh;

	for (unsigned i = 0; i < sh->nseries; i++)
		if (!strcmp(sh->series[i].name, name))
			return &sh->series[i];
	if (sh->nseries == FLOOR_SERIES_MAX)
		return NULL;
	struct floor_series *s = &sh->series[sh->nseries++];
	snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

void floor_add(struct floor *f, const char *name, uint64_t ns)
{
	if (f->sh->warming)
		return;
	struct floor_series *s = series_get(f, name);
	if (s && s->n < FLOOR_SAMPLES_MAX)
		s->ns[s->n++] = ns;
}

void floor_miss(struct floor *f, const char *name, int err)
{
	struct floor_series *s = series_get(f, name);

	if (s && s->misses++ == 0)
		s->miss_errno = err;
}

int floor_take(struct floor *f, const char *name, uint64_t t0, int ok)
{
	uint64_t t1 = floor_now();

	if (ok)
		floor_add(f, name, t1 - t0);
	else
		floor_miss(f, name, errno);
	return ok;
}

pid_t floor_clone(uint64_t flags, int cgroup_fd)
{
	struct clone_args a = { .flags = flags, .exit_signal = SIGCHLD };

	if (cgroup_fd >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)cgroup_fd;
	}
	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

int floor_map_write(pid_t pid)
{
	static const char map[] = "0 1879113728 65536"; /* slot 1 of brig/ids.h */
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	r = fd_spew_at(AT_FDCWD, path, map);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
	return r ? r : fd_spew_at(AT_FDCWD, path, map);
}

int floor_holder_start(uint64_t flags, pid_t *ret_pid)
{
	pid_t pid = floor_clone(flags, -1);

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	int r = flags & CLONE_NEWUSER ? floor_map_write(pid) : 0;
	if (r) {
		floor_holder_end(pid);
		return r;
	}
	*ret_pid = pid;
	return 0;
}

void floor_holder_end(pid_t pid)
{
	if (kill(pid, SIGKILL) == 0)
		waitpid(pid, NULL, 0);
}

int floor_ns_open(pid_t pid, const char *ns)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, ns);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int floor_mounts_minimal(void)
{
	if (unshare(CLONE_NEWNS) || mount("floor", "/mnt", "tmpfs", 0, "size=1m") ||
	    chdir("/mnt") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
		return -errno;
	return 0;
}

static void cases_run(struct floor *f, const struct floor_case *c)
{
	for (; c->group; c++) {
		fprintf(stderr, "floor: %s\n", c->group);
		for (unsigned i = 0; i < f->warm + f->rounds; i++) {
			f->sh->round = i;
			f->sh->warming = i < f->warm;
			pid_t pid = fork();
			if (pid == 0) {
				c->once(f);
				_exit(0);
			}
			int st = 0;
			if (pid < 0 || waitpid(pid, &st, 0) != pid || st) {
				fprintf(stderr, "floor: %s: child failed (%d)\n", c->group, st);
				break;
			}
		}
		nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Nearest-rank percentile of sorted samples, in microseconds. */
static double rank_us(const struct floor_series *s, unsigned percent)
{
	unsigned i = (s->n * percent + 99) / 100;

	return (double)s->ns[i ? i - 1 : 0] / 1e3;
}

static void series_print(struct floor *f)
{
	printf("| primitive | n | min us | p50 us | p95 us | p99 us | max us | failed |\n");
	printf("|---|---|---|---|---|---|---|---|\n");
	for (unsigned i = 0; i < f->sh->nseries; i++) {
		struct floor_series *s = &f->sh->series[i];
		char miss[64] = "0";

		if (s->misses)
			snprintf(miss, sizeof(miss), "%u: %s", s->misses, strerror(s->miss_errno));
		if (!s->n) {
			printf("| %s | 0 | | | | | | %s |\n", s->name, miss);
			continue;
		}
		qsort(s->ns, s->n, sizeof(s->ns[0]), by_value);
		printf("| %s | %u | %.1f | %.1f | %.1f | %.1f | %.1f | %s |\n", s->name, s->n,
		       rank_us(s, 0), rank_us(s, 50), rank_us(s, 95), rank_us(s, 99),
		       rank_us(s, 100), miss);
	}
}

static int setup(struct floor *f)
{
	f->sh = mmap(NULL, sizeof(*f->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->sh == MAP_FAILED) {
		perror("floor: mmap");
		return -1;
	}
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("floor: a private mount namespace (run as root)");
		return -1;
	}
	if (mount("floor", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=256m") ||
	    mkdir("/mnt/work", 0755)) {
		perror("floor: tmpfs on /mnt");
		return -1;
	}
	f->work = "/mnt/work";
	return 0;
}

int main(int argc, char **argv)
{
	struct floor f = { .rounds = 300, .warm = 20 };
	int opt;

	while ((opt = getopt(argc, argv, "n:w:p:")) != -1) {
		switch (opt) {
		case 'n':
			f.rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			f.warm = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'p':
			f.hi = optarg;
			break;
		default:
			f.rounds = 0;
		}
	}
	if (!f.rounds || f.rounds > FLOOR_SAMPLES_MAX || optind != argc) {
		fprintf(stderr, "usage: floor [-n ROUNDS] [-w WARMUP] [-p STATIC_PROGRAM]\n");
		return 2;
	}
	if (setup(&f))
		return 1;
	struct utsname u;
	uname(&u);
	printf("kernel %s, %ld CPUs, %u rounds after %u warm-ups\n\n", u.release,
	       sysconf(_SC_NPROCESSORS_ONLN), f.rounds, f.warm);
	cases_run(&f, floor_proc_cases);
	cases_run(&f, floor_mount_cases);
	cases_run(&f, floor_kernel_cases);
	series_print(&f);
	return 0;
}
