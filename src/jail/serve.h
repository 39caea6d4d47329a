/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h: the life of a jaild that has a broker. */
#ifndef BRIG_JAIL_SERVE_H
#define BRIG_JAIL_SERVE_H

#include <stdint.h>

struct serve_options {
	int broker;           /* socket to brigd */
	int control;          /* resident: to the supervisor (keep_proto.h); -1 = there is none */
	int resume;           /* a former jaild's sandboxes are to be taken over from there */
	const char *agent;    /* program of the stage */
	const char *data;     /* image store; NULL = none */
	const char *guest_kernel; /* of microVMs; NULL = the newest of /boot */
	const char *delegated; /* cgroup directory, see cgroup_host_open */
	int ready;            /* slots kept ready ahead of requests */
	uint32_t tiers;	      /* those to look for on this host: 1 << enum brig_tier */
	int once;             /* one request is expected: the slot made at start is all that is made ahead */
	int net; /* socket to say jail_net on; -1 = no sandbox has a network */
	int net_ready; /* slots with a link, beside the others */
	int rootless;
	uint32_t sub_ids;
};

/* Serves until the broker's socket ends and, where there is one, the control's; removes everything, and
 * returns the exit code. */
int serve_run(const struct serve_options *o);

#endif
