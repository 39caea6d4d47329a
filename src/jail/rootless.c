/* SPDX-License-Identifier: Apache-2.0 */
#include "jail/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* Login name of a uid from /etc/passwd; "" if unknown. Read by hand: static programs have no NSS. */
static void user_name(uid_t uid, char *ret, size_t cap)
{
	AUTO_FREE char *line = NULL;
	size_t n = 0;
	FILE *f = fopen("/etc/passwd", "re");
	ret[0] = '\0';
	while (f && getline(&line, &n, f) > 0) {
		char name[64];
		unsigned id;
		if (sscanf(line, "%63[^:]:%*[^:]:%u:", name, &id) == 2 && id == uid) {
			snprintf(ret, cap, "%s", name);
			break;
		}
	}
	if (f)
		fclose(f);
}

/* First range of `who` (name or number) in a subuid or subgid file; 0 if there is none. */
static uint32_t sub_range(const char *file, const char *name, uid_t uid, uint32_t *ret_start)
{
	AUTO_FREE char *line = NULL;
	char num[16];
	size_t n = 0;
	uint32_t count = 0;
	FILE *f = fopen(file, "re");
	snprintf(num, sizeof(num), "%u", uid);
	while (f && !count && getline(&line, &n, f) > 0) {
		char who[64];
		unsigned start, c;
		if (sscanf(line, "%63[^:]:%u:%u", who, &start, &c) == 3 &&
		    ((name[0] && strcmp(who, name) == 0) || strcmp(who, num) == 0)) {
			*ret_start = start;
			count = c;
		}
	}
	if (f)
		fclose(f);
	return count;
}

static uint32_t ranges(uint32_t *ret_uid, uint32_t *ret_gid)
{
	char name[64];
	user_name(getuid(), name, sizeof(name));
	uint32_t u = sub_range("/etc/subuid", name, getuid(), ret_uid);
	uint32_t g = sub_range("/etc/subgid", name, getuid(), ret_gid);
	return u < g ? u : g;
}

uint32_t rootless_sub_ids(void)
{
	uint32_t u, g;
	return ranges(&u, &g);
}

/* Runs one of the two set-uid helpers; 0 if it exited with 0. */
static int run_idmap(const char *prog, pid_t pid, uint32_t own, uint32_t start, uint32_t count)
{
	char arg[5][16];
	snprintf(arg[0], sizeof(arg[0]), "%d", pid);
	snprintf(arg[1], sizeof(arg[1]), "%u", own);
	snprintf(arg[2], sizeof(arg[2]), "%u", start);
	snprintf(arg[3], sizeof(arg[3]), "%u", count);
	pid_t child = fork();
	if (child == 0) {
		execlp(prog, prog, arg[0], "0", arg[1], "1", "1", arg[2], arg[3], (char *)NULL);
		_exit(127);
	}
	int status = -1;
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int write_single(pid_t pid)
{
	char path[64], map[32];
	snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
	int r = fd_spew_at(AT_FDCWD, path, "deny");
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	snprintf(map, sizeof(map), "0 %u 1\n", getuid());
	if (r == 0)
		r = fd_spew_at(AT_FDCWD, path, map);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	snprintf(map, sizeof(map), "0 %u 1\n", getgid());
	return r == 0 ? fd_spew_at(AT_FDCWD, path, map) : r;
}

int rootless_enter(uint32_t *ret_sub, struct brig_err *err)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "make a socket pair");
	pid_t pid = fork();
	if (pid < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "fork");
	if (pid == 0) {
		/* The parent only waits; whoever kills it means us. */
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		int e = unshare(CLONE_NEWUSER) < 0 ? errno : 0;
		uint32_t sub = 0;
		close(sv[0]);
		if (write(sv[1], &e, sizeof(e)) != sizeof(e) || e)
			_exit(125);
		if (fd_read_full(sv[1], &sub, sizeof(sub)) != sizeof(sub))
			_exit(125);
		close(sv[1]);
		if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
			return brig_fail(err, BRIG_E_UNSUPPORTED, errno, "become root of it");
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		/* An own network namespace, so that there is one to come back to; an own mount namespace,
		 * so that its mounts may be cloned for images and volumes. */
		if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
			return brig_fail(err, BRIG_E_UNSUPPORTED, errno,
					 "make a network and a mount namespace");
		*ret_sub = sub;
		return 0;
	}
	int e = EIO;
	close(sv[1]);
	if (fd_read_full(sv[0], &e, sizeof(e)) != sizeof(e) || e) {
		waitpid(pid, NULL, 0);
		close(sv[0]);
		brig_fail(err, BRIG_E_UNSUPPORTED, e, "make a user namespace");
		return brig_fix(err, "allow them to ordinary users (kernel.unprivileged_userns_clone, "
				     "user.max_user_namespaces), or run brig as root");
	}
	uint32_t su = 0, sg = 0, sub = ranges(&su, &sg);
	if (sub && (run_idmap("newuidmap", pid, getuid(), su, sub) < 0 ||
		    run_idmap("newgidmap", pid, getgid(), sg, sub) < 0)) {
		fprintf(stderr, "brig-jaild: newuidmap or newgidmap failed; using one id only\n"
				"  remedy: apt-get install uidmap\n");
		sub = 0;
	}
	if (!sub && write_single(pid) < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return brig_fail(err, BRIG_E_UNSUPPORTED, 0, "map the own id");
	}
	int status = 0;
	if (write(sv[0], &sub, sizeof(sub)) != sizeof(sub))
		kill(pid, SIGKILL);
	/* Terminal signals are for the command. SIGTERM to us must still end the child: PDEATHSIG. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	close(sv[0]);
	fd_close_from(3);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
