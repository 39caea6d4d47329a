/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest_tier.h: attacks whose own word does not count in a tier, and why.
 *
 * Most attacks look for what the kernel that they run on lets them do, and in a container that is the
 * host's. In a tier with a kernel of its own the same success may be no more than that kernel's business.
 * Such an attack runs all the same, and is judged by the host alone: planted files, listeners and the
 * neighbour (canary.h).
 */
#ifndef BRIG_CLI_SELFTEST_TIER_H
#define BRIG_CLI_SELFTEST_TIER_H

enum attack_judge {
	JUDGE_BOTH, /* the attack's own word, and the host */
	JUDGE_HOST, /* the host alone */
	JUDGE_END,  /* the end of its own sandbox is contained, too */
};

/* *ret_why: the reason, if it is not JUDGE_BOTH. */
enum attack_judge selftest_judge(const char *tier, const char *attack, const char **ret_why);

#endif
