/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for System V memory, semaphores and queues of anybody else: any that exist when a sandbox
 * has just started. Makes one of its own, too, to see that the search finds it.
 */
#include "attack/attack.h"

#include <sys/ipc.h>
#include <sys/shm.h>

/* Entries of one table; the first line is its head. */
static unsigned entries(const char *path)
{
	char line[512];
	unsigned lines = 0;
	FILE *f = fopen(path, "re");
	if (!f)
		untried("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f))
		lines++;
	fclose(f);
	return lines ? lines - 1 : 0;
}

ATTACK(shared_memory)
{
	static const char *const tables[] = { "/proc/sysvipc/sem", "/proc/sysvipc/msg",
					      "/proc/sysvipc/shm" };
	for (size_t i = 0; i < N(tables); i++)
		if (entries(tables[i]) != 0)
			broken("%s has %u entries", tables[i], entries(tables[i]));
	int own = shmget(IPC_PRIVATE, 4096, 0600);
	if (own < 0)
		untried("a segment: %s", strerror(errno));
	unsigned after = entries(tables[2]);
	shmctl(own, IPC_RMID, NULL);
	if (after != 1)
		untried("the own segment was not found");
	held("the tables were empty");
}
