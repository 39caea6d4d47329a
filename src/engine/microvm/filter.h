/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h: the system-call filters of brig-vmm's threads: vmm.seccomp and vcpu.seccomp. */
#ifndef BRIG_MICROVM_FILTER_H
#define BRIG_MICROVM_FILTER_H

/* Of the calling thread, for good. 0 or -errno. */
int filter_vmm(void);
int filter_vcpu(void);

#endif
