/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/child.h"

#include <errno.h>
#include <sys/wait.h>

#include "agent/core.h"

void child_add(struct agent *a, struct child *c, pid_t pid)
{
	c->pid = pid;
	c->next = a->children;
	c->listed = true;
	a->children = c;
}

void child_remove(struct agent *a, struct child *c)
{
	struct child **at = &a->children;
	if (!c->listed)
		return;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->listed = false;
}

void child_reap(struct agent *a)
{
	for (;;) {
		struct rusage ru;
		int status;
		pid_t pid = wait4(-1, &status, WNOHANG | __WALL, &ru);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return;
		for (struct child *c = a->children; c; c = c->next) {
			if (c->pid != pid)
				continue;
			child_remove(a, c);
			c->reaped(c, status, &ru);
			break;
		}
	}
}
