/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes namespaces by each of the three calls. One's own user namespace is how an unprivileged
 * user comes to the kernel's network and mount code with all capabilities.
 */
#include "attack/attack.h"

#include <sched.h>

static const int kinds[] = { CLONE_NEWUSER,
			     CLONE_NEWNS,
			     CLONE_NEWPID,
			     CLONE_NEWNET,
			     CLONE_NEWIPC,
			     CLONE_NEWUTS,
			     0x02000000 /* NEWCGROUP */,
			     0x80 /* NEWTIME */ };
static int kind;

static int by_unshare(void)
{
	return syscall(SYS_unshare, kind) == 0 ? 0 : 1;
}

static int reaped(long pid)
{
	int st;
	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return 1;
	waitpid((pid_t)pid, &st, 0);
	return 0;
}

static int by_clone(void)
{
	/* For clone 0x80 is a part of the signal, and what it makes is no namespace. */
	return kind == 0x80 ? 1 : reaped(syscall(SYS_clone, kind | SIGCHLD, 0, 0, 0, 0));
}

static int by_clone3(void)
{
	uint64_t args[8] = { (uint64_t)kind, 0, 0, 0, SIGCHLD };
	return reaped(syscall(435 /* clone3 */, args, sizeof(args)));
}

ATTACK(new_namespace)
{
	for (size_t i = 0; i < N(kinds); i++) {
		kind = kinds[i];
		if (in_child(by_unshare) == 0)
			broken("unshare with flag %x", kind);
		if (in_child(by_clone) == 0)
			broken("clone with flag %x", kind);
		if (in_child(by_clone3) == 0)
			broken("clone3 with flag %x", kind);
	}
	held("%zu kinds, by three calls", N(kinds));
}
