/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.c: starts brig-pull and waits for it.
 *
 * Theory of operation
 * -------------------
 * brig-image speaks to no network. The program beside it does, with a folder of the staging directory
 * that it may write to; as root the folder is given to the id that it becomes. It ends with brig-image
 * (parent-death signal) and is killed if that is to stop. What lies in the folder afterwards is as
 * hostile as any layout.
 */
#include "image/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/confine.h"
#include "image/publish_inner.h"

static int make_folder(const struct publisher *p, const struct stage *s, struct brig_err *err)
{
	static const char *const parts[] = { "layout", "layout/blobs", "layout/blobs/sha256" };
	for (unsigned i = 0; i < 3; i++)
		if (mkdirat(s->dir, parts[i], 0700) < 0 ||
		    (p->root && fchownat(s->dir, parts[i], CONFINE_ID, CONFINE_ID, AT_SYMLINK_NOFOLLOW) < 0))
			return publish_fail(err, p->store.path, errno, "make a folder to download to");
	int fd = openat(s->dir, "layout", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? publish_fail(err, p->store.path, errno, "open the folder to download to") : fd;
}

/* brig-pull lies where brig-image lies. */
static int program(char path[PATH_MAX], struct brig_err *err)
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 16);
	char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
	if (!slash)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "find brig-pull");
	strcpy(slash + 1, "brig-pull");
	return 0;
}

static __attribute__((noreturn)) void child(const char *path, char *const *argv, int dir, int words)
{
	sigset_t none;
	/* Those that brig-image has blocked for itself. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Above their places, so that neither is in the other's. */
	int d = fcntl(dir, F_DUPFD_CLOEXEC, 16), w = fcntl(words, F_DUPFD_CLOEXEC, 16);
	if (null < 0 || d < 0 || w < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(d, 3) < 0 ||
	    dup2(w, 4) < 0 || fd_close_from(5) < 0)
		_exit(127);
	execv(path, argv);
	_exit(127);
}

/* Its end, or ours. 1: it has ended. */
static int wait_end(int pidfd, int cancel, struct brig_err *err)
{
	struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = cancel, .events = POLLIN } };
	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the download");
	return p[1].revents ? brig_fail(err, BRIG_E_STATE, 0, "interrupted") : 1;
}

static int run(const char *path, char *const *argv, int dir, const struct fetch_options *o,
	       struct brig_err *err)
{
	struct brig_err said;
	int pipefd[2], status = 0;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start the download");
	AUTO_FD in = pipefd[0];
	AUTO_FD out = pipefd[1];
	pid_t pid = fork();
	if (pid < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start the download");
	if (pid == 0)
		child(path, argv, dir, out);
	fd_close(&out);
	AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = pidfd < 0 ? brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the download")
			  : wait_end(pidfd, o->cancel, err);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the download");
	if (r < 0)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (fd_read_full(in, &said, sizeof(said)) == sizeof(said))
		return confine_said(&said, err);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
		brig_fail(err, BRIG_E_INTERNAL, 0, "'%.300s' cannot be executed", path);
		return brig_fix(err, "install brig completely");
	}
	return brig_fail(err, BRIG_E_INTERNAL, 0, "the download ended without an answer");
}

int fetch_layout(const struct publisher *p, const struct stage *s, const struct fetch_options *o,
		 struct brig_err *err)
{
	char path[PATH_MAX], stall[24], max[24];
	char *argv[16];
	unsigned n = 0;
	if (program(path, err) < 0)
		return -1;
	AUTO_FD dir = make_folder(p, s, err);
	if (dir < 0)
		return -1;
	snprintf(stall, sizeof(stall), "%" PRIu64, o->stall_s);
	snprintf(max, sizeof(max), "%" PRIu64, o->max_bytes);
	const char *words[] = { "brig-pull", "--ref", o->ref, "--stall", stall, "--max", max };
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		argv[n++] = (char *)(uintptr_t)words[i];
	if (o->ca_file) {
		argv[n++] = (char *)(uintptr_t) "--cacert";
		argv[n++] = (char *)(uintptr_t)o->ca_file;
	}
	if (o->plain_http)
		argv[n++] = (char *)(uintptr_t) "--plain-http";
	if (o->insecure_tls)
		argv[n++] = (char *)(uintptr_t) "--insecure-tls";
	if (o->quiet)
		argv[n++] = (char *)(uintptr_t) "--quiet";
	argv[n] = NULL;
	return run(path, argv, dir, o, err) < 0 ? -1 : fd_steal(&dir);
}
