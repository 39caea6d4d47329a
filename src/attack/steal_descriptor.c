/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes a descriptor of another process by pidfd_getfd: of the first, whose channel to the daemon
 * would be one, and of its own parent.
 */
#include "attack/attack.h"

ATTACK(steal_descriptor)
{
	const pid_t from[] = { 1, getppid() };
	for (size_t i = 0; i < N(from); i++) {
		int pid = (int)syscall(434 /* pidfd_open */, from[i], 0);
		for (int fd = 0; pid >= 0 && fd < 64; fd++)
			if (syscall(438 /* pidfd_getfd */, pid, fd, 0) >= 0)
				broken("descriptor %d of process %d", fd, (int)from[i]);
	}
	held("%s", strerror(errno));
}
