/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Two regions at most, private anonymous memory without reservation: what a guest never touches
 * costs nothing. Regions never move or change while a VM lives, so that a pointer that was checked
 * once (a ring, after DRIVER_OK) stays good.
 */
#include "engine/microvm/guest_mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static int region_map(struct guest_mem *m, uint64_t start, uint64_t len, int fd, uint64_t at)
{
	const int flags = MAP_PRIVATE | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
	/* cppcheck-suppress invalidFunctionArg; -1: of no file */
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)at);
	if (p == MAP_FAILED)
		return -errno;
	/* A guest's secrets are for no core file, and its pages are shared with no other guest's. */
	madvise(p, len, MADV_DONTDUMP);
	m->region[m->n++] = (struct guest_region){ start, len, p };
	return 0;
}

int guest_mem_map(struct guest_mem *m, uint64_t bytes)
{
	return guest_mem_map_file(m, bytes, -1);
}

int guest_mem_map_file(struct guest_mem *m, uint64_t bytes, int fd)
{
	*m = (struct guest_mem){ .n = 0 };
	if (bytes < GUEST_MEM_MIN || bytes > GUEST_MEM_MAX || bytes % GUEST_PAGE)
		return -EINVAL;
	uint64_t low = bytes < GUEST_HOLE ? bytes : GUEST_HOLE;
	int r = region_map(m, 0, low, fd, 0);
	if (r == 0 && bytes > low)
		r = region_map(m, GUEST_HIGH, bytes - low, fd, low);
	if (r < 0)
		guest_mem_unmap(m);
	return r;
}

void guest_mem_unmap(struct guest_mem *m)
{
	while (m->n) {
		struct guest_region *r = &m->region[--m->n];
		munmap(r->host, r->len);
	}
}

uint8_t *guest_ptr(const struct guest_mem *m, gpa_t at, uint64_t len)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct guest_region *r = &m->region[i];
		/* In this order nothing can wrap. */
		if (at.v >= r->start && at.v - r->start < r->len)
			return len && len <= r->len - (at.v - r->start) ? r->host + (at.v - r->start)
									: NULL;
	}
	return NULL;
}

int guest_read(const struct guest_mem *m, gpa_t at, void *to, size_t len)
{
	const uint8_t *p = guest_ptr(m, at, len);
	if (!p)
		return -EFAULT;
	memcpy(to, p, len);
	return 0;
}

int guest_write(const struct guest_mem *m, gpa_t at, const void *from, size_t len)
{
	uint8_t *p = guest_ptr(m, at, len);
	if (!p)
		return -EFAULT;
	memcpy(p, from, len);
	return 0;
}

int guest_zero(const struct guest_mem *m, gpa_t at, uint64_t len)
{
	uint8_t *p = guest_ptr(m, at, len);
	if (!p)
		return -EFAULT;
	memset(p, 0, len);
	return 0;
}

size_t iov_bytes(const struct iovec *iov, unsigned niov)
{
	size_t sum = 0;
	for (unsigned i = 0; i < niov; i++)
		sum += iov[i].iov_len;
	return sum;
}

unsigned iov_cut(const struct iovec *iov, unsigned niov, size_t skip, size_t n, struct iovec *out)
{
	unsigned k = 0;
	for (unsigned i = 0; i < niov && n; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		size_t len = iov[i].iov_len - skip;
		if (len > n)
			len = n;
		out[k++] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, len };
		n -= len;
		skip = 0;
	}
	return k;
}

static size_t iov_move(const struct iovec *iov, unsigned niov, size_t skip, uint8_t *to, const uint8_t *from,
		       size_t n)
{
	size_t done = 0;
	for (unsigned i = 0; i < niov && done < n; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		size_t len = iov[i].iov_len - skip;
		uint8_t *at = (uint8_t *)iov[i].iov_base + skip;
		if (len > n - done)
			len = n - done;
		if (to)
			memcpy(to + done, at, len);
		else
			memcpy(at, from + done, len);
		done += len;
		skip = 0;
	}
	return done;
}

size_t iov_gather(const struct iovec *iov, unsigned niov, size_t skip, void *to, size_t n)
{
	return iov_move(iov, niov, skip, to, NULL, n);
}

size_t iov_scatter(const struct iovec *iov, unsigned niov, size_t skip, const void *from, size_t n)
{
	return iov_move(iov, niov, skip, NULL, from, n);
}
