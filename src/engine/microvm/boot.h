/* SPDX-License-Identifier: Apache-2.0 */
/* boot.h: the state in which the first vCPU enters a kernel. */
#ifndef BRIG_MICROVM_BOOT_H
#define BRIG_MICROVM_BOOT_H

#include <linux/kvm.h>

#include "engine/microvm/kernel.h"

/* Writes command line, memory map and all that the entry wants, but for the ACPI tables (acpi.h), of
 * which it names the place. 0, or -1 with err set: the command line is too long. */
int boot_write(const struct guest_mem *m, const struct kernel *k, const struct initrd *initrd,
	       const char *cmdline, struct brig_err *err);
/* Changes what KVM_GET_SREGS gave, and fills regs. */
void boot_registers(const struct kernel *k, struct kvm_regs *regs, struct kvm_sregs *sregs);

#endif
