/* SPDX-License-Identifier: Apache-2.0 */
/*
 * brig-agent: the first process inside a sandbox. Four entrances: without arguments it serves the
 * channel on descriptor 3 (tiers that exec it); as --guest PORT the same in a microVM, where the host can
 * be called again and descriptor 4 is the writable layer (engine/microvm/guest/init.c); as --on-stdin the
 * channel is descriptor 0, the one place where runsc passes it on (engine/gvisor/keeper.h); as --stage it is
 * the template process of the container tier, whose clones become agents without an exec
 * (engine/container/stage.h).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "engine/container/stage.h"
#include "engine/gvisor/keeper.h"

enum { CHANNEL = 3, LAYER = 4 };

int main(int argc, char **argv)
{
	agent_prepare();
	if (argc == 1)
		return agent_main(CHANNEL, -1, -1, -1, NULL);
	if (argc == 2 && strcmp(argv[1], "--stage") == 0)
		return stage_main(CHANNEL, 0);
	if (argc == 2 && strcmp(argv[1], "--stage-rootless") == 0)
		return stage_main(CHANNEL, 1);
	if (argc == 2 && strcmp(argv[1], KEEPER_AGENT_MODE) == 0) {
		int null = dup2(0, CHANNEL) == CHANNEL ? open("/dev/null", O_RDWR) : -1;
		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			return 1;
		fd_set_cloexec(CHANNEL, 1);
		fd_close_from(CHANNEL + 1);
		return agent_main(CHANNEL, -1, -1, -1, NULL);
	}
	if (argc == 3 && strcmp(argv[1], "--guest") == 0) {
		guest_port_set((unsigned)strtoul(argv[2], NULL, 10));
		fd_set_cloexec(LAYER, 1);
		return agent_main(CHANNEL, LAYER, -1, -1, guest_redial);
	}
	fputs("usage: brig-agent\nThe first process of a sandbox; not meant to be run by hand.\n",
	      stderr);
	return 2;
}
