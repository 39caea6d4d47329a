/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the log of the kernel, which tells about the host and other sandboxes.
 */
#include "attack/attack.h"

ATTACK(kernel_log)
{
	static const char *const files[] = { "/dev/kmsg", "/proc/kmsg" };
	char buf[256];
	if (syscall(SYS_syslog, 3 /* READ_ALL */, buf, (int)sizeof(buf)) >= 0)
		broken("syslog");
	for (size_t i = 0; i < N(files); i++)
		if (open(files[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC) >= 0)
			broken("%s can be opened", files[i]);
	held("%s", strerror(errno));
}
