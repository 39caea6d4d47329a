/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raises its hard limits, and looks for those that must be closed: core files, real-time priority,
 * message queues.
 */
#include "attack/attack.h"

#include <sys/resource.h>

ATTACK(resource_limits)
{
	static const struct {
		int what;
		const char *name;
	} closed[] = { { RLIMIT_CORE, "core" },
		       { RLIMIT_RTPRIO, "rtprio" },
		       { RLIMIT_MSGQUEUE, "msgqueue" },
		       { RLIMIT_NICE, "nice" } };
	struct rlimit l;
	unsigned finite = 0;
	for (int what = 0; what < 16; what++) {
		if (getrlimit(what, &l) < 0 || l.rlim_max == RLIM_INFINITY)
			continue;
		finite++;
		l.rlim_max++;
		if (setrlimit(what, &l) == 0)
			broken("hard limit %d was raised to %llu", what,
			       (unsigned long long)l.rlim_max);
	}
	for (size_t i = 0; i < N(closed); i++)
		if (getrlimit(closed[i].what, &l) == 0 && l.rlim_max != 0)
			broken("the limit of %s is %llu", closed[i].name,
			       (unsigned long long)l.rlim_max);
	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_max == RLIM_INFINITY)
		broken("descriptors are unlimited");
	held("%u limits stay", finite);
}
