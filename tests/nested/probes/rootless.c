/* SPDX-License-Identifier: Apache-2.0 */
/* What an ordinary user may do on this kernel without any privileged program: a user namespace with
 * its own id, and in it mount, pid and network namespaces, a tmpfs, an overlay over the host's /usr
 * (Linux 5.11), proc of the new pid namespace. What it may not: a second id, a cgroup. */
#include <sys/mount.h>
#include <sys/prctl.h>

#include "probe.h"

#define USER 12345

static int third(void)
{
	must(getpid() == 1);
	must(mount("t", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=4m") == 0);
	must(mkdir("/tmp/u", 0755) == 0 && mkdir("/tmp/w", 0755) == 0 && mkdir("/tmp/m", 0755) == 0 &&
	     mkdir("/tmp/proc", 0755) == 0);
	must(mount("o", "/tmp/m", "overlay", 0, "lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w") == 0);
	must(mkdir("/tmp/m/new", 0755) == 0);
	must(mount("p", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0);
	return 0;
}

static int user(void)
{
	char map[64];

	must(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
	must(prctl(PR_SET_DUMPABLE, 1) == 0); /* else /proc/self stays root's after the change of ids */
	must(mkdir("/sys/fs/cgroup/mine", 0755) != 0);
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
		     CLONE_NEWUTS | CLONE_NEWCGROUP) == 0);
	snprintf(map, sizeof(map), "0 %d 65536", USER);
	must(spew(AT_FDCWD, "/proc/self/uid_map", map) != 0 && errno == EPERM);
	snprintf(map, sizeof(map), "0 %d 1", USER);
	must(spew(AT_FDCWD, "/proc/self/uid_map", map) == 0);
	must(spew(AT_FDCWD, "/proc/self/setgroups", "deny") == 0);
	must(spew(AT_FDCWD, "/proc/self/gid_map", map) == 0);
	in_child(0, -1, third);
	return 0;
}

int main(void)
{
	if (strcmp(slurp(AT_FDCWD, "/proc/sys/kernel/unprivileged_userns_clone"), "0\n") == 0) {
		fprintf(stderr, "kernel.unprivileged_userns_clone is 0\n");
		return 77;
	}
	in_child(0, -1, user);
	return 0;
}
