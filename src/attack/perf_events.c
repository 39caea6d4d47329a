/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts events of its own process: a wide interface, and a precise clock for side channels.
 */
#include "attack/attack.h"

#include <linux/perf_event.h>

ATTACK(perf_events)
{
	struct perf_event_attr attr;
	memset(&attr, 0, sizeof(attr));
	attr.type = PERF_TYPE_SOFTWARE;
	attr.size = sizeof(attr);
	attr.config = PERF_COUNT_SW_TASK_CLOCK;
	attr.exclude_kernel = attr.exclude_hv = 1;
	if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) >= 0)
		broken("a counter");
	held("%s", strerror(errno));
}
