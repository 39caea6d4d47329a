/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for descriptors that were not closed before the command started. Whatever one of them
 * leads to is given to the tenant: a directory of the host (CVE-2024-21626), the agent's channel,
 * a log.
 */
#include "attack/attack.h"

#include <dirent.h>

ATTACK(descriptors)
{
	char path[300], target[256];
	DIR *d = opendir("/proc/self/fd");
	if (!d)
		untried("/proc/self/fd: %s", strerror(errno));
	for (struct dirent *e; (e = readdir(d));) {
		int fd = atoi(e->d_name);
		if (e->d_name[0] == '.' || fd <= 2 || fd == dirfd(d))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		broken("descriptor %d is open on %s", fd, target);
	}
	/* A standard stream must not lead to a directory either. */
	for (int fd = 0; fd <= 2; fd++) {
		struct stat sb;
		if (fstat(fd, &sb) == 0 && S_ISDIR(sb.st_mode))
			broken("descriptor %d is a directory", fd);
	}
	held("only 0 to 2 are open");
}
