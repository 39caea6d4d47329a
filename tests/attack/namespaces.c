/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the namespaces that it is in with those of the host.
 *
 * CONTROL: outside-root
 */
#define ATTACK "namespaces"
#include "attack.h"

int main(void)
{
	/* cgroup and time are missing on some kernels; their own attacks look at what they hide. */
	static const char *const kinds[] = { "user", "pid", "mnt", "net", "ipc", "uts" };
	const char *host = canary("BRIG_CANARY_NS");
	char path[64], own[64];
	for (size_t i = 0; i < N(kinds); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		ssize_t n = readlink(path, own, sizeof(own) - 1);
		if (n < 0)
			untried("%s: %s", path, strerror(errno));
		own[n] = '\0';
		if (strstr(host, own))
			broken("%s is the host's", own);
	}
	held("%zu namespaces, none the host's", N(kinds));
}
