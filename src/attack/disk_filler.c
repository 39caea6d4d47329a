/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills every directory that it can write to, up to twice the BRIG_CANARY_DISK bytes that the runner
 * allows in all.
 */
#include "attack/attack.h"

static char block[1024 * 1024];

/* Bytes that were written below dir, at most max. The file stays. */
static unsigned long long fill(const char *dir, unsigned long long max)
{
	char path[128];
	unsigned long long n = 0;
	snprintf(path, sizeof(path), "%s/.attack-fill-XXXXXX", dir);
	int fd = mkstemp(path);
	while (fd >= 0 && n < max) {
		ssize_t k = write(fd, block, sizeof(block));
		if (k <= 0)
			break;
		n += (unsigned long long)k;
	}
	return n;
}

ATTACK(disk_filler)
{
	static const char *const places[] = { "/tmp", "/var/tmp", "/dev/shm", "/home", "/run",
					      "/root", "/usr",	   "/etc",     "/var",	"/",
					      "/dev",  "/opt",	   "/mnt" };
	unsigned long long limit = strtoull(canary("BRIG_CANARY_DISK"), NULL, 10), n = 0;
	memset(block, 0x55, sizeof(block));
	for (size_t i = 0; i < N(places) && n < 2 * limit; i++)
		n += fill(places[i], 2 * limit - n);
	if (n >= 2 * limit)
		broken("%llu MiB were written, and %llu are allowed", n >> 20, limit >> 20);
	held("after %llu MiB: %s", n >> 20, strerror(errno));
}
