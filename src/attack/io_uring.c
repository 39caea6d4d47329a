/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets up io_uring: a second way to make most system calls, which no filter sees.
 */
#include "attack/attack.h"

#include <linux/io_uring.h>

ATTACK(io_uring)
{
	struct io_uring_params p;
	memset(&p, 0, sizeof(p));
	if (syscall(425 /* io_uring_setup */, 4, &p) >= 0)
		broken("a ring");
	held("%s", strerror(errno));
}
