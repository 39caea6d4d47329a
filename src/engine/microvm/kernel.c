/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Headers are read into memory of ours and checked there; contents go by pread() straight to the
 * guest addresses that were checked. A file that is cut, or that changes under way, ends in a short
 * read, which is an error. Nothing of the file is executed or decompressed here: a bzImage unpacks
 * itself, inside.
 */
#include "engine/microvm/kernel.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/microvm/layout.h"

/* Offsets of the setup header in the file (and in the zero page). */
enum {
	H_FIRST = 0x1f1,
	H_SECTS = 0x1f1,
	H_JUMP_LEN = 0x201,
	H_MAGIC = 0x202,
	H_VERSION = 0x206,
	H_INITRD_MAX = 0x22c,
	H_ALIGNMENT = 0x230,
	H_RELOCATABLE = 0x234,
	H_XLOADFLAGS = 0x236,
	H_CMDLINE_SIZE = 0x238,
	H_PREF_ADDRESS = 0x258,
	H_INIT_SIZE = 0x260,
	H_END = 0x264,
};
#define XLF_KERNEL_64 1u
#define NOTE_PHYS32_ENTRY 18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define PHDRS_MAX 64u
#define NOT_BOOTABLE "use the vmlinuz of Debian's linux-image-cloud-amd64, or another x86-64 bzImage or vmlinux"

static int read_at(int fd, void *to, uint64_t n, uint64_t at)
{
	uint64_t done = 0;
	while (done < n) {
		ssize_t r = pread(fd, (uint8_t *)to + done, n - done, (off_t)(at + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		done += (uint64_t)r;
	}
	return 0;
}

/* File bytes [off, off + n) to guest memory at `at`. */
static int load(int fd, const struct guest_mem *m, uint64_t size, uint64_t off, uint64_t n, uint64_t at,
		const char *what, struct brig_err *err)
{
	if (n == 0)
		return 0;
	if (off > size || n > size - off) {
		brig_fail(err, BRIG_E_CORRUPT, 0, "%s is cut: it has %llu bytes", what, (unsigned long long)size);
		return brig_fix(err, NOT_BOOTABLE);
	}
	uint8_t *p = guest_ptr(m, GPA(at), n);
	if (!p) {
		brig_fail(err, BRIG_E_LIMIT, 0, "%s does not fit the guest's memory: %llu bytes at 0x%llx", what,
			  (unsigned long long)n, (unsigned long long)at);
		return brig_fix(err, "give the sandbox more memory");
	}
	int r = read_at(fd, p, n, off);
	return r < 0 ? brig_fail(err, BRIG_E_CORRUPT, -r, "read %s", what) : 0;
}

static int fd_size(int fd, uint64_t *ret, const char *what, struct brig_err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return brig_fail(err, BRIG_E_INVALID, errno, "stat %s", what);
	if (!S_ISREG(st.st_mode))
		return brig_fail(err, BRIG_E_INVALID, 0, "%s is not a regular file", what);
	*ret = (uint64_t)st.st_size;
	return 0;
}

static uint16_t u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static uint32_t u32(const uint8_t *p)
{
	return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}
static uint64_t u64(const uint8_t *p)
{
	return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

static int unbootable(struct brig_err *err, const char *why)
{
	brig_fail(err, BRIG_E_UNSUPPORTED, 0, "the guest kernel cannot be booted: %s", why);
	return brig_fix(err, NOT_BOOTABLE);
}

static int bzimage_load(int fd, uint64_t size, const uint8_t *h, const struct guest_mem *m, struct kernel *k,
			struct brig_err *err)
{
	uint64_t setup = ((h[H_SECTS] ? h[H_SECTS] : 4u) + 1u) * 512u;
	uint64_t at = u64(h + H_PREF_ADDRESS), need = u32(h + H_INIT_SIZE), align = u32(h + H_ALIGNMENT);
	unsigned end = H_MAGIC + h[H_JUMP_LEN];
	if (u16(h + H_VERSION) < 0x20c || !(u16(h + H_XLOADFLAGS) & XLF_KERNEL_64))
		return unbootable(err, "it has no 64-bit entry (boot protocol 2.12)");
	if (setup >= size || end < H_END || end - H_FIRST > sizeof(k->header))
		return unbootable(err, "its header makes no sense");
	uint64_t payload = size - setup;
	if (need < payload)
		need = payload;
	if (at < AT_KERNEL_MIN || at >= GUEST_HOLE || (align && at % align) || payload <= 0x200)
		return unbootable(err, "its load address makes no sense");
	if (!guest_ptr(m, GPA(at), need)) {
		brig_fail(err, BRIG_E_LIMIT, 0, "the guest kernel needs %llu MiB of memory to unpack itself",
			  (unsigned long long)((at + need + (1 << 20) - 1) >> 20));
		return brig_fix(err, "give the sandbox more memory");
	}
	memcpy(k->header, h + H_FIRST, end - H_FIRST);
	k->header_len = end - H_FIRST;
	k->mode = KERNEL_64;
	k->entry = at + 0x200;
	k->start = at;
	k->end = at + need;
	k->initrd_max = u32(h + H_INITRD_MAX);
	k->cmdline_max = u32(h + H_CMDLINE_SIZE);
	return load(fd, m, size, setup, payload, at, "the guest kernel", err);
}

/* Looks for the PVH entry among one segment's notes. */
static int notes_search(const uint8_t *p, size_t n, struct kernel *k)
{
	while (n >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;
		memcpy(&h, p, sizeof(h));
		uint64_t name = sizeof(h), desc = name + (((uint64_t)h.n_namesz + 3) & ~3ull),
			 end = desc + (((uint64_t)h.n_descsz + 3) & ~3ull);
		if (end > n)
			return 0;
		if (h.n_type == NOTE_PHYS32_ENTRY && h.n_namesz == 4 && memcmp(p + name, "Xen", 4) == 0 &&
		    (h.n_descsz == 4 || h.n_descsz == 8)) {
			k->mode = KERNEL_PVH;
			k->entry = u32(p + desc);
			return 1;
		}
		p += end;
		n -= end;
	}
	return 0;
}

static int segment_load(int fd, uint64_t size, const Elf64_Phdr *p, const struct guest_mem *m, struct kernel *k,
			struct brig_err *err)
{
	if (p->p_memsz == 0)
		return 0;
	if (p->p_filesz > p->p_memsz || p->p_paddr < AT_KERNEL_MIN)
		return unbootable(err, "a segment's address makes no sense");
	if (!guest_ptr(m, GPA(p->p_paddr), p->p_memsz)) {
		brig_fail(err, BRIG_E_LIMIT, 0, "a segment of the guest kernel lies outside the guest's memory");
		return brig_fix(err, "give the sandbox more memory");
	}
	if (p->p_paddr < k->start)
		k->start = p->p_paddr;
	if (p->p_paddr + p->p_memsz > k->end)
		k->end = p->p_paddr + p->p_memsz;
	/* The rest is zero already: RAM is new. */
	return load(fd, m, size, p->p_offset, p->p_filesz, p->p_paddr, "the guest kernel", err);
}

static int elf_load(int fd, uint64_t size, const uint8_t *head, const struct guest_mem *m, struct kernel *k,
		    struct brig_err *err)
{
	Elf64_Ehdr e;
	Elf64_Phdr ph[PHDRS_MAX];
	static const char cut[] = "its program headers are cut";
	memcpy(&e, head, sizeof(e));
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != EM_X86_64 || e.e_ident[EI_DATA] != ELFDATA2LSB)
		return unbootable(err, "it is an ELF file for another machine");
	if (e.e_phentsize != sizeof(ph[0]) || e.e_phnum == 0 || e.e_phnum > PHDRS_MAX)
		return unbootable(err, "its program headers make no sense");
	if (e.e_phoff > size || e.e_phnum * sizeof(ph[0]) > size - e.e_phoff ||
	    read_at(fd, ph, e.e_phnum * sizeof(ph[0]), e.e_phoff) < 0)
		return unbootable(err, cut);
	*k = (struct kernel){ .mode = KERNEL_64, .entry = e.e_entry, .start = UINT64_MAX,
			      .initrd_max = GUEST_HOLE - 1, .cmdline_max = CMDLINE_MAX - 1 };
	bool has_pvh = false;
	for (unsigned i = 0; i < e.e_phnum; i++) {
		uint8_t notes[4096];
		if (ph[i].p_type == PT_LOAD && segment_load(fd, size, &ph[i], m, k, err) < 0)
			return -1;
		if (ph[i].p_type != PT_NOTE || has_pvh || ph[i].p_filesz > sizeof(notes) || ph[i].p_offset > size ||
		    ph[i].p_filesz > size - ph[i].p_offset)
			continue;
		if (read_at(fd, notes, ph[i].p_filesz, ph[i].p_offset) < 0)
			return unbootable(err, "its notes cannot be read");
		has_pvh = notes_search(notes, ph[i].p_filesz, k);
	}
	if (k->end == 0 || k->entry < k->start || k->entry >= k->end)
		return unbootable(err, "its entry lies outside what it loads");
	return 0;
}

int kernel_load(int fd, const struct guest_mem *m, struct kernel *ret, struct brig_err *err)
{
	uint8_t head[1024];
	uint64_t size;
	*ret = (struct kernel){ .mode = KERNEL_64 };
	if (fd_size(fd, &size, "the guest kernel", err) < 0)
		return -1;
	if (size < sizeof(head))
		return unbootable(err, "it is too short");
	int r = read_at(fd, head, sizeof(head), 0);
	if (r < 0)
		return brig_fail(err, BRIG_E_CORRUPT, -r, "read the guest kernel");
	if (memcmp(head, ELFMAG, SELFMAG) == 0)
		return elf_load(fd, size, head, m, ret, err);
	if (u16(head + 0x1fe) == 0xaa55 && memcmp(head + H_MAGIC, "HdrS", 4) == 0)
		return bzimage_load(fd, size, head, m, ret, err);
	return unbootable(err, "it is neither a bzImage nor an ELF file");
}

int initrd_load(int fd, const struct guest_mem *m, const struct kernel *k, struct initrd *ret,
		struct brig_err *err)
{
	uint64_t size, top = m->region[0].len;
	*ret = (struct initrd){ 0 };
	if (fd < 0)
		return 0;
	if (fd_size(fd, &size, "the initial RAM disk", err) < 0)
		return -1;
	if (k->initrd_max < top)
		top = k->initrd_max + 1;
	top &= ~(GUEST_PAGE - 1);
	uint64_t at = size < top ? (top - size) & ~(GUEST_PAGE - 1) : 0;
	if (at < k->end) {
		brig_fail(err, BRIG_E_LIMIT, 0, "the initial RAM disk (%llu bytes) does not fit beside the kernel",
			  (unsigned long long)size);
		return brig_fix(err, "give the sandbox more memory");
	}
	*ret = (struct initrd){ at, size };
	return load(fd, m, size, 0, size, at, "the initial RAM disk", err);
}
