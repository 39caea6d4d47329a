/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hist.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"

#define PAGE 4096u

void hist_init(struct hist *h)
{
	*h = (struct hist){ .pipe = { -1, -1 }, .null = -1 };
}

void hist_done(struct hist *h)
{
	fd_close(&h->pipe[0]);
	fd_close(&h->pipe[1]);
	fd_close(&h->null);
	h->len = 0;
}

/* Where forgotten bytes go. Root inside may have put something else in its place. */
static int null_open(void)
{
	struct stat st;
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
		return fd;
	close(fd);
	return -ENODEV;
}

int hist_make(struct hist *h, uint32_t size)
{
	if (h->pipe[0] >= 0)
		return 0;
	int r = h->null = null_open();
	if (r >= 0 && pipe2(h->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		r = -errno;
	/* The kernel rounds up to a power of two, and one buffer is a page at most. */
	if (r >= 0 && fcntl(h->pipe[0], F_SETPIPE_SZ, (int)(2 * size + 2 * PAGE)) < 0)
		r = -errno;
	if (r < 0)
		hist_done(h);
	return r < 0 ? r : 0;
}

int hist_trim(struct hist *h, uint32_t n)
{
	while (h->len > n) {
		ssize_t r = splice(h->pipe[0], NULL, h->null, NULL, h->len - n, SPLICE_F_NONBLOCK);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		h->len -= (uint32_t)r;
	}
	return 0;
}

uint32_t hist_add(struct hist *h, int from, uint32_t n)
{
	ssize_t r;
	do
		r = tee(from, h->pipe[1], n, SPLICE_F_NONBLOCK);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return 0;
	h->len += (uint32_t)r;
	return (uint32_t)r;
}

int hist_take(struct hist *h, struct iovec part[2])
{
	while (h->len) {
		ssize_t r = readv(h->pipe[0], part, 2);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		h->len -= (uint32_t)r;
		for (int i = 0; i < 2; i++) {
			size_t k = (size_t)r < part[i].iov_len ? (size_t)r : part[i].iov_len;
			part[i].iov_base = (uint8_t *)part[i].iov_base + k;
			part[i].iov_len -= k;
			r -= (ssize_t)k;
		}
	}
	return 0;
}
