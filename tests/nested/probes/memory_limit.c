/* SPDX-License-Identifier: Apache-2.0 */
/* memory.max with memory.oom.group: who passes the limit is killed with all of its group, and
 * memory.events proves it, so that an out-of-memory kill is told apart from any other SIGKILL. Pages
 * of a tmpfs count, and survive the process that wrote them. */
#include <sys/mman.h>
#include <sys/mount.h>

#include "probe.h"

static void eat(size_t bytes)
{
	uint8_t *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(m != MAP_FAILED);
	for (size_t i = 0; i < bytes; i += 4096)
		m[i] = 1;
}

static int fill(void)
{
	static char page[65536];
	int fd = open("/tmp/probe/fill", O_CREAT | O_WRONLY, 0600);

	must(fd >= 0);
	for (int i = 0; i < 64; i++)
		must(write(fd, page, sizeof(page)) == sizeof(page));
	return 0;
}

int main(void)
{
	char path[64];
	int group = group_new(path);

	must(spew(group, "memory.max", "16777216") == 0);
	must(spew(group, "memory.oom.group", "1") == 0);
	if (faccessat(group, "memory.swap.max", F_OK, 0) == 0)
		must(spew(group, "memory.swap.max", "0") == 0);

	pid_t idle = clone_into(0, group);
	if (idle == 0) {
		for (;;)
			pause();
	}
	pid_t glutton = clone_into(0, group);
	if (glutton == 0) {
		eat(64 << 20);
		_exit(0);
	}
	int st = reap(glutton);
	must(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	st = reap(idle);
	must(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	must(keyed(group, "memory.events", "oom_group_kill") == 1);
	/* With oom.group the one that the kernel picked is counted twice: proof, but no head count. */
	long long kills = keyed(group, "memory.events", "oom_kill");
	printf("%lld kills counted for 2 processes\n", kills);
	must(kills >= 2);
	must(atoll(slurp(group, "memory.peak")) >= 15 << 20);

	/* A plain SIGKILL leaves no such trace. */
	pid_t victim = clone_into(0, group);
	if (victim == 0) {
		for (;;)
			pause();
	}
	must(kill(victim, SIGKILL) == 0);
	reap(victim);
	must(keyed(group, "memory.events", "oom_kill") == kills);

	must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	must((mkdir("/tmp/probe", 0700) == 0 || errno == EEXIST) &&
	     mount("probe", "/tmp/probe", "tmpfs", 0, "size=8m") == 0);
	in_child(0, group, fill);
	must(keyed(group, "memory.stat", "shmem") >= 4 << 20);
	must(umount2("/tmp/probe", 0) == 0 && rmdir("/tmp/probe") == 0);
	must(keyed(group, "memory.stat", "shmem") < 1 << 20);
	group_end(path);
	return 0;
}
