/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build.c: mmdebstrap writes a tar, the import reads it.
 *
 * Theory of operation
 * -------------------
 *   mmdebstrap --stdout--> import.c (confined, as for any archive)
 *              --stderr--> relay: a process that keeps it for the error and shows it unless -q
 *
 * mmdebstrap runs with the caller's rights: as root in its root mode, in a mount namespace of ours
 * so that nothing it mounts can stay behind; else in its unshare mode. Its packages are signed by
 * Debian and trusted as those of the host are. The same packages give the same digest: times are
 * not in it, and SOURCE_DATE_EPOCH is set for those that packages write into files.
 *
 * Debian's sudo needs its setuid bit, which no_new_privs makes void and the import drops. brig-sudo
 * takes its place; the diversion keeps a later `apt install` from undoing that.
 */
#include "image/build.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/aptsrc.h"
#include "image/archive.h"
#include "image/name.h"

#define PACKAGES                                                                        \
	"bash,coreutils,python3,python3-pip,nodejs,git,curl,sudo,ncurses-bin,libc-bin," \
	"ca-certificates,procps,less"

/* code-interpreter-v1 is the name by which E2B's code interpreter clients ask for their template.
 * Without matplotlib's list of fonts the first figure in every sandbox would wait for a second. */
static const struct build_kind kinds[] = {
	{ "base", "base", "", NULL },
	{ "code-interpreter", "code-interpreter-v1",
	  "python3-numpy,python3-pandas,python3-matplotlib,python3-pil,node-typescript",
	  "chroot --userspec=user:user \"$1\" env HOME=/home/user MPLBACKEND=Agg "
	  "python3 -c 'import matplotlib.pyplot'" },
};

/* 2024-01-01: older than what is being built, as such a time must be, and never another one. */
#define BUILD_EPOCH "1704067200"

/* In this order, after the packages are installed. $1 is the new root. */
static const char *const hooks[] = {
	"chroot \"$1\" useradd --uid 1000 --user-group --create-home --shell /bin/bash "
	"--groups sudo user",
	"chroot \"$1\" dpkg-divert --quiet --local --rename --add --divert /usr/bin/sudo.debian "
	"/usr/bin/sudo",
	"ln -s ../local/bin/sudo \"$1/usr/bin/sudo\"",
	/* The host's, which mmdebstrap copied in, and the build's own traces. */
	"rm -f \"$1/etc/hostname\" \"$1/etc/hosts\" \"$1/etc/resolv.conf\"",
	"printf 'sandbox\\n' > \"$1/etc/hostname\"",
	"printf '127.0.0.1 localhost\\n127.0.1.1 sandbox\\n::1 localhost ip6-localhost\\n' "
	"> \"$1/etc/hosts\"",
	": > \"$1/etc/resolv.conf\"",
	"chmod 0644 \"$1/etc/hostname\" \"$1/etc/hosts\" \"$1/etc/resolv.conf\"",
	"rm -f \"$1/etc/machine-id\" \"$1/var/lib/dbus/machine-id\" \"$1\"/etc/ssh/ssh_host_*",
	"rm -f \"$1/etc/apt/apt.conf.d/99mmdebstrap\" \"$1\"/etc/*- \"$1\"/var/lib/dpkg/*-old",
	"sed -i -E 's#://[^/@ ]+@#://#' \"$1/etc/apt/sources.list\"",
};

#define LOG_KEPT (1 << 20) /* bytes of mmdebstrap's messages, the first ones */

struct build {
	const struct build_options *o;
	pid_t pid, relay;
	int out; /* the tar */
	int log; /* a memory file with the messages */
	bool reaped;
	int status;
};

/* Where mmdebstrap is; "" if nowhere. */
static void find_program(const char *name, char *ret, size_t cap)
{
	const char *path = getenv("PATH");
	if (!path || !path[0])
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path) {
		size_t n = strcspn(path, ":");
		if (n > 0 && path[0] == '/' &&
		    (size_t)snprintf(ret, cap, "%.*s/%s", (int)n, path, name) < cap &&
		    access(ret, X_OK) == 0)
			return;
		path += n + (path[n] == ':');
	}
	ret[0] = '\0';
}

/* brig-sudo lies beside this program. */
static int find_sudo(char *ret, size_t cap, struct brig_err *err)
{
	ssize_t n = readlink("/proc/self/exe", ret, cap - 1);
	ret[n < 0 ? 0 : n] = '\0';
	char *slash = strrchr(ret, '/');
	if (!slash || (size_t)(slash - ret) + sizeof("/brig-sudo") > cap)
		return brig_fail(err, BRIG_E_INTERNAL, errno, "find the directory of brig-image");
	memcpy(slash, "/brig-sudo", sizeof("/brig-sudo"));
	if (access(ret, R_OK) < 0) {
		brig_fail(err, BRIG_E_NOT_FOUND, errno, "open '%s'", ret);
		return brig_fix(err, "build it (make), or install brig again");
	}
	/* It becomes a word of a hook, which mmdebstrap splits as a shell does. */
	if (strpbrk(ret, "'\\\n"))
		return brig_fail(err, BRIG_E_INVALID, 0, "'%s' has a quote in its path", ret);
	return 0;
}

/* Copies mmdebstrap's messages to the log and to stderr, until all who could write them are gone.
 */
static __attribute__((noreturn)) void relay_main(int in, int log, bool quiet)
{
	char buf[4096];
	size_t kept = 0;
	ssize_t n;
	prctl(PR_SET_NAME, "brig-image-log");
	while ((n = read(in, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		size_t room = LOG_KEPT - kept, keep = (size_t)n < room ? (size_t)n : room;
		if (fd_write_full(log, buf, keep) == 0)
			kept += keep;
		if (!quiet)
			(void)fd_write_full(STDERR_FILENO, buf, (size_t)n);
	}
	_exit(0);
}

struct args {
	char *v[3 * APTSRC_LINES + 64];
	size_t n;
	bool full;
};

static void arg(struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (a->n + 1 >= sizeof(a->v) / sizeof(a->v[0]) || vasprintf(&a->v[a->n], fmt, ap) < 0)
		a->full = true;
	else
		a->v[++a->n] = NULL;
	va_end(ap);
}

static int make_args(const struct build_kind *kind, const struct aptsrc *src, const char *program,
		     const char *sudo, struct args *a)
{
	arg(a, "%s", program);
	arg(a, "--mode=%s", geteuid() == 0 ? "root" : "unshare");
	arg(a, "--variant=minbase");
	arg(a, "--format=tar");
	arg(a, "--include=%s%s%s", PACKAGES, kind->packages[0] ? "," : "", kind->packages);
	for (size_t i = 0; i < src->noptions; i++)
		arg(a, "--aptopt=%s", src->options[i]);
	arg(a, "--customize-hook=upload '%s' /usr/local/bin/sudo", sudo);
	arg(a, "--customize-hook=chown 0:0 \"$1/usr/local/bin/sudo\" && "
	       "chmod 0755 \"$1/usr/local/bin/sudo\"");
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++)
		arg(a, "--customize-hook=%s", hooks[i]);
	if (kind->hook)
		arg(a, "--customize-hook=%s", kind->hook);
	arg(a, "%s", src->suite);
	arg(a, "-");
	for (size_t i = 0; i < src->nlines; i++)
		arg(a, "%s", src->lines[i]);
	return a->full ? -ENOMEM : 0;
}

static __attribute__((noreturn)) void program_main(char *const argv[], int out, int messages,
						   pid_t parent)
{
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0 || getppid() != parent || null < 0 ||
	    dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(messages, 2) < 0 || chdir("/") < 0)
		_exit(127);
	if (geteuid() == 0 &&
	    (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
		_exit(126);
	umask(022);
	setenv("LC_ALL", "C.UTF-8", 1);
	setenv("SOURCE_DATE_EPOCH", BUILD_EPOCH, 0);
	/* A user's PATH may lack where chroot and ldconfig are. */
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	execv(argv[0], argv);
	_exit(127);
}

static int build_start(struct build *b, char *const argv[], struct brig_err *err)
{
	int tar[2], messages[2];
	b->log = memfd_create("mmdebstrap", MFD_CLOEXEC);
	if (b->log < 0 || pipe2(tar, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start mmdebstrap");
	b->out = tar[0];
	AUTO_FD out = tar[1];
	if (pipe2(messages, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start mmdebstrap");
	AUTO_FD in = messages[0];
	AUTO_FD say = messages[1];
	pid_t parent = getpid();
	b->relay = fork();
	if (b->relay == 0) {
		/* Another holder of the pipe's end would keep this one waiting for ever. */
		close(say);
		close(out);
		close(b->out);
		relay_main(in, b->log, b->o->quiet);
	}
	b->pid = b->relay < 0 ? -1 : fork();
	if (b->pid == 0)
		program_main(argv, out, say, parent);
	return b->pid < 0 ? brig_fail(err, BRIG_E_EXHAUSTED, errno, "start mmdebstrap") : 0;
}

static void build_reap(struct build *b)
{
	if (b->pid > 0 && !b->reaped) {
		while (waitpid(b->pid, &b->status, 0) < 0 && errno == EINTR)
			;
		b->reaped = true;
	}
	if (b->relay > 0) {
		while (waitpid(b->relay, NULL, 0) < 0 && errno == EINTR)
			;
		b->relay = 0;
	}
}

/* What mmdebstrap said, cut to what fits into one message. */
static int build_failed(struct build *b, struct brig_err *err)
{
	static const char *const network[] = {
		"Could not resolve", "Temporary failure resolving", "Could not connect",
		"Unable to connect", "Connection timed out",	    "Failed to fetch",
		"No route to host",  "Network is unreachable",
	};
	AUTO_FREE char *text = calloc(1, LOG_KEPT + 1);
	char shown[300];
	if (!text || pread(b->log, text, LOG_KEPT, 0) < 0)
		return brig_fail(err, BRIG_E_INTERNAL, ENOMEM, "mmdebstrap failed");
	for (size_t i = 0; i < sizeof(network) / sizeof(network[0]); i++) {
		char *at = strstr(text, network[i]);
		if (!at)
			continue;
		while (at > text && at[-1] != '\n')
			at--;
		at += strspn(at, " ");
		at[strcspn(at, "\n")] = '\0';
		brig_fail(err, BRIG_E_UNAVAILABLE, 0, "a package mirror cannot be reached: %s",
			  image_name_print(at, shown, sizeof(shown)));
		return brig_fix(err,
				"see that `apt-get update` works on this host (network, proxy, "
				"/etc/apt), then try again");
	}
	/* mmdebstrap marks what matters by "E: "; the first is the cause, what follows its results.
	 */
	char *e = strncmp(text, "E: ", 3) == 0 ? text : strstr(text, "\nE: ");
	if (e) {
		e += *e == '\n';
		e[strcspn(e, "\n")] = '\0';
	}
	if (WIFEXITED(b->status))
		brig_fail(err, BRIG_E_INTERNAL, 0, "mmdebstrap ended with status %d: %s",
			  WEXITSTATUS(b->status),
			  e ? image_name_print(e, shown, sizeof(shown)) : "no message");
	else
		brig_fail(err, BRIG_E_INTERNAL, 0, "mmdebstrap was killed by signal %d",
			  WTERMSIG(b->status));
	if (geteuid() != 0)
		return brig_fix(err,
				"without root it needs newuidmap (package uidmap) and a line for "
				"you in /etc/subuid and /etc/subgid");
	return brig_fix(err, b->o->quiet ? "run it without -q to see all that it says"
					 : "see its messages above");
}

static int build_confirm(void *ctx, struct brig_err *err)
{
	struct build *b = ctx;
	fd_close(&b->out);
	build_reap(b);
	return WIFEXITED(b->status) && WEXITSTATUS(b->status) == 0 ? 0 : build_failed(b, err);
}

static void build_progress(void *ctx, const char *what)
{
	struct build *b = ctx;
	if (b->o->quiet)
		return;
	if (strcmp(what, "unpacking") == 0)
		fprintf(stderr, "brig: making the %s image (some minutes)\n", b->o->kind->word);
	else
		fprintf(stderr, "brig: %s\n", what);
}

static int build_import(const struct publisher *p, struct build *b, struct import_result *ret,
			struct brig_err *err)
{
	static char *const env[] = { (char *)(uintptr_t) "LANG=C.UTF-8" };
	struct import_options io = {
		.name = b->o->name,
		.input = b->out,
		.user = "user",
		.workdir = "/home/user",
		.env = env,
		.env_n = 1,
		.max = { TREE_BYTES_DEFAULT, TREE_ENTRIES_DEFAULT },
		.max_ratio = ARCHIVE_RATIO_DEFAULT,
		.cancel = b->o->cancel,
		.confirm = build_confirm,
		.progress = build_progress,
		.ctx = b,
	};
	int r = import_run(p, &io, ret, err);
	if (r == 0 || b->reaped)
		return r;
	/* A cut archive is most likely the work of an mmdebstrap that failed, and its reason is the
	 * one to tell. In every other case it is to stop: it removes its files on SIGTERM. */
	fd_close(&b->out);
	bool cut = err->code == BRIG_E_CORRUPT;
	if (!cut)
		kill(b->pid, SIGTERM);
	build_reap(b);
	if (cut && !(WIFEXITED(b->status) && WEXITSTATUS(b->status) == 0))
		build_failed(b, err);
	return -1;
}

const struct build_kind *build_kind_find(const char *word)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].word, word) == 0 || strcmp(kinds[i].name, word) == 0)
			return &kinds[i];
	return NULL;
}

int build_image(const struct publisher *p, const struct build_options *o, struct import_result *ret,
		struct brig_err *err)
{
	struct build b = { .o = o, .out = -1, .log = -1 };
	struct aptsrc src;
	struct args a = { .n = 0 };
	char program[PATH_MAX], sudo[PATH_MAX];
	find_program("mmdebstrap", program, sizeof(program));
	if (!program[0]) {
		brig_fail(err, BRIG_E_NOT_FOUND, 0, "mmdebstrap is not installed");
		return brig_fix(err, "apt-get install mmdebstrap");
	}
	if (find_sudo(sudo, sizeof(sudo), err) < 0 ||
	    aptsrc_read(o->suite, BUILD_SUITE, &src, err) < 0)
		return -1;
	int r = make_args(o->kind, &src, program, sudo, &a);
	if (r < 0)
		brig_fail(err, BRIG_E_EXHAUSTED, -r, "start mmdebstrap");
	else
		r = build_start(&b, a.v, err);
	if (r == 0)
		r = build_import(p, &b, ret, err);
	fd_close(&b.out);
	build_reap(&b);
	fd_close(&b.log);
	for (size_t i = 0; i < a.n; i++)
		free(a.v[i]);
	aptsrc_done(&src);
	return r < 0 ? brig_ctx(err, "build '%s'", o->name) : 0;
}
