/* SPDX-License-Identifier: Apache-2.0 */
/* host.h: what of this host a microVM is made of: programs, a kernel with its modules, KVM. */
#ifndef BRIG_MICROVM_HOST_H
#define BRIG_MICROVM_HOST_H

#include "base/err.h"

/* X(member, file in the folder of brig's programs). */
#define MICROVM_PROGRAMS(X) X(vmm, "brig-vmm") X(init, "brig-guest-init") X(pack, "brig-guest-pack") X(agent, "brig-agent")

struct microvm_host {
#define X(member, file) char member[512];
	MICROVM_PROGRAMS(X)
#undef X
	char mke2fs[64];
	char kernel[512], modules[512]; /* the file, and lib/modules/RELEASE of it */
	char release[64];
};

/* Finds all of it. kernel: the operator's choice, NULL or "" = the newest cloud kernel of Debian in /boot.
 * agent: brig-agent, whose folder has the others; NULL: they are not looked for. 0, or -1 with err set: what is
 * missing, and how to get it. */
int microvm_host_find(const char *kernel, const char *agent, struct microvm_host *ret, struct brig_err *err);
/* Whether guests run on the processor here. */
int microvm_kvm_check(struct brig_err *err);

#endif
