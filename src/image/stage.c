/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.c: making, removing and sweeping of staging directories.
 *
 * Theory of operation
 * -------------------
 * Runs in brig-image with the right to change the store. Between mkdir and flock a new directory
 * looks like a leftover, so both happen under a shared flock on <data>/tmp that a sweep takes
 * exclusively while it looks; the removal itself, which may take seconds, runs under the claimed
 * directory's own lock. A lock ends with its process, however that ends, so a leftover is
 * recognised for certain; the process number in the name is for people.
 *
 * What is removed was filled by hostile archives: nothing is resolved but single names below an
 * open directory, and no link is followed.
 */
#include "image/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "image/names.h"

int stage_new(int tmp, struct stage *ret, struct brig_err *err)
{
	struct stage s = { .tmp = tmp, .dir = -1 };
	uint64_t random;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return brig_fail(err, BRIG_E_INTERNAL, errno, "make a staging directory");
	snprintf(s.name, sizeof(s.name), "%d.%016llx", (int)getpid(), (unsigned long long)random);
	if (flock(tmp, LOCK_SH) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "lock the staging directory");
	int r = mkdirat(tmp, s.name, 0700);
	if (r == 0) {
		s.dir = openat(tmp, s.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = s.dir < 0 ? -1 : flock(s.dir, LOCK_EX | LOCK_NB);
	}
	int sys = errno;
	flock(tmp, LOCK_UN);
	if (r < 0) {
		fd_close(&s.dir);
		brig_fail(err, sys == ENOSPC || sys == EDQUOT ? BRIG_E_EXHAUSTED : BRIG_E_DENIED,
			  sys, "make a staging directory in the image store");
		if (sys == ENOSPC || sys == EDQUOT)
			brig_fix(err, "free bytes or inodes there (df, df -i), or set BRIG_DATA");
		return -1;
	}
	*ret = s;
	return 0;
}

static int remove_contents(int fd)
{
	struct names d;
	int first = names_read(fd, SIZE_MAX, &d);
	if (first < 0)
		return first;
	for (size_t i = 0; i < d.n; i++) {
		int r = stage_remove_tree(fd, d.list[i]);
		first = first ? first : r;
	}
	names_done(&d);
	return first;
}

int stage_remove_tree(int dir, const char *name)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	/* An image may hold directories that their owner cannot write to. It is no link, and nobody
	 * else works here, so a mode change by name hits this directory. */
	if ((st.st_mode & 0700) != 0700 && fchmodat(dir, name, 0700, 0) < 0)
		return -errno;
	AUTO_FD fd = path_open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	int r = remove_contents(fd);
	if (r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

void stage_drop(struct stage *s)
{
	if (s->dir >= 0)
		stage_remove_tree(s->tmp, s->name);
	fd_close(&s->dir);
}

/* PID.RANDOM: anything else in tmp is not ours. */
static int name_is_stage(const char *name)
{
	size_t n = strspn(name, "0123456789");
	return n > 0 && name[n] == '.' && strspn(name + n + 1, "0123456789abcdef") == 16 &&
	       name[n + 17] == '\0';
}

int stage_sweep(int tmp, int remove, stage_report_fn report, void *ctx, struct brig_err *err)
{
	struct names d;
	AUTO_FD list = openat(tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = list < 0 ? -errno : names_read(list, SIZE_MAX, &d);
	if (r < 0)
		return brig_fail(err, BRIG_E_DENIED, -r, "list the staging directories");
	for (size_t i = 0; i < d.n; i++) {
		enum stage_state state = STAGE_UNKNOWN;
		const char *name = d.list[i];
		AUTO_FD fd = -1;
		r = 0;
		if (name_is_stage(name) && flock(tmp, LOCK_EX) == 0) {
			fd = openat(tmp, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (fd < 0 && errno == ENOENT) { /* its owner was quicker */
				flock(tmp, LOCK_UN);
				continue;
			}
			if (fd >= 0)
				state = flock(fd, LOCK_EX | LOCK_NB) == 0 ? STAGE_STALE
									  : STAGE_LIVE;
			flock(tmp, LOCK_UN);
		}
		if (state == STAGE_STALE && remove && (r = stage_remove_tree(tmp, name)) == 0)
			state = STAGE_REMOVED;
		if (report)
			report(ctx, name, state, -r);
	}
	names_done(&d);
	return 0;
}
