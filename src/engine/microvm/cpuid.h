/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid.h: what a guest is told of its CPUs. */
#ifndef BRIG_MICROVM_CPUID_H
#define BRIG_MICROVM_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPUID_ENTRIES_MAX 128u
/* struct kvm_cpuid2 with room for its entries. */
struct cpuid {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entry[CPUID_ENTRIES_MAX];
};
_Static_assert(offsetof(struct cpuid, entry) == sizeof(struct kvm_cpuid2), "as the kernel has it");

/* Turns what KVM supports into what vCPU `id` of `n` sees: no nested virtualisation, no performance
 * counters, its own APIC id, a package of n cores. tsc_deadline: KVM's local APIC has that timer. */
void cpuid_shape(struct cpuid *c, unsigned id, unsigned n, bool tsc_deadline);

#endif
