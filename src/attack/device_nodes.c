/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at every entry of /dev: the harmless ones of the list, with their true numbers, and
 * nothing else.
 */
#include "attack/attack.h"

#include <dirent.h>
#include <sys/sysmacros.h>

static const struct {
	const char *name;
	unsigned major, minor; /* 0, 0: a directory or link */
} expected[] = {
	{ "null", 1, 3 },    { "zero", 1, 5 },	 { "full", 1, 7 },    { "random", 1, 8 },
	{ "urandom", 1, 9 }, { "tty", 5, 0 },	 { "console", 0, 0 }, { "fd", 0, 0 },
	{ "stdin", 0, 0 },   { "stdout", 0, 0 }, { "stderr", 0, 0 },  { "ptmx", 0, 0 },
	{ "pts", 0, 0 },     { "shm", 0, 0 },
};

ATTACK(device_nodes)
{
	unsigned count = 0;
	DIR *d = opendir("/dev");
	if (!d)
		untried("/dev: %s", strerror(errno));
	for (struct dirent *e; (e = readdir(d));) {
		struct stat sb;
		size_t i = 0;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		while (i < N(expected) && strcmp(expected[i].name, e->d_name) != 0)
			i++;
		if (i == N(expected))
			broken("/dev/%s is there", e->d_name);
		if (fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
			untried("/dev/%s: %s", e->d_name, strerror(errno));
		bool node = S_ISCHR(sb.st_mode) || S_ISBLK(sb.st_mode);
		if (node != (expected[i].major != 0) ||
		    (node && sb.st_rdev != makedev(expected[i].major, expected[i].minor)))
			broken("/dev/%s is device %u:%u", e->d_name, major(sb.st_rdev),
			       minor(sb.st_rdev));
		count++;
	}
	held("%u entries, all of them expected", count);
}
