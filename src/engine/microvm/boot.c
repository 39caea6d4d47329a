/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * 64-bit entry (Documentation/x86/boot.rst, "64-bit boot protocol"): long mode, the first 4 GiB mapped
 * one to one by 2 MiB pages, flat segments 0x10 (code) and 0x18 (data), interrupts off, rsi = the zero
 * page. PVH entry (Xen's docs/misc/pvh.pandoc): protected mode, no paging, flat segments, ebx = the
 * start info. Neither reads anything of a firmware; hardware is found by the ACPI tables.
 */
#include "engine/microvm/boot.h"

#include <asm/bootparam.h>
#include <stdbool.h>
#include <string.h>

#include "engine/microvm/layout.h"

enum { SEL_CODE = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20 };
enum { E820_RAM = 1, E820_RESERVED = 2 };
#define MAP_MAX 4u

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};
struct start_module {
	uint64_t at, size, cmdline, reserved;
};
struct start_map {
	uint64_t addr, size;
	uint32_t type, reserved;
};
_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct start_map) == 24, "wire");
_Static_assert(sizeof(struct boot_params) == GUEST_PAGE, "wire");

/* The memory map; both entries take it in nearly the same form. */
static unsigned map_make(const struct guest_mem *m, struct start_map map[MAP_MAX])
{
	unsigned n = 0;
	map[n++] = (struct start_map){ 0, AT_RESERVED, E820_RAM, 0 };
	map[n++] = (struct start_map){ AT_RESERVED, AT_KERNEL_MIN - AT_RESERVED, E820_RESERVED, 0 };
	map[n++] = (struct start_map){ AT_KERNEL_MIN, m->region[0].len - AT_KERNEL_MIN, E820_RAM, 0 };
	if (m->n > 1)
		map[n++] = (struct start_map){ m->region[1].start, m->region[1].len, E820_RAM, 0 };
	return n;
}

static int zero_page_write(const struct guest_mem *m, const struct kernel *k, const struct initrd *initrd)
{
	struct boot_params p = { 0 };
	struct start_map map[MAP_MAX];
	unsigned n = map_make(m, map);
	if (k->header_len)
		memcpy(&p.hdr, k->header, k->header_len < sizeof(p.hdr) ? k->header_len : sizeof(p.hdr));
	p.hdr.type_of_loader = 0xff;
	p.hdr.cmd_line_ptr = AT_CMDLINE;
	p.hdr.ramdisk_image = (uint32_t)initrd->at;
	p.hdr.ramdisk_size = (uint32_t)initrd->len;
	p.acpi_rsdp_addr = AT_ACPI;
	for (unsigned i = 0; i < n; i++) {
		p.e820_table[i].addr = map[i].addr;
		p.e820_table[i].size = map[i].size;
		p.e820_table[i].type = map[i].type;
	}
	p.e820_entries = (uint8_t)n;
	return guest_write(m, GPA(AT_ZERO_PAGE), &p, sizeof(p));
}

static int start_info_write(const struct guest_mem *m, const struct initrd *initrd)
{
	struct {
		struct start_info info;
		struct start_module module;
		struct start_map map[MAP_MAX];
	} s = { .info = { .magic = 0x336ec578, .version = 1 } };
	s.info.nr_modules = initrd->len != 0;
	s.info.modlist = AT_START_INFO + sizeof(s.info);
	s.info.cmdline = AT_CMDLINE;
	s.info.rsdp = AT_ACPI;
	s.info.memmap = s.info.modlist + sizeof(s.module);
	s.info.memmap_entries = map_make(m, s.map);
	s.module.at = initrd->at;
	s.module.size = initrd->len;
	return guest_write(m, GPA(AT_START_INFO), &s, sizeof(s));
}

/* One table of pointers, one of 4 GiB in 2 MiB pages behind it. */
static int page_tables_write(const struct guest_mem *m)
{
	enum { PRESENT_RW = 3, LARGE = 0x80, ENTRIES = 512, TABLES = 6 };
	static uint64_t t[TABLES][ENTRIES];
	t[0][0] = (AT_PAGE_TABLES + GUEST_PAGE) | PRESENT_RW;
	for (unsigned i = 0; i < 4; i++)
		t[1][i] = (AT_PAGE_TABLES + (2 + i) * GUEST_PAGE) | PRESENT_RW;
	for (uint64_t i = 0; i < 4 * ENTRIES; i++)
		t[2 + i / ENTRIES][i % ENTRIES] = (i << 21) | PRESENT_RW | LARGE;
	return guest_write(m, GPA(AT_PAGE_TABLES), t, sizeof(t));
}

static int gdt_write(const struct guest_mem *m, enum kernel_entry mode)
{
	const uint64_t gdt[] = { 0, 0, mode == KERNEL_64 ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull,
				 0x00cf93000000ffffull, 0x00008b0000000067ull };
	return guest_write(m, GPA(AT_GDT), gdt, sizeof(gdt));
}

int boot_write(const struct guest_mem *m, const struct kernel *k, const struct initrd *initrd,
	       const char *cmdline, struct brig_err *err)
{
	size_t n = strlen(cmdline);
	if (n >= CMDLINE_MAX || n > k->cmdline_max)
		return brig_fail(err, BRIG_E_LIMIT, 0, "the kernel's command line has %zu characters, more than %u", n,
				 k->cmdline_max < CMDLINE_MAX - 1 ? k->cmdline_max : CMDLINE_MAX - 1);
	int r = guest_write(m, GPA(AT_CMDLINE), cmdline, n + 1);
	if (r == 0)
		r = gdt_write(m, k->mode);
	if (r == 0 && k->mode == KERNEL_64)
		r = page_tables_write(m);
	if (r == 0)
		r = k->mode == KERNEL_64 ? zero_page_write(m, k, initrd) : start_info_write(m, initrd);
	return r < 0 ? brig_fail(err, BRIG_E_INTERNAL, -r, "write the boot parameters") : 0;
}

void boot_registers(const struct kernel *k, struct kvm_regs *regs, struct kvm_sregs *s)
{
	enum { CR0_PE = 1, CR0_ET = 0x10, CR4_PAE = 0x20 };
	const uint64_t efer_long = 0x500; /* LME and LMA */
	bool is_64 = k->mode == KERNEL_64;
	struct kvm_segment code = { .limit = 0xffffffff, .selector = SEL_CODE, .type = 11, .present = 1, .s = 1,
				    .db = !is_64, .l = is_64, .g = 1 };
	struct kvm_segment data = { .limit = 0xffffffff, .selector = SEL_DATA, .type = 3, .present = 1, .s = 1,
				    .db = 1, .g = 1 };
	struct kvm_segment tss = { .limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1 };
	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = tss;
	s->gdt.base = AT_GDT;
	s->gdt.limit = 5 * 8 - 1;
	s->cr0 = CR0_PE | CR0_ET;
	if (is_64) {
		s->cr0 |= 0x80000000u;
		s->cr3 = AT_PAGE_TABLES;
		s->cr4 = CR4_PAE;
		s->efer = efer_long;
	}
	*regs = (struct kvm_regs){ .rflags = 2, .rip = k->entry, .rsp = AT_STACK };
	if (is_64)
		regs->rsi = AT_ZERO_PAGE;
	else
		regs->rbx = AT_START_INFO;
}
