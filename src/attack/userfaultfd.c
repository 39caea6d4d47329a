/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles its own page faults in the kernel: stretches a race in it for as long as one likes.
 */
#include "attack/attack.h"

ATTACK(userfaultfd)
{
	if (syscall(SYS_userfaultfd, 0) >= 0 ||
	    syscall(SYS_userfaultfd, 1 /* USER_MODE_ONLY */) >= 0)
		broken("a descriptor");
	held("%s", strerror(errno));
}
