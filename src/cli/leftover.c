/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a process is named by its number and the time at which it started, because
 * numbers are used again. A pidfd is opened before the time is compared, so the process that gets
 * the signal is the one that was compared.
 */
#include "cli/leftover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define TEXT_MAX 256

/* Field 22 of /proc/PID/stat (proc(5)): start time in clock ticks since boot; 0 = no such process.
 */
static unsigned long long start_time(pid_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return 0;
	/* The name (field 2) may contain anything, but the last ')' ends it. */
	char *p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

int leftover_record(int fd, const pid_t *pids, size_t n)
{
	char text[TEXT_MAX] = "";
	size_t at = 0;
	for (size_t i = 0; i < n && at < sizeof(text) - 64; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%d %llu\n", (int)pids[i],
				       start_time(pids[i]));
	if (ftruncate(fd, 0) < 0)
		return -errno;
	ssize_t r = pwrite(fd, text, at, 0);
	return r < 0 ? -errno : 0;
}

static int kill_one(pid_t pid, unsigned long long started)
{
	AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
	if (pidfd < 0 || !started || start_time(pid) != started)
		return 0;
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0u) < 0)
		return 0;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	(void)poll(&p, 1, 2000);
	return 1;
}

int leftover_kill(int fd)
{
	char text[TEXT_MAX + 1];
	int killed = 0;
	ssize_t n = pread(fd, text, TEXT_MAX, 0);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int pid;
		unsigned long long started;
		if (sscanf(line, "%d %llu", &pid, &started) == 2 && pid > 1)
			killed += kill_one(pid, started);
	}
	(void)leftover_record(fd, NULL, 0);
	return killed;
}
