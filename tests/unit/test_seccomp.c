/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filters of a container in a real kernel. Every call is made twice, in a child with the filter
 * and in one without: what the profile allows must end the same in both, what it refuses must end
 * as the profile says, and, where the other child shows a different end, it was the filter that
 * refused. Arguments are chosen so that a call has no effect when it gets through.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
/* after the headers it needs */
#include <cmocka.h>

#include "base/fd.h"
#include "engine/container/seccomp.h"
#include "payload_seccomp.h"
#include "seccomp_profile.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define PAYLOAD "src/engine/container/payload.seccomp"
#define SUID "src/engine/container/suid.seccomp"
#define NOBODY 65534
#define HIGH (1ull << 40)

enum filter_kind { NO_FILTER, PAYLOAD_ONLY, WITH_SUID };

/* What became of a call. */
struct end {
	int signal; /* that ended the child, 0 = none */
	int failed; /* it returned -1 */
	int error;  /* .. with this errno */
};

struct call {
	uint32_t nr;
	uint64_t a[6];
	bool as_nobody;
};

static struct end *shared;
static struct profile payload, suid;

static void load(const char *path, struct profile *p)
{
	char text[65536];
	struct brig_err err = BRIG_ERR_INIT;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fd_read_full(fd, text, sizeof(text));
	if (n < 0 || n == sizeof(text))
		fail_msg("cannot read %s (run from the top of the source)", path);
	if (profile_parse(path, text, (size_t)n, seccomp_arch_find(NULL), p, &err) < 0)
		fail_msg("%s", err.msg);
}

static int setup(void **state)
{
	(void)state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return -1;
	load(PAYLOAD, &payload);
	load(SUID, &suid);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	profile_done(&payload);
	profile_done(&suid);
	return munmap(shared, sizeof(*shared));
}

static bool become_nobody(void)
{
	return geteuid() != 0 ||
	       (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static bool confine(enum filter_kind kind)
{
	return kind == NO_FILTER || (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
				     seccomp_install_payload(kind == WITH_SUID) == 0);
}

/* cmocka's handlers would go on with the next test, in the child. */
static pid_t start_child(void)
{
	static const int crashes[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS };
	pid_t pid = fork();
	assert_true(pid >= 0);
	for (size_t i = 0; pid == 0 && i < N(crashes); i++)
		signal(crashes[i], SIG_DFL);
	return pid;
}

/* Runs body in a child under the filter; its exit code, or minus the signal that ended it. */
static int confined(enum filter_kind kind, int (*body)(void))
{
	int st;
	pid_t pid = start_child();
	if (pid == 0)
		_exit(confine(kind) ? body() : 99);
	assert_int_equal(waitpid(pid, &st, 0), pid);
	return WIFSIGNALED(st) ? -WTERMSIG(st) : WEXITSTATUS(st);
}

static struct end make(const struct call *c, enum filter_kind kind)
{
	int st;
	*shared = (struct end){ .signal = -1 };
	pid_t pid = start_child();
	if (pid == 0) {
		alarm(20); /* a call that waits for ever is a mistake in the table */
		/* Also without the filter: Landlock asks for it. */
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if ((c->as_nobody && !become_nobody()) || !confine(kind))
			_exit(99);
		long r = syscall((long)c->nr, c->a[0], c->a[1], c->a[2], c->a[3], c->a[4], c->a[5]);
		int error = errno;
		if (c->nr == SYS_clone && r == 0)
			_exit(0); /* the child that it made */
		shared->failed = r == -1;
		shared->error = r == -1 ? error : 0;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (WIFEXITED(st) && WEXITSTATUS(st) == 99)
		fail_msg("call %u: the child could not be set up", c->nr);
	shared->signal = WIFSIGNALED(st) ? WTERMSIG(st) : 0;
	return *shared;
}

static bool same_end(struct end a, struct end b)
{
	return a.signal == b.signal && a.failed == b.failed && a.error == b.error;
}

static bool is_end_of(struct end e, uint32_t ret)
{
	if (ret == SECCOMP_RET_KILL_PROCESS)
		return e.signal == SIGSYS;
	int error = (int)(ret & SECCOMP_RET_DATA);
	return e.signal == 0 && e.failed == (error != 0) && e.error == error;
}

static uint32_t verdict(const struct call *c, enum filter_kind kind)
{
	uint32_t audit = payload.arch->audit;
	uint32_t ret = profile_decide(&payload, audit, c->nr, c->a);
	/* Of several filters the strictest verdict counts, and ALLOW is the mildest. */
	return kind == WITH_SUID && ret == SECCOMP_RET_ALLOW
		       ? profile_decide(&suid, audit, c->nr, c->a)
		       : ret;
}

/* Makes the call both ways and compares; 1 if it was seen to be the filter that refused. */
static int check(const struct call *c, enum filter_kind kind)
{
	uint32_t want = verdict(c, kind);
	struct end with = make(c, kind);
	struct end without = make(c, NO_FILTER);
	if (want == SECCOMP_RET_ALLOW) {
		if (!same_end(with, without))
			fail_msg("call %u is allowed, but ends with signal %d errno %d, not %d %d",
				 c->nr, with.signal, with.error, without.signal, without.error);
		return 0;
	}
	if (!is_end_of(with, want))
		fail_msg("call %u ends with signal %d errno %d, not by verdict %x", c->nr,
			 with.signal, with.error, want);
	return !same_end(with, without);
}

/* ---- every call without conditions ---- */

/* Calls whose effect does not depend on arguments, or that do something with -1. */
static bool has_effect(uint32_t nr)
{
	switch (nr) {
	case SYS_exit:
	case SYS_exit_group:
	case SYS_rt_sigreturn:
	case SYS_msgget: /* -1 means: make one */
	case SYS_sync:
#ifdef __x86_64__
	case 335: /* uretprobe and uprobe: trampolines of the kernel's own, of which newer */
	case 336: /* kernels (6.14, 6.18) do not ask a filter */
#endif
#ifdef SYS_fork
	case SYS_fork:
	case SYS_vfork:
	case SYS_pause:
#endif
		return true;
	default:
		return false;
	}
}

static void test_every_plain_rule_holds_in_the_kernel(void **state)
{
	(void)state;
	unsigned made = 0, refused = 0, shown = 0;
	for (uint32_t nr = 0; nr <= SYSCALL_LAST + 40; nr++) {
		unsigned n;
		unsigned first = profile_rules_of(&payload, nr, &n);
		if (has_effect(nr) || (n && payload.rules[first].n_conds))
			continue;
		const struct call c = { .nr = nr,
					.a = { -1ull, -1ull, -1ull, -1ull, -1ull, -1ull },
					.as_nobody = true };
		made++;
		refused += verdict(&c, PAYLOAD_ONLY) != SECCOMP_RET_ALLOW;
		shown += check(&c, PAYLOAD_ONLY);
	}
	printf("%u calls made, %u refused, %u of them would have ended otherwise\n", made, refused,
	       shown);
	/* Mount, io_uring, keys, bpf, handles, time, swap, ..: most of what is refused is reachable
	 * by anybody without the filter, or this test shows little. */
	assert_true(shown > 50);
}

/* ---- every rule with conditions ---- */

#define ALLOWED 0
/* clang-format off */
#define C(name, want, ...) { SYS_##name, want, { __VA_ARGS__ } }
/* clang-format on */

struct row {
	uint32_t nr;
	int want; /* ALLOWED, or the errno of the filter */
	uint64_t a[6];
};

static const struct row payload_rows[] = {
#ifdef SYS_mknod
	C(mknod, ALLOWED, 0, S_IFREG | 0600),
	C(mknod, ALLOWED, 0, S_IFSOCK),
	C(mknod, EPERM, 0, S_IFCHR | 0600),
	C(mknod, EPERM, 0, HIGH | S_IFBLK),
#endif
	C(mknodat, ALLOWED, -1ull, 0, 0600),
	C(mknodat, ALLOWED, -1ull, 0, S_IFIFO | 0600),
	C(mknodat, EPERM, -1ull, 0, S_IFCHR | 0600),
	C(mknodat, EPERM, -1ull, 0, S_IFBLK | HIGH),
	C(fcntl, EINVAL, -1ull, F_SETLEASE),
	C(fcntl, EINVAL, -1ull, F_SETLEASE | HIGH),
	C(fcntl, EINVAL, -1ull, 1040 /* F_SETDELEG */),
	C(fcntl, ALLOWED, -1ull, F_GETFL),
	C(memfd_create, ALLOWED, 0, MFD_CLOEXEC),
	C(memfd_create, EINVAL, 0, MFD_HUGETLB | MFD_CLOEXEC),
	C(ioctl, EPERM, -1ull, TIOCSTI),
	C(ioctl, EPERM, -1ull, TIOCSTI | HIGH),
	C(ioctl, EPERM, -1ull, TIOCLINUX | 1ull << 32),
	C(ioctl, EPERM, -1ull, TIOCCONS),
	C(ioctl, EPERM, -1ull, TIOCSETD),
	C(ioctl, ALLOWED, -1ull, TIOCGWINSZ),
	C(ioctl, ALLOWED, -1ull, TIOCGPTPEER),
	C(ioctl, ALLOWED, -1ull, FIONREAD),
	C(ioctl, ALLOWED, -1ull, 0x8912 /* SIOCGIFCONF */),
	C(ioctl, ALLOWED, -1ull, 0x40049409 /* FICLONE */),
	C(ioctl, ENOTTY, -1ull, 0x8914 /* SIOCSIFFLAGS */),
	C(ioctl, ENOTTY, -1ull, 0x89f0 /* SIOCDEVPRIVATE */),
	C(ioctl, ENOTTY, -1ull, 0x400454ca /* TUNSETIFF */),
	C(ioctl, ENOTTY, -1ull, 0xae01 /* KVM_CREATE_VM */),
	C(ioctl, ENOTTY, -1ull, 0x4b3a /* KDSETMODE */),
	C(mmap, ENOMEM, 0, 4096, 0, MAP_PRIVATE | MAP_HUGETLB, -1ull, 0),
	C(mmap, ENOMEM, 0, 4096, 0, MAP_PRIVATE | MAP_HUGETLB | HIGH, -1ull, 0),
	C(mmap, ALLOWED, 0, 4096, 0, MAP_PRIVATE, -1ull, 0),
	C(mmap, ALLOWED, 0, 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1ull, 0),
	C(madvise, EINVAL, 1, 4096, MADV_MERGEABLE),
	C(madvise, EINVAL, 0, 0, MADV_MERGEABLE | HIGH),
	C(madvise, ALLOWED, 0, 0, MADV_DONTNEED),
	C(clone, ALLOWED, SIGCHLD),
	C(clone, EPERM, SIGCHLD | CLONE_NEWUSER),
	C(clone, EPERM, SIGCHLD | CLONE_NEWNS),
	C(clone, EPERM, SIGCHLD | CLONE_NEWNET | HIGH),
	C(clone, EPERM, SIGCHLD | CLONE_NEWPID),
	C(clone, EPERM, SIGCHLD | CLONE_NEWUTS),
	C(clone, EPERM, SIGCHLD | CLONE_NEWIPC),
	C(clone, EPERM, SIGCHLD | CLONE_NEWCGROUP),
	C(personality, ALLOWED, 0xffffffff),
	C(personality, ALLOWED, 0x40000 /* ADDR_NO_RANDOMIZE */),
	C(personality, EPERM, 0x400000 /* READ_IMPLIES_EXEC */),
	C(personality, EPERM, 0x100000 /* MMAP_PAGE_ZERO */),
	C(prctl, ALLOWED, PR_GET_DUMPABLE),
	C(prctl, ALLOWED, PR_SET_NAME, 1),
	C(prctl, ALLOWED, PR_CAPBSET_READ, 0),
	C(prctl, ALLOWED, PR_SVE_GET_VL),
	C(prctl, EINVAL, PR_SET_MM, PR_SET_MM_EXE_FILE, -1ull),
	C(prctl, EINVAL, PR_SET_SECUREBITS, 0),
	C(prctl, EINVAL, PR_SET_TSC, PR_TSC_ENABLE),
	C(prctl, EINVAL, PR_SET_TSC | HIGH, PR_TSC_ENABLE),
	C(seccomp, ALLOWED, SECCOMP_GET_ACTION_AVAIL, 0, 0),
	C(seccomp, ALLOWED, SECCOMP_SET_MODE_STRICT, 1, 0),
	C(seccomp, ALLOWED, SECCOMP_SET_MODE_FILTER, 0, 0),
	C(seccomp, ALLOWED, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, 0),
	C(seccomp, EINVAL, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0),
	C(seccomp, EINVAL, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG | HIGH, 0),
	C(seccomp, EINVAL, SECCOMP_GET_NOTIF_SIZES, 0, 0),
	C(socket, ALLOWED, AF_UNIX, SOCK_STREAM, 0),
	C(socket, ALLOWED, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	C(socket, ALLOWED, AF_INET6, SOCK_DGRAM, 17),
	C(socket, ALLOWED, AF_INET, SOCK_DGRAM, 1 /* ICMP */),
	C(socket, ALLOWED, AF_NETLINK, SOCK_RAW, 0),
	C(socket, EPERM, AF_INET, SOCK_RAW, 1),
	C(socket, EPERM, AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 58),
	C(socket, EPROTONOSUPPORT, AF_INET, SOCK_STREAM, 132 /* SCTP */),
	C(socket, EPROTONOSUPPORT, AF_INET, SOCK_STREAM, 262 /* MPTCP */),
	C(socket, EPROTONOSUPPORT, AF_INET, SOCK_PACKET, 0),
	C(socket, EPROTONOSUPPORT, AF_NETLINK, SOCK_RAW, 4 /* SOCK_DIAG */),
	C(socket, EPROTONOSUPPORT, AF_NETLINK, SOCK_RAW, 12 /* NETFILTER */),
	C(socket, EPROTONOSUPPORT, AF_NETLINK, SOCK_RAW, 15 /* KOBJECT_UEVENT */),
	C(socket, EAFNOSUPPORT, AF_ALG, SOCK_SEQPACKET, 0),
	C(socket, EAFNOSUPPORT, AF_VSOCK, SOCK_STREAM, 0),
	C(socket, EAFNOSUPPORT, AF_PACKET, SOCK_RAW, 0),
	C(socket, EAFNOSUPPORT, AF_PACKET | HIGH, SOCK_DGRAM, 0),
	C(socket, EAFNOSUPPORT, AF_XDP, SOCK_RAW, 0),
	C(socketpair, ALLOWED, AF_UNIX, SOCK_STREAM, 0, 0),
	C(socketpair, EAFNOSUPPORT, AF_INET, SOCK_STREAM, 0, 0),
	C(socketpair, EAFNOSUPPORT, AF_TIPC, SOCK_STREAM, 0, 0),
	C(setsockopt, ALLOWED, -1ull, SOL_SOCKET, SO_REUSEADDR),
	C(setsockopt, ALLOWED, -1ull, 0 /* IP */, 1 /* IP_TOS */),
	C(setsockopt, ALLOWED, -1ull, 41 /* IPV6 */, 26 /* IPV6_V6ONLY */),
	C(setsockopt, ALLOWED, -1ull, 6 /* TCP */, 1 /* TCP_NODELAY */),
	C(setsockopt, ALLOWED, -1ull, 17 /* UDP */, 103 /* UDP_SEGMENT */),
	C(setsockopt, ALLOWED, -1ull, 270 /* NETLINK */, 11 /* EXT_ACK */),
	C(setsockopt, ENOPROTOOPT, -1ull, SOL_SOCKET, SO_ATTACH_FILTER),
	C(setsockopt, ENOPROTOOPT, -1ull, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF),
	C(setsockopt, ENOPROTOOPT, -1ull, SOL_SOCKET, SO_ZEROCOPY | HIGH),
	C(setsockopt, ENOPROTOOPT, -1ull, 0, 17 /* IP_XFRM_POLICY */),
	C(setsockopt, ENOPROTOOPT, -1ull, 0, 64 /* IPT_SO_SET_REPLACE */),
	C(setsockopt, ENOPROTOOPT, -1ull, 0, 200 /* MRT_INIT */),
	C(setsockopt, ENOPROTOOPT, -1ull, 41, 35 /* IPV6_XFRM_POLICY */),
	C(setsockopt, ENOPROTOOPT, -1ull, 41, 1 /* IPV6_ADDRFORM */),
	C(setsockopt, ENOPROTOOPT, -1ull, 6, 31 /* TCP_ULP */),
	C(setsockopt, ENOPROTOOPT, -1ull, 6 | HIGH, 31),
	C(setsockopt, ENOPROTOOPT, -1ull, 17, 100 /* UDP_ENCAP */),
	C(setsockopt, ENOPROTOOPT, -1ull, 270, 8 /* LISTEN_ALL_NSID */),
	C(setsockopt, ENOPROTOOPT, -1ull, 263 /* PACKET */, 1),
	C(shmget, ALLOWED, 0, 0, 0600),
	C(shmget, ENOMEM, 0, 0, SHM_HUGETLB | 0600),
	/* Not in the sweep, and nothing has this key. */
	C(msgget, ALLOWED, 0x7b726967, 0),
};

#define S_IDS (S_ISUID | S_ISGID)

static const struct row suid_rows[] = {
#ifdef SYS_open
	C(open, ALLOWED, 0, O_RDWR, S_IDS),
	C(open, ALLOWED, 0, O_RDWR | O_CREAT, 0777),
	C(open, EPERM, 0, O_RDWR | O_CREAT, S_ISUID),
	C(open, EPERM, 0, O_RDWR | O_TMPFILE, S_ISGID | 0700),
	C(creat, ALLOWED, 0, 0777),
	C(creat, EPERM, 0, S_ISUID | 0777),
	C(chmod, ALLOWED, 0, 01777),
	C(chmod, EPERM, 0, S_ISGID),
	C(mkdir, ALLOWED, 0, 0777),
	C(mkdir, EPERM, 0, S_ISGID | 0777),
	C(mknod, ALLOWED, 0, S_IFREG | 0777),
	C(mknod, EPERM, 0, S_IFREG | S_ISUID),
#endif
	C(openat, ALLOWED, -1ull, 0, O_RDWR, S_IDS),
	C(openat, ALLOWED, -1ull, 0, O_RDWR | O_CREAT, 0777),
	C(openat, EPERM, -1ull, 0, O_RDWR | O_CREAT, S_ISUID | 0755),
	C(openat, EPERM, -1ull, 0, O_CREAT | HIGH, S_ISUID | HIGH),
	C(openat, EPERM, -1ull, 0, O_RDWR | O_TMPFILE, S_IDS),
	C(openat2, ENOSYS, -1ull, 0, 0, 0),
	C(fchmod, ALLOWED, -1ull, 01777),
	C(fchmod, EPERM, -1ull, S_ISUID),
	C(fchmodat, ALLOWED, -1ull, 0, 01777),
	C(fchmodat, EPERM, -1ull, 0, S_IDS | 0777),
	C(mkdirat, ALLOWED, -1ull, 0, 0777),
	C(mkdirat, EPERM, -1ull, 0, S_ISGID),
	C(mknodat, ALLOWED, -1ull, 0, S_IFIFO | 0777),
	C(mknodat, EPERM, -1ull, 0, S_IFIFO | S_ISUID),
	{ 452 /* fchmodat2 */, ALLOWED, { -1ull, 0, 0777 } },
	{ 452, EPERM, { -1ull, 0, S_ISUID } },
	/* What the payload filter refuses stays refused. */
	C(mknodat, EPERM, -1ull, 0, S_IFCHR | 0600),
};

static const struct row *rows_hit(const struct row *rows, size_t n, const struct profile *p,
				  const struct profile_rule *rule)
{
	for (size_t i = 0; i < n; i++)
		if (profile_match(p, rows[i].nr, rows[i].a) == rule)
			return &rows[i];
	return NULL;
}

static const struct row *rows_missed(const struct row *rows, size_t n, const struct profile *p,
				     const struct profile_rule *rule)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i].nr == rule->nr && profile_match(p, rows[i].nr, rows[i].a) != rule)
			return &rows[i];
	return NULL;
}

static void check_rows(const struct row *rows, size_t n, enum filter_kind kind,
		       unsigned expect_shown)
{
	unsigned shown = 0, refused = 0;
	for (size_t i = 0; i < n; i++) {
		struct call c = { .nr = rows[i].nr };
		memcpy(c.a, rows[i].a, sizeof(c.a));
		uint32_t want = rows[i].want == ALLOWED
					? SECCOMP_RET_ALLOW
					: SECCOMP_RET_ERRNO | (uint32_t)rows[i].want;
		if (verdict(&c, kind) != want)
			fail_msg("row %zu (call %u): the profile says %x", i, c.nr,
				 verdict(&c, kind));
		refused += want != SECCOMP_RET_ALLOW;
		shown += check(&c, kind);
	}
	printf("%zu calls made, %u refused, %u of them would have ended otherwise\n", n, refused,
	       shown);
	assert_true(shown >= expect_shown);
}

static void test_every_condition_holds_in_the_kernel(void **state)
{
	(void)state;
	/* A few sockets and options fail alike where the host's kernel lacks the module. */
	check_rows(payload_rows, N(payload_rows), PAYLOAD_ONLY, geteuid() == 0 ? 50 : 40);
}

static void test_the_second_filter_refuses_the_set_id_bits(void **state)
{
	(void)state;
	check_rows(suid_rows, N(suid_rows), WITH_SUID, 10);
}

/* The tables above are complete: each rule with a condition is met by a row, and passed by another.
 */
static void test_every_condition_has_a_row_that_meets_it_and_one_that_does_not(void **state)
{
	(void)state;
	const struct {
		const struct profile *p;
		const struct row *rows;
		size_t n;
		const char *name;
	} both[] = { { &payload, payload_rows, N(payload_rows), PAYLOAD },
		     { &suid, suid_rows, N(suid_rows), SUID } };
	for (size_t b = 0; b < N(both); b++) {
		for (unsigned i = 0; i < both[b].p->n_rules; i++) {
			const struct profile_rule *r = &both[b].p->rules[i];
			unsigned n;
			unsigned first = profile_rules_of(both[b].p, r->nr, &n);
			/* Rules of one call without conditions are the sweep's. */
			if (!both[b].p->rules[first].n_conds)
				continue;
			if (!rows_hit(both[b].rows, both[b].n, both[b].p, r))
				fail_msg("%s:%u: no row meets this rule", both[b].name, r->line);
			if (!rows_missed(both[b].rows, both[b].n, both[b].p, r))
				fail_msg("%s:%u: no row passes this rule by", both[b].name,
					 r->line);
		}
	}
}

/* ---- what must keep working, and what must end ---- */

static void *thread_body(void *arg)
{
	return arg;
}

static int body_threads_and_programs(void)
{
	pthread_t t;
	void *back = NULL;
	int st, value;
	/* The C library asks for clone3 and must take ENOSYS for "do without". */
	if (pthread_create(&t, NULL, thread_body, &value) != 0 || pthread_join(t, &back) != 0 ||
	    back != &value)
		return 1;
	pid_t pid = fork();
	if (pid == 0) {
		char name[] = "true";
		char *const argv[] = { name, NULL };
		execv("/bin/true", argv);
		_exit(127);
	}
	return waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0 ? 0 : 2;
}

static void test_threads_and_programs_run(void **state)
{
	(void)state;
	assert_int_equal(confined(PAYLOAD_ONLY, body_threads_and_programs), 0);
	assert_int_equal(confined(WITH_SUID, body_threads_and_programs), 0);
}

static int body_escape_by_inheritance(void)
{
	int st;
	/* Neither a child nor a milder filter on top gets back what was taken. */
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { .len = 1, .filter = &all };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return 1;
	if (syscall(SYS_unshare, CLONE_NEWUSER) != -1 || errno != EPERM)
		return 2;
	pid_t pid = fork();
	if (pid == 0)
		_exit(syscall(SYS_unshare, CLONE_NEWUSER) == -1 && errno == EPERM ? 0 : 1);
	return waitpid(pid, &st, 0) == pid && st == 0 ? 0 : 3;
}

static void test_the_filter_stays_on(void **state)
{
	(void)state;
	assert_int_equal(confined(PAYLOAD_ONLY, body_escape_by_inheritance), 0);
	/* Without it the first call is possible, so the line above shows something. */
	assert_int_not_equal(confined(NO_FILTER, body_escape_by_inheritance), 0);
}

static int body_install_without_nnp(void)
{
	return become_nobody() && seccomp_install_payload(false) == -EACCES ? 0 : 1;
}

static void test_installing_needs_no_new_privs(void **state)
{
	(void)state;
	assert_int_equal(confined(NO_FILTER, body_install_without_nnp), 0);
}

#ifdef __x86_64__
static int body_i386(void)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "0"(20L /* getpid */) : "memory");
	return r == getpid() ? 0 : 1;
}

static int body_x32(void)
{
	return syscall(0x40000000L + SYS_getpid) < 0 ? 0 : 1;
}

static int body_cancelled(void)
{
	return syscall(-1L) == -1 && errno == ENOSYS ? 0 : 1;
}

static void test_another_abi_ends_the_process(void **state)
{
	(void)state;
	assert_int_equal(confined(PAYLOAD_ONLY, body_i386), -SIGSYS);
	assert_int_equal(confined(PAYLOAD_ONLY, body_x32), -SIGSYS);
	assert_int_equal(confined(NO_FILTER, body_x32), 0);
	/* What a tracer leaves of a call that it cancels is none of another ABI. */
	assert_int_equal(confined(PAYLOAD_ONLY, body_cancelled), 0);
	int bare = confined(NO_FILTER, body_i386);
	if (bare == -SIGSEGV)
		print_message("this kernel has no i386 calls: nothing shown by them\n");
	else
		assert_int_equal(bare, 0);
}
#endif

static void test_the_digest_is_of_the_program(void **state)
{
	(void)state;
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	char hex[65] = "";
	/* The layout of struct sock_filter on little-endian machines is what the generator hashes.
	 */
	assert_int_equal(
		EVP_Digest(payload_filter, sizeof(payload_filter), md, &n, EVP_sha256(), NULL), 1);
	for (unsigned i = 0; i < n && i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", md[i]);
	assert_string_equal(seccomp_payload_digest(), hex);
	assert_int_equal(seccomp_payload_allowed(), profile_allowed(&payload));
}

static int by_time(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void test_installing_succeeds_every_time_and_its_cost_is_printed(void **state)
{
	(void)state;
	uint64_t ns[51];
	uint64_t *at =
		mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	for (size_t i = 0; i < N(ns); i++) {
		int st;
		pid_t pid = start_child();
		if (pid == 0) {
			struct timespec a, b;
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
			clock_gettime(CLOCK_MONOTONIC, &a);
			int r = seccomp_install_payload(false);
			clock_gettime(CLOCK_MONOTONIC, &b);
			*at = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u +
			      (uint64_t)(b.tv_nsec - a.tv_nsec);
			_exit(r == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_int_equal(st, 0);
		ns[i] = *at;
	}
	qsort(ns, N(ns), sizeof(ns[0]), by_time);
	printf("%u instructions, %u deep, installed in %lu us (median)\n", PAYLOAD_FILTER_LEN,
	       PAYLOAD_FILTER_DEPTH, (unsigned long)(ns[N(ns) / 2] / 1000));
	munmap(at, sizeof(*at));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_plain_rule_holds_in_the_kernel),
		cmocka_unit_test(test_every_condition_holds_in_the_kernel),
		cmocka_unit_test(test_the_second_filter_refuses_the_set_id_bits),
		cmocka_unit_test(
			test_every_condition_has_a_row_that_meets_it_and_one_that_does_not),
		cmocka_unit_test(test_threads_and_programs_run),
		cmocka_unit_test(test_the_filter_stays_on),
		cmocka_unit_test(test_installing_needs_no_new_privs),
#ifdef __x86_64__
		cmocka_unit_test(test_another_abi_ends_the_process),
#endif
		cmocka_unit_test(test_the_digest_is_of_the_program),
		cmocka_unit_test(test_installing_succeeds_every_time_and_its_cost_is_printed),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
