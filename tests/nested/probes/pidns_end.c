/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the first process of a pid namespace is the end of all, also of those that entered it
 * from outside; and waiting for the first one means that none of them runs any more. */
#include "probe.h"

int main(void)
{
	int p[2];
	char byte;

	must(pipe2(p, O_CLOEXEC) == 0);
	pid_t init = clone_into(CLONE_NEWPID, -1);
	must(init >= 0);
	if (init == 0) {
		close(p[0]);
		must(getpid() == 1);
		for (int i = 0; i < 5; i++)
			if (fork() == 0) {
				setsid();
				if (fork() == 0)
					for (;;)
						pause();
				raise(SIGSTOP);
			}
		must(write(p[1], "r", 1) == 1);
		for (;;)
			pause();
	}
	close(p[1]);
	must(read(p[0], &byte, 1) == 1);
	must(kill(init, SIGKILL) == 0);
	must(WIFSIGNALED(reap(init)));
	/* Everybody inside held the write end. */
	struct pollfd f = { .fd = p[0], .events = POLLIN };
	must(poll(&f, 1, 0) == 1 && (f.revents & POLLHUP));
	return 0;
}
