/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at the namespaces that it is in: none may be one that the kernel made at boot, nor one that
 * the runner names as the host's.
 */
#include "attack/attack.h"

/* Their inodes are constants: include/linux/proc_ns.h, and from Linux 6.18 on uapi/linux/nsfs.h,
 * which adds those of mnt and net. The time namespace is left to uptime.c. */
static const struct {
	const char *name;
	unsigned initial;
} kinds[] = {
	{ "user", 0xeffffffd },	  { "pid", 0xeffffffc }, { "mnt", 0xeffffff8 },
	{ "net", 0xeffffff9 },	  { "ipc", 0xefffffff }, { "uts", 0xeffffffe },
	{ "cgroup", 0xeffffffb },
};

ATTACK(namespaces)
{
	const char *host = canary("BRIG_CANARY_NS");
	char path[64], own[64], initial[64];
	for (size_t i = 0; i < N(kinds); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i].name);
		snprintf(initial, sizeof(initial), "%s:[%u]", kinds[i].name, kinds[i].initial);
		ssize_t n = readlink(path, own, sizeof(own) - 1);
		if (n < 0)
			untried("%s: %s", path, strerror(errno));
		own[n] = '\0';
		if (strcmp(own, initial) == 0 || strstr(host, own))
			broken("%s is the host's", own);
	}
	held("%zu namespaces, none the host's", N(kinds));
}
