/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A server of our own is a supervisor in a fork, with a socket in a fresh folder that only this
 * user can enter; it uses the same data folder as any other, because the programs and images there
 * are what is tested. It ends by SIGTERM as `brig serve` does, and by the kernel if we are killed.
 */
#include "cli/selftest_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cli/server.h"
#include "cli/spawn.h"
#include "cli/supervisor.h"

#define END_S 30

static _Noreturn void serve(const char *socket, const char *data, pid_t parent, int ready)
{
	static const char *const extra[] = { "--log-level", "error", NULL };
	struct brig_err err = BRIG_ERR_INIT;
	struct supervisor_opts o = { .data = data, .extra = extra, .ready = ready };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	snprintf(o.socket, sizeof(o.socket), "%s", socket);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* It greets on standard output, which is the scorecard's. */
	if (getppid() != parent || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    setsid() < 0)
		_exit(1);
	int r = supervisor_run(&o, &err);
	if (r < 0)
		fprintf(stderr, "brig: the selftest's server: %s\n", err.msg);
	_exit(r < 0 ? 1 : 0);
}

static int start(struct selftest_server *s, struct brig_err *err)
{
	char socket[64], data[PATH_MAX], byte;
	const char *env = getenv("BRIG_SOCKET");
	pid_t self = getpid();
	int ends[2];
	if (server_data_dir(NULL, data, sizeof(data), err) < 0)
		return -1;
	strcpy(s->dir, "/tmp/brig-selftest-s-XXXXXX");
	if (!mkdtemp(s->dir)) {
		s->dir[0] = '\0';
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make a folder in /tmp");
	}
	/* brigd has an id of its own where root starts it. */
	if (geteuid() == 0)
		(void)chmod(s->dir, 0711);
	snprintf(socket, sizeof(socket), "%s/brigd.sock", s->dir);
	s->former = env ? strdup(env) : NULL;
	if ((env && !s->former) || setenv("BRIG_SOCKET", socket, 1) < 0 ||
	    pipe2(ends, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare a server");
	s->changed = true;
	AUTO_FD in = ends[0];
	AUTO_FD out = ends[1];
	fflush(stdout);
	s->pid = fork();
	if (s->pid < 0) {
		s->pid = 0;
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start a server");
	}
	if (s->pid == 0) {
		fd_close(&in);
		serve(socket, data, self, out);
	}
	fd_close(&out);
	if (fd_read_full(in, &byte, 1) == 1)
		return 0;
	brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "the server for the attacks did not start");
	return brig_fix(err, "read the line above, and run `brig doctor`");
}

int selftest_server_open(struct selftest_server *s, bool private, struct brig_err *err)
{
	*s = (struct selftest_server){ .pid = 0 };
	if (!private) {
		struct brig_err why = BRIG_ERR_INIT;
		AUTO_FD fd = server_connect(&why);
		if (fd >= 0)
			return 0;
		if (why.code != BRIG_E_NOT_FOUND) {
			*err = why;
			return -1;
		}
	}
	if (start(s, err) == 0)
		return 0;
	selftest_server_done(s);
	return -1;
}

void selftest_server_done(struct selftest_server *s)
{
	static const char *const left[] = { "brigd.sock", "brigd.sock.end", "server.lock",
					    "brigd.log" };
	char path[80];
	int status;
	if (s->pid) {
		kill(s->pid, SIGTERM);
		if (spawn_wait(s->pid, clock_now() + END_S * SEC_NS, &status) != 1) {
			kill(s->pid, SIGKILL);
			(void)spawn_wait(s->pid, 0, &status);
			spawn_gc(5000);
		}
		s->pid = 0;
	}
	if (s->changed && s->former)
		(void)setenv("BRIG_SOCKET", s->former, 1);
	else if (s->changed)
		(void)unsetenv("BRIG_SOCKET");
	free(s->former);
	s->former = NULL;
	s->changed = false;
	for (size_t i = 0; s->dir[0] && i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", s->dir, left[i]);
		unlink(path);
	}
	if (s->dir[0])
		rmdir(s->dir);
	s->dir[0] = '\0';
}
