/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for files that share their inode with the host: a lock or a lease on one is a channel
 * between sandboxes, and lets one hold up another. Tries one that the runner holds a lock on; the
 * others must lie on an overlay or a tmpfs of the sandbox's own, whose inodes carry its locks.
 */
#include "attack/attack.h"

#include <sys/file.h>
#include <sys/vfs.h>

#define OVERLAYFS 0x794c7630 /* linux/magic.h */
#define TMPFS 0x01021994

ATTACK(shared_locks)
{
	static const char *const files[] = { "/usr/bin/env",	  "/bin/sh",	 "/usr", "/etc",
					     "/etc/alternatives", "/etc/passwd", "/lib", "/opt" };
	const char *locked = canary("BRIG_CANARY_LOCK");
	unsigned seen = 0;
	int fd = open(locked, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		broken("the lock of the host on %s is seen", locked);
	for (size_t i = 0; i < N(files); i++) {
		struct statfs s;
		if (statfs(files[i], &s) < 0)
			continue;
		seen++;
		if (s.f_type != OVERLAYFS && s.f_type != TMPFS)
			broken("%s lies on a file system of type %lx", files[i], (long)s.f_type);
	}
	held("%u files, all on file systems of the sandbox", seen);
}
