/* SPDX-License-Identifier: Apache-2.0 */
/* clone3(CLONE_INTO_CGROUP): the child is in the group, with its limits, from its first instruction,
 * and the parent never was. */
#include "probe.h"

int main(void)
{
	char path[64], want[80];
	int group = group_new(path);

	must(spew(group, "pids.max", "1") == 0);
	pid_t pid = clone_into(0, group);
	must(pid >= 0);
	if (pid == 0) {
		snprintf(want, sizeof(want), "0::%s\n", path + strlen("/sys/fs/cgroup"));
		must(!strcmp(slurp(AT_FDCWD, "/proc/self/cgroup"), want));
		must(fork() < 0 && errno == EAGAIN);
		_exit(0);
	}
	must(!strstr(slurp(AT_FDCWD, "/proc/self/cgroup"), "probe-"));
	must(reap(pid) == 0);
	must(keyed(group, "pids.events", "max") == 1);
	group_end(path);
	return 0;
}
