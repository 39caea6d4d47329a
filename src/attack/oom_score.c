/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes itself less likely to be chosen when memory runs out than a process of the host is, whose
 * value is 0 if nobody has set it. Between that and the value it was started with it is free.
 */
#include "attack/attack.h"

ATTACK(oom_score)
{
	char now[32];
	if (read_some("/proc/self/oom_score_adj", now, sizeof(now)) <= 0)
		untried("oom_score_adj: %s", strerror(errno));
	int value = atoi(now), fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (value < 0)
		broken("it is %d from the start", value);
	static const char *const lower[] = { "-1", "-500", "-1000" };
	for (size_t i = 0; fd >= 0 && i < N(lower); i++)
		if (write(fd, lower[i], strlen(lower[i])) > 0)
			broken("it was lowered from %d to %s", value, lower[i]);
	held("started with %d, to lower it below 0: %s", value, strerror(errno));
}
