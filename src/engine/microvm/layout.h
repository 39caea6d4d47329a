/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h: where things lie in the guest's physical memory. RAM is in guest_mem.h. */
#ifndef BRIG_MICROVM_LAYOUT_H
#define BRIG_MICROVM_LAYOUT_H

/* Below 1 MiB: what the first instructions need. The kernel is free to overwrite all of it once it
 * has read it, but the ACPI tables, which the memory map keeps from it. */
#define AT_GDT 0x500u
#define AT_START_INFO 0x6000u /* PVH: struct, then module list and memory map */
#define AT_ZERO_PAGE 0x7000u  /* 64-bit boot protocol: struct boot_params */
#define AT_PAGE_TABLES 0x9000u /* 6 pages: the first 4 GiB, one to one */
#define AT_STACK 0x8ff0u
#define AT_CMDLINE 0x20000u
#define CMDLINE_MAX 2048u /* Linux x86 COMMAND_LINE_SIZE, with the NUL */
#define AT_RESERVED 0x9fc00u /* up to 1 MiB nothing is RAM for the kernel */
#define AT_ACPI 0xe0000u     /* a place where a kernel would look without being told, too */
#define ACPI_MAX 0x10000u
#define AT_KERNEL_MIN 0x100000u

/* The devices: one page each, interrupt lines of the IOAPIC from MMIO_IRQ_FIRST on (those below are
 * what a PC has fixed meanings for). */
#define AT_MMIO 0xd0000000ull
#define MMIO_STRIDE 0x1000u
#define MMIO_IRQ_FIRST 5u
#define DEVICES_MAX 8u
#define AT_IOAPIC 0xfec00000u
#define AT_LAPIC 0xfee00000u
/* Three pages that KVM needs on Intel CPUs without unrestricted guest. */
#define AT_KVM_TSS 0xfffbd000u

#define VCPUS_MAX 32u

#endif
