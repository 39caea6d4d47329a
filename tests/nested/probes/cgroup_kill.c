/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.kill ends every process of a group, whatever it did to escape: double-forked, a session of
 * its own, stopped, ignoring signals, in a pid namespace; and cgroup.events tells when it is empty. */
#include "probe.h"

static void linger(void)
{
	struct sigaction ign = { .sa_handler = SIG_IGN };

	for (int s = 1; s < 32; s++)
		sigaction(s, &ign, NULL);
	for (;;)
		pause();
}

static int scatter(void)
{
	for (int i = 0; i < 4; i++) {
		pid_t pid = i == 3 ? clone_into(CLONE_NEWPID, -1) : fork();
		if (pid == 0) {
			setsid();
			if (fork() == 0)
				linger();
			if (i == 1)
				raise(SIGSTOP);
			if (i == 2)
				_exit(0);
			linger();
		}
	}
	return 0;
}

int main(void)
{
	char path[64];
	int group = group_new(path);

	in_child(0, group, scatter);
	int ev = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	must(ev >= 0);
	uint64_t end = now_ms() + 5000;
	while (strtol(slurp(group, "pids.current"), NULL, 10) < 7 && now_ms() < end)
		usleep(1000);
	must(keyed(group, "cgroup.events", "populated") == 1);
	must(spew(group, "cgroup.kill", "1") == 0);
	uint64_t killed = now_ms();
	while (keyed(group, "cgroup.events", "populated") != 0) {
		struct pollfd p = { .fd = ev, .events = POLLPRI };
		must(now_ms() < killed + 5000);
		poll(&p, 1, 100);
		must(lseek(ev, 0, SEEK_SET) == 0 && read(ev, (char[64]){ 0 }, 64) > 0);
	}
	printf("empty %llu ms after the kill\n", (unsigned long long)(now_ms() - killed));
	close(ev);
	group_end(path);
	return 0;
}
