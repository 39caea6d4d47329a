/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of brig-vmm may call, tried for real in a child each: allowed calls return, all else
 * ends the process. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/microvm/filter.h"
#include "vcpu_seccomp.h"
#include "vmm_seccomp.h"

#define KVM_RUN_CODE 0xae80ul
#define KVM_CREATE_VM_CODE 0xae01ul

struct attempt {
	const char *what;
	long nr;
	unsigned long a[3];
	int allowed[2]; /* by the VMM thread's filter, by a vCPU's */
};

/* Waits for how the child ended: 0 = it returned from the call, SIGSYS = it was killed. */
static int tried(int (*filter)(void), const struct attempt *t)
{
	int status, r;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		r = filter();
		if (r == 0)
			syscall(t->nr, t->a[0], t->a[1], t->a[2], 0ul, 0ul, 0ul);
		syscall(SYS_exit_group, r == 0 ? 0 : 99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return WTERMSIG(status);
}

static void test_calls(void **state)
{
	static uint64_t one = 1;
	int ev = eventfd(0, EFD_NONBLOCK);
	unsigned long p = (uintptr_t)&one, fd = (unsigned long)ev;
	const struct attempt rows[] = {
		{ "write to an eventfd", SYS_write, { fd, p, 8 }, { 1, 1 } },
		{ "write of another length", SYS_write, { fd, p, 7 }, { 1, 0 } },
		{ "read of an eventfd", SYS_read, { fd, p, 8 }, { 1, 0 } },
		{ "read of another length", SYS_read, { fd, p, 4 }, { 0, 0 } },
		{ "KVM_RUN", SYS_ioctl, { fd, KVM_RUN_CODE, 0 }, { 0, 1 } },
		{ "KVM_CREATE_VM", SYS_ioctl, { fd, KVM_CREATE_VM_CODE, 0 }, { 0, 0 } },
		{ "KVM_GET_REGS", SYS_ioctl, { fd, 0x8090ae81ul, 0 }, { 1, 0 } },
		{ "KVM_SET_REGS", SYS_ioctl, { fd, 0x4090ae82ul, 0 }, { 0, 0 } },
		{ "KVM_SET_MSRS", SYS_ioctl, { fd, 0x4008ae89ul, 0 }, { 0, 0 } },
		{ "recvmsg", SYS_recvmsg, { fd, p, 0 }, { 1, 0 } },
		{ "epoll_ctl MOD", SYS_epoll_ctl, { fd, EPOLL_CTL_MOD, fd }, { 1, 0 } },
		{ "epoll_ctl ADD", SYS_epoll_ctl, { fd, EPOLL_CTL_ADD, fd }, { 0, 0 } },
		{ "getrandom", SYS_getrandom, { p, 8, 0 }, { 1, 0 } },
		{ "preadv", SYS_preadv, { fd, p, 0 }, { 1, 0 } },
		{ "madvise DONTNEED", SYS_madvise, { 0, 0, 4 }, { 1, 0 } },
		{ "madvise of another kind", SYS_madvise, { 0, 0, 14 }, { 0, 0 } },
		{ "openat", SYS_openat, { (unsigned long)-100, p, 0 }, { 0, 0 } },
		{ "mmap", SYS_mmap, { 0, 4096, 3 }, { 0, 0 } },
		{ "mprotect", SYS_mprotect, { 0, 0, 4 }, { 0, 0 } },
		{ "socket", SYS_socket, { 1, 1, 0 }, { 0, 0 } },
		{ "clone", SYS_clone, { 0, 0, 0 }, { 0, 0 } },
		{ "execve", SYS_execve, { p, 0, 0 }, { 0, 0 } },
		{ "kill", SYS_kill, { 0, 0, 0 }, { 0, 0 } },
		{ "ptrace", SYS_ptrace, { 0, 0, 0 }, { 0, 0 } },
		{ "prctl", SYS_prctl, { 3, 0, 0 }, { 0, 0 } },
		{ "sendmsg", SYS_sendmsg, { fd, p, 0 }, { 0, 0 } },
	};
	int (*const filter[2])(void) = { filter_vmm, filter_vcpu };
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned f = 0; f < 2; f++) {
			int got = tried(filter[f], &rows[i]), want = rows[i].allowed[f] ? 0 : SIGSYS;
			if (got != want)
				fail_msg("%s, filter %u: %d, not %d", rows[i].what, f, got, want);
		}
	close(ev);
}

/* The targets of docs/threat-model.md. */
static void test_counts(void **state)
{
	(void)state;
	print_message("VMM thread: %d system calls, vCPU thread: %d\n", VMM_FILTER_ALLOWED, VCPU_FILTER_ALLOWED);
	assert_true(VMM_FILTER_ALLOWED <= 45);
	assert_true(VCPU_FILTER_ALLOWED <= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_calls), cmocka_unit_test(test_counts) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
