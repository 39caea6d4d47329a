/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_tier.c: see selftest_tier.h. */
#include "cli/selftest_tier.h"

#include <stddef.h>
#include <string.h>

static const char own_kernel[] = "it is gVisor's own kernel that offers this, not the host's";
static const char own_files[] = "what it sees there is made up by gVisor's kernel";

static const struct {
	const char *attack;
	enum attack_judge judge;
	const char *why;
} gvisor[] = {
	{ "io-uring", JUDGE_HOST, own_kernel },
	{ "netlink", JUDGE_HOST, own_kernel },
	{ "socket-options", JUDGE_HOST, own_kernel },
	{ "make-device", JUDGE_HOST, own_kernel },
	{ "new-namespace", JUDGE_HOST, own_kernel },
	{ "oom-score", JUDGE_HOST, own_kernel },
	{ "resource-limits", JUDGE_HOST, own_kernel },
	{ "id-maps", JUDGE_HOST, own_files },
	{ "masked-paths", JUDGE_HOST, own_files },
	{ "proc-write", JUDGE_HOST, own_files },
	{ "device-nodes", JUDGE_HOST, own_files },
	{ "host-facts", JUDGE_HOST, own_files },
	{ "kernel-log", JUDGE_HOST, own_files },
	{ "sysfs", JUDGE_HOST, own_files },
	{ "mounts", JUDGE_HOST, "every file system there is gVisor's; the one behind it is not shown" },
	{ "shared-locks", JUDGE_HOST, "locks are kept by gVisor's kernel, and none reaches the host" },
	{ "agent-memory", JUDGE_HOST, "addresses can be read of any process there, and no memory" },
	{ "set-user-id", JUDGE_HOST, "gVisor sets no_new_privs for everything, whatever a mount says" },
	{ "disk-filler", JUDGE_HOST, "root may write to /dev, which is memory and counts as such" },
	{ "kill-init", JUDGE_END, "root there may kill the first process" },
	{ "fork-bomb", JUDGE_END, "the limit of host tasks ends gVisor's kernel" },
	{ "memory-hog", JUDGE_END, "the limit of memory ends gVisor's kernel" },
};

enum attack_judge selftest_judge(const char *tier, const char *attack, const char **ret_why)
{
	if (strcmp(tier, "gvisor") == 0)
		for (size_t i = 0; i < sizeof(gvisor) / sizeof(gvisor[0]); i++)
			if (strcmp(gvisor[i].attack, attack) == 0) {
				*ret_why = gvisor[i].why;
				return gvisor[i].judge;
			}
	return JUDGE_BOTH;
}
