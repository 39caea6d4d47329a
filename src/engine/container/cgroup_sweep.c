/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_sweep.c: the groups of an instance that belong to nothing; see cgroup.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "engine/container/cgroup.h"

/* One round over one tree; how many could not be removed yet. */
static unsigned sweep_tree(const struct cgroup_host *h, unsigned t, cgroup_keep_fn *keep, void *ctx)
{
	unsigned left = 0;
	int fd = openat(h->tree[t].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	if (!d) {
		fd_close(&fd);
		return 0;
	}
	while ((e = readdir(d))) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.' || keep(ctx, e->d_name))
			continue;
		/* What stands still does not die (version 1): every process has its SIGKILL first. */
		cgroup_kill(h, e->d_name);
		(void)cgroup_freeze(h, e->d_name, 0);
		left += cgroup_remove(h, e->d_name) == -EBUSY;
	}
	closedir(d);
	return left;
}

unsigned cgroup_sweep(const struct cgroup_host *h, cgroup_keep_fn *keep, void *ctx, uint64_t deadline)
{
	unsigned left;
	do {
		left = 0;
		for (unsigned t = 0; t < h->ntrees; t++)
			if (h->tree[t].fd >= 0)
				left += sweep_tree(h, t, keep, ctx);
		if (left)
			usleep(2000);
	} while (left && clock_now() < deadline);
	return left;
}
