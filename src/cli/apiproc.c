/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Runs in the supervisor, as root or as the user whose server it is. What brig-api needs is opened
 * here and handed to it as descriptors, so that it can be an id of its own without a right to
 * anything:
 *
 *   listening sockets  stay open here for the whole life of the server. A client that connects
 * while brig-api is started again waits, and is served. the operator's     a unix socket, mode
 * 0600, beside the server's own. Who may open it needs no key: that is how `brig key` works, and
 * the same people may open brigd's socket. the folder         <data>/api, made here and given to
 * brig-api's id. Only an empty-handed folder of root's is ever given away, through its descriptor,
 * and only inside a folder that nobody else can change: no link leads the gift elsewhere. the door
 * one end; brigd has the other. This process keeps a copy of brig-api's end, so brigd does not
 * notice the death of a brig-api: sandboxes live on.
 *
 * The certificate's files are opened again for each brig-api, which is how a renewed one is read.
 *
 * brig-api tells through a pipe when it listens: one line, empty or the first API key. It is the
 * less trusted of the two, so the line is bounded and must look like a key before it is printed.
 *
 * A dead brig-api is started again after 0.1, 0.2, 0.4 .. seconds, at most every 51 s; never are
 * the sandboxes given up for it. Only before the first was ever ready a death is a failure of the
 * start: it is the configuration then.
 */
#include "cli/apiproc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "brig/ids.h"
#include "cli/cli.h"
#include "cli/secretkey.h"
#include "cli/spawn.h"

#define FOLDER "api"
#define DEATHS_MAX 9u /* beyond it pauses do not grow */
#define ALIVE_NS (60 * SEC_NS)

int apiproc_check(const struct apiproc_opts *o, struct brig_err *err)
{
	if (!o->tls_cert != !o->tls_key)
		return brig_fail(err, BRIG_E_INVALID, 0,
				 "--tls-cert and --tls-key belong together");
	for (unsigned i = 0; i < o->naddr; i++) {
		if (o->addr[i].loopback || o->tls_cert)
			continue;
		brig_err_set(err, BRIG_E_INVALID, 0,
			     "%s an address that other machines reach, and without TLS they would "
			     "send their keys in the clear",
			     o->passed ? "a socket of the service manager has" : "--http names");
		return brig_fix(
			err, "give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy "
			     "that speaks TLS");
	}
	return 0;
}

int apiproc_operator_path(const char *socket, char ret[SERVER_PATH_MAX], struct brig_err *err)
{
	const char *slash = strrchr(socket, '/');
	int dir = slash ? (int)(slash + 1 - socket) : 0;
	int n = snprintf(ret, SERVER_PATH_MAX, "%.*sapi.sock", dir, socket);
	if (n > 0 && (size_t)n < SERVER_PATH_MAX)
		return 0;
	brig_err_set(err, BRIG_E_INVALID, 0, "the path of the operator's socket is too long");
	return brig_fix(err, "set BRIG_SOCKET to a shorter path");
}

/* ---- opening ---- */

static int operator_open(struct apiproc *p, const char *socket_path, struct brig_err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	if (apiproc_operator_path(socket_path, addr.sun_path, err) < 0)
		return -1;
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "open a socket");
	/* The caller holds the lock of this folder. */
	if (unlink(addr.sun_path) < 0 && errno != ENOENT)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "remove the stale socket '%s'",
				 addr.sun_path);
	mode_t old = umask(0177);
	int r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	int sys = errno;
	umask(old);
	if (r < 0 || listen(fd, SOMAXCONN) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, r < 0 ? sys : errno, "listen on '%s'",
				 addr.sun_path);
	snprintf(p->operator_path, sizeof(p->operator_path), "%s", addr.sun_path);
	p->listener[p->nlistener++] = fd_steal(&fd);
	return 0;
}

static int listeners_open(struct apiproc *p, const char *socket_path, struct brig_err *err)
{
	const struct apiproc_opts *o = p->o;
	for (unsigned i = 0; i < o->naddr; i++) {
		int fd = o->passed ? o->fd[i] : api_addr_listen(&o->addr[i], err);
		if (fd < 0) {
			(void)brig_ctx(err, "--http, address %u", i + 1);
			return brig_fix(err, "name another with --http ADDR:PORT (port 0 is any "
					     "free one), or serve without HTTP: --no-http");
		}
		p->listener[p->nlistener++] = fd;
	}
	return operator_open(p, socket_path, err);
}

/* What clients are told: the first address, and the domain with its port where that is not 443. */
static int names_make(struct apiproc *p, struct brig_err *err)
{
	const struct apiproc_opts *o = p->o;
	char text[API_ADDR_TEXT_MAX];
	unsigned port;
	int r = api_addr_text(p->listener[0], text, &port);
	if (r < 0)
		return brig_fail(err, BRIG_E_INTERNAL, -r, "ask for the address of HTTP");
	snprintf(p->url, sizeof(p->url), "%s://%s", o->tls_cert ? "https" : "http", text);
	if (!o->domain)
		return 0;
	/* Behind a proxy that speaks TLS the port is the proxy's, and only the operator knows it.
	 */
	if (o->tls_cert && port != 443 && !strchr(o->domain, ':'))
		snprintf(p->domain, sizeof(p->domain), "%s:%u", o->domain, port);
	else
		snprintf(p->domain, sizeof(p->domain), "%s", o->domain);
	return 0;
}

static int folder_open(struct apiproc *p, struct brig_err *err)
{
	struct stat st;
	uid_t me = geteuid(), owner = me == 0 ? BRIG_API_UID : me;
	if (mkdir(p->data, 0755) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make the data folder '%s'",
				 p->data);
	AUTO_FD data = open(p->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (data < 0 || fstat(data, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open the data folder '%s'",
				 p->data);
	if ((st.st_uid != me && st.st_uid != 0) || (st.st_mode & 022)) {
		brig_err_set(err, BRIG_E_DENIED, 0, "the data folder '%s' can be changed by others",
			     p->data);
		return brig_fix(err, "give it to the server's user with mode 0755, or name another "
				     "with --data");
	}
	if (mkdirat(data, FOLDER, 0700) < 0 && errno != EEXIST)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "make '%s/" FOLDER "'", p->data);
	AUTO_FD fd = openat(data, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "open '%s/" FOLDER "'", p->data);
	if (st.st_uid != owner && st.st_uid != me) {
		brig_err_set(err, BRIG_E_DENIED, 0, "'%s/" FOLDER "' belongs to user %u", p->data,
			     (unsigned)st.st_uid);
		return brig_fix(err, "it was made by a server of another user: name another folder "
				     "with --data");
	}
	if (fchmod(fd, 0700) < 0 ||
	    (st.st_uid != owner && fchown(fd, owner, me == 0 ? BRIG_API_GID : (gid_t)-1) < 0))
		return brig_fail(err, BRIG_E_UNAVAILABLE, errno, "give '%s/" FOLDER "' to brig-api",
				 p->data);
	p->folder = fd_steal(&fd);
	return 0;
}

int apiproc_open(struct apiproc *p, const struct apiproc_opts *o, const char *socket,
		 const char *data, struct brig_err *err)
{
	p->o = o;
	p->data = data;
	if (listeners_open(p, socket, err) < 0 || names_make(p, err) < 0)
		return -1;
	return folder_open(p, err);
}

int apiproc_door(struct apiproc *p, int *ret_brigd, struct brig_err *err)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno,
				 "make a door between brigd and brig-api");
	fd_close(&p->door);
	p->door = ends[0];
	*ret_brigd = ends[1];
	return 0;
}

/* ---- the process ---- */

/* A key that all users may read is none. */
static int tls_open(const char *path, bool secret, struct brig_err *err)
{
	struct stat st;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_INVALID, errno, "open '%.256s'", path);
	if (!S_ISREG(st.st_mode))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%.256s' is no file", path);
	if (secret && (st.st_mode & 007)) {
		brig_err_set(err, BRIG_E_DENIED, 0, "the TLS key '%.256s' is open to all users",
			     path);
		return brig_fix(err, "chmod 0600 it, and consider a new one");
	}
	return fd_steal(&fd);
}

int apiproc_check_files(const struct apiproc_opts *o, struct brig_err *err)
{
	AUTO_FD cert = o->tls_cert ? tls_open(o->tls_cert, false, err) : -1;
	AUTO_FD key = o->tls_key ? tls_open(o->tls_key, true, err) : -1;
	return (o->tls_cert && cert < 0) || (o->tls_key && key < 0) ? -1 : 0;
}

struct arguments {
	const char *argv[56 + 2 * API_WARM_MAX];
	char rotate[24], keep[24];
	size_t n;
	char numbers[SPAWN_FDS_MAX][4], grace[16];
	struct spawn s;
};

static void arg(struct arguments *a, const char *name, const char *value)
{
	a->argv[a->n++] = name;
	a->argv[a->n++] = value;
}

/* The descriptor becomes the next number of the new process, which is the value of the option. */
static void arg_fd(struct arguments *a, const char *name, int fd)
{
	unsigned i = a->s.nfds++;
	a->s.fds[i] = fd;
	snprintf(a->numbers[i], sizeof(a->numbers[i]), "%u", i);
	arg(a, name, a->numbers[i]);
}

/* The key of secrets, and the one that a `brig secret rekey` may have left: opened for each brig-api,
 * for there may be others since the last. */
static int secret_open(struct apiproc *p, struct brig_err *err)
{
	struct brig_err none = BRIG_ERR_INIT;
	char path[PATH_MAX];
	fd_close(&p->secret[0]);
	fd_close(&p->secret[1]);
	if (secretkey_path(p->o->secret_key, p->data, path, err) < 0 ||
	    (p->secret[0] = secretkey_open(path, err)) < 0)
		return -1;
	p->secret[1] = secretkey_open_new(path, &none);
	if (p->secret[1] < 0 && none.code != BRIG_E_OK) {
		*err = none;
		return -1;
	}
	return 0;
}

static int start(struct apiproc *p, struct brig_err *err)
{
	const struct apiproc_opts *o = p->o;
	char path[PATH_MAX];
	int ready[2];
	AUTO_FREE char **envp = spawn_environ();
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!envp || null < 0 || pipe2(ready, O_CLOEXEC | O_NONBLOCK) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "prepare brig-api");
	AUTO_FD ready_mine = ready[0];
	AUTO_FD ready_theirs = ready[1];
	AUTO_FD cert = -1;
	AUTO_FD key = -1;
	struct arguments a = { .s = { .path = path,
				      .envp = envp,
				      .fds = { null, null, 2 },
				      .nfds = 3,
				      .session = true } };
	a.argv[a.n++] = "brig-api";
	arg_fd(&a, "--door-fd", p->door);
	arg_fd(&a, "--data-fd", p->folder);
	arg_fd(&a, "--ready-fd", ready_theirs);
	for (unsigned i = 0; i < p->nlistener; i++)
		arg_fd(&a, "--http-fd", p->listener[i]);
	if (o->tls_cert) {
		cert = tls_open(o->tls_cert, false, err);
		key = cert < 0 ? -1 : tls_open(o->tls_key, true, err);
		if (key < 0)
			return -1;
		arg_fd(&a, "--tls-cert-fd", cert);
		arg_fd(&a, "--tls-key-fd", key);
	}
	arg(&a, "--base-url", p->url);
	if (o->log_format)
		arg(&a, "--log-format", o->log_format);
	if (p->domain[0])
		arg(&a, "--domain", p->domain);
	if (o->log_level)
		arg(&a, "--log-level", o->log_level);
	snprintf(a.grace, sizeof(a.grace), "%u", o->grace_ms);
	arg(&a, "--grace-ms", a.grace);
	for (unsigned i = 0; i < o->nwarm; i++)
		arg(&a, "--warm", o->warm[i]);
	if (o->audit_rotate) {
		snprintf(a.rotate, sizeof(a.rotate), "%llu", (unsigned long long)o->audit_rotate);
		arg(&a, "--audit-rotate", a.rotate);
	}
	if (o->audit_keep) {
		snprintf(a.keep, sizeof(a.keep), "%llu", (unsigned long long)o->audit_keep);
		arg(&a, "--audit-keep", a.keep);
	}
	if (o->audit_on_full)
		arg(&a, "--audit-on-full", o->audit_on_full);
	if (secret_open(p, err) < 0)
		return -1;
	for (unsigned i = 0; i < 2; i++)
		if (p->secret[i] >= 0)
			arg_fd(&a, "--secret-key-fd", p->secret[i]);
	a.s.argv = a.argv;
	if (spawn_find("brig-api", path, err) < 0 || spawn_start(&a.s, &p->pid, err) < 0)
		return -1;
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0u);
	if (p->pidfd < 0) {
		int sys = errno;
		apiproc_reap(p, 0);
		return brig_fail(err, BRIG_E_UNSUPPORTED, sys, "watch brig-api");
	}
	p->ready = fd_steal(&ready_mine);
	p->nline = 0;
	p->started = clock_now();
	p->again = 0;
	return 0;
}

int apiproc_start(struct apiproc *p, struct brig_err *err)
{
	if (start(p, err) == 0)
		return 0;
	if (!p->served)
		return -1;
	/* It could once. Sandboxes are worth more than the wait for, say, a file to be put back. */
	cli_note("%s; HTTP is not served; trying again", err->msg);
	*err = (struct brig_err)BRIG_ERR_INIT;
	p->again = clock_now() + (100 * MS_NS << DEATHS_MAX);
	return 0;
}

void apiproc_term(struct apiproc *p)
{
	if (p->pid)
		kill(p->pid, SIGTERM);
}

void apiproc_rest(struct apiproc *p, uint64_t wait_ns)
{
	struct pollfd fd = { .fd = p->pidfd, .events = POLLIN };
	(void)poll(&fd, 1, (int)(wait_ns / MS_NS));
}

/* Returns the wait status. */
static int end_wait(struct apiproc *p, uint64_t wait_ns)
{
	int status = 0;
	if (p->pid && spawn_wait(p->pid, clock_now() + wait_ns, &status) != 1) {
		kill(p->pid, SIGKILL);
		(void)spawn_wait(p->pid, 0, &status);
	}
	p->pid = 0;
	fd_close(&p->pidfd);
	fd_close(&p->ready);
	return status;
}

void apiproc_reap(struct apiproc *p, uint64_t wait_ns)
{
	(void)end_wait(p, wait_ns);
	p->again = 0;
}

void apiproc_poll(const struct apiproc *p, struct pollfd ret[2], int *ret_ms)
{
	uint64_t now = clock_now();
	ret[0] = (struct pollfd){ .fd = p->pidfd, .events = POLLIN };
	ret[1] = (struct pollfd){ .fd = p->ready, .events = POLLIN };
	*ret_ms = -1;
	if (p->again)
		*ret_ms = p->again <= now ? 0 : (int)((p->again - now + MS_NS - 1) / MS_NS);
}

/* ---- what it tells ---- */

static bool is_key(const char *s)
{
	size_t n = strlen(s);
	return n > 20 && strncmp(s, "e2b_", 4) == 0 && strspn(s + 4, "0123456789abcdef") == n - 4;
}

static void tell(const struct apiproc *p, const char *key)
{
	char text[API_ADDR_TEXT_MAX];
	unsigned port;
	printf("brig: HTTP on %s\n", p->url);
	for (unsigned i = 1; i + 1 < p->nlistener; i++)
		if (api_addr_text(p->listener[i], text, &port) == 0)
			printf("brig: HTTP on %s://%s\n", p->o->tls_cert ? "https" : "http", text);
	if (!key[0]) {
		printf("brig: `brig key create` makes another API key\n");
		fflush(stdout);
		return;
	}
	printf("brig: the first API key, shown only this once:\n"
	       "\n"
	       "    %s\n"
	       "\n"
	       "brig: to run something:\n"
	       "\n"
	       "    curl -sS %s/v1/run -H 'X-API-Key: %s' \\\n"
	       "        -H 'Content-Type: application/json' \\\n"
	       "        -d '{\"image\":\"host\",\"cmd\":[\"echo\",\"hello\"]}'\n"
	       "\n"
	       "brig: for programs written for E2B:\n"
	       "\n"
	       "    export E2B_API_KEY=%s\n",
	       key, p->url, key, key);
	if (p->domain[0])
		printf("    export E2B_DOMAIN=%s\n", p->domain);
	else
		printf("    export E2B_API_URL=%s\n"
		       "    export E2B_SANDBOX_URL=%s\n",
		       p->url, p->url);
	printf("\n");
	fflush(stdout);
}

static void ready_read(struct apiproc *p)
{
	ssize_t n = read(p->ready, p->line + p->nline, sizeof(p->line) - 1 - p->nline);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	p->nline += n > 0 ? (size_t)n : 0;
	p->line[p->nline] = '\0';
	char *end = strchr(p->line, '\n');
	if (!end && n > 0 && p->nline < sizeof(p->line) - 1)
		return;
	fd_close(&p->ready);
	if (!end) /* it ended; the pidfd tells the rest */
		return;
	*end = '\0';
	if (!p->served)
		tell(p, is_key(p->line) ? p->line : "");
	p->served = true;
	explicit_bzero(p->line, sizeof(p->line));
}

static void describe(int status, char *ret, size_t cap)
{
	if (WIFSIGNALED(status))
		snprintf(ret, cap, "brig-api was killed by signal %d", WTERMSIG(status));
	else
		snprintf(ret, cap, "brig-api ended with %d", WEXITSTATUS(status));
}

static int died(struct apiproc *p, struct brig_err *err)
{
	char what[64];
	describe(end_wait(p, 0), what, sizeof(what));
	if (!p->served) {
		brig_err_set(err, BRIG_E_UNAVAILABLE, 0, "%s before it served HTTP", what);
		return brig_fix(err, "read the lines above, or serve without HTTP: --no-http");
	}
	if (clock_now() - p->started > ALIVE_NS)
		p->deaths = 0;
	p->again = clock_now() + (100 * MS_NS << p->deaths);
	if (p->deaths < DEATHS_MAX)
		p->deaths++;
	cli_note("%s; sandboxes go on; starting it again", what);
	return 0;
}

int apiproc_work(struct apiproc *p, struct brig_err *err)
{
	struct pollfd fds[2];
	int ms;
	apiproc_poll(p, fds, &ms);
	(void)poll(fds, 2, 0);
	if (fds[1].fd >= 0 && fds[1].revents)
		ready_read(p);
	if (fds[0].fd >= 0 && fds[0].revents)
		return died(p, err);
	if (!p->again || p->again > clock_now())
		return 0;
	if (apiproc_start(p, err) < 0)
		return -1;
	return p->pid != 0;
}

void apiproc_quiet(struct apiproc *p)
{
	for (unsigned i = 0; i < p->nlistener; i++)
		fd_close(&p->listener[i]);
	p->nlistener = 0;
	if (p->operator_path[0])
		unlink(p->operator_path);
	p->operator_path[0] = '\0';
	p->again = 0;
}

void apiproc_leave(struct apiproc *p)
{
	apiproc_reap(p, 0);
	fd_close(&p->door);
}

void apiproc_done(struct apiproc *p)
{
	apiproc_quiet(p);
	fd_close(&p->secret[0]);
	fd_close(&p->secret[1]);
	fd_close(&p->folder);
	fd_close(&p->door);
	fd_close(&p->pidfd);
	fd_close(&p->ready);
}
