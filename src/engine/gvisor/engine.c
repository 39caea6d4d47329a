/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c: the gVisor tier behind the seam (engine.h); keeper.h has the theory of what is inside.
 *
 * Which runsc: that of BRIG_RUNSC, else the first in PATH. It is executed with the sandbox's rights, never
 * with jaild's, but for one question: its version, which tells the flags that it knows. It is opened once,
 * so that all sandboxes of a server run the same one, and an upgrade of the package does not pull it away
 * from under them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mountfd.h"
#include "brig/limits.h"
#include "engine/container/seccomp.h"
#include "engine/container/stage.h"
#include "engine/engine.h"
#include "engine/gvisor/keeper.h"
#include "engine/gvisor/measure.h"
#include "jail/jaild.h"

/* "runsc --version" takes 20 ms; a host on which it takes this long is in trouble. */
#define VERSION_MS 5000
/* What create, the gofer and the sentry take before the first command, as measured with 20221219. */
#define MEMORY_LEAST (64u * MIB)

static struct {
	int fd; /* -1: none was found */
	char path[PATH_MAX];
	char version[64];
} runsc = { .fd = -1 };

/* Executes it for its first line of output. 0 or -errno. */
static int ask_version(void)
{
	static const char word[] = "runsc version ";
	int out[2], status = 0;
	char text[256];
	size_t n = 0;
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0) {
		int e = -errno;
		close(out[0]);
		close(out[1]);
		return e;
	}
	if (pid == 0) {
		char *argv[] = { (char[]){ "runsc" }, (char[]){ "--version" }, NULL };
		char *envp[] = { NULL };
		if (dup2(out[1], 1) < 0)
			_exit(126);
		fexecve(runsc.fd, argv, envp);
		_exit(127);
	}
	close(out[1]);
	uint64_t until = clock_now() + VERSION_MS * MS_NS;
	for (;;) {
		struct pollfd p = { .fd = out[0], .events = POLLIN };
		uint64_t now = clock_now();
		if (now >= until || poll(&p, 1, (int)((until - now) / MS_NS) + 1) <= 0)
			break;
		ssize_t r = read(out[0], text + n, sizeof(text) - 1 - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	close(out[0]);
	kill(pid, SIGKILL); /* if it has not ended: it wrote more, or nothing in time */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	text[n] = '\0';
	if (strncmp(text, word, sizeof(word) - 1) != 0)
		return -ENOEXEC;
	text[strcspn(text, "\n")] = '\0';
	snprintf(runsc.version, sizeof(runsc.version), "%.60s", text + sizeof(word) - 1);
	return 0;
}

/* Only a file that nobody but root (or the user of a rootless server) can change. */
static int open_runsc(const char *path)
{
	struct stat st;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return -EACCES;
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || st.st_mode & 022)
		return -EPERM;
	snprintf(runsc.path, sizeof(runsc.path), "%s", path);
	return fd_steal(&fd);
}

static int find_runsc(void)
{
	const char *given = getenv("BRIG_RUNSC"), *path = getenv("PATH");
	if (given && given[0]) {
		snprintf(runsc.path, sizeof(runsc.path), "%s", given);
		return open_runsc(given);
	}
	while (path && *path) {
		char name[PATH_MAX];
		size_t n = strcspn(path, ":");
		snprintf(name, sizeof(name), "%.*s/runsc", (int)n, path);
		int fd = n && path[0] == '/' ? open_runsc(name) : -ENOENT;
		if (fd != -ENOENT && fd != -ENOTDIR)
			return fd;
		path += n + (path[n] == ':');
	}
	return -ENOENT;
}

static void gvisor_probe(const struct serve_options *o, int thorough, struct jail_tier *ret)
{
	static const char install[] = "apt-get install runsc, or name a newer one in BRIG_RUNSC";
	(void)thorough;
	if (o->rootless) {
		snprintf(ret->text, sizeof(ret->text), "this server does not run as root");
		snprintf(ret->remedy, sizeof(ret->remedy), "start it as root");
		return;
	}
	fd_close(&runsc.fd);
	int r = runsc.fd = find_runsc();
	if (r == -ENOENT && !runsc.path[0])
		snprintf(ret->text, sizeof(ret->text), "runsc is not in PATH");
	else if (r == -EPERM)
		snprintf(ret->text, sizeof(ret->text), "%.100s can be changed by others than root", runsc.path);
	else if (r < 0)
		snprintf(ret->text, sizeof(ret->text), "%.100s: %s", runsc.path, strerror(-r));
	else if ((r = ask_version()) < 0)
		snprintf(ret->text, sizeof(ret->text), "%.100s does not tell its version: %s", runsc.path,
			 strerror(-r));
	if (r < 0) {
		fd_close(&runsc.fd);
		snprintf(ret->remedy, sizeof(ret->remedy), "%s", r == -EPERM ? "chown root it, and chmod go-w" : install);
		return;
	}
	ret->offered = 1;
	snprintf(ret->text, sizeof(ret->text), "runsc %.60s (%.100s)", runsc.version, runsc.path);
}

static int gvisor_check(const struct serve *j, const struct jail_spec *p, struct brig_err *err)
{
	(void)j;
	if (p->memory_bytes < MEMORY_LEAST) {
		brig_fail(err, BRIG_E_LIMIT, 0, "tier 'gvisor' needs --memory 64m: its kernel is in it");
		return brig_fix(err, "ask for --memory 64m or more, or for --tier container");
	}
	/* The gofer makes files as root of the sandbox and gives them away; such a volume maps one user. */
	for (uint32_t i = 0; i < p->nvolumes; i++)
		if (!p->volumes[i].id[0] && !p->volumes[i].readonly) {
			brig_fail(err, BRIG_E_UNSUPPORTED, 0,
				  "tier 'gvisor' cannot write to folders of the host, as at %s",
				  p->volumes[i].path);
			return brig_fix(err, "attach it read-only (:ro), use a named volume or `brig cp`, or ask "
					     "for --tier container");
		}
	return 0;
}

static void gvisor_limits(const struct jail_spec *p, struct cgroup_limits *lim)
{
	lim->pids = gvisor_tasks(p);
}

static int gvisor_create(struct serve *j, struct box *b, const struct engine_order *o,
			 struct brig_err *err)
{
	AUTO_FD agent = mntfd_clone(AT_FDCWD, j->o->agent, 0);
	if (agent < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -agent, "clone the mount of brig-agent");
	const int more[2] = { runsc.fd, agent };
	if (birth_clone(j, &b->slot, o->join, STAGE_F_GVISOR, err) < 0)
		return -1;
	return birth_enter(j, &b->slot, o->spec, o->fds, o->deny_suid, more, err);
}

/* The layer of the sandbox's root, as its keeper has it mounted. */
static void gvisor_stats(const struct box *b, struct jail_stats *st)
{
	char path[40];
	struct statfs s;
	snprintf(path, sizeof(path), "/proc/%ld/root/r", (long)b->slot.pid);
	if (b->slot.pid <= 0 || statfs(path, &s) < 0 || s.f_type != OVERLAYFS_SUPER_MAGIC ||
	    s.f_bfree > s.f_blocks)
		return;
	st->disk_used_bytes = (uint64_t)(s.f_blocks - s.f_bfree) * (uint64_t)s.f_bsize;
	st->valid |= JAIL_STAT_DISK;
}

const struct engine engine_gvisor = {
	.tier = BRIG_TIER_gvisor,
	.caps = BRIG_CAPS_RUNSC,
	.probe = gvisor_probe,
	.check = gvisor_check,
	.limits = gvisor_limits,
	.create = gvisor_create,
	.may_drop = 1,
	.filter = SECCOMP_GVISOR,
	.measure = gvisor_measure,
	.receipt = receipt_begin,
	.look = gvisor_look,
	.stats = gvisor_stats,
	.pause = engine_group_pause,
	.paused = engine_group_paused,
	.resume = engine_group_resume,
	.destroy = engine_first_kill,
};
