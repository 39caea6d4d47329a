/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h: what holds for a brig-vmm, as the host's kernel says, before its guest runs. */
#ifndef BRIG_MICROVM_WATCH_H
#define BRIG_MICROVM_WATCH_H

#include <stddef.h>
#include <stdint.h>

struct microvm_want {
	uint32_t uid, gid;
	unsigned threads;
};

/* pid: a child that was not reaped. Every thread has these ids, no group beside, no capability, a filter, and
 * no way to gain anything; the process's mount, network, IPC and UTS namespaces are not the caller's, and its
 * root is empty. 0; 1 with the difference in why; -errno with what could not be read. */
int microvm_watch(int pid, const struct microvm_want *w, char *why, size_t cap);

#endif
