/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Each thread gets its own filter, the vCPU threads the smaller one. The default kills the process:
 * a VMM that does something else than its list is no longer ours.
 */
#include "engine/microvm/filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vcpu_seccomp.h"
#include "vmm_seccomp.h"

/* The promise of docs/threat-model.md; the count may only fall. */
_Static_assert(VMM_FILTER_ALLOWED <= 45, "system calls of the VMM thread");
_Static_assert(VCPU_FILTER_ALLOWED <= 20, "system calls of a vCPU thread");

static int install(const struct sock_filter *filter, unsigned short len)
{
	const struct sock_fprog prog = {
		.len = len,
		.filter = (struct sock_filter *)(uintptr_t)filter, /* only read; the type lacks the const */
	};
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &prog) < 0 ? -errno : 0;
}

int filter_vmm(void)
{
	return install(vmm_filter, VMM_FILTER_LEN);
}

int filter_vcpu(void)
{
	return install(vcpu_filter, VCPU_FILTER_LEN);
}
