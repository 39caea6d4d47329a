/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.c: an allow-list for reading a stream and making files in one directory.
 *
 * Theory of operation
 * -------------------
 * The list below is laid out as a classic BPF program, one comparison for each call: with fewer
 * than fifty of them a tree would gain nothing that an import notices. Whatever is not on it ends
 * the process, foreign ABIs included (another audit architecture, or x32's bit in the number, which
 * equals no number here). `open`, `openat` and their like only fail: a C library that would like to
 * load something (character sets, a time zone) goes on without, and what it would find is the
 * image's, that is, an attacker's. Our own files are opened by openat2.
 */
#include "image/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define FILTER_ARCH AUDIT_ARCH_RISCV64
#else
#error "the audit architecture of this machine is not known here"
#endif

enum rule {
	RULE_ALLOW,
	RULE_ABSENT,  /* fails with ENOENT */
	RULE_WHITEOUT, /* a character device 0:0 and no other node */
	RULE_NO_EXEC,  /* allowed without PROT_EXEC in the third argument: no page becomes code */
};

static const struct {
	unsigned nr;
	enum rule rule;
} rules[] = {
	/* the tree */
	{ SYS_openat2, RULE_ALLOW },
	{ SYS_mkdirat, RULE_ALLOW },
	{ SYS_mknodat, RULE_WHITEOUT },
	{ SYS_symlinkat, RULE_ALLOW },
	{ SYS_linkat, RULE_ALLOW },
	{ SYS_unlinkat, RULE_ALLOW },
	{ SYS_newfstatat, RULE_ALLOW },
	{ SYS_fstat, RULE_ALLOW },
	{ SYS_statx, RULE_ALLOW },
	{ SYS_fchownat, RULE_ALLOW },
	{ SYS_fchown, RULE_ALLOW },
	{ SYS_fchmod, RULE_ALLOW },
	{ SYS_fchmodat, RULE_ALLOW },
	{ SYS_ftruncate, RULE_ALLOW },
	{ SYS_utimensat, RULE_ALLOW },
	{ SYS_getdents64, RULE_ALLOW },
	{ SYS_readlinkat, RULE_ALLOW },
	/* bytes */
	{ SYS_read, RULE_ALLOW },
	{ SYS_write, RULE_ALLOW },
	{ SYS_pread64, RULE_ALLOW },
	{ SYS_pwrite64, RULE_ALLOW },
	{ SYS_lseek, RULE_ALLOW },
	{ SYS_close, RULE_ALLOW },
	{ SYS_fcntl, RULE_ALLOW },
	{ SYS_fadvise64, RULE_ALLOW },
	/* memory */
	{ SYS_brk, RULE_ALLOW },
	{ SYS_mmap, RULE_NO_EXEC },
	{ SYS_mprotect, RULE_NO_EXEC },
	{ SYS_munmap, RULE_ALLOW },
	{ SYS_mremap, RULE_ALLOW },
	{ SYS_madvise, RULE_ALLOW },
	{ SYS_sysinfo, RULE_ALLOW }, /* qsort: how much memory it may take */
	/* the C library's own */
	{ SYS_futex, RULE_ALLOW },
	{ SYS_rt_sigprocmask, RULE_ALLOW },
	{ SYS_rt_sigreturn, RULE_ALLOW },
	{ SYS_restart_syscall, RULE_ALLOW },
	{ SYS_getpid, RULE_ALLOW },
	{ SYS_gettid, RULE_ALLOW },
	{ SYS_getrandom, RULE_ALLOW },
	{ SYS_clock_gettime, RULE_ALLOW },
	{ SYS_gettimeofday, RULE_ALLOW },
	{ SYS_exit, RULE_ALLOW },
	{ SYS_exit_group, RULE_ALLOW },
/* what it can do without */
#ifdef SYS_open
	{ SYS_open, RULE_ABSENT },
	{ SYS_access, RULE_ABSENT },
#endif
	{ SYS_openat, RULE_ABSENT },
	{ SYS_faccessat, RULE_ABSENT },
	{ SYS_ioctl, RULE_ABSENT },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
/* Head 4, at most 7 for each rule, tail 1. */
#define PROGRAM_MAX (4 + 7 * COUNT(rules) + 1)

static unsigned short emit(struct sock_filter *p, unsigned short n, unsigned short code, unsigned k,
			   unsigned char jt, unsigned char jf)
{
	p[n] = (struct sock_filter){ .code = code, .jt = jt, .jf = jf, .k = k };
	return (unsigned short)(n + 1);
}

static unsigned short emit_rule(struct sock_filter *p, unsigned short n, unsigned nr,
				enum rule rule)
{
	/* The low half of a 64-bit argument; all machines above are little-endian. */
	const unsigned prot = offsetof(struct seccomp_data, args[2]);
	const unsigned device = offsetof(struct seccomp_data, args[3]);
	const unsigned char body = rule == RULE_NO_EXEC ? 4 : rule == RULE_WHITEOUT ? 6 : 1;
	n = emit(p, n, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, body);
	switch (rule) {
	case RULE_ALLOW:
		return emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	case RULE_ABSENT:
		return emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOENT, 0, 0);
	case RULE_WHITEOUT: /* the third argument is the mode, too */
		n = emit(p, n, BPF_LD | BPF_W | BPF_ABS, prot, 0, 0);
		n = emit(p, n, BPF_JMP | BPF_JEQ | BPF_K, S_IFCHR, 0, 2);
		n = emit(p, n, BPF_LD | BPF_W | BPF_ABS, device, 0, 0);
		n = emit(p, n, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
		n = emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
		return emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	case RULE_NO_EXEC:
		break;
	}
	n = emit(p, n, BPF_LD | BPF_W | BPF_ABS, prot, 0, 0);
	n = emit(p, n, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
	n = emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	return emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

int filter_install(void)
{
	struct sock_filter p[PROGRAM_MAX];
	unsigned short n = 0;
	n = emit(p, n, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
	n = emit(p, n, BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
	n = emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	n = emit(p, n, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	for (size_t i = 0; i < COUNT(rules); i++)
		n = emit_rule(p, n, rules[i].nr, rules[i].rule);
	n = emit(p, n, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	struct sock_fprog prog = { .len = n, .filter = p };
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &prog) < 0 ? -errno : 0;
}
