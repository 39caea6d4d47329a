/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine.c: the outer wall around whoever parses an archive.
 *
 * Theory of operation
 * -------------------
 * brig-image (root, or an ordinary user) forks. The child goes through the stages below and only
 * then calls job->run. It holds four descriptors (nothing at 0 to 2, its input, the pipe for its
 * answer), has new mount, network, IPC and UTS namespaces, sees no file system but the tree
 * (pivot_root, the host's mounts detached), has no program to execute and no right to map code, and
 * may use the some forty system calls of filter.c.
 *
 * As root it becomes CONFINE_ID and keeps CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE, which reach
 * no further than the tree. As an ordinary user it is root of a user namespace of its own with
 * CAP_FOWNER and CAP_DAC_OVERRIDE, for read-only directories of the image.
 *
 * The answer is a struct of fixed size. The parent bounds the time by RLIMIT_CPU and by `cancel`.
 *
 * With AddressSanitizer the limit on address space and the filter are left out: its shadow memory
 * is terabytes and its reports need more calls. The plain build tests both.
 */
#include "image/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mountfd.h"
#include "image/filter.h"
#include "image/name.h"

#if defined(__SANITIZE_ADDRESS__)
#define CONFINE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONFINE_ASAN 1
#endif
#endif
#ifndef CONFINE_ASAN
#define CONFINE_ASAN 0
#endif

#define CONFINE_MEMORY (1ull << 30) /* xz -9 needs 65 MiB, zstd --ultra 128 MiB */
#define CONFINE_CPU_S 1800	    /* 16 GiB at 9 MB/s: bzip2 on a slow machine */
#define CONFINE_FILES 1024	    /* one for each level of directories, and a few */

/* As much of the result is sent as the job has. */
struct answer {
	int rc;
	struct brig_err err;
	unsigned char result[CONFINE_ANSWER_MAX];
};

enum { FD_INPUT = 3, FD_ANSWER = 4, FD_ROOT = 5, FD_EXTRA = CONFINE_EXTRA };
/* Above everything that has a place. */
#define FD_AWAY 256
_Static_assert(FD_EXTRA + CONFINE_EXTRA_MAX < FD_AWAY, "no descriptor is in another's way");

static size_t answer_size(const struct confine_job *job)
{
	return offsetof(struct answer, result) + job->result_size;
}

static int unsupported(struct brig_err *err, int sys, const char *what)
{
	return brig_fail(err, BRIG_E_UNSUPPORTED, sys, "cannot confine the import: %s", what);
}

/* Must leave exactly FD_INPUT, FD_ANSWER, FD_ROOT and the extra ones open, and /dev/null at 0 to 2.
 * answer lies above FD_AWAY and stays usable if this fails. */
static int confine_fds(const struct confine_job *job, int answer, struct brig_err *err)
{
	/* Out of the way of the numbers that they are going to have. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), out = answer;
	int extra[CONFINE_EXTRA_MAX];
	if (null >= 0)
		null = fd_move_up(null, FD_AWAY);
	int in = job->input < 0 ? -1 : fcntl(job->input, F_DUPFD_CLOEXEC, FD_AWAY);
	int root = fcntl(job->root, F_DUPFD_CLOEXEC, FD_AWAY);
	if (null < 0 || root < 0 || (job->input >= 0 && in < 0))
		return unsupported(err, errno, "its descriptors");
	for (unsigned i = 0; i < job->n_extra; i++)
		if ((extra[i] = fcntl(job->extra[i], F_DUPFD_CLOEXEC, FD_AWAY)) < 0)
			return unsupported(err, errno, "its descriptors");
	for (int fd = 0; fd <= 2; fd++)
		/* A sanitizer's report is worth the descriptor. */
		if (!(CONFINE_ASAN && fd == 2) && dup2(null, fd) < 0)
			return unsupported(err, errno, "its descriptors");
	if (dup2(in >= 0 ? in : null, FD_INPUT) < 0 || dup2(out, FD_ANSWER) < 0 ||
	    dup2(root, FD_ROOT) < 0)
		return unsupported(err, errno, "its descriptors");
	for (unsigned i = 0; i < job->n_extra; i++)
		if (dup2(extra[i], FD_EXTRA + (int)i) < 0)
			return unsupported(err, errno, "its descriptors");
	return fd_close_from(FD_EXTRA + (int)job->n_extra) < 0
		       ? unsupported(err, errno, "its descriptors")
		       : 0;
}

/* Must be before confine_root: the maps are written by their paths under /proc. */
static int confine_namespaces(bool root, struct brig_err *err)
{
	char map[64];
	unsigned uid = geteuid(), gid = getegid();
	int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
	if (unshare(root ? flags : flags | CLONE_NEWUSER) < 0)
		return unsupported(err, errno, "new namespaces");
	if (!root) {
		snprintf(map, sizeof(map), "0 %u 1", uid);
		int r = fd_spew_at(AT_FDCWD, "/proc/self/setgroups", "deny");
		if (r == 0)
			r = fd_spew_at(AT_FDCWD, "/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		if (r == 0)
			r = fd_spew_at(AT_FDCWD, "/proc/self/gid_map", map);
		if (r < 0)
			return unsupported(err, -r, "the id map of its user namespace");
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return unsupported(err, errno, "private mounts");
	return 0;
}

/* A descriptor from before unshare() refers to a mount of the old namespace, which may not be
 * cloned here. Its path leads to the same directory in ours, and if not, that is seen. */
static int reopen(int fd)
{
	char link[32], path[PATH_MAX];
	struct stat was, now;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	AUTO_FD again = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (again < 0 || fstat(fd, &was) < 0 || fstat(again, &now) < 0)
		return -errno;
	if (was.st_dev != now.st_dev || was.st_ino != now.st_ino)
		return -ESTALE;
	return dup2(again, fd) < 0 ? -errno : 0;
}

/* Puts a detached copy of the mounts at fd in its place. ".." of its root is itself. */
static int replace_by_copy(int fd, uint64_t set, bool deep)
{
	struct mntfd_attr attr = { .set = set };
	int r = reopen(fd);
	if (r < 0)
		return r;
	unsigned recursive = deep ? MNTFD_AT_RECURSIVE : 0;
	AUTO_FD copy = mntfd_clone(fd, "", MNTFD_AT_EMPTY_PATH | recursive);
	if (copy < 0)
		return copy;
	r = mntfd_setattr(copy, recursive, &attr);
	if (r < 0)
		return r;
	return dup2(copy, fd) < 0 ? -errno : 0;
}

/* Must leave the tree as the only file system that any path leads to. The source of a directory
 * import is reachable by FD_INPUT alone. */
static int confine_root(const struct confine_job *job, struct brig_err *err)
{
	const uint64_t quiet = MNTFD_ATTR_NOSUID | MNTFD_ATTR_NODEV | MNTFD_ATTR_NOEXEC;
	AUTO_FD place = -1;
	int r = job->input_dir ? replace_by_copy(FD_INPUT, quiet | MNTFD_ATTR_RDONLY, true) : 0;
	for (unsigned i = 0; i < job->n_extra && r >= 0; i++)
		r = replace_by_copy(FD_EXTRA + (int)i, quiet | MNTFD_ATTR_RDONLY, false);
	if (r < 0)
		return unsupported(err, -r, "a copy of the mounts to read");
	if ((r = reopen(FD_ROOT)) < 0 ||
	    (r = place = fcntl(FD_ROOT, F_DUPFD_CLOEXEC, FD_EXTRA)) < 0 ||
	    (r = replace_by_copy(FD_ROOT, quiet, false)) < 0 ||
	    (r = mntfd_attach(FD_ROOT, place)) < 0)
		return unsupported(err, -r, "a mount of the tree");
	if (fchdir(FD_ROOT) < 0)
		return unsupported(err, errno, "its root directory");
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		/* The old root lies on top of the new one; what is below "." goes. */
		if (umount2(".", MNT_DETACH) < 0)
			return unsupported(err, errno, "detach the host's mounts");
	} else if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
		/* An initramfs cannot be pivoted away; a mount over it hides it as well. */
		return unsupported(err, errno, "its root directory");
	}
	if (chdir("/") < 0)
		return unsupported(err, errno, "its root directory");
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || dup2(root, FD_ROOT) < 0)
		return unsupported(err, errno, "its root directory");
	close(root);
	return 0;
}

static int confine_limits(const struct confine_job *job, struct brig_err *err)
{
	const struct {
		int which;
		rlim_t value;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_FSIZE, job->max_file_bytes },
		{ RLIMIT_NOFILE, CONFINE_FILES },
		{ RLIMIT_CPU, CONFINE_CPU_S },
		{ RLIMIT_AS, CONFINE_MEMORY },
	};
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit now, rl = { limits[i].value, limits[i].value };
		if (limits[i].which == RLIMIT_CPU)
			rl.rlim_max += 5; /* SIGXCPU before SIGKILL, so that the reason is seen */
		if (CONFINE_ASAN && limits[i].which == RLIMIT_AS)
			continue;
		if (getrlimit((__rlimit_resource_t)limits[i].which, &now) < 0)
			return unsupported(err, errno, "resource limits");
		if (now.rlim_max < rl.rlim_max) /* tighter already */
			rl.rlim_cur = rl.rlim_max = now.rlim_max;
		if (setrlimit((__rlimit_resource_t)limits[i].which, &rl) < 0)
			return unsupported(err, errno, "resource limits");
	}
	signal(SIGXFSZ, SIG_IGN); /* EFBIG tells more */
	return 0;
}

/* If the parent was quicker to die than this call, nobody would ever end us. */
static int die_with_parent(pid_t parent)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent ? -1 : 0;
}

/* Must be after confine_root, which needs CAP_SYS_ADMIN. */
static int confine_user(bool root, pid_t parent, struct brig_err *err)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	unsigned keep = 1u << CAP_FOWNER | 1u << CAP_DAC_OVERRIDE;
	if (root)
		keep |= 1u << CAP_CHOWN;
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	if (root && (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
		     setresgid(CONFINE_ID, CONFINE_ID, CONFINE_ID) < 0 ||
		     setresuid(CONFINE_ID, CONFINE_ID, CONFINE_ID) < 0))
		return unsupported(err, errno, "an unprivileged user id");
	memset(d, 0, sizeof(d));
	d[0].effective = d[0].permitted = keep;
	if (syscall(SYS_capset, &h, d) < 0)
		return unsupported(err, errno, "drop capabilities");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return unsupported(err, errno, "no_new_privs");
	/* The kernel has forgotten it with the change of user. */
	return die_with_parent(parent) < 0 ? unsupported(err, errno, "its parent is gone") : 0;
}

/* Must be last: everything after it is job->run and the answer. */
static int confine_syscalls(struct brig_err *err)
{
	if (CONFINE_ASAN)
		return 0;
	int r = filter_install();
	return r == 0 ? 0 : unsupported(err, -r, "the system call filter");
}

static int confine(const struct confine_job *job, pid_t parent, struct brig_err *err)
{
	bool root = geteuid() == 0;
	umask(077);
	if (confine_namespaces(root, err) < 0 || confine_root(job, err) < 0 ||
	    confine_limits(job, err) < 0 || confine_user(root, parent, err) < 0)
		return -1;
	return confine_syscalls(err);
}

static __attribute__((noreturn)) void child_main(const struct confine_job *job, int answer,
						 pid_t parent)
{
	static struct answer a;
	if (die_with_parent(parent) < 0)
		_exit(1);
	answer = fd_move_up(answer, FD_AWAY);
	a.rc = confine_fds(job, answer, &a.err);
	if (a.rc == 0) {
		answer = FD_ANSWER;
		a.rc = confine(job, parent, &a.err);
	}
	if (a.rc == 0)
		a.rc = job->run(FD_ROOT, job->input >= 0 ? FD_INPUT : -1, job->ctx, a.result,
				&a.err);
	_exit(fd_write_full(answer, &a, answer_size(job)) < 0 ? 1 : 0);
}

/* Whole answer, or the reason why none came. */
static int answer_read(int fd, int cancel, struct answer *a, size_t want, struct brig_err *err)
{
	size_t got = 0;
	while (got < want) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
				       { .fd = cancel, .events = POLLIN } };
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the import");
		}
		if (p[1].revents)
			return brig_fail(err, BRIG_E_STATE, 0, "interrupted");
		ssize_t n = read(fd, (char *)a + got, want - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the import");
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return got == want ? 1 : 0;
}

static int child_died(int status, struct brig_err *err)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (sig == SIGXCPU)
		return brig_fail(err, BRIG_E_LIMIT, 0, "the import took more than %d s of CPU time",
				 CONFINE_CPU_S);
	if (sig == SIGSYS)
		return brig_fail(err, BRIG_E_DENIED, 0,
				 "the import tried a system call that it has no need of");
	if (sig)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "the import was killed by signal %d (%s)",
				 sig, strsignal(sig));
	return brig_fail(err, BRIG_E_INTERNAL, 0, "the import ended without an answer");
}

int confine_said(const struct brig_err *said, struct brig_err *err)
{
	char msg[sizeof(said->msg)], remedy[sizeof(said->remedy)], shown[sizeof(said->msg)];
	memcpy(msg, said->msg, sizeof(msg));
	memcpy(remedy, said->remedy, sizeof(remedy));
	msg[sizeof(msg) - 1] = remedy[sizeof(remedy) - 1] = '\0';
	enum brig_code code = (unsigned)said->code < BRIG_E__N_CODES && said->code != BRIG_E_OK
				      ? said->code
				      : BRIG_E_INTERNAL;
	/* Names in it are escaped already by an honest child, so backslashes stay as they are. */
	for (char *c = msg; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	brig_fail(err, code, 0, "%s", msg);
	if (err)
		err->sys = said->sys;
	if (code == BRIG_E_UNSUPPORTED)
		return brig_fix(
			err, geteuid() == 0
				     ? "run it with all capabilities, outside of another container"
				     : "allow user namespaces for this user (see `brig doctor`), "
				       "or run it as root");
	if (remedy[0])
		return brig_fix(err, "%s", image_name_print(remedy, shown, sizeof(remedy)));
	return -1;
}

int confine_run(const struct confine_job *job, struct brig_err *err)
{
	AUTO_FREE struct answer *a = calloc(1, sizeof(*a));
	int pipefd[2], status;
	if (!a)
		return brig_fail(err, BRIG_E_EXHAUSTED, ENOMEM, "start the import");
	if (job->result_size > sizeof(a->result) || job->n_extra > CONFINE_EXTRA_MAX)
		return brig_fail(err, BRIG_E_INTERNAL, 0, "the import's answer is too large");
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start the import");
	AUTO_FD in = pipefd[0];
	AUTO_FD out = pipefd[1];
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return brig_fail(err, BRIG_E_EXHAUSTED, errno, "start the import");
	if (pid == 0)
		child_main(job, out, parent);
	fd_close(&out);
	int r = answer_read(in, job->cancel, a, answer_size(job), err);
	/* It has said all it had to say, has closed its pipe, or is to stop; it does not go on. One
	 * that was dying already keeps the status that it died of. */
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return brig_fail(err, BRIG_E_INTERNAL, errno, "wait for the import");
	if (r < 0)
		return -1;
	if (r == 0)
		return child_died(status, err);
	if (a->rc < 0)
		return confine_said(&a->err, err);
	memcpy(job->result, a->result, job->result_size);
	return 0;
}
