/* SPDX-License-Identifier: Apache-2.0 */
/* child.h: the processes that the agent started itself, and their end. */
#ifndef BRIG_AGENT_CHILD_H
#define BRIG_AGENT_CHILD_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

struct agent;

/* Embedded in its owner. The child leads its own session and process group. */
struct child {
	pid_t pid;
	/* Who asked for it, where that is a process inside (sudo); 0 = the host. The chain of
	 * parents of what it starts continues there. */
	pid_t asker;
	/* The process has been reaped; the child is out of the list already. ru counts it and the
	 * children it waited for. */
	void (*reaped)(struct child *c, int status, const struct rusage *ru);
	struct child *next;
	bool listed;
};

void child_add(struct agent *a, struct child *c, pid_t pid);
void child_remove(struct agent *a, struct child *c);
/* Reaps everything that has ended: children, and orphans that were handed to the agent. */
void child_reap(struct agent *a);

#endif
