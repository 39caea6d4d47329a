/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a System V memory segment of the host by its key.
 *
 * CONTROL: outside-root
 */
#define ATTACK "shared-memory"
#include "attack.h"

#include <sys/ipc.h>
#include <sys/shm.h>

int main(void)
{
	key_t key = (key_t)strtol(canary("BRIG_CANARY_SHM"), NULL, 0);
	if (shmget(key, 0, 0) >= 0)
		broken("segment 0x%x", (unsigned)key);
	held("%s", strerror(errno));
}
