/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a system call of the 32-bit ABI. Its numbers mean other calls, and socketcall hides the
 * family of a socket behind a pointer (the reason why Docker's first answer to CVE-2026-31431 did
 * not hold).
 */
#include "attack/attack.h"

#ifdef __x86_64__
static int call(void)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "0"(20L /* getpid */) : "memory");
	return r > 0 ? 0 : 1;
}
#endif

ATTACK(abi_i386)
{
#ifdef __x86_64__
	int st = in_child(call);
	if (st == 0)
		broken("getpid of i386 answers");
	held("the process ended by signal %d", WIFSIGNALED(st) ? WTERMSIG(st) : 0);
#else
	held("there is no such ABI on this architecture");
#endif
}
