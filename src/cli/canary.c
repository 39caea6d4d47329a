/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * A folder of the host with a file that holds a secret, a process, listeners on both loopback
 * addresses and on an abstract socket, and a lock. Whoever connects is told the secret: so it shows
 * in what the attack prints, and accept() shows it even if nothing is printed.
 *
 * Settings of the host that an escape would go for are compared as one text, before and after. The
 * list of modules is among them, by names only: use counts change by themselves.
 *
 * The process ends with its parent, whatever happens to that.
 */
#include "cli/canary.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"

static const char *const listener_names[CANARY_LISTENERS] = {
	"a listener on the host's loopback was reached",
	"a listener on the host's IPv6 loopback was reached",
	"an abstract socket of the host was reached"
};

/* ---- settings of the host ---- */

#define SETTINGS_MAX (1024u * 1024u)

static void setting_add(struct buf *b, const char *path)
{
	char line[512];
	bool modules = strcmp(path, "/proc/modules") == 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		/* One line of text for each, so that a difference can be named. */
		line[strcspn(line, modules ? " " : "\n")] = '\0';
		(void)buf_add(b, path, strlen(path));
		(void)buf_add(b, " ", 1);
		(void)buf_add(b, line, strlen(line));
		(void)buf_add(b, "\n", 1);
	}
	fclose(f);
}

/* To be freed; NULL when out of memory. */
static char *settings(void)
{
	static const char *const paths[] = {
		"/proc/sys/kernel/core_pattern",
		"/proc/sys/kernel/modprobe",
		"/proc/sys/kernel/hostname",
		"/proc/sys/kernel/sysrq",
		"/proc/sys/kernel/hotplug",
		"/sys/kernel/uevent_helper",
		"/proc/sys/kernel/randomize_va_space",
		"/proc/sys/vm/overcommit_memory",
		"/proc/sys/fs/binfmt_misc/status",
		"/sys/kernel/mm/ksm/run",
		"/proc/modules",
	};
	struct buf b = BUF_INIT(SETTINGS_MAX);
	glob_t agents;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		setting_add(&b, paths[i]);
	if (glob("/sys/fs/cgroup/*/release_agent", 0, NULL, &agents) == 0) {
		for (size_t i = 0; i < agents.gl_pathc; i++)
			setting_add(&b, agents.gl_pathv[i]);
		globfree(&agents);
	}
	char *text = buf_text(buf_len(&b) ? buf_head(&b) : (const uint8_t *)"", buf_len(&b));
	buf_done(&b);
	return text;
}

/* The first line of text that other does not have. */
static bool line_missing(const char *text, const char *other, char *ret, size_t cap)
{
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");
		bool found = false;
		for (const char *q = other; !found && *q;) {
			size_t m = strcspn(q, "\n");
			found = m == n && memcmp(p, q, n) == 0;
			q += m + (q[m] == '\n');
		}
		if (!found) {
			snprintf(ret, cap, "%.*s", (int)(n < 160 ? n : 160), p);
			return true;
		}
		p += n + (p[n] == '\n');
	}
	return false;
}

/* ---- making ---- */

static int listen_on(int family, unsigned port, const char *name)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6,
				   .sin6_port = htons((uint16_t)port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_un au = { .sun_family = AF_UNIX };
	const struct sockaddr *at = (struct sockaddr *)&a4;
	socklen_t n = sizeof(a4);
	AUTO_FD fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	a4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (family == AF_INET6) {
		at = (struct sockaddr *)&a6;
		n = sizeof(a6);
	} else if (family == AF_UNIX) {
		memcpy(au.sun_path + 1, name, strlen(name));
		at = (struct sockaddr *)&au;
		n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	}
	if (fd < 0 || bind(fd, at, n) < 0 || listen(fd, 16) < 0)
		return -1;
	return fd_steal(&fd);
}

static int listeners_open(struct canary *c, struct brig_err *err)
{
	struct sockaddr_in at;
	socklen_t n = sizeof(at);
	c->listener[0] = listen_on(AF_INET, 0, NULL);
	c->listener[2] = listen_on(AF_UNIX, 0, c->name);
	if (c->listener[0] < 0 || c->listener[2] < 0 ||
	    getsockname(c->listener[0], (struct sockaddr *)&at, &n) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "listen for attacks that get out");
	c->port = ntohs(at.sin_port);
	/* A host may be without IPv6. */
	c->listener[1] = listen_on(AF_INET6, c->port, NULL);
	return 0;
}

static int file_make(struct canary *c, struct brig_err *err)
{
	strcpy(c->dir, "/tmp/brig-selftest-XXXXXX");
	if (!mkdtemp(c->dir)) {
		c->dir[0] = '\0';
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make a folder in /tmp");
	}
	snprintf(c->file, sizeof(c->file), "%s/canary", c->dir);
	/* Nothing but the sandbox may be what keeps an attack from it. */
	AUTO_FD fd = open(c->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) < 0 || chmod(c->dir, 0755) < 0 ||
	    fd_write_full(fd, c->secret, strlen(c->secret)) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "write '%s'", c->file);
	return 0;
}

static int process_make(struct canary *c, struct brig_err *err)
{
	pid_t parent = getpid();
	c->process = fork();
	if (c->process < 0) {
		c->process = 0;
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start a process");
	}
	if (c->process == 0) {
		signal(SIGTERM, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)fd_close_from(3);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	return 0;
}

static void lock_make(struct canary *c)
{
	static const char *const paths[] = { "/usr/bin/env", "/usr/bin/sh", "/usr/bin/ls" };
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		c->lock = open(paths[i], O_RDONLY | O_CLOEXEC);
		c->lock_path = paths[i];
		/* Another selftest may have it: it is held all the same. */
		if (c->lock >= 0 &&
		    (flock(c->lock, LOCK_EX | LOCK_NB) == 0 || errno == EWOULDBLOCK))
			return;
		fd_close(&c->lock);
	}
}

__attribute__((format(printf, 2, 3))) static void env_add_one(struct canary *c, const char *fmt,
							      ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (c->nenv < CANARY_ENV)
		vsnprintf(c->env[c->nenv++], sizeof(c->env[0]), fmt, ap);
	va_end(ap);
}

static void env_make(struct canary *c)
{
	static const char *const kinds[] = { "pid", "net",  "mnt",    "ipc",
					     "uts", "user", "cgroup", "time" };
	char names[400] = "", path[64], own[64], host[256] = "";
	struct timespec up = { 0, 0 };
	size_t at = 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		ssize_t n = readlink(path, own, sizeof(own) - 1);
		own[n < 0 ? 0 : n] = '\0';
		if (n > 0 && at + (size_t)n + 2 < sizeof(names))
			at += (size_t)snprintf(names + at, sizeof(names) - at, "%s ", own);
	}
	(void)gethostname(host, sizeof(host) - 1);
	clock_gettime(CLOCK_BOOTTIME, &up);
	env_add_one(c, "BRIG_CANARY_FILE=%s", c->file);
	env_add_one(c, "BRIG_CANARY_PORT=%u", c->port);
	env_add_one(c, "BRIG_CANARY_ABSTRACT=%s", c->name);
	env_add_one(c, "BRIG_CANARY_PID=%d", (int)c->process);
	env_add_one(c, "BRIG_CANARY_LOCK=%s", c->lock_path);
	env_add_one(c, "BRIG_CANARY_NS=%s", names);
	env_add_one(c, "BRIG_CANARY_PIDS=" CANARY_PIDS);
	env_add_one(c, "BRIG_CANARY_MEMORY=" CANARY_MEMORY_BYTES);
	env_add_one(c, "BRIG_CANARY_DISK=" CANARY_DISK_BYTES);
	env_add_one(c, "BRIG_CANARY_HOST=%s", host);
	env_add_one(c, "BRIG_CANARY_UPTIME=%lld", (long long)up.tv_sec);
}

int canary_open(struct canary *c, struct brig_err *err)
{
	unsigned char random[24];
	char hex[2 * sizeof(random) + 1];
	*c = (struct canary)CANARY_NONE;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return brig_fail(err, BRIG_E_INTERNAL, errno, "get random bytes");
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(hex + 2 * i, 3, "%02x", random[i]);
	snprintf(c->secret, sizeof(c->secret), "canary-%.24s", hex);
	snprintf(c->name, sizeof(c->name), "brig-canary-%.24s", hex + 24);
	if (file_make(c, err) < 0 || listeners_open(c, err) < 0 || process_make(c, err) < 0) {
		canary_done(c);
		return -1;
	}
	lock_make(c);
	env_make(c);
	return 0;
}

void canary_done(struct canary *c)
{
	int status;
	if (c->process) {
		kill(c->process, SIGKILL);
		(void)waitpid(c->process, &status, 0);
		c->process = 0;
	}
	for (size_t i = 0; i < CANARY_LISTENERS; i++)
		fd_close(&c->listener[i]);
	fd_close(&c->lock);
	if (c->file[0])
		unlink(c->file);
	if (c->dir[0])
		rmdir(c->dir);
	free(c->before);
	c->before = NULL;
	c->dir[0] = c->file[0] = '\0';
}

/* ---- looking ---- */

int canary_begin(struct canary *c, struct brig_err *err)
{
	c->reached = NULL;
	free(c->before);
	c->before = settings();
	return c->before ? 0 : brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "read the host's settings");
}

void canary_poll(const struct canary *c, struct pollfd *p)
{
	for (size_t i = 0; i < CANARY_LISTENERS; i++)
		p[i] = (struct pollfd){ .fd = c->listener[i], .events = POLLIN };
}

void canary_work(struct canary *c, const struct pollfd *p)
{
	for (size_t i = 0; i < CANARY_LISTENERS; i++) {
		AUTO_FD peer = -1;
		if (!p[i].revents)
			continue;
		peer = accept4(c->listener[i], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (peer < 0)
			continue;
		c->reached = listener_names[i];
		(void)send(peer, c->secret, strlen(c->secret), MSG_NOSIGNAL);
	}
}

static bool file_changed(const struct canary *c)
{
	char text[64] = "";
	struct stat sb;
	AUTO_FD fd = open(c->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	return n != (ssize_t)strlen(c->secret) || memcmp(text, c->secret, (size_t)n) != 0 ||
	       fstat(fd, &sb) < 0 || (sb.st_mode & 07777) != 0644 || sb.st_nlink != 1;
}

/* Ended, or stopped by somebody: both end its life as it was. */
static bool process_harmed(struct canary *c)
{
	siginfo_t si = { .si_pid = 0 };
	if (waitid(P_PID, (id_t)c->process, &si, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) < 0)
		return true;
	return si.si_pid != 0;
}

bool canary_harmed(struct canary *c, const char *said, char *ret, size_t cap)
{
	struct pollfd p[CANARY_LISTENERS];
	char line[200] = "";
	/* Who connected in the last moment still waits to be taken. */
	canary_poll(c, p);
	if (poll(p, CANARY_LISTENERS, 0) > 0)
		canary_work(c, p);
	if (c->reached) {
		snprintf(ret, cap, "%s", c->reached);
		return true;
	}
	if (strstr(said, c->secret)) {
		snprintf(ret, cap, "it printed what stands in a file of the host");
		return true;
	}
	if (file_changed(c)) {
		snprintf(ret, cap, "a file of the host was changed");
		return true;
	}
	if (process_harmed(c)) {
		snprintf(ret, cap, "a process of the host was stopped or ended");
		return true;
	}
	AUTO_FREE char *after = settings();
	if (after && c->before &&
	    (line_missing(after, c->before, line, sizeof(line)) ||
	     line_missing(c->before, after, line, sizeof(line)))) {
		snprintf(ret, cap, "a setting of the host was changed: %.160s", line);
		return true;
	}
	return false;
}
