/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sample.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/core.h"
#include "agent/exec.h"
#include "base/clock.h"
#include "base/fd.h"

#define PERIOD_NS (250 * MS_NS)

uint32_t sample_disk(void)
{
	struct statvfs v;
	uint32_t flags = 0;
	if (statvfs("/", &v) < 0)
		return 0;
	/* A file system without such a limit reports 0 of 0. */
	if (v.f_blocks && v.f_bfree == 0)
		flags |= BRIG_EXIT_DISK_FULL;
	if (v.f_files && v.f_ffree == 0)
		flags |= BRIG_EXIT_INODES_FULL;
	return flags;
}

/* The soft limit of open descriptors, from a file that everybody may read; prlimit() would need
 * CAP_SYS_RESOURCE for a process of another user. 0 = unknown. */
static unsigned long nofile_limit(pid_t pid)
{
	char path[32], text[2048];
	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	if (fd_slurp_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return 0;
	char *at = strstr(text, "Max open files");
	return at ? strtoul(at + strlen("Max open files"), NULL, 10) : 0;
}

static unsigned long nofile_used(pid_t pid, unsigned long enough)
{
	char path[32];
	struct stat st;
	unsigned long n = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	/* Linux 6.2 and later count them in st_size. */
	if (stat(path, &st) == 0 && st.st_size > 0)
		return (unsigned long)st.st_size;
	DIR *d = opendir(path);
	struct dirent *e;
	if (!d)
		return 0;
	while (n < enough && (e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static bool nofile_met(struct agent *a, const struct exec *x)
{
	unsigned long limit = nofile_limit(x->child.pid), used = 0;
	/* Only the command's own user may look at its descriptors: the agent cannot trace. */
	if (limit && creds_enter(&a->self, &x->creds) == 0) {
		used = nofile_used(x->child.pid, limit);
		creds_leave(&a->self);
	}
	return limit && used >= limit;
}

static void sample_take(void *ctx)
{
	struct agent *a = ctx;
	uint32_t disk = sample_disk();
	bool any = false;
	for (struct exec *x = a->execs; x; x = x->next) {
		if (!exec_is_running(x))
			continue;
		any = true;
		x->met |= disk;
		if (!(x->met & BRIG_EXIT_NOFILE) && nofile_met(a, x))
			x->met |= BRIG_EXIT_NOFILE;
	}
	if (any)
		sample_start(a);
}

void sample_init(struct agent *a)
{
	a->sample = (struct ev_timer){ .fn = sample_take, .ctx = a };
}

void sample_start(struct agent *a)
{
	/* Without memory for the timer the samples are missing, nothing else. */
	if (!ev_timer_armed(&a->sample))
		ev_timer_set(&a->ev, &a->sample, clock_now() + PERIOD_NS);
}
