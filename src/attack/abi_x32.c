/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a system call of the x32 ABI: the same entry as the ordinary one, with a bit in the number
 * that a careless filter does not know.
 */
#include "attack/attack.h"

static int call(void)
{
	return syscall(0x40000000L + SYS_getpid) > 0 ? 0 : 1;
}

ATTACK(abi_x32)
{
	int st = in_child(call);
	if (st == 0)
		broken("getpid of x32 answers");
	if (WIFSIGNALED(st))
		held("the process ended by signal %d", WTERMSIG(st));
	held("no such call");
}
