/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h: puts a guest kernel and its initial RAM disk into guest memory.
 *
 * Two forms: a bzImage by the 64-bit boot protocol (Documentation/x86/boot.rst, version 2.12 or
 * later), and an ELF file, entered by PVH where it has the note, else at its 64-bit entry. The file is
 * not trusted: every size and address in it is held against the file and against RAM.
 */
#ifndef BRIG_MICROVM_KERNEL_H
#define BRIG_MICROVM_KERNEL_H

#include <stdint.h>

#include "base/err.h"
#include "engine/microvm/guest_mem.h"

enum kernel_entry {
	KERNEL_64,  /* long mode, rsi = zero page */
	KERNEL_PVH, /* protected mode without paging, ebx = start info */
};

struct kernel {
	enum kernel_entry mode;
	uint64_t entry;
	uint64_t start, end;  /* guest memory that it takes, with what it needs to unpack itself */
	uint64_t initrd_max;  /* last byte that an initial RAM disk may have */
	uint32_t cmdline_max; /* bytes without the NUL */
	uint8_t header[128];  /* bzImage: its setup header, from file offset 0x1f1 on */
	unsigned header_len;  /* 0: an ELF file */
};
struct initrd {
	uint64_t at, len; /* len 0 = none */
};

/* 0, or -1 with err set: not a kernel, not one that can be booted here, more than RAM. */
int kernel_load(int fd, const struct guest_mem *m, struct kernel *ret, struct brig_err *err);
/* As high as it may lie, so that it is in nobody's way. fd -1: none. */
int initrd_load(int fd, const struct guest_mem *m, const struct kernel *k, struct initrd *ret,
		struct brig_err *err);

#endif
