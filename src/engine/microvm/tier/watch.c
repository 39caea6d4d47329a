/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/microvm/tier/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static int differs(char *why, size_t cap, const char *what, const char *got)
{
	snprintf(why, cap, "%s: %.100s", what, got);
	return 1;
}

/* "NAME:\tvalue" of a status file, up to the end of the line; "" if it is not there. */
static void value_of(const char *status, const char *name, char ret[96])
{
	char key[32];
	snprintf(key, sizeof(key), "\n%s:\t", name);
	const char *p = strstr(status, key);
	p = p ? p + strlen(key) : "";
	snprintf(ret, 96, "%.*s", (int)strcspn(p, "\n"), p);
}

static int thread_check(const char *status, const struct microvm_want *w, char *why, size_t cap)
{
	char got[96], ids[2][64];
	snprintf(ids[0], sizeof(ids[0]), "%u\t%u\t%u\t%u", w->uid, w->uid, w->uid, w->uid);
	snprintf(ids[1], sizeof(ids[1]), "%u\t%u\t%u\t%u", w->gid, w->gid, w->gid, w->gid);
	static const char none[] = "0000000000000000";
	const char *const want[][2] = { { "Uid", ids[0] },     { "Gid", ids[1] },    { "CapInh", none }, { "CapPrm", none },
					{ "CapEff", none },    { "CapBnd", none },   { "CapAmb", none }, { "NoNewPrivs", "1" },
					{ "Seccomp", "2" } };
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		value_of(status, want[i][0], got);
		if (strcmp(got, want[i][1]) != 0)
			return differs(why, cap, want[i][0], got);
	}
	value_of(status, "Groups", got);
	return got[strspn(got, " ")] ? differs(why, cap, "Groups", got) : 0;
}

static int namespaces_check(int proc, char *why, size_t cap)
{
	static const char *const names[] = { "mnt", "net", "ipc", "uts" };
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char its[32], ours[32];
		struct stat a, b;
		snprintf(its, sizeof(its), "ns/%s", names[i]);
		snprintf(ours, sizeof(ours), "/proc/self/ns/%s", names[i]);
		if (fstatat(proc, its, &a, 0) < 0 || stat(ours, &b) < 0)
			return -errno;
		if (a.st_ino == b.st_ino)
			return differs(why, cap, "namespace", names[i]);
	}
	return 0;
}

static int root_check(int proc, char *why, size_t cap)
{
	int fd = openat(proc, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int e = errno;
		fd_close(&fd);
		return -e;
	}
	for (struct dirent *e; !found && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			found = differs(why, cap, "root", e->d_name);
	closedir(d);
	return found;
}

static int threads_check(int proc, const struct microvm_want *w, char *why, size_t cap)
{
	static char status[8192]; /* one thread; not cleared each time */
	int fd = openat(proc, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	unsigned n = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int e = errno;
		fd_close(&fd);
		return -e;
	}
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char path[300];
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/status", e->d_name);
		ssize_t got = fd_slurp_at(dirfd(d), path, status, sizeof(status));
		r = got < 0 ? (int)got : thread_check(status, w, why, cap);
		n++;
	}
	closedir(d);
	if (r == 0 && n != w->threads) {
		char text[32];
		snprintf(text, sizeof(text), "%u, not %u", n, w->threads);
		r = differs(why, cap, "threads", text);
	}
	return r;
}

int microvm_watch(int pid, const struct microvm_want *w, char *why, size_t cap)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/%d", pid);
	snprintf(why, cap, "it cannot be looked at");
	AUTO_FD proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return -errno;
	int r = threads_check(proc, w, why, cap);
	if (r == 0)
		r = namespaces_check(proc, why, cap);
	return r ? r : root_check(proc, why, cap);
}
