/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel files that are whole, cut and hostile; what the guest finds in its memory at its entry. */
#include <asm/bootparam.h>
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "engine/microvm/acpi.h"
#include "engine/microvm/boot.h"
#include "engine/microvm/cpuid.h"
#include "engine/microvm/layout.h"

#define MIB (1ull << 20)
enum { FILE_LEN = 8192, SETUP = 5 * 512 };

static struct guest_mem mem;
static struct kernel k;
static struct brig_err err;

static int setup(void **state)
{
	(void)state;
	return guest_mem_map(&mem, GUEST_MEM_MIN);
}
static int teardown(void **state)
{
	(void)state;
	guest_mem_unmap(&mem);
	return 0;
}

static int load(const void *file, size_t n)
{
	AUTO_FD fd = memfd_create("kernel", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, n), n);
	memset(&err, 0, sizeof(err));
	return kernel_load(fd, &mem, &k, &err);
}

/* ---- bzImage ---- */

/* The smallest one that a loader takes: a header of protocol 2.15 and a payload. */
static void bzimage(uint8_t f[FILE_LEN])
{
	struct setup_header h = { .setup_sects = 4, .boot_flag = 0xaa55, .jump = 0x6aeb, .header = 0x53726448,
				  .version = 0x20f, .loadflags = 1, .initrd_addr_max = 0x7fffffff,
				  .kernel_alignment = 0x200000, .relocatable_kernel = 1, .xloadflags = 1,
				  .cmdline_size = 2047, .pref_address = 16 * MIB, .init_size = 8 * MIB };
	memset(f, 0, FILE_LEN);
	memcpy(f + 0x1f1, &h, sizeof(h));
	memcpy(f + SETUP, "payload", 7);
}
static struct setup_header *header(uint8_t *f)
{
	return (struct setup_header *)(void *)(f + 0x1f1);
}

static void test_bzimage(void **state)
{
	uint8_t f[FILE_LEN];
	struct initrd initrd;
	struct boot_params p;
	struct kvm_regs regs;
	struct kvm_sregs sregs = { 0 };
	(void)state;
	bzimage(f);
	assert_int_equal(load(f, sizeof(f)), 0);
	assert_int_equal(k.mode, KERNEL_64);
	assert_int_equal(k.entry, 16 * MIB + 0x200);
	assert_int_equal(k.end, 24 * MIB);
	assert_memory_equal(guest_ptr(&mem, GPA(16 * MIB), 7), "payload", 7);
	AUTO_FD fd = memfd_create("initrd", MFD_CLOEXEC);
	assert_int_equal(write(fd, "RAM disk", 8), 8);
	assert_int_equal(initrd_load(fd, &mem, &k, &initrd, &err), 0);
	assert_int_equal(initrd.at, 64 * MIB - 4096);
	assert_memory_equal(guest_ptr(&mem, GPA(initrd.at), 8), "RAM disk", 8);
	assert_int_equal(boot_write(&mem, &k, &initrd, "quiet", &err), 0);
	guest_read(&mem, GPA(AT_ZERO_PAGE), &p, sizeof(p));
	assert_int_equal(p.hdr.header, 0x53726448);
	assert_int_equal(p.hdr.type_of_loader, 0xff);
	assert_int_equal(p.hdr.ramdisk_image, initrd.at);
	assert_int_equal(p.hdr.ramdisk_size, 8);
	assert_int_equal(p.acpi_rsdp_addr, AT_ACPI);
	assert_int_equal(p.e820_entries, 3);
	assert_int_equal(p.e820_table[2].addr, MIB);
	assert_int_equal(p.e820_table[2].size, 63 * MIB);
	assert_string_equal((char *)guest_ptr(&mem, GPA(p.hdr.cmd_line_ptr), 6), "quiet");
	boot_registers(&k, &regs, &sregs);
	assert_int_equal(regs.rip, k.entry);
	assert_int_equal(regs.rsi, AT_ZERO_PAGE);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cs.l, 1);
	/* The first page tables map what is there, one to one. */
	uint64_t entry;
	guest_read(&mem, GPA(AT_PAGE_TABLES + 2 * 4096 + 8 * 8), &entry, 8);
	assert_int_equal(entry, 16 * MIB | 0x83);
}

static void refused(const uint8_t *f, size_t n, enum brig_code code, const char *text)
{
	if (load(f, n) == 0 || err.code != code || !strstr(err.msg, text) || !err.remedy[0])
		fail_msg("'%s' (%d), remedy '%s'; not '%s'", err.msg, err.code, err.remedy, text);
}

static void test_bzimage_hostile(void **state)
{
	uint8_t f[FILE_LEN];
	(void)state;
	bzimage(f);
	refused(f, 1000, BRIG_E_UNSUPPORTED, "too short");
	header(f)->version = 0x20b;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "64-bit");
	bzimage(f);
	header(f)->xloadflags = 0;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "64-bit");
	bzimage(f);
	header(f)->setup_sects = 15;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "header");
	bzimage(f);
	header(f)->jump = 0x10eb;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "header");
	header(f)->jump = 0xffeb;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "header");
	bzimage(f);
	header(f)->pref_address = 0;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "address");
	header(f)->pref_address = UINT64_MAX - 0x1fffff;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "address");
	header(f)->pref_address = 0x1000001;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "address");
	bzimage(f);
	header(f)->init_size = 0xffffffff;
	refused(f, sizeof(f), BRIG_E_LIMIT, "memory");
	header(f)->pref_address = 64 * MIB;
	refused(f, sizeof(f), BRIG_E_LIMIT, "memory");
	bzimage(f);
	header(f)->header = 0;
	refused(f, sizeof(f), BRIG_E_UNSUPPORTED, "neither");
}

/* ---- ELF ---- */

struct elf_file {
	Elf64_Ehdr e;
	Elf64_Phdr p[2];
	struct {
		Elf64_Nhdr h;
		char name[4];
		uint32_t entry;
	} note;
	uint8_t text[4096];
};

static void elf(struct elf_file *f)
{
	*f = (struct elf_file){
		.e = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_machine = EM_X86_64,
		       .e_entry = 0x1000000, .e_phoff = offsetof(struct elf_file, p), .e_phentsize = sizeof(Elf64_Phdr),
		       .e_phnum = 2 },
		.p = { { .p_type = PT_LOAD, .p_offset = offsetof(struct elf_file, text), .p_paddr = 0x1000000,
			 .p_filesz = 4096, .p_memsz = 8192 },
		       { .p_type = PT_NOTE, .p_offset = offsetof(struct elf_file, note), .p_filesz = 20 } },
		.note = { { 4, 4, 18 }, "Xen", 0x1000100 },
		.text = "code",
	};
}

static void test_elf(void **state)
{
	struct elf_file f;
	struct initrd none = { 0 };
	struct kvm_regs regs;
	struct kvm_sregs sregs = { 0 };
	uint64_t info[7];
	(void)state;
	elf(&f);
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.mode, KERNEL_PVH);
	assert_int_equal(k.entry, 0x1000100);
	assert_int_equal(k.end, 0x1002000);
	assert_memory_equal(guest_ptr(&mem, GPA(0x1000000), 4), "code", 4);
	assert_int_equal(boot_write(&mem, &k, &none, "a=b", &err), 0);
	guest_read(&mem, GPA(AT_START_INFO), info, sizeof(info));
	assert_int_equal(info[0], 0x1336ec578ull);
	assert_int_equal(info[1], 0);
	assert_int_equal(info[3], AT_CMDLINE);
	assert_int_equal(info[4], AT_ACPI);
	assert_int_equal(info[6], 3);
	boot_registers(&k, &regs, &sregs);
	assert_int_equal(regs.rbx, AT_START_INFO);
	assert_int_equal(sregs.cr0 & 0x80000001u, 1);
	assert_int_equal(sregs.cs.db, 1);
	/* Without the note: at its entry. */
	f.p[1].p_type = PT_NULL;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.mode, KERNEL_64);
	assert_int_equal(k.entry, 0x1000000);
}

static void test_elf_hostile(void **state)
{
	struct elf_file f;
	const uint8_t *b = (const uint8_t *)&f;
	(void)state;
#define ROW(change, code, text)                           \
	do {                                              \
		elf(&f);                                  \
		change;                                   \
		refused(b, sizeof(f), BRIG_E_##code, text); \
	} while (0)
	ROW(f.e.e_machine = EM_386, UNSUPPORTED, "another machine");
	ROW(f.e.e_phnum = 0, UNSUPPORTED, "headers");
	ROW(f.e.e_phnum = 65535, UNSUPPORTED, "headers");
	ROW(f.e.e_phentsize = 1, UNSUPPORTED, "headers");
	ROW(f.e.e_phoff = UINT64_MAX, UNSUPPORTED, "headers");
	ROW(f.e.e_phoff = sizeof(f) - 1, UNSUPPORTED, "headers");
	ROW(f.p[0].p_paddr = 0, UNSUPPORTED, "address");
	ROW(f.p[0].p_filesz = 8193, UNSUPPORTED, "address");
	ROW(f.p[0].p_paddr = UINT64_MAX - 100, LIMIT, "outside");
	ROW(f.p[0].p_memsz = UINT64_MAX, LIMIT, "outside");
	ROW(f.p[0].p_paddr = 64 * MIB - 4096, LIMIT, "outside");
	ROW(f.p[0].p_offset = UINT64_MAX, CORRUPT, "cut");
	ROW(f.p[0].p_offset = sizeof(f) - 1, CORRUPT, "cut");
	ROW((f.p[1].p_type = PT_NULL, f.e.e_entry = 0x1002000), UNSUPPORTED, "entry");
	ROW(f.note.entry = 0xfffff, UNSUPPORTED, "entry");
	ROW(f.p[0].p_type = PT_NULL, UNSUPPORTED, "entry");
	/* Notes that lead nowhere are no notes. */
	elf(&f);
	f.note.h.n_namesz = UINT32_MAX;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.mode, KERNEL_64);
	elf(&f);
	f.p[1].p_filesz = UINT64_MAX;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.mode, KERNEL_64);
}

static void test_too_much(void **state)
{
	uint8_t f[FILE_LEN];
	char line[CMDLINE_MAX + 1];
	struct initrd initrd;
	(void)state;
	bzimage(f);
	assert_int_equal(load(f, sizeof(f)), 0);
	AUTO_FD fd = memfd_create("initrd", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 41 * MIB), 0);
	assert_int_equal(initrd_load(fd, &mem, &k, &initrd, &err), -1);
	assert_true(strstr(err.msg, "beside the kernel") && err.remedy[0]);
	memset(line, 'x', sizeof(line));
	line[CMDLINE_MAX] = '\0';
	initrd = (struct initrd){ 0 };
	assert_int_equal(boot_write(&mem, &k, &initrd, line, &err), -1);
	assert_true(strstr(err.msg, "2047"));
	line[CMDLINE_MAX - 1] = '\0';
	assert_int_equal(boot_write(&mem, &k, &initrd, line, &err), 0);
}

/* ---- ACPI ---- */

static uint8_t sum(uint64_t at, uint32_t n)
{
	const uint8_t *p = guest_ptr(&mem, GPA(at), n);
	uint8_t s = 0;
	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* Checks a table's signature and sum; returns its length. */
static uint32_t table(uint64_t at, const char *sig)
{
	uint32_t n;
	assert_memory_equal(guest_ptr(&mem, GPA(at), 4), sig, 4);
	guest_read(&mem, GPA(at + 4), &n, 4);
	assert_int_equal(sum(at, n), 0);
	return n;
}

static void test_acpi(void **state)
{
	const struct acpi_device dev[] = { { 0xd0000000u, 5 }, { 0xd0001000u, 6 } };
	uint64_t xsdt, fadt, madt, dsdt;
	(void)state;
	assert_int_equal(acpi_write(&mem, 3, dev, 2, false), 0);
	assert_memory_equal(guest_ptr(&mem, GPA(AT_ACPI), 8), "RSD PTR ", 8);
	assert_int_equal(sum(AT_ACPI, 20), 0);
	assert_int_equal(sum(AT_ACPI, 36), 0);
	guest_read(&mem, GPA(AT_ACPI + 24), &xsdt, 8);
	assert_int_equal(table(xsdt, "XSDT"), 36 + 16);
	guest_read(&mem, GPA(xsdt + 36), &fadt, 8);
	guest_read(&mem, GPA(xsdt + 44), &madt, 8);
	assert_int_equal(table(fadt, "FACP"), 276);
	assert_int_equal(table(madt, "APIC"), 44 + 3 * 8 + 12);
	guest_read(&mem, GPA(fadt + 140), &dsdt, 8);
	uint32_t n = table(dsdt, "DSDT");
	const uint8_t *p = guest_ptr(&mem, GPA(dsdt), n);
	/* The scope's length reaches to the end, each device's to the next. */
	assert_int_equal((p[37] & 0xf) | p[38] << 4, n - 37);
	uint32_t each = (n - 44) / 2, len = (uint32_t)(p[46] & 0xf) | (uint32_t)p[47] << 4;
	assert_int_equal(p[44], 0x5b);
	assert_int_equal(len, each - 2);
	assert_memory_equal(p + 48, "V000", 4);
	assert_memory_equal(p + 48 + each, "V001", 4);
	assert_int_equal(acpi_write(&mem, VCPUS_MAX + 1, dev, 2, false), -28);
	/* With a serial port behind the devices. */
	assert_int_equal(acpi_write(&mem, 3, dev, 2, true), 0);
	guest_read(&mem, GPA(xsdt + 36), &fadt, 8);
	guest_read(&mem, GPA(fadt + 140), &dsdt, 8);
	uint32_t more = table(dsdt, "DSDT");
	p = guest_ptr(&mem, GPA(dsdt), more);
	assert_int_equal((p[37] & 0xf) | p[38] << 4, more - 37);
	assert_int_equal(p[n], 0x5b);
	assert_int_equal(p[n + 2], more - n - 2);
	assert_memory_equal(p + n + 3, "COM1", 4);
	/* The most there can be. */
	struct acpi_device many[DEVICES_MAX];
	memset(many, 0, sizeof(many));
	assert_int_equal(acpi_write(&mem, VCPUS_MAX, many, DEVICES_MAX, true), 0);
}

/* ---- CPUID ---- */

static void test_cpuid(void **state)
{
	static struct cpuid c;
	(void)state;
	const uint32_t functions[] = { 1, 0xa, 0x80000001u, 0x8000000au, 0x40000001u, 0xb, 0xb };
	c.nent = sizeof(functions) / sizeof(functions[0]);
	for (unsigned i = 0; i < c.nent; i++)
		c.entry[i] = (struct kvm_cpuid_entry2){ functions[i], i == 6, 0, UINT32_MAX, UINT32_MAX, UINT32_MAX,
							UINT32_MAX, { 0 } };
	cpuid_shape(&c, 2, 4, true);
	assert_int_equal(c.entry[0].ecx & (1u << 5 | 1u << 3), 0); /* no VMX, no MONITOR */
	assert_true(c.entry[0].ecx & 1u << 31);
	assert_true(c.entry[0].ecx & 1u << 24);
	assert_int_equal(c.entry[0].ebx >> 24, 2);
	assert_int_equal(c.entry[0].ebx >> 16 & 0xff, 4);
	assert_int_equal(c.entry[1].eax | c.entry[1].ebx | c.entry[1].edx, 0);
	assert_int_equal(c.entry[2].ecx & 1u << 2, 0); /* no SVM */
	assert_int_equal(c.entry[3].eax | c.entry[3].edx, 0);
	assert_int_equal(c.entry[4].eax & ~0x100004bu, 0);
	assert_int_equal(c.entry[5].edx, 2);
	assert_int_equal(c.entry[6].ebx, 4);
	assert_int_equal(c.entry[6].eax, 2);
	c.nent = UINT32_MAX;
	cpuid_shape(&c, 0, 1, false);
	assert_int_equal(c.nent, CPUID_ENTRIES_MAX);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_bzimage), T(test_bzimage_hostile), T(test_elf), T(test_elf_hostile),
		T(test_too_much), T(test_acpi), cmocka_unit_test(test_cpuid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
