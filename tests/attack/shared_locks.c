/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for a lock that a process of the host holds on a file of /usr. A lock on an inode that two
 * sandboxes share is a channel between them, and lets one hold up the other.
 *
 * CONTROL: outside-root
 */
#define ATTACK "shared-locks"
#include "attack.h"

#include <sys/file.h>

int main(void)
{
	const char *path = canary("BRIG_CANARY_LOCK");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		held("%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		broken("the lock of the host on %s is seen", path);
	held("%s is a file of this sandbox", path);
}
