/* SPDX-License-Identifier: Apache-2.0 */
/* A time namespace gives its processes an uptime of their own: the offset is written once, before
 * anybody is inside, and applies to the children. */
#include <sys/sysinfo.h>

#include "probe.h"

static int child(void)
{
	struct timespec ts;
	struct sysinfo si;

	must(clock_gettime(CLOCK_BOOTTIME, &ts) == 0 && ts.tv_sec >= 1000000);
	must(sysinfo(&si) == 0 && si.uptime >= 1000000);
	return 0;
}

int main(void)
{
	must(unshare(CLONE_NEWTIME) == 0);
	must(spew(AT_FDCWD, "/proc/self/timens_offsets", "boottime 1000000 0\n") == 0);
	in_child(0, -1, child);
	must(spew(AT_FDCWD, "/proc/self/timens_offsets", "boottime 5 0\n") != 0 && errno == EACCES);
	return 0;
}
