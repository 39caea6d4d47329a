/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_mem.h: the only way from a guest's address to a byte of this process.
 *
 * A gpa_t is a struct, so that it can neither be dereferenced nor added by accident. Every access
 * names its length; what does not lie wholly in one region of RAM is refused. The guest writes this
 * memory while we look at it: copy once, then check the copy.
 *
 * RAM lies below GUEST_HOLE and, what does not fit there, from 4 GiB on. Between the two are the
 * devices (GUEST_MMIO), the IOAPIC and the local APICs.
 */
#ifndef BRIG_MICROVM_GUEST_MEM_H
#define BRIG_MICROVM_GUEST_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct {
	uint64_t v;
} gpa_t;
#define GPA(n) ((gpa_t){ (n) })

#define GUEST_HOLE 0xc0000000ull
#define GUEST_HIGH 0x100000000ull
#define GUEST_MEM_MIN (64ull << 20)
#define GUEST_MEM_MAX (1ull << 40)
#define GUEST_PAGE 4096ull

struct guest_region {
	uint64_t start, len; /* guest physical bytes */
	uint8_t *host;
};
struct guest_mem {
	struct guest_region region[2];
	unsigned n;
};

/* Maps `bytes` of zeroed RAM (a multiple of GUEST_PAGE, GUEST_MEM_MIN..MAX; the kernel gives pages
 * when they are touched). 0, -EINVAL or -errno; ends with guest_mem_unmap(). */
int guest_mem_map(struct guest_mem *m, uint64_t bytes);
/* The same with what a file holds, byte n of RAM at offset n (on both sides of the hole): private, so writes stay
 * ours, and pages that nobody writes are shared with every other machine of this file. The file must keep its
 * length as long as the machine lives. */
int guest_mem_map_file(struct guest_mem *m, uint64_t bytes, int fd);
void guest_mem_unmap(struct guest_mem *m);

/* The host's address of [at, at + len), NULL if any byte of it is not RAM or len is 0. */
uint8_t *guest_ptr(const struct guest_mem *m, gpa_t at, uint64_t len);
/* 0 or -EFAULT; a refused access copies nothing. */
int guest_read(const struct guest_mem *m, gpa_t at, void *to, size_t len);
int guest_write(const struct guest_mem *m, gpa_t at, const void *from, size_t len);
int guest_zero(const struct guest_mem *m, gpa_t at, uint64_t len);

/* Bytes between a list of pieces and a buffer, from `skip` on; returns how many were moved (fewer
 * than n: the pieces end). */
size_t iov_gather(const struct iovec *iov, unsigned niov, size_t skip, void *to, size_t n);
size_t iov_scatter(const struct iovec *iov, unsigned niov, size_t skip, const void *from, size_t n);
size_t iov_bytes(const struct iovec *iov, unsigned niov);
/* The pieces without their first `skip` bytes and no longer than `n`; returns how many pieces out has. */
unsigned iov_cut(const struct iovec *iov, unsigned niov, size_t skip, size_t n, struct iovec *out);

#endif
