/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h: can this host run microVMs? */
#ifndef BRIG_MICROVM_PROBE_H
#define BRIG_MICROVM_PROBE_H

#include <stdint.h>

/* Turns of the loop that is timed, and the CPU time that is too much for them. A processor needs 0.1 ms at
 * most; one that is itself emulated (QEMU without acceleration) 3 to 12 ms, 40 on a busy host; a KVM that emulates its guests
 * instruction by instruction (kvm_pvm and a guest that is not made for it) 80 ms. */
#define KVM_PROBE_TURNS 50000u
#define KVM_PROBE_SLOW_US 55000u

/* A descriptor of /dev/kvm with the right API, or -errno (-ENOSYS: another API version). */
int kvm_open(void);
/* CPU time that a guest in long mode takes for KVM_PROBE_TURNS turns of an empty loop, the least of up to five
 * tries; not time, which other processes take as well. 0, or -errno: no guest can be made, or it did not come to its end in 5 s
 * (-ETIMEDOUT). */
int kvm_probe_loop(int kvm, uint64_t *ret_us);

#endif
