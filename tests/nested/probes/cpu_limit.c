/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.max holds a busy loop to its share, cpu.stat counts time and throttling, and cgroup.freeze stops
 * a group without its cooperation. */
#include "probe.h"

static uint64_t usage_us(int group)
{
	return (uint64_t)keyed(group, "cpu.stat", "usage_usec");
}

int main(void)
{
	char path[64];
	int group = group_new(path);

	must(spew(group, "cpu.max", "10000 100000") == 0);
	pid_t pid = clone_into(0, group);
	if (pid == 0) {
		for (volatile unsigned i = 0;; i++)
			;
	}
	uint64_t t0 = now_ms();
	while (keyed(group, "cpu.stat", "nr_throttled") < 5)
		must(now_ms() < t0 + 10000);
	uint64_t wall = now_ms() - t0, cpu = usage_us(group) / 1000;
	printf("%llu ms of CPU in %llu ms at a limit of 10%%\n", (unsigned long long)cpu,
	       (unsigned long long)wall);
	/* Twice the share: the period that is under way may already be used up. */
	must(cpu <= wall / 5 + 20);
	must(keyed(group, "cpu.stat", "throttled_usec") > 0);

	must(spew(group, "cpu.max", "max 100000") == 0);
	must(spew(group, "cgroup.freeze", "1") == 0);
	t0 = now_ms();
	while (keyed(group, "cgroup.events", "frozen") != 1)
		must(now_ms() < t0 + 5000);
	uint64_t before = usage_us(group);
	usleep(200000);
	must(usage_us(group) - before < 5000);
	must(spew(group, "cgroup.kill", "1") == 0); /* a frozen group can be killed */
	reap(pid);
	group_end(path);
	return 0;
}
