/* SPDX-License-Identifier: Apache-2.0 */
/* seccomp_compile.h: from a profile to the program that the kernel runs. */
#ifndef BRIG_TOOLS_SECCOMP_COMPILE_H
#define BRIG_TOOLS_SECCOMP_COMPILE_H

#include <linux/filter.h>

#include "seccomp_profile.h"

struct filter {
	struct sock_filter insns[BPF_MAXINSNS];
	unsigned n;
	unsigned depth; /* instructions on the longest path */
};

/* 0, or -1 with err set: the program would be longer than the kernel takes, or out of memory. */
int filter_compile(const struct profile *p, struct filter *ret, struct brig_err *err);

#endif
