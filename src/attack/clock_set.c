/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets the clocks of the host, and its time zone.
 */
#include "attack/attack.h"

#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

ATTACK(clock_set)
{
	struct timespec now;
	struct timeval tv;
	struct timex x;
	memset(&x, 0, sizeof(x));
	x.modes = ADJ_TICK;
	x.tick = 10000;
	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		untried("read the clock: %s", strerror(errno));
	tv.tv_sec = now.tv_sec;
	tv.tv_usec = now.tv_nsec / 1000;
	if (clock_settime(CLOCK_REALTIME, &now) == 0 || syscall(SYS_settimeofday, &tv, NULL) == 0)
		broken("the clock was set");
	if (adjtimex(&x) >= 0)
		broken("the clock was tuned");
	held("%s", strerror(errno));
}
