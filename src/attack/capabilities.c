/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads its sets of capabilities: none in any set for a user, and for root inside only those that
 * its user namespace makes harmless.
 */
#include "attack/attack.h"

/* capability.h: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SYS_CHROOT. Not taken from the
 * engine's list: this one says what must hold. */
#define HARMLESS                                                                             \
	(1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 7 | \
	 1ull << 18)

ATTACK(capabilities)
{
	char line[256];
	unsigned sets = 0;
	uint64_t most = geteuid() == 0 ? HARMLESS : 0;
	FILE *f = fopen("/proc/self/status", "re");
	if (!f)
		untried("status: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Cap", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		sets++;
		if (strtoull(line + 7, NULL, 16) & ~most)
			broken("%s", line);
	}
	if (sets < 5)
		untried("%u sets in /proc/self/status", sets);
	held("uid %u, within %llx in all %u sets", geteuid(), (unsigned long long)most, sets);
}
