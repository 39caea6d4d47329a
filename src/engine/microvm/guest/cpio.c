/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * -------------------
 * Linux Documentation/driver-api/early-userspace/buffer-format.rst: a header of 110 characters, the name
 * with its NUL, the data; name and data are each padded to a multiple of four bytes.
 */
#include "engine/microvm/guest/cpio.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int put(struct cpio *c, const void *p, size_t n)
{
	return n && fwrite(p, 1, n, c->f) != n ? -EIO : 0;
}

static int entry(struct cpio *c, const char *name, uint32_t mode, const void *data, uint32_t len)
{
	static const char zeros[4];
	const size_t name_len = strlen(name) + 1, head_len = 110;
	char head[111];
	snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->ino, mode, 0u,
		 0u, 1u, 0u, len, 0u, 0u, 0u, 0u, (unsigned)name_len, 0u);
	int r = put(c, head, head_len);
	if (r == 0)
		r = put(c, name, name_len);
	if (r == 0)
		r = put(c, zeros, -(head_len + name_len) % 4);
	if (r == 0)
		r = put(c, data, len);
	return r ? r : put(c, zeros, -(size_t)len % 4);
}

int cpio_dir(struct cpio *c, const char *name)
{
	return entry(c, name, S_IFDIR | 0755, NULL, 0);
}

int cpio_file(struct cpio *c, const char *name, mode_t mode, const void *data, uint32_t len)
{
	return entry(c, name, S_IFREG | (mode & 07777), data, len);
}

int cpio_end(struct cpio *c)
{
	return entry(c, "TRAILER!!!", 0, NULL, 0);
}
