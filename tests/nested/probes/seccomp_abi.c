/* SPDX-License-Identifier: Apache-2.0 */
/* A filter that looks at the architecture first catches system calls of the 32-bit and the x32 ABI,
 * which a filter on numbers alone would misread; and a filter is inherited and cannot be removed. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "probe.h"

static void confine(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(f) / sizeof(f[0]), .filter = f };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0);
}

static int native(void)
{
	must(syscall(SYS_getppid) == -1 && errno == EPERM);
	pid_t pid = fork();
	if (pid == 0)
		_exit(syscall(SYS_getppid) == -1 ? 0 : 1);
	must(reap(pid) == 0);
	must(prctl(PR_SET_SECCOMP, 0, 0, 0, 0) != 0);
	return 0;
}

static int i386(void)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "0"(20L /* getpid */) : "memory");
	return r > 0 ? 0 : 1;
}

static int x32(void)
{
	return syscall(0x40000000 + SYS_getpid) < 0 ? 3 : 0;
}

static int outcome(int (*body)(void), int confined)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (confined)
			confine();
		_exit(body());
	}
	return reap(pid);
}

int main(void)
{
	must(outcome(i386, 0) == 0); /* the ABI is there, so the next line proves something */
	int st = outcome(i386, 1);
	must(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS);
	st = outcome(x32, 1);
	must(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS);
	must(outcome(native, 1) == 0);
	return 0;
}
