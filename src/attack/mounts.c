/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the mount table: it must show neither devices nor paths nor file systems of the host, and
 * each mount must refuse set-user-ID programs.
 */
#include "attack/attack.h"

#include <sys/statvfs.h>

/* id parent dev ROOT POINT options .. - TYPE SOURCE super-options (Documentation/filesystems/proc)
 */
/* Without root a device node cannot be made: those of device_nodes.c are then the host's, each of
 * them alone. */
static bool is_device(const char *root, const char *point)
{
	static const char *const names[] = { "/null",	"/zero",    "/full",
					     "/random", "/urandom", "/tty" };
	/* The mask of a file. */
	if (strcmp(root, "/null") == 0 && strncmp(point, "/proc/", 6) == 0)
		return true;
	for (size_t i = 0; i < N(names); i++)
		if (strcmp(root, names[i]) == 0 && strncmp(point, "/dev", 4) == 0 &&
		    strcmp(point + 4, names[i]) == 0)
			return true;
	return false;
}

static void check_line(char *line, const char *own)
{
	static const char *const types[] = { "overlay", "tmpfs", "proc", "devpts" };
	char *field[32] = { NULL }, *save = NULL;
	unsigned n = 0, dash = 0;
	for (char *w = strtok_r(line, " ", &save); w && n < N(field);
	     w = strtok_r(NULL, " ", &save)) {
		if (strcmp(w, "-") == 0)
			dash = n;
		field[n++] = w;
	}
	if (dash < 6 || dash + 3 >= n)
		untried("cannot read the mount table");
	const char *point = field[4];
	/* The volume with this program is the host's by its owner's wish. */
	if (strcmp(point, own) == 0)
		return;
	const char *type = field[dash + 1], *source = field[dash + 2];
	if (strcmp(type, "devtmpfs") == 0 && is_device(field[3], point))
		return; /* one node, and no program */
	bool known = false;
	for (size_t i = 0; i < N(types); i++)
		known |= strcmp(type, types[i]) == 0;
	if (!known)
		broken("%s is a file system of type %s, from %s", point, type, source);
	if (source[0] == '/')
		broken("%s comes from %s", point, source);
	if (strstr(field[dash + 3], "=/"))
		broken("%s shows a path: %s", point, field[dash + 3]);
	if (!strstr(field[5], "nosuid"))
		broken("%s takes set-user-ID programs", point);
	if (!strstr(field[5], "nodev") && strncmp(point, "/dev", 4) != 0 &&
	    strncmp(point, "/proc/", 6) != 0)
		broken("%s takes devices", point);
}

ATTACK(mounts)
{
	char *line = NULL, own[512];
	size_t cap = 0;
	unsigned count = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	own[n < 0 ? 0 : n] = '\0';
	if (!f)
		untried("mountinfo: %s", strerror(errno));
	for (; getline(&line, &cap, f) > 0; count++) {
		line[strcspn(line, "\n")] = '\0';
		check_line(line, own);
	}
	held("%u mounts, none of the host", count);
}
