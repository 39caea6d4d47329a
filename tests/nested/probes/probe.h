/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h: what every probe needs. A probe proves one behaviour of the kernel that brig leans on: it
 * exits 0 when the behaviour is there, 77 when this machine cannot tell, and 1 with the line that did
 * not hold otherwise. Probes run as root in the emulated machine and may leave nothing behind but
 * their own exit.
 */
#ifndef BRIG_PROBE_H
#define BRIG_PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: does not hold: %s (%s)\n", __FILE__, __LINE__, #x, \
				strerror(errno));                                                  \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static inline uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline int spew(int dir, const char *path, const char *text)
{
	int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	int e = errno;

	if (fd >= 0)
		close(fd);
	errno = e;
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

static inline const char *slurp(int dir, const char *path)
{
	static char text[8192];
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The number behind a key of a flat keyed file ("oom_kill 3"), -1 if there is none. */
static inline long long keyed(int dir, const char *path, const char *key)
{
	size_t len = strlen(key);

	for (const char *l = slurp(dir, path); l && *l; l = strchr(l, '\n'), l = l ? l + 1 : NULL)
		if (!strncmp(l, key, len) && l[len] == ' ')
			return atoll(l + len + 1);
	return -1;
}

/* A group of its own below the root one; removed by group_end, which fails if it is still in use. */
static inline int group_new(char path[64])
{
	snprintf(path, 64, "/sys/fs/cgroup/probe-%d", (int)getpid());
	must(mkdir(path, 0755) == 0);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(fd >= 0);
	return fd;
}

static inline void group_end(const char *path)
{
	uint64_t end = now_ms() + 5000;

	while (rmdir(path) && errno == EBUSY && now_ms() < end)
		usleep(1000);
	must(access(path, F_OK) != 0);
}

static inline pid_t clone_into(uint64_t flags, int group)
{
	struct clone_args a = { .flags = flags, .exit_signal = SIGCHLD };

	if (group >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)group;
	}
	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}

static inline int reap(pid_t pid)
{
	int st = 0;

	must(waitpid(pid, &st, 0) == pid);
	return st;
}

/* Runs body in a child and requires that it returned 0. */
static inline void in_child(uint64_t flags, int group, int (*body)(void))
{
	pid_t pid = clone_into(flags, group);

	must(pid >= 0);
	if (pid == 0)
		exit(body());
	must(reap(pid) == 0);
}

#endif
