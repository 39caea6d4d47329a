/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * KVM's own list is the base: it knows what the CPU and itself can do. Taken away is what would widen
 * the host's surface and no sandbox needs: VMX and SVM (nested virtualisation was the way into KVM's
 * shadow MMU more than once), the performance counters, and all of KVM's paravirtual features but its
 * clock and those that save exits. Added is what only the VMM knows: identities and topology.
 */
#include "engine/microvm/cpuid.h"

#define BIT(n) (1u << (n))
/* Leaf 0x40000001: clock (old and new registers), no port 0x80 delay, end-of-interrupt without exit,
 * the clock is stable. */
#define KVM_FEATURES_KEPT (BIT(0) | BIT(1) | BIT(3) | BIT(6) | BIT(24))

static uint32_t log2_up(uint32_t n)
{
	uint32_t r = 0;
	while (BIT(r) < n)
		r++;
	return r;
}

static void topology(struct kvm_cpuid_entry2 *e, unsigned id, unsigned n)
{
	enum { THREAD = 1, CORE = 2 };
	e->eax = e->ebx = 0;
	e->ecx = e->index & 0xff;
	e->edx = id;
	if (e->index == 0) {
		e->ebx = 1;
		e->ecx |= THREAD << 8;
	} else if (e->index == 1) {
		e->eax = log2_up(n);
		e->ebx = n;
		e->ecx |= CORE << 8;
	}
}

static void shape(struct kvm_cpuid_entry2 *e, unsigned id, unsigned n, bool tsc_deadline)
{
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0xffff) | n << 16 | id << 24;
		e->ecx &= ~(BIT(3) | BIT(5) | BIT(6) | BIT(15) | BIT(24)); /* MONITOR VMX SMX PDCM deadline */
		e->ecx |= BIT(31) | (tsc_deadline ? BIT(24) : 0);	   /* hypervisor */
		e->edx = n > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28);
		break;
	case 4:
		if (e->eax & 0x1f)
			e->eax = (e->eax & 0x3fff) | (n - 1) << 26 | ((e->eax >> 5 & 7) >= 3 ? (n - 1) << 14 : 0);
		break;
	case 5: /* MONITOR */
	case 0xa: /* performance counters */
	case 0x8000000a: /* SVM */
	case 0x80000022: /* performance counters, newer */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 7:
		if (e->index == 0)
			e->ebx &= ~BIT(2); /* SGX */
		break;
	case 0xb:
	case 0x1f: topology(e, id, n); break;
	case 0x40000001:
		e->eax &= KVM_FEATURES_KEPT;
		e->edx = 0;
		break;
	case 0x80000001:
		e->ecx &= ~(BIT(2) | BIT(12) | BIT(22) | BIT(23) | BIT(24)); /* SVM SKINIT TOPOEXT counters */
		e->ecx = n > 1 ? e->ecx | BIT(1) : e->ecx & ~BIT(1);
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xffffu) | log2_up(n) << 12 | (n - 1);
		break;
	default: break;
	}
}

void cpuid_shape(struct cpuid *c, unsigned id, unsigned n, bool tsc_deadline)
{
	if (c->nent > CPUID_ENTRIES_MAX)
		c->nent = CPUID_ENTRIES_MAX;
	for (unsigned i = 0; i < c->nent; i++)
		shape(&c->entry[i], id, n, tsc_deadline);
}
